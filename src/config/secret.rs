//! Settings that hold secrets. Their `Debug` and their errors never show them.

use std::fmt;

use data_encoding::{BASE64_NOPAD, BASE64URL_NOPAD, HEXLOWER_PERMISSIVE};
use secrecy::{ExposeSecret, SecretString};
use tenants::SecretKey;
use url::{Host, Url};

use super::error::Wrong;

/// What sqlx reads of a database URL. It ignores others, and says so with their values.
const PARAMETERS: [&str; 17] = [
    "sslmode",
    "ssl-mode",
    "sslrootcert",
    "ssl-root-cert",
    "ssl-ca",
    "sslcert",
    "ssl-cert",
    "sslkey",
    "ssl-key",
    "statement-cache-capacity",
    "host",
    "hostaddr",
    "port",
    "dbname",
    "user",
    "password",
    "application_name",
];

/// What libpq reads besides (PostgreSQL 18's manual, 34.1.2), and this service does not.
const LIBPQ: [&str; 33] = [
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "max_protocol_version",
    "min_protocol_version",
    "oauth_client_id",
    "oauth_issuer",
    "options",
    "passfile",
    "replication",
    "require_auth",
    "requirepeer",
    "scram_client_key",
    "service",
    "servicefile",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcompression",
    "sslcrl",
    "sslnegotiation",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
];

/// The URL of a PostgreSQL database. It is shown without password and parameters.
#[derive(Clone)]
pub struct DatabaseUrl {
    url: SecretString,
    shown: String,
}

impl DatabaseUrl {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let right = "give postgres://user:password@host:5432/database";
        let wrong = |is: &str| Err(Wrong::new(is, right));
        let Ok(mut url) = Url::parse(text) else { return wrong("is not a URL") };
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return wrong("is not a PostgreSQL URL");
        }
        // A socket's directory comes as ?host=/run/postgresql.
        if url.host_str().is_none_or(str::is_empty) && !url.query_pairs().any(|(name, _)| name == "host") {
            return wrong("names no host");
        }
        if url.path().trim_matches('/').is_empty() {
            return wrong("names no database");
        }
        let mut names = url.query_pairs().map(|(name, _)| name);
        if let Some(unknown) =
            names.find(|name| !PARAMETERS.contains(&name.as_ref()) && !name.starts_with("options["))
        {
            return Err(unread(&unknown));
        }
        url.set_query(None);
        url.set_fragment(None);
        if url.password().is_some() && url.set_password(Some("***")).is_err() {
            return wrong("has a password but no host");
        }
        Ok(Self { url: text.into(), shown: url.into() })
    }

    /// The whole URL.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }
}

/// That nobody reads a parameter. What is no name is not shown: after a `?` in a password, its rest stands there.
fn unread(name: &str) -> Wrong {
    if LIBPQ.contains(&name) {
        return Wrong::new(
            format!("has a parameter of libpq that this service does not take: {name}"),
            "take it out; deploy/database.md lists those it takes",
        );
    }
    let is_name =
        (1..=40).contains(&name.len()) && name.bytes().all(|it| it.is_ascii_lowercase() || it == b'_');
    let is = if is_name {
        format!("has an unknown parameter: {name}")
    } else {
        "has an unknown parameter".to_owned()
    };
    Wrong::new(
        is,
        "take it out, or write it as deploy/database.md does; in a password, ? and / are %3F and %2F",
    )
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The URL of a mail server: `smtps://` is TLS from the start, `smtp://…?tls=required` after STARTTLS.
#[derive(Clone)]
pub struct SmtpUrl {
    url: SecretString,
    shown: String,
    crosses_networks_in_clear: bool,
}

impl SmtpUrl {
    pub(super) fn parse(text: &str) -> Result<Self, Wrong> {
        let right = "give smtps://user:password@host or smtp://user:password@host:587?tls=required";
        let wrong = |is: &str| Err(Wrong::new(is, right));
        let Ok(url) = Url::parse(text) else { return wrong("is not a URL") };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return wrong("names no host");
        };
        let tls_required = match url.query() {
            None | Some("tls=opportunistic") => false,
            Some("tls=required") => true,
            Some(_) => return wrong("has parameters other than tls=required or tls=opportunistic"),
        };
        let encrypted = match url.scheme() {
            "smtps" => true,
            "smtp" => tls_required,
            _ => return wrong("is neither smtp nor smtps"),
        };
        if !matches!(url.path(), "" | "/") || url.fragment().is_some() {
            return wrong("has a path or a fragment");
        }
        let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
        Ok(Self {
            shown: format!("{}://{host}{port}", url.scheme()),
            crosses_networks_in_clear: !encrypted && !is_this_machine(host),
            url: text.into(),
        })
    }

    /// The whole URL.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// Whether mails, and the password, would go to another machine readable for everybody between.
    #[must_use]
    pub fn crosses_networks_in_clear(&self) -> bool {
        self.crosses_networks_in_clear
    }
}

