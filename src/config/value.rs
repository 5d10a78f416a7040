//! The types of settings that are plain values, and how they are read.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use url::{Host, Url};

use super::error::Wrong;

/// Who may sign an organization up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TenantSignUp {
    /// Anyone.
    Open,
    /// Operators only.
    Closed,
}

/// How mails leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum MailTransport {
    Smtp,
    File,
}

/// The domain under which every tenant has its host: a lower-case DNS name without a final dot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseDomain(String);

/// Before the base domain stand a slug of at most 40 characters and a dot, and DNS allows 253 altogether.
const MAX_BASE_DOMAIN: usize = 253 - 41;

impl BaseDomain {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let right = "give a DNS name, such as example.com";
        let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
        if name.len() > MAX_BASE_DOMAIN {
            return Err(Wrong::new(format!("is longer than {MAX_BASE_DOMAIN} characters"), right));
        }
        // `Host` tells what browsers would take for an IP address, and punycode that stands for nothing.
        let is_domain = matches!(Host::parse(&name), Ok(Host::Domain(domain)) if domain == name);
        if is_domain && name.split('.').all(is_label) {
            Ok(Self(name))
        } else {
            Err(Wrong::new("is not a DNS name", right))
        }
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `host` is the base domain or a name under it.
    #[must_use]
    pub fn covers(&self, host: &str) -> bool {
        host.strip_suffix(&self.0).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    }
}

impl std::fmt::Display for BaseDomain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A label of a DNS name: 1 to 63 letters, digits and inner hyphens.
fn is_label(label: &str) -> bool {
    (1..=63).contains(&label.len())
        && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
        && !label.starts_with('-')
        && !label.ends_with('-')
}

/// The sender of mails.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MailFrom {
    /// The name shown to people.
    pub name: Option<String>,
    /// The address.
    pub address: String,
}

impl MailFrom {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = || {
            Wrong::new("is not a sender", "give an address, or Name <address>: Acme <no-reply@example.com>")
        };
        let (name, address) = match text.trim().strip_suffix('>').map(|text| text.rsplit_once('<')) {
            Some(Some((name, address))) => (Some(name.trim().trim_matches('"')), address),
            Some(None) => return Err(wrong()),
            None => (None, text.trim()),
        };
        let Some((local, domain)) = address.split_once('@') else { return Err(wrong()) };
        let is_local = (1..=64).contains(&local.len())
            && local
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b".!#$%&'*+/=?^_`{|}~-".contains(&byte));
        let is_name = name.is_none_or(|name| !name.contains(|c: char| c.is_control() || "\"<>".contains(c)));
        if !is_local || !is_name || BaseDomain::parse(domain).is_err() {
            return Err(wrong());
        }
        let name = name.filter(|name| !name.is_empty()).map(str::to_owned);
        Ok(Self { name, address: address.to_owned() })
    }
}

/// An origin as browsers send it: scheme, host and port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct CorsOrigin(String);

impl CorsOrigin {
    fn parse(text: &str) -> Result<Self, Wrong> {
        let right = "give scheme, host and, unless it is the scheme's own, port: https://app.example.com";
        if text == "*" {
            return Err(Wrong::new("would let every page call the API", right));
        }
        match web_url(text) {
            Ok(url) if url.path() == "/" && !text.ends_with('/') => {
                Ok(Self(url.origin().ascii_serialization()))
            }
            Ok(_) => Err(Wrong::new("has a path", right)),
            Err(Wrong { is, .. }) => Err(Wrong::new(is, right)),
        }
    }

    /// The origin, to compare with the header's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

pub(super) fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| {
        Wrong::new(
            "is not an IP address with a port",
            "give both, such as 127.0.0.1:8080, 0.0.0.0:80 or [::1]:8080",
        )
    })
}

/// A text out of a few.
pub(super) fn one_of<T: Copy>(text: &str, choices: &[(&str, T)]) -> Result<T, Wrong> {
    choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value).ok_or_else(|| {
        let names: Vec<_> = choices.iter().map(|(name, _)| *name).collect();
        Wrong::new("is none of its values", format!("give {}", names.join(" or ")))
    })
}

/// A list separated by commas.
pub(super) fn list<T>(text: &str, parse: impl Fn(&str) -> Result<T, Wrong>) -> Result<Vec<T>, Wrong> {
    let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
    // An item with an @ may be a URL with credentials.
    let shows_item = text.contains(',') && !text.contains('@');
    items
        .map(|item| {
            parse(item).map_err(|Wrong { is, right }| {
                let is = if shows_item { format!("has an item (\"{item}\") that {is}") } else { is };
                Wrong::new(is, right)
            })
        })
        .collect()
}

/// A network, or one address.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, Wrong> {
    list(text, |item| {
        let address = || item.parse::<IpAddr>().ok().map(IpNet::from);
        item.parse::<IpNet>().ok().or_else(address).ok_or_else(|| {
            Wrong::new("is not a network", "give networks or addresses, such as 10.0.0.0/8 or 192.168.1.7")
        })
    })
}

pub(super) fn cors_origins(text: &str) -> Result<Vec<CorsOrigin>, Wrong> {
    list(text, CorsOrigin::parse)
}

pub(super) fn number(text: &str, least: u32, most: u32) -> Result<u32, Wrong> {
    let right = || format!("give a whole number from {least} to {most}");
    match text.parse() {
        Ok(number) if (least..=most).contains(&number) => Ok(number),
        Err(_) if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Err(Wrong::new("is no whole number", right()))
        }
        _ => Err(Wrong::new("is out of range", right())),
    }
}

