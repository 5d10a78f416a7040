//! Domains whose people may sign up.

use serde_json::Value;

use crate::{
    http::input::{Field, Wrong, string, string_type, wrong},
    users::identity::{MAX_DOMAIN, ascii_domain},
};

/// A domain as it stands behind the `@` of an address, as DNS has it: lower case, in ASCII.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EmailDomain(String);

impl EmailDomain {
    /// The domain as text.
    #[must_use]
    pub fn into_string(self) -> String {
        self.0
    }
}

impl Field for EmailDomain {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        // The sentence of Django's validator.
        ascii_domain(string(value)?.trim())
            .map_or_else(|| wrong("Enter a valid domain name."), |name| Ok(Self(name)))
    }
}

string_type!([] EmailDomain, "email_domain", |schema| {
    schema.description = Some("What stands behind the `@`; kept in lower case and in ASCII (`xn--…`).");
    schema.max_length = Some(MAX_DOMAIN);
    schema.example = Some("example.com".into());
});

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_domain_is_kept_as_dns_has_it() {
        for (text, domain) in [
            ("example.com", "example.com"),
            (" Example.COM ", "example.com"),
            ("bücher.example", "xn--bcher-kva.example"),
            ("XN--bcher-kva.example", "xn--bcher-kva.example"),
            ("a.b.c.example", "a.b.c.example"),
        ] {
            assert_eq!(EmailDomain::from_value(text.into()).unwrap().into_string(), domain, "{text}");
        }
    }

    #[test]
    fn what_no_address_has_behind_its_at_is_refused() {
        let long = format!("{}.example", "a.".repeat(130));
        for text in [
            "",
            " ",
            "@example.com",
            "ann@example.com",
            "example",
            "example.",
            "example.com.",
            ".example.com",
            "exa mple.com",
            "*.example.com",
            "http://example.com",
            "example.com:25",
            "example.com/",
            "-a.example",
            "a-.example",
            "127.0.0.1",
            "[::1]",
            "a..example",
            "%65xample.com",
            &long,
        ] {
            assert!(EmailDomain::from_value(text.into()).is_err(), "{text}");
        }
    }
}
