//! The table of settings: what can be set, its default and what it means. Help, README and the reader all use it.

use std::fmt::Write;

/// One thing that can be set.
#[derive(Debug)]
pub struct Setting {
    /// The name in `tenantry.toml`; the environment's is this in capitals behind `TENANTRY_`.
    pub key: &'static str,
    /// What counts when nobody sets it, or in words what happens then.
    pub default: Fallback,
    /// What it means, in a sentence or two.
    pub meaning: &'static str,
    /// Whether its value must never be shown.
    pub secret: bool,
}

/// What counts when nobody sets a setting.
#[derive(Clone, Copy, Debug)]
pub enum Fallback {
    /// This value.
    Value(&'static str),
    /// No value; the words tell what that leads to.
    Unset(&'static str),
}

impl Setting {
    const fn new(key: &'static str, default: Fallback, meaning: &'static str) -> Self {
        Self { key, default, meaning, secret: false }
    }

    const fn secret(key: &'static str, default: Fallback, meaning: &'static str) -> Self {
        Self { key, default, meaning, secret: true }
    }

    /// The name of the environment variable.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("TENANTRY_{}", self.key.to_ascii_uppercase())
    }

    /// The default as the tables show it.
    #[must_use]
    pub fn default_text(&self) -> &'static str {
        match self.default {
            Value(text) | Unset(text) => text,
        }
    }
}

use self::Fallback::{Unset, Value};

pub(super) const LISTEN: Setting =
    Setting::new("listen", Value("127.0.0.1:8080"), "IP address and port on which the API listens.");
