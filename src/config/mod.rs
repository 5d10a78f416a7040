//! The configuration: defaults, then `tenantry.toml`, then the environment.
//!
//! Read once at start into types that cannot be wrong; whatever is wrong is told in one go.

mod error;
mod rules;
mod secret;
mod settings;
mod source;
#[cfg(test)]
mod tests;
mod traces;
mod value;

use std::collections::HashMap;
use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use secrecy::zeroize::Zeroizing;
use tenants::Pooling;
use url::Url;

pub use self::error::{ConfigError, Origin, Problem, Wrong};
pub use self::secret::{DatabaseUrl, MasterKey, SmtpUrl};
pub use self::settings::{Fallback, SETTINGS, Setting, settings_help, settings_markdown};
pub use self::traces::Traces;
pub use self::value::{BaseDomain, CorsOrigin, MailFrom, TenantSignUp};

use self::source::Source;
use self::value::MailTransport;
use crate::{
    master_key,
    server::{CertificateFiles, Limits},
    telemetry::{self, LogFormat},
};

/// The file that is read from the working directory when no other is named.
pub const DEFAULT_FILE: &str = "tenantry.toml";

/// The settings of a process. What each means is told in [`SETTINGS`].
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "documented once, in the table that people read too")]
pub struct Config {
    pub listen: SocketAddr,
    pub admin_listen: Option<SocketAddr>,
    pub metrics_listen: Option<SocketAddr>,
    pub metrics_tenants: u32,
    pub base_domain: BaseDomain,
    public_url: Url,
    public_url_is_derived: bool,
    database_url: Option<DatabaseUrl>,
    direct_database_url: Option<DatabaseUrl>,
    pub database_pooling: Pooling,
    pub data_dir: PathBuf,
    /// Given by its operator; the embedded database has one of its own in the data directory.
    pub master_key: Option<MasterKey>,
    /// The file it came from, if it was in one.
    master_key_file: Option<PathBuf>,
    smtp_url: Option<SmtpUrl>,
    mail_from: Option<MailFrom>,
    mail: Option<MailTransport>,
    pub tenant_sign_up: TenantSignUp,
    pub frontend_url: Option<Url>,
    pub cors_origins: Vec<CorsOrigin>,
    pub trusted_proxies: Vec<IpNet>,
    pub rate_limits: bool,
    pub grace_days: u32,
    export_dir: Option<PathBuf>,
    pub archive_max_mib: u32,
    pub lane_pool_size: u32,
    pub statement_timeout: Duration,
    pub request_timeout: Duration,
    max_requests: u32,
    max_connections: u32,
    max_connections_per_address: u32,
    tls_cert_files: Vec<PathBuf>,
    tls_key_files: Vec<PathBuf>,
    admin_tls: Option<bool>,
    pub shutdown_delay: Duration,
    pub shutdown_timeout: Duration,
    /// A filter that [`telemetry::filter`] has accepted.
    pub log: String,
    pub log_format: LogFormat,
    /// Where traces go, if anywhere.
    pub traces: Option<Traces>,
    origins: HashMap<&'static str, Origin>,
}

/// Where the database is.
#[derive(Clone, Copy, Debug)]
pub enum Database<'a> {
    /// A private cluster in the data directory.
    Embedded {
        /// The data directory.
        data_dir: &'a Path,
    },
    /// A server that somebody else runs.
    External {
        /// For requests; may lead through a pooler.
        url: &'a DatabaseUrl,
        /// For what needs a session: sign-ups and migrations, LISTEN, advisory locks, COPY. Never through a pooler.
        direct_url: &'a DatabaseUrl,
    },
}

/// Where mails go.
#[derive(Clone, Debug)]
pub enum Mail<'a> {
    /// To a mail server.
    Smtp(&'a SmtpUrl),
    /// Into this directory, an `.eml` file each.
    Files(PathBuf),
}

