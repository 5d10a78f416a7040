//! What is wrong with the fields of an input.

use std::borrow::Cow;

use super::error::{Problem, Sentence};

/// Sentences by field, in the order in which they were found.
#[derive(Debug, Default)]
pub struct FieldErrors(Vec<(Cow<'static, str>, Vec<Sentence>)>);

impl FieldErrors {
    /// No errors yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds one sentence about `field`.
    pub fn push(&mut self, field: impl Into<Cow<'static, str>>, sentence: impl Into<Sentence>) {
        self.extend(field, vec![sentence.into()]);
    }

    /// Adds several sentences about `field`.
    pub fn extend(&mut self, field: impl Into<Cow<'static, str>>, sentences: Vec<Sentence>) {
        let field = field.into();
        match self.0.iter_mut().find(|(name, _)| *name == field) {
            Some((_, known)) => known.extend(sentences),
            None => self.0.push((field, sentences)),
        }
    }

    /// Whether nothing is wrong.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every field and what is wrong with it.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &[Sentence])> {
        self.0.iter().map(|(field, sentences)| (field.as_ref(), sentences.as_slice()))
    }

    /// `Err` with all of them if there are any.
    ///
    /// # Errors
    /// [`Problem::invalid`] if anything was pushed.
    pub fn into_result(self) -> Result<(), Problem> {
        if self.is_empty() { Ok(()) } else { Err(Problem::invalid(self)) }
    }
}
