//! Names of people and organizations.

use std::ops::Deref;

use serde_json::Value;

use super::{Field, Wrong, bounded, lengths, string, string_type, trimmed, wrong};

/// What a person or an organization is called: `MIN` to `MAX` characters on one line, without white space around them.
/// It is shown to others, in lists and mails, so it cannot break a line, turn the reading direction of what stands
/// around it, or consist of nothing that shows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Name<const MIN: usize, const MAX: usize>(String);

impl<const MIN: usize, const MAX: usize> Name<MIN, MAX> {
    /// The name itself.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl<const MIN: usize, const MAX: usize> Deref for Name<MIN, MAX> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const MIN: usize, const MAX: usize> From<Name<MIN, MAX>> for String {
    fn from(name: Name<MIN, MAX>) -> Self {
        name.0
    }
}

impl<const MIN: usize, const MAX: usize> Field for Name<MIN, MAX> {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let name = trimmed(string(value)?);
        bounded(&name, MIN, MAX)?;
        if name.contains(breaks_a_line) {
            return wrong("Control characters are not allowed.");
        }
        if name.contains(turns_direction) {
            return wrong("Characters that change the direction of text are not allowed.");
        }
        if !name.is_empty() && name.chars().all(shows_nothing) {
            return wrong("This field may not consist of invisible characters.");
        }
        Ok(Self(name))
    }
}

string_type!([const MIN: usize, const MAX: usize] Name<MIN, MAX>, format!("name_{MIN}_{MAX}"), |schema| {
    lengths::<MIN, MAX>(schema);
});

fn breaks_a_line(character: char) -> bool {
    character.is_control() || matches!(character, '\u{2028}' | '\u{2029}')
}

/// The property `Bidi_Control` of Unicode.
fn turns_direction(character: char) -> bool {
    matches!(
        character,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// White space, the property `Default_Ignorable_Code_Point` of Unicode 17, and the empty Braille pattern.
pub(crate) fn shows_nothing(character: char) -> bool {
    character.is_whitespace()
        || matches!(
            character,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}'..='\u{1160}' | '\u{17b4}'..='\u{17b5}'
                | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
                | '\u{ffa0}' | '\u{fff0}'..='\u{fff8}' | '\u{1bca0}'..='\u{1bca3}'
                | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}'
        )
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Result<String, Wrong> {
        Name::<0, 20>::from_value(text.into()).map(Name::into_string)
    }

    #[test]
    fn a_name_is_what_people_are_called() {
        for text in
            ["", "Ann", "O’Brien-Lee, Jr.", "Владимир", "محمد", "می‌خواهم", "👩‍💻 Ltd", "李 小龍", "N'Ko ߒߞߏ"]
        {
            assert_eq!(name(text), Ok(text.into()));
        }
        assert_eq!(name(" Ann "), Ok("Ann".into()));
        assert_eq!(name(&"n".repeat(21)), wrong("Ensure this field has no more than 20 characters."));
        assert_eq!(Name::<1, 20>::from_value(" ".into()).map(drop), wrong("This field may not be blank."));
    }

    #[test]
    fn a_name_does_nothing_to_the_text_around_it() {
        for text in ["Ann\nLee", "Ann\u{1b}[2J", "Ann\u{2028}Lee", "a\u{7f}", "a\u{85}b"] {
            assert_eq!(name(text), wrong("Control characters are not allowed."), "{text:?}");
        }
        for text in ["Ann\u{202e}eeL", "\u{2066}Ann", "Ann\u{200f}"] {
            let sentence = "Characters that change the direction of text are not allowed.";
            assert_eq!(name(text), wrong(sentence), "{text:?}");
        }
        for text in ["\u{200b}", "\u{3164}", "\u{2800}\u{2800}", "\u{fe0f}\u{200d}", "\u{e0041}"] {
            assert_eq!(name(text), wrong("This field may not consist of invisible characters."), "{text:?}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_taken_can_be_seen(text in "\\PC{0,20}|[\\u{200b}-\\u{200f}\\u{2028}-\\u{202e}\\u{2060}-\\u{206f} \\n]{1,9}|\\PC{0,3}[\\u{0}-\\u{1f}]\\PC{0,3}") {
            if let Ok(name) = name(&text) {
                prop_assert!(!name.contains(|it: char| it.is_control() || turns_direction(it)));
                prop_assert!(name.is_empty() || name.contains(|it: char| !shows_nothing(it)));
                prop_assert_eq!(name.as_str(), text.trim());
            }
        }
    }
}