impl Config {
    /// Reads the configuration: from `path`, or from [`DEFAULT_FILE`] if that is there, under the variables of `environment`.
    ///
    /// # Errors
    /// Everything that is wrong with it, unknown names included.
    pub fn load(
        path: Option<&Path>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        let named = path.unwrap_or(Path::new(DEFAULT_FILE));
        let text = match std::fs::read_to_string(named) {
            Ok(text) => Some(text),
            Err(error) if path.is_none() && error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                let mut source = Source::new(None, environment);
                source.problems.push(Problem {
                    setting: "the file".to_owned(),
                    origin: Origin::File { path: named.to_owned(), line: None },
                    wrong: format!("cannot be read: {error}"),
                    right: "name a readable file in TOML".to_owned(),
                });
                return Self::from_source(source);
            }
        };
        Self::parse(text.as_deref().map(|text| (named, text)), environment)
    }

    /// As [`load`](Self::load), of the text of a file.
    ///
    /// # Errors
    /// Everything that is wrong with it, unknown names included.
    pub fn parse(
        file: Option<(&Path, &str)>,
        environment: impl Iterator<Item = (OsString, OsString)>,
    ) -> Result<Self, ConfigError> {
        Self::from_source(Source::new(file, environment))
    }

    fn from_source(mut source: Source) -> Result<Self, ConfigError> {
        let config = Self::read(&mut source);
        let mut problems = source.problems;
        match config {
            Some(config) => {
                problems.extend(config.contradictions());
                if problems.is_empty() { Ok(config) } else { Err(ConfigError { problems }) }
            }
            None => Err(ConfigError { problems }),
        }
    }

    /// Reads every setting; `None` if one that has a default is wrong.
    fn read(source: &mut Source) -> Option<Self> {
        use settings as name;

        const ON_OFF: &[(&str, bool)] = &[("on", true), ("off", false)];
        const SIGN_UP: &[(&str, TenantSignUp)] =
            &[("open", TenantSignUp::Open), ("closed", TenantSignUp::Closed)];
        const POOLING: &[(&str, Pooling)] =
            &[("session", Pooling::Session), ("transaction", Pooling::Transaction)];
        const MAIL: &[(&str, MailTransport)] =
            &[("smtp", MailTransport::Smtp), ("file", MailTransport::File)];
        const FORMAT: &[(&str, LogFormat)] = &[("pretty", LogFormat::Pretty), ("json", LogFormat::Json)];

        // All are read before the first missing one ends this: each notes what is wrong with it.
        let listen = source.read(&name::LISTEN, value::socket_address);
        let admin_listen = source.read(&name::ADMIN_LISTEN, value::socket_address);
        let metrics_listen = source.read(&name::METRICS_LISTEN, value::socket_address);
        let metrics_tenants = source.read(&name::METRICS_TENANTS, |text| value::number(text, 0, 1000));
        let base_domain = source.read(&name::BASE_DOMAIN, BaseDomain::parse);
        let public_url = source.read(&name::PUBLIC_URL, value::public_url);
        let database_url = source.read(&name::DATABASE_URL, DatabaseUrl::parse);
        let database_pooling = source.read(&name::DATABASE_POOLING, |text| value::one_of(text, POOLING));
        let direct_database_url = source.read(&name::DIRECT_DATABASE_URL, DatabaseUrl::parse);
        let data_dir = source.read(&name::DATA_DIR, |text| Ok(PathBuf::from(text)));
        let master_key = source.read(&name::MASTER_KEY, MasterKey::parse);
        let (master_key_file, key_in_file) = source
            .read(&name::MASTER_KEY_FILE, |path| Ok((PathBuf::from(path), read_master_key(path)?)))
            .unzip();
        let smtp_url = source.read(&name::SMTP_URL, SmtpUrl::parse);
        let mail_from = source.read(&name::MAIL_FROM, MailFrom::parse);
        let mail = source.read(&name::MAIL, |text| value::one_of(text, MAIL));
        let tenant_sign_up = source.read(&name::TENANT_SIGN_UP, |text| value::one_of(text, SIGN_UP));
        let frontend_url = source.read(&name::FRONTEND_URL, value::web_url);
        let cors_origins = source.read(&name::CORS_ORIGINS, value::cors_origins);
        let trusted_proxies = source.read(&name::TRUSTED_PROXIES, value::networks);
        let rate_limits = source.read(&name::RATE_LIMITS, |text| value::one_of(text, ON_OFF));
        let grace_days = source.read(&name::GRACE_DAYS, |text| value::number(text, 0, 3650));
        let export_dir = source.read(&name::EXPORT_DIR, |text| Ok(PathBuf::from(text)));
        let archive_max_mib = source.read(&name::ARCHIVE_MAX_MIB, |text| value::number(text, 1, 1 << 24));
        let lane_pool_size = source.read(&name::LANE_POOL_SIZE, |text| value::number(text, 2, 100));
        let statement_timeout = source.read(&name::STATEMENT_TIMEOUT, value::duration);
        let request_timeout = source.read(&name::REQUEST_TIMEOUT, value::duration);
        let max_requests = source.read(&name::MAX_REQUESTS, |text| value::number(text, 1, 1 << 20));
        let max_connections = source.read(&name::MAX_CONNECTIONS, |text| value::number(text, 1, 1 << 20));
        let max_connections_per_address =
            source.read(&name::MAX_CONNECTIONS_PER_ADDRESS, |text| value::number(text, 1, 1 << 20));
        let tls_cert_files = source.read(&name::TLS_CERT_FILE, value::paths);
        let tls_key_files = source.read(&name::TLS_KEY_FILE, value::paths);
        let admin_tls = source.read(&name::ADMIN_TLS, |text| value::one_of(text, ON_OFF));
        let shutdown_delay = source.read(&name::SHUTDOWN_DELAY, value::pause);
        let shutdown_timeout = source.read(&name::SHUTDOWN_TIMEOUT, value::duration);
        let log = source.read(&name::LOG, log_filter);
        let log_format = source.read(&name::LOG_FORMAT, |text| value::one_of(text, FORMAT));

        let traces = Traces::read(source);

        let (listen, base_domain) = (listen?, base_domain?);
        let scheme = if tls_cert_files.is_some() { "https" } else { "http" };
        let derived = Url::parse(&format!("{scheme}://{base_domain}:{}", listen.port())).ok()?;
        Some(Self {
            listen,
            admin_listen,
            metrics_listen,
            metrics_tenants: metrics_tenants?,
            public_url_is_derived: public_url.is_none(),
            public_url: public_url.unwrap_or(derived),
            base_domain,
            database_url,
            direct_database_url,
            database_pooling: database_pooling?,
            data_dir: data_dir?,
            master_key: master_key.or(key_in_file),
            master_key_file,
            smtp_url,
            mail_from,
            mail,
            tenant_sign_up: tenant_sign_up?,
            frontend_url,
            cors_origins: cors_origins.unwrap_or_default(),
            trusted_proxies: trusted_proxies.unwrap_or_default(),
            rate_limits: rate_limits?,
            grace_days: grace_days?,
            export_dir,
            archive_max_mib: archive_max_mib?,
            lane_pool_size: lane_pool_size?,
            statement_timeout: statement_timeout?,
            request_timeout: request_timeout?,
            max_requests: max_requests?,
            max_connections: max_connections?,
            max_connections_per_address: max_connections_per_address?,
            tls_cert_files: tls_cert_files.unwrap_or_default(),
            tls_key_files: tls_key_files.unwrap_or_default(),
            admin_tls,
            shutdown_delay: shutdown_delay?,
            shutdown_timeout: shutdown_timeout?,
            log: log?,
            log_format: log_format?,
            traces,
            origins: source.origins(),
        })
    }

    /// The log's filter, or `fallback` where nobody set one.
    #[must_use]
    pub fn log_or<'a>(&'a self, fallback: &'a str) -> &'a str {
        if self.origins.contains_key(settings::LOG.key) { &self.log } else { fallback }
    }

    /// Where people reach the server. Unless it was given, the base domain with the port of the listener, over http.
    #[must_use]
    pub fn public_url(&self) -> &Url {
        &self.public_url
    }

    /// The certificates of the listeners, and their keys; none: they speak no TLS.
    #[must_use]
    pub fn certificates(&self) -> Vec<CertificateFiles> {
        let pairs = self.tls_cert_files.iter().cloned().zip(self.tls_key_files.iter().cloned());
        pairs.map(|(chain, key)| CertificateFiles { chain, key }).collect()
    }

    /// Whether the admin listener speaks TLS.
    #[must_use]
    pub fn admin_tls(&self) -> bool {
        self.admin_tls.unwrap_or(!self.tls_cert_files.is_empty())
    }

    /// How much a listener takes on at once, of a process that may open so many files.
    #[must_use]
    pub fn limits(&self, files: usize) -> Limits {
        let number = |number: u32| usize::try_from(number).unwrap_or(usize::MAX);
        Limits {
            requests: number(self.max_requests),
            // The database and what is written take the others.
            connections: number(self.max_connections).min(files / 4 * 3),
            connections_of_address: number(self.max_connections_per_address),
            ..Limits::default()
        }
    }

    /// Where the database is.
    #[must_use]
    pub fn database(&self) -> Database<'_> {
        match &self.database_url {
            None => Database::Embedded { data_dir: &self.data_dir },
            Some(url) => {
                Database::External { url, direct_url: self.direct_database_url.as_ref().unwrap_or(url) }
            }
        }
    }

    /// The file with the master key, if it is in one.
    #[must_use]
    pub fn master_key_path(&self) -> Option<PathBuf> {
        match (&self.master_key, &self.master_key_file) {
            (_, Some(path)) => Some(path.clone()),
            (Some(_), None) => None,
            (None, None) => self.database_url.is_none().then(|| master_key::file_in(&self.data_dir)),
        }
    }

    /// Where archives of tenants are kept.
    #[must_use]
    pub fn export_dir(&self) -> PathBuf {
        self.export_dir.clone().unwrap_or_else(|| self.data_dir.join("exports"))
    }

    /// Where mails go.
    #[must_use]
    pub fn mail(&self) -> Mail<'_> {
        match (&self.smtp_url, self.mail) {
            (Some(url), None | Some(MailTransport::Smtp)) => Mail::Smtp(url),
            _ => Mail::Files(self.data_dir.join("mail")),
        }
    }

    /// The sender of mails. Without a mail server it need not be given.
    #[must_use]
    pub fn mail_from(&self) -> MailFrom {
        self.mail_from.clone().unwrap_or_else(|| MailFrom {
            name: Some("Tenantry".to_owned()),
            address: format!("no-reply@{}", self.base_domain),
        })
    }

    /// Whether this is a developer's own machine: embedded database, loopback listener and no mail server. Only then are
    /// mails written as files unasked, and shown in the browser.
    #[must_use]
    pub fn is_development(&self) -> bool {
        self.database_url.is_none() && self.listen.ip().is_loopback() && self.smtp_url.is_none()
    }

    /// The same configuration over another data directory: the command line's counts more than any other.
    #[must_use]
    pub fn with_data_dir(mut self, data_dir: PathBuf) -> Self {
        self.data_dir = data_dir;
        self
    }

    /// The same configuration, once the listener is bound: port 0 has become a real one, also in a derived public URL.
    #[must_use]
    pub fn listening_on(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        // Fails only for URLs without a host, and this one has the base domain.
        if self.public_url_is_derived && self.public_url.set_port(Some(address.port())).is_err() {
            self.public_url_is_derived = false;
        }
        self
    }
}

