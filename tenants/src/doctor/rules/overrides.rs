//! What is set beyond this program: for roles and for the database (`ALTER ROLE … SET`, `ALTER DATABASE … SET`), or for the
//! whole server.

use super::{Rule, must};

/// Settings that change what a statement does or whether it is done. Left out is what makes it only slower or louder, and
/// what sqlx sets itself on each connection: `TimeZone`, `DateStyle`, `client_encoding`, `extra_float_digits`.
macro_rules! changing {
    () => {
        "('session_replication_role', 'row_security', 'search_path', 'role', 'statement_timeout', 'lock_timeout',
          'transaction_timeout', 'idle_in_transaction_session_timeout', 'idle_session_timeout',
          'client_connection_check_interval', 'default_transaction_read_only', 'default_transaction_isolation',
          'default_transaction_deferrable', 'default_tablespace', 'default_table_access_method', 'bytea_output',
          'intervalstyle', 'transform_null_equals', 'array_nulls', 'quote_all_identifiers', 'standard_conforming_strings',
          'session_preload_libraries', 'local_preload_libraries', 'ignore_system_indexes', 'zero_damaged_pages')"
    };
}

/// The statements that take back what the first rule finds.
pub(in super::super) const RESETS: &str =
    concat!("SELECT format('ALTER %s RESET %s', held_by, name) FROM override WHERE name IN ", changing!());

pub(super) const OVERRIDES: [Rule; 2] = [
    must(
        "overrides",
        "settings of roles or of the database change how the service works",
        concat!(
            "SELECT format('ALTER %s SET %s = %s', held_by, name, value) FROM override WHERE name IN ",
            changing!()
        ),
        "`tenantry doctor --fix` puts it right; then start every `tenantry serve` again: open connections keep it",
    ),
    must(
        "server_overrides",
        "settings of the server change how the service works",
        "SELECT name || ' = ' || setting FROM pg_settings
         WHERE name IN ('session_replication_role', 'row_security', 'default_transaction_read_only',
             'transform_null_equals', 'ignore_system_indexes', 'zero_damaged_pages')
         AND setting <> boot_val AND source IN ('configuration file', 'command line', 'environment variable', 'global')",
        "take them out of postgresql.conf and what it was started with, or have a superuser run `ALTER SYSTEM RESET NAME` \
         and `SELECT pg_reload_conf()`",
    ),
];
