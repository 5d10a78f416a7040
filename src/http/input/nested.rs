//! Objects within an input.

use serde_json::Value;

use super::{Input, Wrong, kind, wrong};
use crate::http::{error::Sentence, field_errors::FieldErrors};

/// Reads an object that is the value of a field; for its [`Field`](super::Field).
///
/// # Errors
/// Errors are lists of sentences, one level deep; those of a member begin with its name.
pub fn nested<T: Input>(value: Value) -> Result<T, Wrong> {
    let Value::Object(mut object) = value else {
        return wrong(format!("Invalid data. Expected a dictionary, but got {}.", kind(&value)));
    };
    let mut errors = FieldErrors::new();
    T::collect(&mut object, &mut errors).ok_or_else(|| {
        let sentences = errors.iter().flat_map(|(member, sentences)| {
            sentences.iter().map(move |sentence| Sentence::from(format!("{member}: {sentence}")))
        });
        sentences.collect()
    })
}
