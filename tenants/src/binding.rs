//! What a connection is bound by: who it is, where it works, and how long it may take.
//!
//! The same settings are rendered twice. For a connection that is ours until we close it they are set for the session
//! and remembered; behind a pooler that gives each transaction another connection they are set for the transaction, in
//! the message that begins it. PostgreSQL undoes the latter at the end of the transaction, however that comes about.

use std::{sync::Arc, time::Duration};

use migration::CATALOG_SCHEMA;

use crate::SchemaName;

/// What a connection keeps from one transaction to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pooling {
    /// Everything: it leads to PostgreSQL itself.
    #[default]
    Session,
    /// Nothing: it leads through a pooler, which may give each transaction another connection.
    Transaction,
}

/// What binds a connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Binding {
    session: String,
    local: String,
    statement_timeout: Option<Duration>,
}

impl Binding {
    /// To a tenant. `public` is not in the path, or a table missing in the tenant's schema would be read and written there.
    pub(crate) fn of_tenant(schema: &SchemaName, statement_timeout: Duration) -> Self {
        let name = format!(r#""{schema}""#);
        Self::new(&name, &name, Some(statement_timeout))
    }

    /// To the catalog, as the login itself. Without a timeout it is the connection's own, and nothing is given up.
    pub(crate) fn of_catalog(statement_timeout: Option<Duration>) -> Self {
        Self::new("NONE", CATALOG_SCHEMA, statement_timeout)
    }

    fn new(role: &str, schema: &str, statement_timeout: Option<Duration>) -> Self {
        let timeout = |set: &str| {
            let set = |timeout: Duration| format!("; {set} statement_timeout TO {}", timeout.as_millis());
            statement_timeout.map(set).unwrap_or_default()
        };
        let render =
            |set: &str| format!("{set} ROLE {role}; {set} search_path TO {schema}, pg_temp{}", timeout(set));
        Self { session: render("SET"), local: render("SET LOCAL"), statement_timeout }
    }

    /// The batch that binds a session.
    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    /// The batch that binds a transaction.
    pub(crate) fn local(&self) -> &str {
        &self.local
    }

    /// After how long PostgreSQL gives up a statement.
    pub(crate) fn statement_timeout(&self) -> Option<Duration> {
        self.statement_timeout
    }
}

/// What guards every connection of a pool, whoever it is bound to. A backend notices within a second that its client is
/// gone; a lock or an open transaction that nobody goes on with ends by itself.
const GUARDS: [(&str, &str); 3] = [
    ("client_connection_check_interval", "1s"),
    ("lock_timeout", "5s"),
    ("idle_in_transaction_session_timeout", "30s"),
];
/// The first PostgreSQL with a limit for a transaction as a whole: 17.
const LIMITS_TRANSACTIONS: u32 = 170_000;
/// What no unit of work of a request or a job comes near: one that does is stuck between many short statements.
const TRANSACTION_TIMEOUT: (&str, &str) = ("transaction_timeout", "5min");

/// The guards, as batches. Not as parameters of the start-up message: poolers refuse those, or are told to ignore them.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Guards {
    session: String,
    local: String,
}

impl Guards {
    /// Those that a server of this version knows.
    pub(crate) fn of_server(version: Option<u32>) -> Arc<Self> {
        let newer = version.is_some_and(|version| version >= LIMITS_TRANSACTIONS);
        let guards = || GUARDS.into_iter().chain(newer.then_some(TRANSACTION_TIMEOUT));
        let render = |set: &str| -> String {
            guards().map(|(name, value)| [set, " ", name, " TO '", value, "'; "].concat()).collect()
        };
        Arc::new(Self { session: render("SET"), local: render("SET LOCAL") })
    }

    pub(crate) fn session(&self) -> &str {
        &self.session
    }

    pub(crate) fn local(&self) -> &str {
        &self.local
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_binds_a_transaction_is_what_binds_a_session_and_ends_with_it() {
        let schema = SchemaName::of(uuid::Uuid::from_u128(1));
        let timeout = Duration::from_millis(1500);
        for binding in [
            Binding::of_tenant(&schema, timeout),
            Binding::of_catalog(Some(timeout)),
            Binding::of_catalog(None),
        ] {
            assert_eq!(binding.local().replace("SET LOCAL ", "SET "), binding.session());
            let statements = binding.local().split("; ");
            assert!(statements.clone().all(|statement| statement.starts_with("SET LOCAL ")), "{binding:?}");
            assert!(statements.count() >= 2, "{binding:?}");
        }
        assert_eq!(
            Binding::of_tenant(&schema, timeout).session(),
            format!(
                r#"SET ROLE "{schema}"; SET search_path TO "{schema}", pg_temp; SET statement_timeout TO 1500"#
            )
        );
        assert_eq!(
            Binding::of_catalog(None).local(),
            "SET LOCAL ROLE NONE; SET LOCAL search_path TO tenantry, pg_temp"
        );
    }

    #[test]
    fn a_server_is_told_of_what_it_knows() {
        let (old, new) = (Guards::of_server(Some(160_009)), Guards::of_server(Some(170_000)));
        assert!(
            !old.session().contains("transaction_timeout") && new.session().contains("transaction_timeout")
        );
        for guards in [old, new] {
            for name in ["lock_timeout", "idle_in_transaction_session_timeout"] {
                assert!(guards.session().contains(&format!("SET {name} TO '")), "{guards:?}");
                assert!(guards.local().contains(&format!("SET LOCAL {name} TO '")), "{guards:?}");
            }
        }
    }
}
