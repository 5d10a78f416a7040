//! Slugs and hosts.

use tenantry::http::host::{Authority, Host};
use tenants::{SchemaName, Slug};

/// A slug is a DNS label and stays as it is; the contract's words say which.
pub(super) fn slug(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    if let Ok(schema) = text.parse::<SchemaName>() {
        assert_eq!(schema.as_str(), text);
        let tenant = schema.tenant().expect("a schema is a tenant's");
        assert_eq!(SchemaName::of(tenant).as_str(), text, "one tenant, one name");
    }
    let letters = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    let label = letters
        && (3..=40).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.ends_with('-')
        && !text.contains("--");
    match text.parse::<Slug>() {
        Ok(slug) => {
            assert!(label, "no label of the contract: {text:?}");
            assert_eq!(slug.as_str(), text);
            for n in [2, 10_000, u32::MAX] {
                let numbered = slug.numbered(n);
                assert_eq!(numbered.as_str().parse::<Slug>().as_ref(), Ok(&numbered));
            }
        }
        // Refused in spite of its form: it is reserved, and so are no random words.
        Err(error) => assert!(!label || error == tenants::SlugError::Reserved, "{text:?}: {error}"),
    }
}

/// What is read as a host is written so that it is read as the same; nothing else than names and addresses comes through.
pub(super) fn host(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let Some(authority) = Authority::parse(text) else { return };
    if let Host::Name(name) = &authority.host {
        assert!(name.len() <= 253 && !name.is_empty() && !name.ends_with('.'), "{text:?}");
        let character =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
        assert!(name.bytes().all(character), "{text:?}");
        assert!(name.split('.').all(|label| (1..=63).contains(&label.len())), "{text:?}");
        assert!(name.parse::<std::net::Ipv4Addr>().is_err(), "an address is no name: {text:?}");
    }
    let written = match authority.port {
        Some(port) => format!("{}:{port}", authority.host),
        None => authority.host.to_string(),
    };
    assert_eq!(Authority::parse(&written).as_ref(), Some(&authority), "{text:?} and {written:?}");
    assert!(written.parse::<poem::http::uri::Authority>().is_ok(), "no host of a URL: {written:?}");
}
