//! Texts that are kept as they were written.

use std::ops::Deref;

use serde_json::Value;

use super::{BLANK, Field, Wrong, bounded, lengths, string, string_type, wrong};

/// A text of `MIN` to `MAX` characters, to the last space as it was written. One of nothing but white space is blank.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Verbatim<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Verbatim<MIN, MAX> {
    /// The text itself.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> Deref for Verbatim<MIN, MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> Field for Verbatim<MIN, MAX> {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let text = string(value)?;
        bounded(&text, MIN, MAX)?;
        if MIN > 0 && text.trim().is_empty() {
            return wrong(BLANK);
        }
        Ok(Self(text))
    }
}

string_type!([const MIN: usize, const MAX: usize] Verbatim<MIN, MAX>, format!("verbatim_{MIN}_{MAX}"), |schema| {
    lengths::<MIN, MAX>(schema);
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_trimmed_and_nothing_blank_is_taken() {
        let read = |text: &str| Verbatim::<1, 4>::from_value(text.into()).map(Verbatim::into_string);
        for text in [" a ", "\n\ta", "💬💬💬💬", "a\r\nb"] {
            assert_eq!(read(text), Ok(text.to_owned()));
        }
        for text in ["", " ", "\n\t ", "\u{3000}"] {
            assert_eq!(read(text), wrong("This field may not be blank."), "{text:?}");
        }
        for text in ["💬💬💬💬a", "     "] {
            assert_eq!(read(text), wrong("Ensure this field has no more than 4 characters."), "{text:?}");
        }
    }
}
