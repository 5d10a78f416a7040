//! Values that are one of a few names.

use poem_openapi::types::ParseFromJSON;
use serde_json::Value;

use super::{Wrong, wrong};

/// How much of a wrong value is said back, in characters.
const SHOWN: usize = 50;

/// Reads one of the names of an enum of `poem_openapi`; for its [`Field`](super::Field).
///
/// # Errors
/// `"…" is not a valid choice.`
pub fn choice<T: ParseFromJSON>(value: Value) -> Result<T, Wrong> {
    let text = match &value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    T::parse_from_json(Some(value)).or_else(|_| {
        let shown: String = text.chars().take(SHOWN).collect();
        let more = if shown.len() < text.len() { "…" } else { "" };
        wrong(format!("\"{shown}{more}\" is not a valid choice."))
    })
}
