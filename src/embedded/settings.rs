//! The server's settings, given on its command line: what a version of ours needs holds at its next start, whatever
//! the cluster was made with.

use super::binaries::Version;
use super::endpoint::Endpoint;
use super::{Durability, Options};

/// Tenants have schemas of their own, and a statement over many of them locks a table in each.
const MAX_LOCKS_PER_TRANSACTION: u32 = 1024;

pub(super) fn settings(
    options: &Options,
    version: Version,
    endpoint: &Endpoint,
) -> Vec<(&'static str, String)> {
    let socket_directory = endpoint.socket_directory().map(|path| path.to_string_lossy().into_owned());
    let address = if socket_directory.is_some() { "" } else { "127.0.0.1" };
    let mut settings = vec![
        ("listen_addresses", address.to_owned()),
        ("port", endpoint.port().to_string()),
        ("unix_socket_directories", socket_directory.unwrap_or_default()),
        ("unix_socket_permissions", "0700".to_owned()),
        ("max_connections", options.max_connections.to_string()),
        ("max_locks_per_transaction", MAX_LOCKS_PER_TRANSACTION.to_string()),
        // Planning with it costs more than our statements take.
        ("jit", "off".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("log_line_prefix", "%m [%p] %q%u@%d ".to_owned()),
        ("log_checkpoints", "off".to_owned()),
        // Statements hold what people typed in; the request's own log says what failed.
        ("log_min_error_statement", "panic".to_owned()),
        ("cluster_name", "tenantry".to_owned()),
    ];
    // Version 14 knows how to notice that a client is gone on Linux only, and refuses to start elsewhere.
    if version.major > 14 || cfg!(target_os = "linux") {
        settings.push(("client_connection_check_interval", "1s".to_owned()));
    }
    settings.extend(
        match options.durability {
            // Many small tables: the default of one pass a minute over three workers leaves the last ones waiting.
            Durability::Full => vec![("autovacuum_max_workers", "4"), ("autovacuum_naptime", "30s")],
            Durability::Relaxed => vec![
                ("fsync", "off"),
                ("synchronous_commit", "off"),
                ("full_page_writes", "off"),
                ("wal_level", "minimal"),
                ("max_wal_senders", "0"),
                ("shared_buffers", "32MB"),
                // Its workers connect to databases, and a database somebody is connected to is no template.
                ("autovacuum", "off"),
            ],
        }
        .into_iter()
        .map(|(name, value)| (name, value.to_owned())),
    );
    settings
}
