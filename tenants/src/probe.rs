//! Whether somebody stands between this program and the database who gives every transaction another connection. What a
//! connection is bound to would then be another's, and the next statement would read the wrong tenant.

use std::{io, time::Duration};

use sqlx::{Connection as _, Executor as _, PgConnection, Row as _};
use tokio::time::timeout;

use crate::{Error, Settings, binding::Pooling, connection::Login, install};

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

/// Whether connections of this login are others' after each transaction.
///
/// All of it goes as texts and not as prepared statements: behind such a pooler there would be none of that name, or one
/// of somebody else's.
pub(crate) async fn is_pooled(login: &Login) -> Result<bool, sqlx::Error> {
    timeout(DEADLINE, ask(login)).await.unwrap_or_else(|_late| {
        Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time")))
    })
}

async fn ask(login: &Login) -> Result<bool, sqlx::Error> {
    let mut first = PgConnection::connect_with(&login.0).await?;
    let mut second = PgConnection::connect_with(&login.0).await?;
    first.execute("SET tenantry.probe TO 'first'").await?;
    second.execute("SET tenantry.probe TO 'second'").await?;
    let (mut pooled, mut backends) = (false, None);
    for _ in 0..ROUNDS {
        let (one, other) = (look(&mut first).await?, look(&mut second).await?);
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
