//! Finds out what is wrong with an installation: reads everything, changes nothing. What follows from the catalog, [`mend`]
//! makes anew.
//!
//! What holds for all tenants is asked in sets, one query for any number of them (`rules`). That PostgreSQL really
//! refuses is tried with a few tenants, on connections of their lanes (`crossing`).

mod crossing;
mod jobs;
mod mend;
mod operations;
mod pooler;
mod rules;
mod server;
mod shape;

pub use mend::{Mended, Refused, advise_after, mend};

use chrono::{DateTime, Utc};
use sqlx::{Connection, PgConnection};

use crate::{
    Error, Settings,
    connection::Login,
    install::{self, Installation, SESSION_SETTINGS},
};

/// How much a finding matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Works, but somebody should look at it.
    Warning,
    /// Does not work, or does not keep tenants apart.
    Problem,
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// How much it matters.
    pub level: Level,
    /// What was looked at, in a word.
    pub check: &'static str,
    /// What was found, for programs: it stays the same from version to version. None where all is well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<&'static str>,
    /// What was found.
    pub found: String,
    /// What to do about it.
    pub advice: Option<String>,
    /// The statements that somebody else is to run.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
}

impl Finding {
    /// All is well.
    pub fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self {
            level: Level::Ok,
            check,
            code: None,
            found: found.into(),
            advice: None,
            statements: Vec::new(),
        }
    }

    /// Something to look at.
    pub fn warning(
        check: &'static str,
        code: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        let (found, advice) = (found.into(), Some(advice.into()));
        Self { level: Level::Warning, check, code: Some(code), found, advice, statements: Vec::new() }
    }

    /// Something is wrong.
    pub fn problem(
        check: &'static str,
        code: &'static str,
        found: impl Into<String>,
        advice: impl Into<String>,
    ) -> Self {
        Self { level: Level::Problem, ..Self::warning(check, code, found, advice) }
    }
}

/// So that everything is named with its schema, whatever is set for the database.
const PATH: (&str, &str) = ("search_path", "pg_catalog");
const MIGRATE: &str = "run `tenantry migrate`";
const FIX: &str = "`tenantry doctor --fix` puts it right";

/// Looks at everything. `is_ours` says whether the server is run by us, so that it can be as we want it; `now` tells the time
/// of this machine, to compare the database's with.
///
/// A check that cannot be made is a finding too; those that need what it was about are left out.
pub async fn examine(settings: &Settings, is_ours: bool, now: impl Fn() -> DateTime<Utc>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if let Err(stopped) = look(settings, is_ours, now, &mut findings).await {
        findings.push(stopped);
    }
    findings
}

async fn look(
    settings: &Settings,
    is_ours: bool,
    now: impl Fn() -> DateTime<Utc>,
    findings: &mut Vec<Finding>,
) -> Result<(), Finding> {
    let unreachable = |error: Error| {
        Finding::problem(
            "database",
            "database_unreachable",
            error.to_string(),
            "look at TENANTRY_DATABASE_URL, and at TENANTRY_DIRECT_DATABASE_URL if there is one",
        )
    };
    // Past any pooler: what is set on this connection has to stay.
    let login = install::connect_options(&settings.direct).map_err(unreachable)?;
    let login = Login(login.0.options(SESSION_SETTINGS).options([PATH]));
    let mut connection =
        PgConnection::connect_with(&login.0).await.map_err(|error| unreachable(error.into()))?;
    findings.push(server::version(&mut connection).await?);
    let skew = server::clock(&mut connection, &now).await;
    findings.push(skew.unwrap_or_else(|error| unchecked("clock", error)));

    findings.extend(pooler::check(settings).await);

    let installation = installation(&mut connection, settings, findings).await?;
    let limits = server::limits(&mut connection, &installation, settings.lane_pool.size).await;
    findings.extend(limits.unwrap_or_else(|error| vec![unchecked("limits", error)]));
    findings.extend(rules::check(&mut connection, &installation, is_ours).await);
    findings.extend(shape::check(&mut connection).await);
    let stuck = jobs::check(&mut connection, now()).await;
    findings.extend(stuck.unwrap_or_else(|error| vec![unchecked("jobs", error)]));
    let stuck = operations::check(&mut connection, now()).await;
    findings.extend(stuck.unwrap_or_else(|error| vec![unchecked("operations", error)]));
    findings.extend(crossing::check(&mut connection, &login, &installation).await);
    // All that was asked is answered; how the connection ends makes no difference.
    connection.close().await.ok();
    Ok(())
}

/// The catalog and the keys in it. Without them there is nothing to check the rest against.
async fn installation(
    connection: &mut PgConnection,
    settings: &Settings,
    findings: &mut Vec<Finding>,
) -> Result<Installation, Finding> {
    let lost = mend::owned_by_others(connection).await.map_err(|error| unchecked("catalog", error))?;
    if !lost.is_empty() {
        let advice = format!("have a superuser run, in this database: {}", lost.join("; "));
        let found = "somebody else owns it, or tables of it, so nothing in it can be read";
        let finding = Finding::problem("catalog", mend::CATALOG_OWNED, found, advice);
        return Err(Finding { statements: lost, ..finding });
    }
    let applied = install::applied(connection).await.map_err(|error| unchecked("catalog", error))?;
    install::check_catalog(&applied).map_err(|error| match error {
        Error::CatalogAhead => Finding::problem(
            "catalog",
            "catalog_ahead",
            "it was migrated by a newer version of tenantry",
            "install that version",
        ),
        Error::NotInstalled => {
            Finding::problem("catalog", "not_installed", "the database is not set up", MIGRATE)
        }
        Error::CatalogBehind { found, expected } => Finding::problem(
            "catalog",
            "catalog_behind",
            format!("it has had {found} of {expected} migrations"),
            MIGRATE,
        ),
        error => unchecked("catalog", error),
    })?;
    findings.push(Finding::ok("catalog", format!("up to date, {} migrations", applied.len())));
    let installation = Installation::read_catalog(connection, &settings.master_key).await;
    let installation = installation.map_err(|error| match error {
        Error::WrongMasterKey | Error::Sealed => Finding::problem(
            "master key",
            "wrong_master_key",
            "it is not the one this database was set up with",
            "set TENANTRY_MASTER_KEY to that one: without it signing keys and logins are lost",
        ),
        error => unchecked("master key", error),
    })?;
    findings.push(Finding::ok("master key", "it opens the keys in the catalog"));
    Ok(installation)
}

fn unchecked(check: &'static str, error: impl Into<Error>) -> Finding {
    Finding::problem(
        check,
        "unchecked",
        format!("it could not be checked: {}", error.into()),
        "repair that first",
    )
}

/// The first few of many names, and how many more there are.
fn few(names: &[String]) -> String {
    const SHOWN: usize = 5;
    match names {
        [shown @ .., _] if shown.len() >= SHOWN => {
            format!("{} and {} more", names[..SHOWN].join(", "), names.len() - SHOWN)
        }
        names => names.join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_names_are_cut_short() {
        let names: Vec<String> = (1..=7).map(|n| n.to_string()).collect();
        assert_eq!(few(&names[..5]), "1, 2, 3, 4, 5");
        assert_eq!(few(&names[..6]), "1, 2, 3, 4, 5 and 1 more");
        assert_eq!(few(&names), "1, 2, 3, 4, 5 and 2 more");
    }
}
