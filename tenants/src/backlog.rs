//! What there is to do, and what is under way, in the whole installation: a few numbers for whoever watches it.

use chrono::{DateTime, Utc};
use sea_orm::{DbBackend, FromQueryResult, Statement};

use crate::{Error, Run, Tenancy};

/// Jobs of a kind that are not done.
#[derive(Clone, Debug, PartialEq, FromQueryResult)]
pub struct QueuedJobs {
    /// What is to be done.
    pub kind: String,
    /// `queued`, `running` or `parked`.
    pub status: String,
    /// How many.
    pub jobs: i64,
    /// For how many seconds the oldest of them is due and nobody has it; 0 where none is.
    pub oldest_seconds: f64,
}

/// Operations of a kind that wait or go on.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct OpenOperations {
    /// What is to be done.
    pub kind: String,
    /// `queued` or `running`.
    pub status: String,
    /// How many.
    pub operations: i64,
}

/// Tenants of a status.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct TenantsOf {
    /// `active`, `suspended`, `deleting` or `purging`.
    pub status: String,
    /// How many.
    pub tenants: i64,
    /// How many of them have an older schema version than this program makes.
    pub behind: i64,
}

/// All that.
#[derive(Clone, Debug, PartialEq)]
pub struct Backlog {
    /// The jobs, by kind and status.
    pub jobs: Vec<QueuedJobs>,
    /// The operations, by kind and status.
    pub operations: Vec<OpenOperations>,
    /// The tenants, by status.
    pub tenants: Vec<TenantsOf>,
    /// The latest migration run.
    pub run: Option<Run>,
}

impl Tenancy {
    /// What there is to do. Three queries along an index, and one that counts the tenants: some milliseconds for ten thousand.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn backlog(&self, now: DateTime<Utc>) -> Result<Backlog, Error> {
        let catalog = self.catalog();
        let statement = |sql: &str, values: Vec<sea_orm::Value>| {
            Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
        };
        // A job whose tenant is closed, or whose mails are held, waits for that and for no worker.
        let jobs = "SELECT j.kind, j.status, count(*) AS jobs, coalesce(extract(epoch FROM $1::timestamptz - min(\
                 greatest(j.run_at, j.leased_until)) FILTER (WHERE j.run_at <= $1 \
                     AND (j.leased_until IS NULL OR j.leased_until <= $1) \
                     AND (t.id IS NULL OR t.status = 'active' AND NOT t.mails_held))), 0)::float8 AS oldest_seconds \
             FROM jobs j LEFT JOIN tenants t ON t.id = j.tenant_id WHERE j.status IN ('queued', 'running') \
             GROUP BY j.kind, j.status \
             UNION ALL SELECT kind, status, count(*), 0 FROM jobs \
             WHERE status = 'parked' AND finished_at IS NOT NULL GROUP BY kind, status";
        let jobs = QueuedJobs::find_by_statement(statement(jobs, vec![now.into()])).all(catalog).await?;
        let operations = "SELECT kind, status, count(*) AS operations FROM operations \
             WHERE status IN ('queued', 'running') GROUP BY kind, status";
        let operations =
            OpenOperations::find_by_statement(statement(operations, vec![])).all(catalog).await?;
        let tenants = "SELECT status, count(*) AS tenants, \
                 count(*) FILTER (WHERE schema_version < $1 AND status <> 'purging') AS behind \
             FROM tenants GROUP BY status";
        let version = self.migrations().version();
        let tenants =
            TenantsOf::find_by_statement(statement(tenants, vec![version.into()])).all(catalog).await?;
        Ok(Backlog { jobs, operations, tenants, run: self.run(None).await? })
    }
}
