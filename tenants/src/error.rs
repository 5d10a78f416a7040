//! What can go wrong between here and PostgreSQL, and what a database error means.

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sqlx::postgres::PgDatabaseError;

/// An error of this crate. None of its texts holds a secret.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// PostgreSQL refused, or was not there.
    #[error("{}", sentence(.0))]
    Database(DbErr),
    /// The URL of the database does not parse. The URL is not shown, because it may hold a password.
    #[error("the database URL is not valid: {0}")]
    Url(String),
    /// A sealed text does not open: another key, another context, or a changed text.
    #[error("a sealed value does not open with this key")]
    Sealed,
    /// The master key is not the one this database was set up with.
    #[error("the master key is not the one this database was set up with")]
    WrongMasterKey,
    /// The catalog lacks a data key.
    #[error("the catalog lacks the data key `{0}`")]
    MissingDataKey(&'static str),
    /// The database has no catalog yet.
    #[error("the database is not set up: run `tenantry migrate`")]
    NotInstalled,
    /// The catalog is older than this program.
    #[error("the catalog is behind ({found} of {expected} migrations): run `tenantry migrate`")]
    CatalogBehind {
        /// How many migrations it has had.
        found: usize,
        /// How many this program knows.
        expected: usize,
    },
    /// The catalog is newer than this program.
    #[error("the catalog was migrated by a newer version of tenantry: install that version")]
    CatalogAhead,
    /// The slug belongs to a tenant already.
    #[error("the slug is taken")]
    SlugTaken,
    /// A tenant is to be purged that is not closed, or was opened again since.
    #[error("the tenant is not being deleted any more: it was restored")]
    NotClosed,
    /// Something of the tenant is gone already.
    #[error("the tenant is being purged: nothing brings it back")]
    BeingPurged,
    /// It belongs to a tenant, or there is nothing of this name.
    #[error("{0} is no orphan: a tenant has it, or it is not there")]
    NoOrphan(String),
    /// A plan has this name already.
    #[error("there is a plan of that name")]
    PlanTaken,
    /// No plan has this name.
    #[error("there is no plan `{0}`")]
    NoSuchPlan(String),
    /// A tenant has the plan.
    #[error("tenants have that plan")]
    PlanInUse,
    /// No tenant has this slug.
    #[error("there is no tenant `{0}`")]
    NoSuchTenant(String),
    /// A run over all tenants cannot be started or gone on with.
    #[error(transparent)]
    Run(#[from] crate::runs::RunRefused),
    /// The server is too old.
    #[error("PostgreSQL {0} is too old: version 14 or newer is needed")]
    ServerTooOld(u32),
    /// A row of the catalog makes no sense.
    #[error("the catalog is damaged: {0}")]
    Damaged(String),
}

// By hand: deriving it would make a source of it, and its text would be told again behind the sentence.
impl From<DbErr> for Error {
    fn from(error: DbErr) -> Self {
        Self::Database(error)
    }
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Self::Database(query_error(error))
    }
}

/// What a database error is to a person. The text has its causes in it, without what each layer puts in front.
fn sentence(error: &DbErr) -> String {
    match error {
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => match &**error {
            sqlx::Error::Database(error) => format!("PostgreSQL refused: {}", error.message()),
            sqlx::Error::Io(error) => format!("PostgreSQL cannot be reached: {error}"),
            sqlx::Error::Tls(error) => format!("PostgreSQL cannot be reached over TLS: {error}"),
            error => error.to_string(),
        },
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => "every connection to PostgreSQL is busy".into(),
        error => error.to_string(),
    }
}

/// What a database error means to the code above.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A unique constraint or index, by its name.
    Unique(String),
    /// A foreign key, by its name.
    ForeignKey(String),
    /// A check constraint, by its name.
    Check(String),
    /// The role lost its right or the schema is gone: the tenant was suspended, deleted or moved. Resolve it again.
    TenantChanged,
    /// A deadlock or a serialization failure: the whole transaction may be tried again.
    Retry,
    /// A statement or a lock took longer than it may.
    TimedOut,
    /// Too many are waiting for a connection.
    Busy,
    /// The server is not there, is starting or stopping, or has no room.
    Unavailable,
    /// Anything else: a defect.
    Other,
}

/// What this error means.
///
/// The constraint's name is taken from the error's own field. Where that is empty, it is parsed from the text: an
/// error that a Citus worker reports has no such field, and its names end in the shard's number (`_102008`); after an
/// internal COPY its SQLSTATE is `XX000`.
#[must_use]
pub fn fault(error: &DbErr) -> Fault {
    match error {
        DbErr::ConnectionAcquire(ConnAcquireErr::Timeout) => Fault::Busy,
        DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed) => Fault::Unavailable,
        DbErr::Conn(RuntimeErr::SqlxError(error))
        | DbErr::Exec(RuntimeErr::SqlxError(error))
        | DbErr::Query(RuntimeErr::SqlxError(error)) => sqlx_fault(error),
        _ => Fault::Other,
    }
}

