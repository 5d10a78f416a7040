//! The names of archives.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use tenants::SchemaName;
use uuid::Uuid;

/// What every name ends in.
const EXTENSION: &str = ".tenantry";
/// What the name of an archive ends in that was made by a schedule.
const SCHEDULED: &str = ".scheduled.tenantry";
/// File systems take 255 bytes; a draft's name is longer than this by some.
const MAX_LENGTH: usize = 160;

/// The name of a file in the export store: ASCII letters, digits, `-`, `_` and `.`, beginning with a letter or digit, ending
/// in `.tenantry`. So it never leads out of the store, is never hidden, and never one of the drafts beside it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveName(String);

/// A text that is not the name of an archive. Its text is a sentence for the person who typed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Use up to 160 letters, digits, hyphens, underscores and dots; start with a letter or digit and end with .tenantry."
)]
pub struct ArchiveNameError;

impl ArchiveName {
    /// The name of an archive of this tenant as it is at this time.
    #[must_use]
    pub fn of(slug: &str, tenant: Uuid, at: DateTime<Utc>, is_scheduled: bool) -> Self {
        let at = at.format("%Y%m%dT%H%M%S%3fZ");
        let extension = if is_scheduled { SCHEDULED } else { EXTENSION };
        Self(format!("{slug}-{at}-{}{extension}", SchemaName::of(tenant)))
    }

    /// Whether a schedule made it, of this tenant.
    #[must_use]
    pub fn is_scheduled_of(&self, tenant: Uuid) -> bool {
        self.0.ends_with(&format!("-{}{SCHEDULED}", SchemaName::of(tenant)))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ArchiveName {
    type Err = ArchiveNameError;

    fn from_str(text: &str) -> Result<Self, ArchiveNameError> {
        let stem = text.strip_suffix(EXTENSION).ok_or(ArchiveNameError)?;
        let first = stem.bytes().next().ok_or(ArchiveNameError)?;
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        if text.len() <= MAX_LENGTH && first.is_ascii_alphanumeric() && stem.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(ArchiveNameError)
        }
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_name_leads_nowhere_else() {
        for text in [
            "",
            ".tenantry",
            "..tenantry",
            "../x.tenantry",
            "a/b.tenantry",
            "a\\b.tenantry",
            "/etc/passwd",
            ".x.tenantry",
            "a\0.tenantry",
            "a\n.tenantry",
            "ä.tenantry",
            "a b.tenantry",
            "acme.tar",
            "acme.tenantry/",
            "-a.tenantry",
        ] {
            assert_eq!(text.parse::<ArchiveName>(), Err(ArchiveNameError), "{text}");
        }
        assert!("a".repeat(152).parse::<ArchiveName>().is_err());
        assert!(format!("{}.tenantry", "a".repeat(152)).parse::<ArchiveName>().is_err());
    }

    proptest! {
        #[test]
        fn what_parses_is_one_plain_file(text in "[a-z0-9./\\\\-]{0,20}\\.tenantry") {
            if let Ok(name) = text.parse::<ArchiveName>() {
                let path = std::path::Path::new("/store").join(name.as_str());
                prop_assert_eq!(path.parent(), Some(std::path::Path::new("/store")));
                prop_assert_eq!(path.components().count(), 3);
            }
        }

        #[test]
        fn a_name_that_is_made_is_one(slug in "[a-z][a-z0-9]{2,39}", id in any::<u128>(), scheduled: bool) {
            let (id, other) = (Uuid::from_u128(id), Uuid::from_u128(!id));
            let name = ArchiveName::of(&slug, id, DateTime::UNIX_EPOCH, scheduled);
            prop_assert_eq!(name.as_str().parse::<ArchiveName>(), Ok(name.clone()));
            prop_assert_eq!(name.is_scheduled_of(id), scheduled);
            prop_assert!(!name.is_scheduled_of(other));
        }
    }
}
