//! Whether somebody stands between this program and the database who gives every transaction another connection. What a
//! connection is bound to would then be another's, and the next statement would read the wrong tenant.

use sqlx::{Connection, Executor, PgConnection, Row as _};

use super::{Finding, unchecked};
use crate::{connection::Login, install};

const CHECK: &str = "pooler";
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

pub(super) async fn check(urls: [(&str, &secrecy::SecretString); 2]) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (name, url) in urls {
        let login = match install::connect_options(url) {
            Ok(login) => login,
            Err(error) => {
                findings.push(unchecked(CHECK, error));
                continue;
            }
        };
        match probe(&login).await {
            Ok(seen) if seen.is_pooled() => findings.push(Finding::problem(
                CHECK,
                "pooled",
                format!("{name} leads through a pooler that gives each transaction another connection"),
                "lead it to PostgreSQL itself, or to a pooler in session mode: bound connections must stay whose they are",
            )),
            Ok(_) => {}
            Err(error) => findings.push(unchecked(CHECK, error)),
        }
    }
    // Most often both are one and the same.
    findings.dedup_by(|one, other| one.found == other.found);
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "connections keep what is set on them"));
    }
    findings
}

async fn probe(login: &Login) -> Result<Seen, sqlx::Error> {
    let mut first = PgConnection::connect_with(&login.0).await?;
    let mut second = PgConnection::connect_with(&login.0).await?;
    first.execute("SET tenantry.probe TO 'first'").await?;
    second.execute("SET tenantry.probe TO 'second'").await?;
    let mut seen = Vec::with_capacity(2);
    for connection in [&mut first, &mut second] {
        // As a text and not as a prepared statement: behind such a pooler there would be none of that name.
        let row = connection.fetch_one(ASK).await?;
        let backend: String = row.try_get("backend")?;
        seen.push((row.try_get::<Option<String>, _>("probe")?, backend.parse().unwrap_or(0)));
    }
    first.close().await?;
    second.close().await?;
    let [(first, one), (second, two)] =
        <[_; 2]>::try_from(seen).map_err(|_| sqlx::Error::Protocol("a connection did not answer".into()))?;
    Ok(Seen { first, second, backends: [one, two] })
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
