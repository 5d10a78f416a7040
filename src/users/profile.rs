//! What people say about themselves.

use serde_json::Value;

use crate::http::input::{Field, Wrong, string, string_type, wrong};

/// A language, as a tag of BCP 47: `en`, `pt-BR`, `zh-Hant-TW`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Locale(String);

/// The length every implementation has to support (RFC 5646, 4.4.1).
const MAX_LOCALE: usize = 35;

impl Locale {
    /// The tag as it was given.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }

    fn is_tag(text: &str) -> bool {
        let mut subtags = text.split('-');
        let language = subtags.next().unwrap_or_default();
        let alphanumeric = |subtag: &str| subtag.bytes().all(|byte| byte.is_ascii_alphanumeric());
        text.len() <= MAX_LOCALE
            && (2..=3).contains(&language.len())
            && language.bytes().all(|byte| byte.is_ascii_alphabetic())
            && subtags.all(|subtag| (1..=8).contains(&subtag.len()) && alphanumeric(subtag))
    }
}

impl Field for Locale {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let text = string(value)?;
        if Self::is_tag(&text) { Ok(Self(text)) } else { wrong("Enter a valid language tag, such as pt-BR.") }
    }
}

string_type!([] Locale, "locale", |schema| {
    schema.description = Some("A language tag of BCP 47.");
    schema.max_length = Some(MAX_LOCALE);
    schema.example = Some("pt-BR".into());
});

/// A time zone by its name in the IANA database: `Europe/Berlin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timezone(chrono_tz::Tz);

impl Timezone {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.0.name()
    }
}

impl Field for Timezone {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        match string(value)?.parse() {
            Ok(zone) => Ok(Self(zone)),
            Err(_) => wrong("Enter a valid time zone, such as Europe/Berlin."),
        }
    }
}

string_type!([] Timezone, "timezone", |schema| {
    schema.description = Some("A name of the IANA time zone database.");
    schema.example = Some("Europe/Berlin".into());
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn language_tags_are_told_from_other_texts() {
        for tag in ["en", "pt-BR", "zh-Hant-TW", "de-CH-1996", "gsw"] {
            assert!(Locale::is_tag(tag), "{tag}");
        }
        for text in ["", "e", "english", "pt_BR", "pt-", "-pt", "p1", "en-abcdefghi", "en;q=1"] {
            assert!(!Locale::is_tag(text), "{text}");
        }
    }

    #[test]
    fn only_known_time_zones_are_taken() {
        assert_eq!(Timezone::from_value("Europe/Berlin".into()).unwrap().name(), "Europe/Berlin");
        assert!(Timezone::from_value("Europe/Atlantis".into()).is_err());
        assert!(Timezone::from_value("../../etc/passwd".into()).is_err());
    }
}