impl fmt::Display for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for SmtpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn is_this_machine(host: &str) -> bool {
    match Host::parse(host) {
        Ok(Host::Ipv4(address)) => address.is_loopback(),
        Ok(Host::Ipv6(address)) => address.is_loopback(),
        Ok(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Err(_) => false,
    }
}

/// The key that wraps the keys kept in the catalog.
#[derive(Clone)]
pub struct MasterKey(SecretKey);

impl MasterKey {
    /// Reads 32 bytes in base64 (either alphabet, padded or not) or in hex; blanks around them don't count.
    ///
    /// # Errors
    /// If it is anything else, or obviously not random.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let right = "give 32 random bytes in base64 or hex: openssl rand -base64 32";
        let text = text.trim();
        let unpadded = text.trim_end_matches('=').as_bytes();
        let bytes = match text.len() {
            64 => HEXLOWER_PERMISSIVE.decode(text.as_bytes()),
            43 | 44 if unpadded.len() == 43 => {
                BASE64_NOPAD.decode(unpadded).or_else(|_| BASE64URL_NOPAD.decode(unpadded))
            }
            _ => return Err(Wrong::new("does not have the length of 32 bytes in base64 or hex", right)),
        };
        let bytes = bytes.ok().map(secrecy::zeroize::Zeroizing::new);
        let Some(Ok(key)) = bytes.as_ref().map(|bytes| <[u8; 32]>::try_from(bytes.as_slice())) else {
            return Err(Wrong::new("is neither base64 nor hex", right));
        };
        // Among 32 random bytes, fewer than 8 different ones have a chance of less than 2^-100.
        let different = (0..=u8::MAX).filter(|byte| key.contains(byte)).count();
        if different < 8 {
            Err(Wrong::new("is not random", right))
        } else {
            Ok(Self(SecretKey::from_bytes(key)))
        }
    }

    /// The key itself.
    #[must_use]
    pub fn key(&self) -> &SecretKey {
        &self.0
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_url_is_shown_without_its_password() {
        for text in [
            "postgres://app:s3cret@db.internal:5432/main?sslmode=require",
            "postgresql://app:s3cret@db.internal:5432/main?password=s3cret",
        ] {
            let url = DatabaseUrl::parse(text).unwrap();
            assert_eq!(url.expose(), text);
            assert!(url.to_string().ends_with("://app:***@db.internal:5432/main"), "{url}");
            assert_eq!(format!("{url:?}"), url.to_string());
        }
    }

    #[test]
    fn a_database_url_names_scheme_host_and_database() {
        assert!(DatabaseUrl::parse("postgres:///main?host=/run/postgresql").is_ok());
        for wrong in [
            "",
            "db",
            "mysql://u:s3cret@h/d",
            "postgres://u:s3cret@h",
            "postgres:///main",
            "postgres://u:s3cret@/d",
        ] {
            let Wrong { is, right } = DatabaseUrl::parse(wrong).unwrap_err();
            assert!(!format!("{is}{right}").contains("s3cret"), "{is}");
        }
    }

    #[test]
    fn plain_smtp_stays_on_this_machine() {
        let in_clear = |text| SmtpUrl::parse(text).unwrap().crosses_networks_in_clear();
        for fine in [
            "smtp://localhost:1025",
            "smtp://127.0.0.1",
            "smtp://[::1]:25",
            "smtps://h",
            "smtp://h?tls=required",
        ] {
            assert!(!in_clear(fine), "{fine}");
        }
        for bad in ["smtp://mail.example.com", "smtp://h?tls=opportunistic", "smtp://localhost.example.com"] {
            assert!(in_clear(bad), "{bad}");
        }
        for wrong in ["mail", "http://h", "smtp://h/x", "smtp://h?tls=no", "smtp://"] {
            assert!(SmtpUrl::parse(wrong).is_err(), "{wrong}");
        }
        assert_eq!(format!("{:?}", SmtpUrl::parse("smtps://u:s3cret@h:465").unwrap()), "smtps://h:465");
    }

    #[test]
    fn a_master_key_is_base64_or_hex() {
        let bytes: Vec<u8> = (0..32).map(|n| n * 7 + 30).collect();
        let encodings = [
            data_encoding::BASE64.encode(&bytes),
            data_encoding::BASE64URL_NOPAD.encode(&bytes),
            data_encoding::HEXLOWER.encode(&bytes),
            format!("  {}\n", data_encoding::HEXUPPER.encode(&bytes)),
        ];
        for text in encodings {
            let key = MasterKey::parse(&text).unwrap();
            assert_eq!(key.key().expose()[..], bytes);
            assert_eq!(format!("{key:?}"), "MasterKey(***)");
        }
    }

    #[test]
    fn other_keys_are_refused_without_being_shown() {
        let zeros = "0".repeat(64);
        for wrong in ["", "hunter2", "x".repeat(64).as_str(), "!".repeat(43).as_str(), zeros.as_str()] {
            let Wrong { is, right } = MasterKey::parse(wrong).unwrap_err();
            assert!(wrong.is_empty() || !format!("{is}{right}").contains(wrong));
        }
    }
}