fn sqlx_fault(error: &sqlx::Error) -> Fault {
    match error {
        sqlx::Error::Database(error) => match error.try_downcast_ref::<PgDatabaseError>() {
            Some(error) => sqlstate_fault(error.code(), error.constraint(), error.message()),
            None => Fault::Other,
        },
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) | sqlx::Error::WorkerCrashed => {
            Fault::Unavailable
        }
        sqlx::Error::PoolTimedOut => Fault::Busy,
        _ => Fault::Other,
    }
}

fn sqlstate_fault(code: &str, constraint: Option<&str>, message: &str) -> Fault {
    let name = || constraint.map_or_else(|| constraint_in(message).unwrap_or_default(), ToOwned::to_owned);
    match code {
        "23505" => Fault::Unique(name()),
        "23503" => Fault::ForeignKey(name()),
        "23514" => Fault::Check(name()),
        "XX000" if message.contains("unique constraint") => Fault::Unique(name()),
        "XX000" if message.contains("foreign key constraint") => Fault::ForeignKey(name()),
        "XX000" if message.contains("check constraint") => Fault::Check(name()),
        // insufficient_privilege, undefined_table, invalid_schema_name; and what SET ROLE says of a role that is gone.
        "42501" | "42P01" | "3F000" => Fault::TenantChanged,
        "22023" if message.starts_with("role ") => Fault::TenantChanged,
        "40001" | "40P01" => Fault::Retry,
        "57014" | "55P03" | "25P03" => Fault::TimedOut,
        // No room, and what a server says while it starts, stops or fails over, or to a login it does not know yet.
        "53300" | "53400" | "57P01" | "57P02" | "57P03" | "28000" | "28P01" | "3D000" => Fault::Unavailable,
        _ if code.starts_with("08") => Fault::Unavailable,
        _ => Fault::Other,
    }
}

/// The constraint's name in a message, without a shard's number: `… unique constraint "users_email_key_102008"`.
fn constraint_in(message: &str) -> Option<String> {
    let (_, rest) = message.split_once("constraint \"")?;
    let (name, _) = rest.split_once('"')?;
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    match stem.strip_suffix('_') {
        Some(stem) if name.len() - stem.len() > 6 => Some(stem.to_owned()),
        _ => Some(name.to_owned()),
    }
}

/// Whether a statement failed because a cached plan's row type changed (`0A000`): prepare it anew and try again.
pub(crate) fn is_stale_plan(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("0A000"))
}

/// Whether a row broke a rule of its table (class 23): an error that everything else survives.
pub(crate) fn is_violation(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().is_some_and(|code| code.starts_with("23")))
}

/// Whether the server answered with an error of its own, so that the connection is still in step with it.
pub(crate) fn is_answer(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(_))
}

pub(crate) fn query_error(error: sqlx::Error) -> DbErr {
    DbErr::Query(RuntimeErr::SqlxError(error.into()))
}

pub(crate) fn connection_error(error: sqlx::Error) -> DbErr {
    DbErr::Conn(RuntimeErr::SqlxError(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_s_error_leads_to_the_same_constraint() {
        let text = r#"duplicate key value violates unique constraint "users_email_key_102008""#;
        assert_eq!(sqlstate_fault("23505", None, text), Fault::Unique("users_email_key".into()));
        assert_eq!(sqlstate_fault("XX000", None, text), Fault::Unique("users_email_key".into()));
        assert_eq!(
            sqlstate_fault("23505", Some("users_email_key"), text),
            Fault::Unique("users_email_key".into())
        );
    }

    #[test]
    fn a_short_number_belongs_to_the_name() {
        let text = r#"violates check constraint "level_2""#;
        assert_eq!(sqlstate_fault("23514", None, text), Fault::Check("level_2".into()));
    }

    #[test]
    fn a_revoked_schema_and_a_dropped_role_both_mean_that_the_tenant_changed() {
        for (code, text) in [
            ("42501", "permission denied for schema t_x"),
            ("42P01", "relation \"users\" does not exist"),
            ("22023", "role \"t_x\" does not exist"),
        ] {
            assert_eq!(sqlstate_fault(code, None, text), Fault::TenantChanged, "{text}");
        }
        assert_eq!(sqlstate_fault("22023", None, "invalid value for parameter"), Fault::Other);
    }
}
