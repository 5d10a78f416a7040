//! Which host a request is for.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use poem::{
    Addr, Request,
    http::{Version, header::HOST},
};

use super::error::Problem;

/// A host, without its port.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name in ASCII, in lower case, without the final dot.
    Name(String),
    /// An address.
    Ip(IpAddr),
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Ip(IpAddr::V4(ip)) => ip.fmt(f),
            Self::Ip(IpAddr::V6(ip)) => write!(f, "[{ip}]"),
        }
    }
}

/// A host and the port that was written behind it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Authority {
    /// The host.
    pub host: Host,
    /// The port.
    pub port: Option<u16>,
}

impl Authority {
    /// Reads `host`, `host:` or `host:port`; `None` if it is none of them. User information, percent-encoding and
    /// anything outside ASCII have no place here.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = if let Some(rest) = text.strip_prefix('[') {
            let (ip, port) = rest.split_once(']')?;
            let host = Host::Ip(IpAddr::V6(ip.parse::<Ipv6Addr>().ok()?));
            (host, if port.is_empty() { port } else { port.strip_prefix(':')? })
        } else {
            let (host, port) = text.split_once(':').unwrap_or((text, ""));
            (name_or_ip(host)?, port)
        };
        if !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let port = if port.is_empty() { None } else { Some(port.parse().ok()?) };
        Some(Self { host, port })
    }
}

fn name_or_ip(host: &str) -> Option<Host> {
    let host = host.strip_suffix('.').unwrap_or(host);
    if let Ok(ip) = host.parse::<Ipv4Addr>() {
        return Some(Host::Ip(IpAddr::V4(ip)));
    }
    // Underscores are no part of a host name, but of DNS names people use.
    let character = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=63).contains(&label.len()) && label.bytes().all(character);
    (host.len() <= 253 && host.split('.').all(label)).then(|| Host::Name(host.to_ascii_lowercase()))
}

/// The host of a request: the authority of its target where that has one, as RFC 9112 and 9113 have it, else the
/// header.
///
/// # Errors
/// 400 for a header that is missing, given twice or no host, even where the target has an authority.
pub(crate) fn of(request: &Request) -> Result<Authority, Problem> {
    let mut values = request.headers().get_all(HOST).iter();
    let header = match (values.next(), values.next()) {
        (Some(value), None) => {
            let authority = value.to_str().ok().and_then(Authority::parse);
            Some(authority.ok_or_else(|| malformed("The header Host is malformed."))?)
        }
        (None, _) if request.version() == Version::HTTP_11 => {
            return Err(malformed("The header Host is missing."));
        }
        (None, _) => None,
        (Some(_), Some(_)) => return Err(malformed("The header Host was given twice.")),
    };
    let target = match request.uri().authority() {
        Some(authority) => {
            let parsed = Authority::parse(authority.as_str());
            Some(parsed.ok_or_else(|| malformed("The authority of the request's target is malformed."))?)
        }
        None => None,
    };
    match (target, header) {
        (Some(target), Some(header))
            if request.version() == Version::HTTP_2 && target.host != header.host =>
        {
            Err(malformed("The header Host is not the request's authority."))
        }
        (Some(authority), _) | (None, Some(authority)) => Ok(authority),
        // HTTP/1.0 knows no Host; such a request is for the address it came to.
        (None, None) => Ok(Authority { host: Host::Ip(local_ip(request)), port: None }),
    }
}

fn malformed(detail: &'static str) -> Problem {
    Problem::parse_error(detail)
}

fn local_ip(request: &Request) -> IpAddr {
    match request.local_addr().0 {
        Addr::SocketAddr(addr) => addr.ip(),
        _ => IpAddr::V4(Ipv4Addr::LOCALHOST),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> Host {
        Host::Name(text.into())
    }

    #[test]
    fn case_port_and_one_final_dot_do_not_count() {
        for text in [
            "acme.example.com",
            "ACME.Example.com",
            "acme.example.com.",
            "acme.example.com.:8080",
            "acme.example.com:",
        ] {
            assert_eq!(
                Authority::parse(text).map(|authority| authority.host),
                Some(name("acme.example.com")),
                "{text}"
            );
        }
        assert_eq!(
            Authority::parse("localhost:8080"),
            Some(Authority { host: name("localhost"), port: Some(8080) })
        );
    }

    #[test]
    fn addresses_are_addresses() {
        for (text, ip) in [
            ("127.0.0.1:80", "127.0.0.1"),
            ("10.0.0.1.", "10.0.0.1"),
            ("[::1]", "::1"),
            ("[FE80::1]:99", "fe80::1"),
        ] {
            let ip = ip.parse().expect("an address");
            assert_eq!(Authority::parse(text).map(|authority| authority.host), Some(Host::Ip(ip)), "{text}");
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a".repeat(64);
        let longer = "a.".repeat(127) + "ab";
        for text in [
            "",
            ".",
            "..",
            "a..b",
            ".a",
            "a..",
            "a b",
            "a/b",
            "user@a",
            "a:b",
            "a:99999",
            "a:1:2",
            "::1",
            "[::1",
            "[::1]x",
            "[::1%25eth0]",
            "[1.2.3.4]",
            "a%2eb",
            "bücher.example",
            "a,b",
            "a\"",
            &long,
            &longer,
        ] {
            assert_eq!(Authority::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_name_in_any_dress_is_the_same_name(
            host in "[a-z0-9_]([a-z0-9-]{0,20})(\\.[a-z][a-z0-9-]{0,20}){1,3}", port in any::<Option<u16>>(), dot in any::<bool>()
        ) {
            let text = format!(
                "{}{}{}", host.to_uppercase(), if dot { "." } else { "" }, port.map(|port| format!(":{port}")).unwrap_or_default()
            );
            prop_assert_eq!(Authority::parse(&text), Some(Authority { host: Host::Name(host), port }));
        }

        #[test]
        fn what_is_read_can_be_written_and_read_again(text in "\\PC{0,40}") {
            if let Some(Authority { host, .. }) = Authority::parse(&text) {
                prop_assert_eq!(Authority::parse(&host.to_string()).map(|authority| authority.host), Some(host));
            }
        }
    }
}
