//! Work that was left in the catalog, in the transaction of what caused it, and who does it.
//!
//! A worker takes a job for a while: the *lease*. If it dies, the lease runs out and another worker takes the job. So a
//! job may be done twice, and has to be safe to do twice. What a worker reports counts only while it still has the
//! lease: the number of the attempt tells one holder from the next.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement};
use serde_json::Value;
use uuid::Uuid;

use crate::{Error, Tenancy};

/// Work to be left for later.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is to be done.
    pub kind: &'static str,
    /// With what. Nothing secret in clear: see [`DataKey::Outbox`](crate::DataKey::Outbox).
    pub payload: Value,
    /// Not before this time.
    pub run_at: DateTime<Utc>,
    /// No second job of the same tenant with the same key.
    pub dedupe_key: Option<String>,
}

/// A job that a worker has taken.
#[derive(Clone, Debug, FromQueryResult)]
pub struct LeasedJob {
    /// Its id; the same at every attempt.
    pub id: Uuid,
    /// The tenant that left it; `None` for the installation's own.
    pub tenant_id: Option<Uuid>,
    /// What is to be done.
    pub kind: String,
    /// With what.
    pub payload: Value,
    /// Which attempt this is, from 1 on.
    pub attempts: i32,
    /// When it was left.
    pub created_at: DateTime<Utc>,
}

/// What became of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is done; what it was done with is wiped.
    Done,
    /// It failed, and is to be tried again at this time.
    Retry {
        /// When.
        at: DateTime<Utc>,
        /// Why it failed; for operators, so nothing secret.
        error: String,
    },
    /// It failed, and trying again would not help: an operator has to look at it.
    Park {
        /// Why; for operators, so nothing secret.
        error: String,
    },
}

impl Tenancy {
    /// Takes up to `limit` jobs that are due, the oldest first: those that nobody has taken, and those whose worker did
    /// not report in time. Jobs of tenants that are not active wait.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_jobs(
        &self,
        limit: u32,
        lease: Duration,
        now: DateTime<Utc>,
    ) -> Result<Vec<LeasedJob>, Error> {
        let until = now + chrono::TimeDelta::from_std(lease).unwrap_or(chrono::TimeDelta::MAX);
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE jobs SET status = 'running', attempts = attempts + 1, leased_until = $1 WHERE id IN (\
                 SELECT j.id FROM jobs j WHERE j.status IN ('queued', 'running') AND j.run_at <= $2 \
                 AND (j.leased_until IS NULL OR j.leased_until <= $2) \
                 AND (j.tenant_id IS NULL OR EXISTS (\
                     SELECT FROM tenants t WHERE t.id = j.tenant_id AND t.status = 'active')) \
                 ORDER BY j.run_at LIMIT $3 FOR UPDATE OF j SKIP LOCKED) \
             RETURNING id, tenant_id, kind, payload, attempts, created_at",
            [until.into(), now.into(), i64::from(limit).into()],
        );
        Ok(LeasedJob::find_by_statement(statement).all(self.catalog()).await?)
    }

    /// Reports what became of a job. Whether that counted: it does not if the lease ran out and another worker has taken
    /// the job since.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn finish_job(
        &self,
        job: &LeasedJob,
        outcome: &Outcome,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let (status, run_at, error) = match outcome {
            Outcome::Done => ("done", None, None),
            Outcome::Retry { at, error } => ("queued", Some(*at), Some(error.as_str())),
            Outcome::Park { error } => ("parked", None, Some(error.as_str())),
        };
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE jobs SET status = $3, run_at = coalesce($4, run_at), error = $5, leased_until = NULL, \
                 finished_at = CASE WHEN $3 = 'queued' THEN NULL ELSE $6::timestamptz END, \
                 payload = CASE WHEN $3 = 'done' THEN '{}'::jsonb ELSE payload END \
             WHERE id = $1 AND attempts = $2 AND status = 'running'",
            [job.id.into(), job.attempts.into(), status.into(), run_at.into(), error.into(), now.into()],
        );
        Ok(self.catalog().execute_raw(statement).await?.rows_affected() == 1)
    }
}

/// Where a job can be left: in a transaction, so that it is there if and only if what caused it is.
pub trait Outbox: ConnectionTrait {
    /// The tenant whose job it will be; `None` for the installation's own.
    fn tenant_id(&self) -> Option<Uuid>;

    /// Leaves a job. `None` where one with its key stands already.
    ///
    /// # Errors
    /// Those of the database.
    fn enqueue(&self, job: &Job) -> impl Future<Output = Result<Option<Uuid>, DbErr>> + Send;
}

pub(crate) async fn insert(
    db: &impl ConnectionTrait,
    tenant: Option<Uuid>,
    job: &Job,
) -> Result<Option<Uuid>, DbErr> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "INSERT INTO tenantry.jobs (tenant_id, kind, payload, run_at, dedupe_key) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT ON CONSTRAINT jobs_dedupe_key DO NOTHING RETURNING id",
        [
            tenant.into(),
            job.kind.into(),
            job.payload.clone().into(),
            job.run_at.into(),
            job.dedupe_key.clone().into(),
        ],
    );
    let row = db.query_one_raw(statement).await?;
    row.map(|row| row.try_get("", "id")).transpose()
}
