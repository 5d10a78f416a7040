//! Whether somebody stands between this program and the database who gives every transaction another connection. What a
//! connection is bound to would then be another's, and the next statement would read the wrong tenant.
//!
//! It is found out twice over. Each connection that is to keep what is set on it is [marked](Mark) as it begins, and refused
//! where PostgreSQL has not heard of the mark: whenever, and for whichever login, a pooler comes to stand there. And before
//! anything else two connections are [looked at](is_pooled) for a while, for a pooler that passes the mark on.

use std::{io, time::Duration};

use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, Row as _, postgres::PgRow};
use tokio::time::timeout;

use crate::{Error, Settings, binding::Pooling, connection::Login, install};

/// The setting that has the mark.
const MARK: &str = "tenantry.connection";
/// What asks for it.
pub(crate) const ASK_FOR_MARK: &str = "SELECT current_setting('tenantry.connection', true) AS mark";
/// What PgBouncer says of a start-up message that has settings in it, of which it knows none.
const PROTOCOL_VIOLATION: &str = "08P01";

/// There is somebody in between.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error(
    "the connection leads through a pooler, and what is set on it would be somebody else's: set \
     TENANTRY_DATABASE_POOLING=transaction, or lead it to PostgreSQL itself"
)]
pub(crate) struct InBetween;

impl InBetween {
    fn error() -> sqlx::Error {
        // What cannot be had: it is looked for again, and may lead past the pooler by then.
        sqlx::Error::Io(io::Error::other(Self))
    }

    fn is_told_by(error: &sqlx::Error) -> bool {
        let sqlx::Error::Io(error) = error else { return false };
        error.get_ref().and_then(|cause| cause.downcast_ref::<Self>()).is_some()
    }
}

/// By what PostgreSQL knows that a connection is the one that was opened: a setting in the message that begins it. A
/// pooler refuses it or drops it, for the connection that it gives was begun by somebody else.
#[derive(Debug)]
pub(crate) struct Mark(String);

impl Mark {
    /// A connection of this login, and its mark, which is still to be asked for.
    pub(crate) async fn connect(login: &Login) -> Result<(PgConnection, Self), sqlx::Error> {
        let mark = Self(format!("{:032x}", rand::random::<u128>()));
        match Login(login.0.clone().options([(MARK, &mark.0)])).connect().await {
            Ok(connection) => Ok((connection, mark)),
            Err(error) => Err(match error.as_database_error() {
                Some(answer) if answer.code().as_deref() == Some(PROTOCOL_VIOLATION) => {
                    tracing::debug!(%error, "a connection begins with a setting that is refused");
                    InBetween::error()
                }
                _ => error,
            }),
        }
    }

    /// Checks the answer to [`ASK_FOR_MARK`], which was asked last.
    pub(crate) fn check(&self, answer: &[PgRow]) -> Result<(), sqlx::Error> {
        let mark: Option<String> = answer.last().ok_or(sqlx::Error::RowNotFound)?.try_get("mark")?;
        if mark.as_ref() == Some(&self.0) { Ok(()) } else { Err(InBetween::error()) }
    }
}

/// So often it is asked. A pooler that nobody else uses gives itself away the first time; one that is busy may give two
/// clients their own connections for a while.
const ROUNDS: usize = 8;
/// How long all of it may take.
const DEADLINE: Duration = Duration::from_secs(10);
const ASK: &str =
    "SELECT current_setting('tenantry.probe', true) AS probe, pg_backend_pid()::text AS backend";

/// What two connections saw of a setting that each of them has set for itself, and who served them.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Seen {
    first: Option<String>,
    second: Option<String>,
    backends: [i32; 2],
}

impl Seen {
    fn is_pooled(&self) -> bool {
        let own = self.first.as_deref() == Some("first") && self.second.as_deref() == Some("second");
        !own || self.backends[0] == self.backends[1]
    }
}

/// Whether connections of this login are others' after each transaction, or might come to be.
///
/// All of it goes as texts and not as prepared statements: behind such a pooler there would be none of that name, or one
/// of somebody else's.
pub(crate) async fn is_pooled(login: &Login) -> Result<bool, sqlx::Error> {
    let asked = timeout(DEADLINE, ask(login)).await.unwrap_or_else(|_late| {
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
    });
    match asked {
        Err(error) if InBetween::is_told_by(&error) => Ok(true),
        asked => asked,
    }
}

async fn ask(login: &Login) -> Result<bool, sqlx::Error> {
    let mut first = open(login).await?;
    let mut second = open(login).await?;
    first.execute("SET tenantry.probe TO 'first'").await?;
    second.execute("SET tenantry.probe TO 'second'").await?;
    let (mut pooled, mut backends) = (false, None);
    for round in 0..ROUNDS {
        // Who gives connections in turn would give each of them its own again and again, were they to ask in turn.
        let turns = if round % 2 == 0 { [&mut first, &mut second] } else { [&mut second, &mut first] };
        let [one, other] = turns;
        let mut looks = [look(one).await?, look(other).await?];
        if round % 2 == 1 {
            looks.reverse();
        }
        let [one, other] = looks;
        let seen = Seen { first: one.0, second: other.0, backends: [one.1, other.1] };
        pooled |= seen.is_pooled() || *backends.get_or_insert(seen.backends) != seen.backends;
        if pooled {
            break;
        }
    }
    // Whoever gets the connections behind the pooler next finds them as they were.
    for connection in [&mut first, &mut second] {
        connection.execute("RESET tenantry.probe").await?;
    }
    first.close().await?;
    second.close().await?;
    Ok(pooled)
}

/// A connection that leads to PostgreSQL itself.
pub(crate) async fn open(login: &Login) -> Result<PgConnection, sqlx::Error> {
    let (mut connection, mark) = Mark::connect(login).await?;
    let answer = connection.fetch_all(AssertSqlSafe(ASK_FOR_MARK.to_owned())).await?;
    mark.check(&answer)?;
    Ok(connection)
}

async fn look(connection: &mut PgConnection) -> Result<(Option<String>, i32), sqlx::Error> {
    let row = connection.fetch_one(ASK).await?;
    let backend: String = row.try_get("backend")?;
    Ok((row.try_get("probe")?, backend.parse().unwrap_or(0)))
}

/// Refuses settings whose connections would not stay whose they are.
pub(crate) async fn refuse_pooled(settings: &Settings) -> Result<(), Error> {
    // The one for requests first: where both are one and the same, that is what has to be set.
    if settings.pooling == Pooling::Session && is_pooled(&install::connect_options(&settings.owner)?).await? {
        return Err(Error::Pooled);
    }
    let is_another = secrecy::ExposeSecret::expose_secret(&settings.owner)
        != secrecy::ExposeSecret::expose_secret(&settings.direct);
    let has_to_be_seen = is_another || settings.pooling == Pooling::Transaction;
    if has_to_be_seen && is_pooled(&install::connect_options(&settings.direct)?).await? {
        return Err(Error::PooledDirect);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_that_has_what_another_one_set_is_shared() {
        let seen = |first: &str, second: &str, backends| Seen {
            first: Some(first.into()),
            second: Some(second.into()),
            backends,
        };
        assert!(!seen("first", "second", [1, 2]).is_pooled());
        assert!(seen("second", "second", [1, 1]).is_pooled());
        assert!(seen("second", "first", [2, 1]).is_pooled());
        assert!(seen("first", "second", [1, 1]).is_pooled());
        assert!(Seen { first: None, second: None, backends: [1, 2] }.is_pooled());
    }
}
