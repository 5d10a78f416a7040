//! Slugs, typed by people or derived from the name of their organization.

use serde_json::Value;
use tenants::{Slug, SlugError};

use crate::http::input::{Field, Wrong, string, string_type, wrong};

/// A slug somebody chose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenSlug(pub Slug);

impl Field for ChosenSlug {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        match string(value)?.parse() {
            Ok(slug) => Ok(Self(slug)),
            Err(error @ (SlugError::Length | SlugError::Characters | SlugError::Reserved)) => {
                wrong(error.to_string())
            }
        }
    }
}

string_type!([] ChosenSlug, "slug", |schema| {
    schema.description =
        Some("3 to 40 lower-case letters, digits and single hyphens; starts with a letter, ends with a letter or digit.");
    schema.min_length = Some(Slug::MIN_LEN);
    schema.max_length = Some(Slug::MAX_LEN);
    schema.pattern = Some("^[a-z](-?[a-z0-9])+$".into());
    schema.example = Some("acme".into());
});

/// The slug nearest to a name: its letters in ASCII, hyphens for the rest. A name that is reserved, too short or starts
/// with a digit gets `org-` in front.
#[must_use]
pub fn derive_slug(name: &str) -> Slug {
    let mut slug = String::with_capacity(name.len());
    for character in deunicode::deunicode(name).chars() {
        match character.to_ascii_lowercase() {
            letter @ ('a'..='z' | '0'..='9') => slug.push(letter),
            // "Ann's" is one word.
            '\'' => {}
            _ if slug.ends_with('-') || slug.is_empty() => {}
            _ => slug.push('-'),
        }
    }
    let cut = |text: &str| text[..text.len().min(Slug::MAX_LEN)].trim_end_matches('-').to_owned();
    let candidates = [cut(&slug), cut(&format!("org-{slug}"))];
    candidates.iter().find_map(|candidate| candidate.parse().ok()).unwrap_or_else(Slug::fallback)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_become_slugs_people_would_choose() {
        for (name, slug) in [
            ("Acme Ltd", "acme-ltd"),
            ("  Ann's   Café & Bar! ", "anns-cafe-bar"),
            ("Müller GmbH", "muller-gmbh"),
            ("株式会社", "zhu-shi-hui-she"),
            ("3M", "org-3m"),
            ("Admin", "org-admin"),
            ("X", "org-x"),
            ("pg-tools", "org-pg-tools"),
            ("!!!", "org"),
            ("", "org"),
        ] {
            assert_eq!(derive_slug(name).as_str(), slug, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_name_leads_to_a_slug(name in any::<String>()) {
            let slug = derive_slug(&name);
            prop_assert_eq!(slug.as_str().parse(), Ok(slug.clone()));
        }
    }
}