pub(super) const ADMIN_LISTEN: Setting = Setting::new(
    "admin_listen",
    Unset("none"),
    "IP address and port for the admin API alone. None: it is served on the main listener's base domain.",
);
pub(super) const METRICS_LISTEN: Setting = Setting::new(
    "metrics_listen",
    Unset("none"),
    "IP address and port for /metrics, /healthz and /readyz alone. The admin listener has /metrics too; no other has.",
);
pub(super) const METRICS_TENANTS: Setting = Setting::new(
    "metrics_tenants",
    Value("20"),
    "How many tenants /metrics tells of one by one, 0 to 1000: those that were busiest in the last five minutes.",
);
pub(super) const DATABASE_URL: Setting = Setting::secret(
    "database_url",
    Unset("embedded"),
    "The database, postgres://user:password@host/name. None: a private PostgreSQL in the data directory.",
);
pub(super) const DATABASE_POOLING: Setting = Setting::new(
    "database_pooling",
    Value("session"),
    "What the database URL leads to: session (PostgreSQL itself: connections keep what is set on them) or transaction (a \
     pooler, as PgBouncer, with pool_mode = transaction or session: each transaction is bound by itself).",
);
pub(super) const DIRECT_DATABASE_URL: Setting = Setting::secret(
    "direct_database_url",
    Unset("the database URL"),
    "The same database, never behind a pooler: for sign-ups and migrations, LISTEN, advisory locks and COPY. Needed where \
     the pooling is by transaction.",
);
pub(super) const LANE_POOL_SIZE: Setting = Setting::new(
    "lane_pool_size",
    Value("4"),
    "Database connections per lane and process, 2 to 100. There are 8 lanes; one tenant gets at most half of its lane's.",
);
pub(super) const STATEMENT_TIMEOUT: Setting = Setting::new(
    "statement_timeout",
    Value("10s"),
    "After this long PostgreSQL gives up a statement of a request. A number with ms, s or m.",
);
pub(super) const REQUEST_TIMEOUT: Setting = Setting::new(
    "request_timeout",
    Value("30s"),
    "After this long a request that has no answer yet is given up: 503. A number with ms, s or m.",
);
pub(super) const MAX_REQUESTS: Setting = Setting::new(
    "max_requests",
    Value("512"),
    "How many requests a listener works on at once. Half as many wait for up to a second; the others get 503 at once.",
);
pub(super) const MAX_CONNECTIONS: Setting = Setting::new(
    "max_connections",
    Value("16384"),
    "How many connections the process has at once, and never more than three quarters of the files it may open. When another \
     one comes then, one goes that waits for a request.",
);
pub(super) const MAX_CONNECTIONS_PER_ADDRESS: Setting = Setting::new(
    "max_connections_per_address",
    Value("1024"),
    "How many of them one client has on a listener, trusted proxies and this machine aside. Who comes then is hung up on.",
);
pub(super) const TLS_CERT_FILE: Setting = Setting::new(
    "tls_cert_file",
    Unset("none"),
    "A certificate in PEM, with the chain above it: the listener speaks TLS. Several, separated by commas, for several names; \
     the first is for whoever asks for none of them. Another one is taken when the file changes.",
);
pub(super) const TLS_KEY_FILE: Setting = Setting::new(
    "tls_key_file",
    Unset("none"),
    "The key of the certificate in PEM; of several, as many and in the same order.",
);
pub(super) const ADMIN_TLS: Setting = Setting::new(
    "admin_tls",
    Unset("as the main listener"),
    "on, or off: whether the admin listener speaks TLS, with the same certificates.",
);
pub(super) const SHUTDOWN_DELAY: Setting = Setting::new(
    "shutdown_delay",
    Value("0s"),
    "For how long everything is answered after the server was told to stop, but /readyz with 503: as long as a balancer needs \
     to notice. A number with ms, s or m.",
);
pub(super) const SHUTDOWN_TIMEOUT: Setting = Setting::new(
    "shutdown_timeout",
    Value("20s"),
    "How long requests and jobs may go on after that; then they are cut off, and jobs handed back. A number with ms, s or m.",
);
pub(super) const DATA_DIR: Setting = Setting::new(
    "data_dir",
    Value(".tenantry"),
    "Directory of what the server keeps itself: the embedded database, its master key, mails written as files.",
);
pub(super) const BASE_DOMAIN: Setting = Setting::new(
    "base_domain",
    Value("localhost"),
    "The domain under which every tenant has its host, <slug>.<base domain>.",
);
pub(super) const PUBLIC_URL: Setting = Setting::new(
    "public_url",
    Unset("http://<base domain>:<port>"),
    "Where people reach the server: scheme, host (the base domain or a name under it) and port. Links in mails and the \
     issuer of tokens come from it, never from a request.",
);
pub(super) const FRONTEND_URL: Setting = Setting::new(
    "frontend_url",
    Unset("none"),
    "A web client of your own that has the account pages: mails link to <it>/account/<page>?tenant=<slug>&token=<token>, \
     the page being verify, accept, reset or email. None: the server's own pages on the tenant's host.",
);
pub(super) const CORS_ORIGINS: Setting = Setting::new(
    "cors_origins",
    Unset("none"),
    "Other origins whose pages may call the API, separated by commas. A tenant's own host always may.",
);
pub(super) const TRUSTED_PROXIES: Setting = Setting::new(
    "trusted_proxies",
    Unset("none"),
    "Networks (CIDR) of your own proxies, separated by commas; only their X-Forwarded-For counts.",
);
pub(super) const SMTP_URL: Setting = Setting::secret(
    "smtp_url",
    Unset("none"),
    "The mail server, smtps://user:password@host or smtp://host?tls=required. None: mails are written as files, which \
     only development does unasked.",
);
pub(super) const MAIL_FROM: Setting = Setting::new(
    "mail_from",
    Unset("none"),
    "The sender of mails, Name <address>. Needed with a mail server.",
);
pub(super) const MAIL: Setting = Setting::new(
    "mail",
    Unset("smtp, in development file"),
    "smtp, or file: mails are written to the data directory's mail/ and not sent.",
);
pub(super) const MASTER_KEY: Setting = Setting::secret(
    "master_key",
    Unset("embedded: made once"),
    "32 random bytes in base64 or hex (openssl rand -base64 32) that wrap the keys kept in the database. Needed with a \
     database URL; the embedded database has one in the data directory.",
);
pub(super) const MASTER_KEY_FILE: Setting = Setting::new(
    "master_key_file",
    Unset("none"),
    "A file that holds the master key, instead of master_key.",
);
pub(super) const TENANT_SIGN_UP: Setting = Setting::new(
    "tenant_sign_up",
    Value("open"),
    "Who may sign an organization up: open (anyone) or closed (operators).",
);
pub(super) const GRACE_DAYS: Setting = Setting::new(
    "grace_days",
    Value("30"),
    "For so many days, 0 to 3650, an organization that was deleted can be restored. Then it is purged: everything it has \
     is dropped.",
);
pub(super) const EXPORT_DIR: Setting = Setting::new(
    "export_dir",
    Unset("<data dir>/exports"),
    "Directory of the archives that exports write and imports read. They hold all that a tenant has: only the server's \
     own user can read it. Several processes share it.",
);
pub(super) const ARCHIVE_MAX_MIB: Setting =
    Setting::new("archive_max_mib", Value("10240"), "How large an archive may be that is uploaded, in MiB.");
