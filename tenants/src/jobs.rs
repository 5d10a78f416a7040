//! Work that was left in the catalog, in the transaction of what caused it, and who does it.
//!
//! A worker takes a job for a while: the *lease*. If it dies, the lease runs out and another worker takes the job. So a
//! job may be done twice, and has to be safe to do twice. What a worker reports counts only while it still has the
//! lease: the number of the attempt tells one holder from the next.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement};
use serde_json::Value;
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::{CatalogTx, Error, Tenancy};

/// Work to be left for later.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is to be done.
    pub kind: &'static str,
    /// With what. Nothing secret in clear: see [`DataKey::Outbox`](crate::DataKey::Outbox).
    pub payload: Value,
    /// Not before this time.
    pub run_at: DateTime<Utc>,
    /// No second job of the same tenant with the same key, nor of the installation's own.
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
    /// Since when it is being tried: when it was to be done first, or when an operator last had it tried again.
    pub due_since: DateTime<Utc>,
}

/// Which jobs a worker takes: a kind that may be slow must not keep the others waiting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// All.
    All,
    /// This one.
    Only(&'static str),
    /// All but this one.
    Except(&'static str),
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum JobStatus {
    /// It waits for its time.
    Queued,
    /// A worker has it.
    Running,
    /// It is done.
    Done,
    /// It failed for good, and waits for an operator.
    Parked,
}

impl JobStatus {
    /// As the catalog has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Done => "done",
            Self::Parked => "parked",
        }
    }
}

/// A job, for operators: what it is done with is not theirs to see.
#[derive(Clone, Debug, FromQueryResult, serde::Serialize)]
pub struct JobSummary {
    /// Its id.
    pub id: Uuid,
    /// What is to be done.
    pub kind: String,
    /// The slug of the tenant that left it; `None` for the installation's own.
    pub tenant: Option<String>,
    /// Where it stands.
    pub status: String,
    /// How often it was tried.
    pub attempts: i32,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// When it is tried next; of one that is not to be tried any more, when it was last.
    pub run_at: DateTime<Utc>,
    /// When it was left.
    pub created_at: DateTime<Utc>,
    /// When it was done or parked.
    pub finished_at: Option<DateTime<Utc>>,
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
    /// It was not its turn. At this time it is as new: what made it wait does not count as a failure.
    PutOff {
        /// When.
        at: DateTime<Utc>,
        /// Why; for operators, so nothing secret.
        reason: String,
    },
    /// It was not done, through no fault of its own: it is as if nobody had taken it. To be reported once, for the number of
    /// the attempt is the next holder's too.
    HandedBack {
        /// Why; for operators, so nothing secret.
        reason: String,
    },
    /// It failed, and trying again would not help: an operator has to look at it.
    Park {
        /// Why; for operators, so nothing secret.
        error: String,
    },
}

impl Tenancy {
    /// Takes up to `limit` jobs of these kinds that are due, the oldest first: those that nobody has taken, and those
    /// whose worker did not report in time. Jobs of tenants that are not active wait, and those of
    /// tenants whose mails are held: all that tenants leave are mails, or end in one.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_jobs(
        &self,
        kinds: Kinds,
        limit: u32,
        lease: Duration,
        now: DateTime<Utc>,
    ) -> Result<Vec<LeasedJob>, Error> {
        let until = now + chrono::TimeDelta::from_std(lease).unwrap_or(chrono::TimeDelta::MAX);
        // An empty text is no kind.
        let (only, except) = match kinds {
            Kinds::All => ("", ""),
            Kinds::Only(kind) => (kind, ""),
            Kinds::Except(kind) => ("", kind),
        };
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE jobs SET status = 'running', attempts = attempts + 1, leased_until = $1 WHERE id IN (\
                 SELECT j.id FROM jobs j WHERE j.status IN ('queued', 'running') AND j.run_at <= $2 \
                 AND (j.leased_until IS NULL OR j.leased_until <= $2) AND ($4 = '' OR j.kind = $4) AND j.kind <> $5 \
                 AND (j.tenant_id IS NULL OR EXISTS (\
                     SELECT FROM tenants t WHERE t.id = j.tenant_id AND t.status = 'active' AND NOT t.mails_held)) \
                 ORDER BY j.run_at LIMIT $3 FOR UPDATE OF j SKIP LOCKED) \
             RETURNING id, tenant_id, kind, payload, attempts, created_at, due_since",
            [until.into(), now.into(), i64::from(limit).into(), only.into(), except.into()],
        );
        let mut jobs = LeasedJob::find_by_statement(statement).all(self.catalog()).await?;
        // An UPDATE returns its rows in no order.
        jobs.sort_by_key(|job| (job.due_since, job.created_at));
        Ok(jobs)
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
            Outcome::Retry { at, error } | Outcome::PutOff { at, reason: error } => {
                ("queued", Some(*at), Some(error.as_str()))
            }
            Outcome::HandedBack { reason } => ("queued", None, Some(reason.as_str())),
            Outcome::Park { error } => ("parked", None, Some(error.as_str())),
        };
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE jobs SET status = $3, run_at = coalesce($4, run_at), \
                 due_since = CASE WHEN $7 THEN $4 ELSE due_since END, error = $5, leased_until = NULL, \
                 finished_at = CASE WHEN $3 = 'queued' THEN NULL ELSE $6::timestamptz END, \
                 payload = CASE WHEN $3 = 'done' THEN '{}'::jsonb ELSE payload END, \
                 attempts = CASE WHEN $8 THEN attempts - 1 ELSE attempts END \
             WHERE id = $1 AND attempts = $2 AND status = 'running'",
            [
                job.id.into(),
                job.attempts.into(),
                status.into(),
                run_at.into(),
                error.into(),
                now.into(),
                matches!(outcome, Outcome::PutOff { .. }).into(),
                matches!(outcome, Outcome::HandedBack { .. }).into(),
            ],
        );
        Ok(self.catalog().execute_raw(statement).await?.rows_affected() == 1)
    }

    /// The jobs with this status, or all that are not done; those that are due first come first, and of the finished ones
    /// the latest.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn jobs(&self, status: Option<JobStatus>, limit: u32) -> Result<Vec<JobSummary>, Error> {
        let order = "j.finished_at DESC NULLS LAST, j.run_at, j.id";
        self.some_jobs(status, order, (0, u64::from(limit))).await
    }

    /// Some of them, by when they were left: `limit` after the first `offset`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn jobs_by_age(
        &self,
        status: Option<JobStatus>,
        newest_first: bool,
        window: (u64, u64),
    ) -> Result<Vec<JobSummary>, Error> {
        let order = if newest_first { "j.created_at DESC, j.id DESC" } else { "j.created_at, j.id" };
        self.some_jobs(status, order, window).await
    }

    async fn some_jobs(
        &self,
        status: Option<JobStatus>,
        order: &'static str,
        (offset, limit): (u64, u64),
    ) -> Result<Vec<JobSummary>, Error> {
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            format!("{SUMMARY} WHERE {OF_STATUS} ORDER BY {order} OFFSET $2 LIMIT $3"),
            [status.map_or("", JobStatus::as_str).into(), number(offset).into(), number(limit).into()],
        );
        Ok(JobSummary::find_by_statement(statement).all(self.catalog()).await?)
    }

    /// How many jobs have this status, or are not done.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_jobs(&self, status: Option<JobStatus>) -> Result<u64, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            format!("SELECT count(*) AS jobs FROM jobs j WHERE {OF_STATUS}"),
            [status.map_or("", JobStatus::as_str).into()],
        );
        let jobs: i64 = match self.catalog().query_one_raw(statement).await? {
            Some(row) => row.try_get("", "jobs")?,
            None => 0,
        };
        Ok(u64::try_from(jobs).unwrap_or(0))
    }
}