/// A duration, or none: `0s`.
pub(super) fn pause(text: &str) -> Result<Duration, Wrong> {
    if ["0ms", "0s", "0m"].contains(&text) {
        return Ok(Duration::ZERO);
    }
    let or_none =
        |_| Wrong::new("is neither 0s nor a duration from 100ms to 60m", "give a number and ms, s or m: 10s");
    duration(text).map_err(or_none)
}

/// Paths of files.
pub(super) fn paths(text: &str) -> Result<Vec<PathBuf>, Wrong> {
    list(text, |item| Ok(PathBuf::from(item)))
}

/// A duration between 100 ms and an hour.
pub(super) fn duration(text: &str) -> Result<Duration, Wrong> {
    let unit_at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit.trim() {
        "ms" => Some(1),
        "s" => Some(1_000),
        "m" => Some(60_000),
        _ => None,
    };
    number
        .parse::<u64>()
        .ok()
        .zip(factor)
        .and_then(|(number, factor)| number.checked_mul(factor))
        .filter(|millis| (100..=3_600_000).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| Wrong::new("is not a duration from 100ms to 60m", "give a number and ms, s or m: 10s"))
}

/// Where people reach the server: scheme, domain and port, nothing else.
pub(super) fn public_url(text: &str) -> Result<Url, Wrong> {
    let right = "give scheme, host and port, such as https://example.com or http://localhost:8080";
    let url = web_url(text).map_err(|Wrong { is, .. }| Wrong::new(is, right))?;
    if url.path() != "/" {
        return Err(Wrong::new("has a path", right));
    }
    if !matches!(url.host(), Some(Host::Domain(_))) {
        return Err(Wrong::new(
            "has an IP address as its host, under which no tenant can have a name",
            right,
        ));
    }
    Ok(url)
}

/// An http or https URL without credentials, query and fragment.
pub(super) fn web_url(text: &str) -> Result<Url, Wrong> {
    let right = "give an http or https URL without credentials, query and fragment";
    let wrong = |is: &str| Err(Wrong::new(is, right));
    let Ok(url) = Url::parse(text) else { return wrong("is not a URL") };
    if !matches!(url.scheme(), "http" | "https") {
        return wrong("is neither http nor https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return wrong("holds credentials");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return wrong("has a query or a fragment");
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_domain_is_a_dns_name() {
        assert_eq!(BaseDomain::parse("Example.COM.").unwrap().as_str(), "example.com");
        assert!(BaseDomain::parse("localhost").is_ok());
        let long = format!("{}.com", "a.".repeat(110));
        for wrong in [
            "",
            ".",
            "a..b",
            "-a.com",
            "a-.com",
            "exa mple.com",
            "127.0.0.1",
            "[::1]",
            "a_b.c",
            "a:80",
            &long,
        ] {
            assert!(BaseDomain::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_base_domain_covers_itself_and_what_is_under_it() {
        let domain = BaseDomain::parse("example.com").unwrap();
        assert!(domain.covers("example.com") && domain.covers("www.example.com"));
        assert!(!domain.covers("notexample.com") && !domain.covers("com") && !domain.covers(""));
    }

    #[test]
    fn a_sender_is_an_address_with_or_without_a_name() {
        let parse = |text| MailFrom::parse(text).map(|from| (from.name, from.address));
        assert_eq!(parse("a@b.c"), Ok((None, "a@b.c".to_owned())));
        assert_eq!(parse("Acme & Co <a@b.c>"), Ok((Some("Acme & Co".to_owned()), "a@b.c".to_owned())));
        assert_eq!(parse("\"Acme\" <a@b.c>"), Ok((Some("Acme".to_owned()), "a@b.c".to_owned())));
        for wrong in
            ["", "a", "a@", "@b.c", "a@b@c", "a@b.c>", "A <a@b.c", "a\r\nBcc: x <a@b.c>", "a b@c.d", "<>"]
        {
            assert!(parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("2m"), Ok(Duration::from_mins(2)));
        for wrong in ["", "10", "s", "-1s", "1h", "0s", "61m", "99999999999999999999s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn networks_may_be_single_addresses() {
        let networks = networks("10.0.0.0/8, 192.168.1.7,::1/128").unwrap();
        assert_eq!(networks, ["10.0.0.0/8", "192.168.1.7/32", "::1/128"].map(|net| net.parse().unwrap()));
        assert!(super::networks("10.0.0.0/8,10.0.0.0/33").unwrap_err().is.contains("10.0.0.0/33"));
    }

    #[test]
    fn origins_are_written_as_browsers_send_them() {
        let origins = cors_origins("https://App.example.com:443,http://localhost:3000").unwrap();
        assert_eq!(
            origins.iter().map(CorsOrigin::as_str).collect::<Vec<_>>(),
            ["https://app.example.com", "http://localhost:3000"]
        );
        for wrong in
            ["*", "null", "example.com", "https://example.com/", "https://example.com/x", "ftp://a.b"]
        {
            assert!(cors_origins(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_public_url_is_scheme_domain_and_port() {
        assert_eq!(public_url("https://Example.com").unwrap().as_str(), "https://example.com/");
        for wrong in [
            "example.com",
            "ftp://example.com",
            "https://example.com/x",
            "https://example.com?x",
            "https://u:p@example.com",
            "http://127.0.0.1:8080",
            "http://[::1]",
        ] {
            assert!(public_url(wrong).is_err(), "{wrong}");
        }
    }
}