pub(super) const RATE_LIMITS: Setting =
    Setting::new("rate_limits", Value("on"), "on, or off for benchmarks and load tests.");
pub(super) const LOG: Setting = Setting::new(
    "log",
    Value("info"),
    "What is logged: error, warn, info, debug or trace, also by module: info,tenantry::http=debug.",
);
pub(super) const LOG_FORMAT: Setting =
    Setting::new("log_format", Value("pretty"), "pretty for people, json for programs.");

pub(super) const OTLP_ENDPOINT: Setting = Setting::new(
    "otlp_endpoint",
    Unset("none"),
    "Where traces go: a collector that takes OTLP over HTTP, http://localhost:4318. None: nothing is traced. \
     OpenTelemetry's own variables count too, where these say nothing.",
);
pub(super) const OTLP_HEADERS: Setting = Setting::secret(
    "otlp_headers",
    Unset("none"),
    "Headers that the collector wants, name=value separated by commas, values percent-encoded.",
);
pub(super) const TRACE_RATIO: Setting = Setting::new(
    "trace_ratio",
    Value("1"),
    "Which share of what happens is traced, 0 to 1. What a trusted proxy's traceparent says of a request counts instead.",
);

pub(super) const SERVICE_NAME: Setting =
    Setting::new("service_name", Value("tenantry"), "What the service is called in traces.");

/// Every setting, in the order in which people want to read about them.
pub const SETTINGS: &[&Setting] = &[
    &LISTEN,
    &ADMIN_LISTEN,
    &TLS_CERT_FILE,
    &TLS_KEY_FILE,
    &ADMIN_TLS,
    &METRICS_LISTEN,
    &BASE_DOMAIN,
    &PUBLIC_URL,
    &DATABASE_URL,
    &DATABASE_POOLING,
    &DIRECT_DATABASE_URL,
    &DATA_DIR,
    &MASTER_KEY,
    &MASTER_KEY_FILE,
    &SMTP_URL,
    &MAIL_FROM,
    &MAIL,
    &TENANT_SIGN_UP,
    &GRACE_DAYS,
    &EXPORT_DIR,
    &ARCHIVE_MAX_MIB,
    &FRONTEND_URL,
    &CORS_ORIGINS,
    &TRUSTED_PROXIES,
    &RATE_LIMITS,
    &LANE_POOL_SIZE,
    &STATEMENT_TIMEOUT,
    &REQUEST_TIMEOUT,
    &MAX_REQUESTS,
    &MAX_CONNECTIONS,
    &MAX_CONNECTIONS_PER_ADDRESS,
    &SHUTDOWN_DELAY,
    &SHUTDOWN_TIMEOUT,
    &LOG,
    &LOG_FORMAT,
    &METRICS_TENANTS,
    &OTLP_ENDPOINT,
    &OTLP_HEADERS,
    &TRACE_RATIO,
    &SERVICE_NAME,
];

/// The settings as the end of `tenantry serve --help`.
#[must_use]
pub fn settings_help() -> String {
    let mut help = String::from(
        "Settings:\n  Defaults count less than tenantry.toml, and that less than the environment. In the file the\n  \
         names are lower-case and without TENANTRY_, as in: listen = \"127.0.0.1:8080\"\n",
    );
    for setting in SETTINGS {
        // Writing to a string cannot fail.
        let _ = write!(help, "\n  {} [{}]\n", setting.variable(), setting.default_text());
        for line in wrap(setting.meaning, 90) {
            let _ = writeln!(help, "      {line}");
        }
    }
    help
}

/// The settings as a table of Markdown, for the README.
#[must_use]
pub fn settings_markdown() -> String {
    SETTINGS.iter().fold(
        String::from("| name | default | meaning |\n| --- | --- | --- |\n"),
        |mut table, setting| {
            let default = match setting.default {
                Value(value) => format!("`{value}`"),
                Unset(words) => words.replace('<', "&lt;"),
            };
            let meaning = setting.meaning.replace('<', "&lt;");
            let _ = writeln!(table, "| `{}` | {default} | {meaning} |", setting.variable());
            table
        },
    )
}

fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.len() + 1 + word.len() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