/// A job, as operators see it.
const SUMMARY: &str = "SELECT j.id, j.kind, t.slug AS tenant, j.status, j.attempts, j.error, j.run_at, j.created_at, j.finished_at \
     FROM jobs j LEFT JOIN tenants t ON t.id = j.tenant_id";
/// Whether it has this status, `$1`, or is not done.
const OF_STATUS: &str = "CASE WHEN $1 = '' THEN j.status <> 'done' ELSE j.status = $1 END";

/// Whose jobs.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Whose<'a> {
    /// Those of one tenant.
    Tenant(Uuid),
    /// Those of all tenants that have this plan.
    Plan(&'a str),
    /// All.
    Everybody,
}

/// Has the jobs looked at again now that were put off for this reason.
pub(crate) async fn hasten(
    tx: &CatalogTx,
    whose: Whose<'_>,
    reason: &str,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let (which, value): (_, sea_orm::Value) = match whose {
        Whose::Tenant(id) => ("tenant_id = $3", id.into()),
        Whose::Plan(name) => ("tenant_id IN (SELECT id FROM tenantry.tenants WHERE plan = $3)", name.into()),
        Whose::Everybody => ("$3", true.into()),
    };
    let sql = format!(
        "UPDATE tenantry.jobs SET run_at = $1, due_since = $1 \
         WHERE status = 'queued' AND run_at > $1 AND error = $2 AND {which}"
    );
    let values = [now.into(), reason.into(), value];
    tx.execute_raw(Statement::from_sql_and_values(DbBackend::Postgres, sql, values)).await.map(|_| ())
}

impl CatalogTx {
    /// A job; `None` if there is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn job(&self, id: Uuid) -> Result<Option<JobSummary>, DbErr> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            format!("{SUMMARY} WHERE j.id = $1"),
            [id.into()],
        );
        JobSummary::find_by_statement(statement).one(self).await
    }

    /// Has a job that failed, or all of them, tried again now, for as long as a new one: those that are parked, and those
    /// that wait for their next attempt. How many those were; one that is due already is not among them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn retry_failed(&self, id: Option<Uuid>, now: DateTime<Utc>) -> Result<u64, DbErr> {
        // The number of attempts stays: it tells one holder of a lease from the next.
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE jobs SET status = 'queued', run_at = $2, due_since = $2, leased_until = NULL, finished_at = NULL \
             WHERE (status = 'parked' OR (status = 'queued' AND attempts > 0 AND run_at > $2)) \
             AND ($1::uuid IS NULL OR id = $1)",
            [id.into(), now.into()],
        );
        Ok(self.execute_raw(statement).await?.rows_affected())
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
    // No tenant is like no other to a unique constraint, so jobs of the installation's own are told apart by their ids.
    let id = job.dedupe_key.as_deref().filter(|_| tenant.is_none()).map(id_of);
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "INSERT INTO tenantry.jobs (tenant_id, kind, payload, run_at, due_since, dedupe_key, id) \
         VALUES ($1, $2, $3, $4, $4, $5, coalesce($6, gen_random_uuid())) ON CONFLICT DO NOTHING RETURNING id",
        [
            tenant.into(),
            job.kind.into(),
            job.payload.clone().into(),
            job.run_at.into(),
            job.dedupe_key.clone().into(),
            id.into(),
        ],
    );
    let row = db.query_one_raw(statement).await?;
    row.map(|row| row.try_get("", "id")).transpose()
}

/// The id of a job with this key: a hash of it.
fn id_of(dedupe_key: &str) -> Uuid {
    let mut half = [0; 16];
    half.copy_from_slice(&Sha256::digest(dedupe_key)[..16]);
    uuid::Builder::from_custom_bytes(half).into_uuid()
}
