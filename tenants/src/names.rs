//! The names of a tenant: the slug people choose, and the schema that is never built from what people wrote.

use std::{fmt, str::FromStr};

// RFC 4648's base32hex in lower case and without padding: what PostgreSQL takes as a name without folding its case.
use data_encoding::BASE32_DNSSEC as BASE32;
use uuid::Uuid;

use crate::Error;

/// Words that would be mistaken for a part of the service if they stood in front of the base domain.
const RESERVED: [&str; 18] = [
    "admin",
    "api",
    "app",
    "assets",
    "auth",
    "billing",
    "docs",
    "internal",
    "localhost",
    "login",
    "mail",
    "public",
    "root",
    "static",
    "status",
    "support",
    "system",
    "www",
];

/// What a tenant is called in host names and headers: 3 to 40 characters of `a-z`, `0-9` and `-`, which starts with a
/// letter, ends with a letter or digit and has no `--`.
///
/// The bounds are those of a DNS label (RFC 1123), with room for the suffixes that derived slugs get.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Slug(Box<str>);

/// Why a text is no slug. The text of each is a sentence for the person who typed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SlugError {
    /// Shorter than [`Slug::MIN_LEN`] or longer than [`Slug::MAX_LEN`].
    #[error("Ensure this field has 3 to 40 characters.")]
    Length,
    /// A character that is not allowed, or one that is not allowed where it stands.
    #[error(
        "Use lower-case letters, digits and single hyphens; start with a letter and end with a letter or digit."
    )]
    Characters,
    /// One of the reserved words, or a name that starts with `pg-`.
    #[error("This name is reserved.")]
    Reserved,
}

impl Slug {
    /// The least number of characters.
    pub const MIN_LEN: usize = 3;
    /// The greatest number of characters.
    pub const MAX_LEN: usize = 40;

    /// The slug as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What an organization gets whose name leaves nothing to make a slug of.
    #[must_use]
    pub fn fallback() -> Self {
        Self("org".into())
    }

    /// This slug with `-n` behind it, shortened where it would be too long: `acme`, 2 → `acme-2`.
    #[must_use]
    pub fn numbered(&self, n: u32) -> Self {
        let suffix = format!("-{n}");
        let stem = &self.0[..self.0.len().min(Self::MAX_LEN - suffix.len())];
        Self(format!("{}{suffix}", stem.trim_end_matches('-')).into())
    }
}

impl FromStr for Slug {
    type Err = SlugError;