fn read_master_key(path: &str) -> Result<MasterKey, Wrong> {
    let text = std::fs::read_to_string(path).map(Zeroizing::new).map_err(|error| {
        Wrong::new(format!("cannot be read: {error}"), "name a readable file that holds the key")
    })?;
    MasterKey::parse(&text)
        .map_err(|Wrong { is, right }| Wrong::new(format!("holds a text that {is}"), right))
}

fn log_filter(text: &str) -> Result<String, Wrong> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let right =
        "give a level (error, warn, info, debug, trace), or levels by module: info,tenantry::http=debug";
    telemetry::filter(text, false)
        .map_err(|error| Wrong::new(format!("is not a filter ({error})"), right))?;
    // A word that is no level is taken for the name of a module, and nothing else would be logged.
    let misspelt = text.split(',').map(str::trim).find(|word| {
        let word = word.to_ascii_lowercase();
        LEVELS.iter().all(|level| *level != word)
            && LEVELS.iter().any(|level| strsim::osa_distance(level, &word) <= 2)
    });
    let has_level = text.split([',', '=']).any(|word| {
        let word = word.trim();
        LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
    });
    match misspelt {
        Some(word) if word == text => Err(Wrong::new("is no level", right)),
        Some(word) => Err(Wrong::new(format!("has \"{word}\", which is no level"), right)),
        None if !has_level => Err(Wrong::new("has no level in it", right)),
        None => Ok(text.to_owned()),
    }
}
