//! What can go wrong between here and PostgreSQL, and what a database error means.

use std::io;

use sea_orm::{ConnAcquireErr, DbErr, RuntimeErr};
use sqlx::postgres::{PgDatabaseError, PgSeverity};

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
    /// Somebody gave the role of a tenant rights in other databases.
    #[error(
        "the role {0} stays as long as it has rights in these databases: {1}; a superuser runs DROP OWNED BY {0} there"
    )]
    RoleHeld(String, String),
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
    /// Connections for requests are somebody else's after each transaction.
    #[error(
        "TENANTRY_DATABASE_URL leads through a pooler, which may give each transaction another connection: set \
         TENANTRY_DATABASE_POOLING=transaction and a TENANTRY_DIRECT_DATABASE_URL that leads past it, or lead it to \
         PostgreSQL itself"
    )]
    Pooled,
    /// Connections that have to stay ours do not.
    #[error(
        "TENANTRY_DIRECT_DATABASE_URL leads through a pooler, which may give each transaction another connection: lead it \
         to PostgreSQL itself, because migrations, LISTEN and locks need connections that stay theirs"
    )]
    PooledDirect,
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
        "57014" | "55P03" | "25P03" | "25P04" => Fault::TimedOut,
        // What a server says while it starts, stops or fails over (read only, it is the one that others fail over to),
        // or to a login it does not know yet.
        "57P01" | "57P02" | "57P03" | "57P05" | "25006" | "28000" | "28P01" | "3D000" => Fault::Unavailable,
        // Lost connections; no room on the disk, in memory, for connections or locks; a disk that fails.
        _ if is_of(code, &["08", "53", "58"]) => Fault::Unavailable,
        _ => Fault::Other,
    }
}

fn is_of(code: &str, classes: &[&str]) -> bool {
    code.get(..2).is_some_and(|class| classes.contains(&class))
}

/// The code of an error that says that the server has no room, or fails: nothing that another try would mend. Connections
/// that it has no room for are another matter.
pub(crate) fn exhaustion(error: &DbErr) -> Option<(String, String)> {
    let (DbErr::Conn(RuntimeErr::SqlxError(error))
    | DbErr::Exec(RuntimeErr::SqlxError(error))
    | DbErr::Query(RuntimeErr::SqlxError(error))) = error
    else {
        return None;
    };
    let error = error.as_database_error()?;
    let code = error.code()?.into_owned();
    (is_of(&code, &["53", "58"]) && code != "53300").then(|| (code, error.message().to_owned()))
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

/// Whether the connection is of no use any more, whoever ended it: PostgreSQL, a pooler, the network, or the patience of
/// this program. One to a server that is read only leads to the wrong one since a fail-over.
pub(crate) fn is_loss(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(answer) = error else { return true };
    let Some(answer) = answer.try_downcast_ref::<PgDatabaseError>() else { return false };
    let code = answer.code();
    matches!(answer.severity(), PgSeverity::Fatal | PgSeverity::Panic)
        || code == "25006"
        || is_of(code, &["08"])
}

/// Whether nobody answered in time.
pub(crate) fn is_silence(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(error) if error.kind() == io::ErrorKind::TimedOut)
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
    fn what_passes_by_itself_is_told_as_that_and_what_does_not_is_not() {
        let unavailable = [
            "08000", "08003", "08006", "08P01", "25006", "53100", "53200", "53300", "53400", "57P01",
            "57P02", "57P03", "58000", "58030",
        ];
        for code in unavailable {
            assert_eq!(sqlstate_fault(code, None, ""), Fault::Unavailable, "{code}");
        }
        for code in ["25P03", "25P04", "55P03", "57014"] {
            assert_eq!(sqlstate_fault(code, None, ""), Fault::TimedOut, "{code}");
        }
        for code in ["42601", "22P02", "25P02", "54001", "XX000", "", "5"] {
            assert_eq!(sqlstate_fault(code, None, ""), Fault::Other, "{code}");
        }
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