    fn from_str(text: &str) -> Result<Self, SlugError> {
        if !(Self::MIN_LEN..=Self::MAX_LEN).contains(&text.len()) {
            return Err(SlugError::Length);
        }
        let bytes = text.as_bytes();
        let allowed = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-';
        if !bytes.iter().all(allowed)
            || !bytes[0].is_ascii_lowercase()
            || bytes[bytes.len() - 1] == b'-'
            || text.contains("--")
        {
            return Err(SlugError::Characters);
        }
        if RESERVED.contains(&text) || text.starts_with("pg-") {
            return Err(SlugError::Reserved);
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Slug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The name of a tenant's schema and of its role: `t_` and the 26 characters of the tenant's id in base 32.
///
/// It needs no quotes in SQL, because it can hold nothing but `a-v`, `0-9` and `_`; it is quoted all the same.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct SchemaName(Box<str>);

/// A text that is not the name of a tenant's schema.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not the name of a tenant's schema")]
pub struct SchemaNameError;

impl SchemaName {
    /// The schema of the tenant with this id.
    #[must_use]
    pub fn of(tenant: Uuid) -> Self {
        Self(format!("t_{}", BASE32.encode(tenant.as_bytes())).into())
    }

    /// The schema that a tenant's row names. It follows from the tenant's id; a row that names another one would have
    /// somebody else's rows served as this tenant's, or dropped.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not this tenant's own.
    pub(crate) fn own(text: &str, tenant: Uuid) -> Result<Self, Error> {
        let own = Self::of(tenant);
        if own.as_str() == text {
            return Ok(own);
        }
        Err(Error::Damaged(format!(
            "the row of the tenant {tenant} names the schema {text:?}, which is not its own"
        )))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of the tenant whose schema this is.
    #[must_use]
    pub fn tenant(&self) -> Option<Uuid> {
        let bytes = BASE32.decode(self.0.strip_prefix("t_")?.as_bytes()).ok()?;
        Uuid::from_slice(&bytes).ok()
    }
}

impl FromStr for SchemaName {
    type Err = SchemaNameError;

    fn from_str(text: &str) -> Result<Self, SchemaNameError> {
        let name = Self(text.into());
        match name.tenant() {
            Some(tenant) if Self::of(tenant) == name => Ok(name),
            _ => Err(SchemaNameError),
        }
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The names of the roles of one installation. They carry its id, because roles belong to the whole cluster: two
/// installations on one must not meet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleNames {
    installation: InstallationId,
}

impl RoleNames {
    /// The roles of this installation.
    #[must_use]
    pub fn of(installation: InstallationId) -> Self {
        Self { installation }
    }

    /// The installation whose roles these are.
    #[must_use]
    pub fn installation(&self) -> &InstallationId {
        &self.installation
    }

    /// The login that reads and writes the catalog and nothing else.
    #[must_use]
    pub fn catalog(&self) -> String {
        format!("tenantry_{}_catalog", self.installation)
    }

    /// The login of one lane.
    #[must_use]
    pub fn lane(&self, lane: u16) -> String {
        format!("{}{lane}", self.lane_prefix())
    }

    /// What the name of every lane's login starts with; its number follows.
    #[must_use]
    pub fn lane_prefix(&self) -> String {
        format!("tenantry_{}_lane_", self.installation)
    }

    /// The group to which the catalog's functions are granted and of which every tenant's role is a member.
    #[must_use]
    pub fn tenants(&self) -> String {
        format!("tenantry_{}_tenants", self.installation)
    }
}

/// Tells the installations on one PostgreSQL cluster apart: eight characters of `a-v` and `0-9`.
#[derive(Clone, PartialEq, Eq)]
pub struct InstallationId(Box<str>);

impl InstallationId {
    /// A new one, from 40 random bits.
    #[must_use]
    pub fn generate() -> Self {
        Self(BASE32.encode(&rand::random::<[u8; 5]>()).into())
    }
}

impl FromStr for InstallationId {
    type Err = SchemaNameError;

    fn from_str(text: &str) -> Result<Self, SchemaNameError> {
        match BASE32.decode(text.as_bytes()) {
            Ok(bytes) if BASE32.encode(&bytes) == text && bytes.len() == 5 => Ok(Self(text.into())),
            _ => Err(SchemaNameError),
        }
    }
}

impl fmt::Display for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for InstallationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_slug_is_refused_for_the_reason_it_is_wrong() {
        for (text, error) in [
            ("ab", SlugError::Length),
            ("", SlugError::Length),
            (&"a".repeat(41), SlugError::Length),
            ("1abc", SlugError::Characters),
            ("-abc", SlugError::Characters),
            ("abc-", SlugError::Characters),
            ("a--b", SlugError::Characters),
            ("Acme", SlugError::Characters),
            ("acmé", SlugError::Characters),
            ("acme.", SlugError::Characters),
            ("admin", SlugError::Reserved),
            ("pg-temp", SlugError::Reserved),
        ] {
            assert_eq!(text.parse::<Slug>(), Err(error), "{text}");
        }
        assert_eq!("acme-2".parse::<Slug>().unwrap().as_str(), "acme-2");
        assert_eq!("a".repeat(40).parse::<Slug>().unwrap().as_str().len(), 40);
    }

    proptest! {
        #[test]
        fn what_parses_as_a_slug_is_a_dns_label_and_stays_as_it_is(text in "[a-z0-9-]{0,45}") {
            if let Ok(slug) = text.parse::<Slug>() {
                prop_assert_eq!(slug.as_str(), text.as_str());
                prop_assert!((3..=40).contains(&text.len()));
                prop_assert!(!text.starts_with('-') && !text.ends_with('-') && !text.contains("--"));
            }
        }

        #[test]
        fn no_text_at_all_makes_the_parser_panic(text in any::<String>()) {
            let _ = text.parse::<Slug>();
            let _ = text.parse::<SchemaName>();
        }

        #[test]
        fn a_numbered_slug_is_a_slug(text in "[a-z][a-z0-9]{2,39}", n in 2..100_000u32) {
            let Ok(slug) = text.parse::<Slug>() else { return Ok(()) };
            let numbered = slug.numbered(n);
            prop_assert_eq!(numbered.as_str().parse::<Slug>(), Ok(numbered.clone()));
            let suffix = format!("-{n}");
            prop_assert!(numbered.as_str().ends_with(&suffix));
        }

        #[test]
        fn a_schema_name_is_one_plain_identifier_and_leads_back_to_its_tenant(id in any::<u128>()) {
            let tenant = Uuid::from_u128(id);
            let name = SchemaName::of(tenant);
            prop_assert_eq!(name.tenant(), Some(tenant));
            prop_assert_eq!(name.as_str().len(), 28);
            prop_assert!(name.as_str().bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit()));
            prop_assert_eq!(name.as_str().parse::<SchemaName>(), Ok(name.clone()));
        }

        #[test]
        fn different_tenants_have_different_schemas(a in any::<u128>(), b in any::<u128>()) {
            prop_assert_eq!(a == b, SchemaName::of(Uuid::from_u128(a)) == SchemaName::of(Uuid::from_u128(b)));
        }

        #[test]
        fn nothing_but_a_generated_name_is_a_schema_name(text in "[a-z_\"; ]{0,40}") {
            if let Ok(name) = text.parse::<SchemaName>() {
                prop_assert!(name.tenant().is_some());
            }
        }

        #[test]
        fn every_role_name_fits_into_an_identifier(lane in any::<u16>()) {
            let roles = RoleNames::of(InstallationId::generate());
            for name in [roles.lane(lane), roles.catalog(), roles.tenants()] {
                prop_assert!(name.len() < 63, "{}", name);
                prop_assert!(name.bytes().all(|b| b == b'_' || b.is_ascii_lowercase() || b.is_ascii_digit()));
            }
        }
    }
}
