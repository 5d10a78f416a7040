//! Who does an operation: whoever has its lease. It is taken for a minute and renewed while the work goes on, so one whose
//! process died is begun anew by another, a minute later. What the former holder writes does not count any more: the number
//! of the attempt tells one holder from the next, as with [jobs](crate::Job).

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, FromQueryResult, Statement, Value};
use uuid::Uuid;

use crate::{Error, Tenancy, entity::operations::Model};

/// All columns of [`Model`].
const COLUMNS: &str = "id, kind, tenant_id, tenant_slug, is_exclusive, params, status, done, total, result, error, \
     operator_id, actor, api_key_id, api_key_name, ip, attempts, leased_until, created_at, started_at, finished_at";

/// What nobody is at: it waits for its turn, or whoever had it has not been heard of for too long. At the time `$1`.
const FREE: &str = "status IN ('queued', 'running') AND (leased_until IS NULL OR leased_until <= $1)";

/// How far an operation is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    /// How much is done.
    pub done: i64,
    /// Of how much, where that is known.
    pub total: Option<i64>,
}

/// What became of an attempt at an operation.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// It is done, and this came of it.
    Succeeded(serde_json::Value),
    /// It is not done, and is begun anew at this time.
    Again {
        /// When.
        at: DateTime<Utc>,
        /// Why; nothing secret.
        error: String,
    },
    /// It is not done, through no fault of its own: it is as if nobody had taken it. To be reported once, for the number of
    /// the attempt is the next holder's too.
    HandedBack {
        /// Why; nothing secret.
        error: String,
    },
    /// It cannot be done.
    Failed {
        /// Why; nothing secret.
        error: String,
    },
}

fn after(now: DateTime<Utc>, lease: Duration) -> DateTime<Utc> {
    now + chrono::TimeDelta::from_std(lease).unwrap_or(chrono::TimeDelta::MAX)
}

impl Tenancy {
    /// Takes up to `limit` operations of these kinds that nobody is at, the oldest first. What this program does not know is
    /// left to one that does: during a deploy, there are two.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn take_operations(
        &self,
        kinds: &[&str],
        limit: u32,
        lease: Duration,
        now: DateTime<Utc>,
    ) -> Result<Vec<Model>, Error> {
        let which = format!(
            "SELECT id FROM operations WHERE {FREE} AND kind = ANY (string_to_array($4, ',')) \
             ORDER BY created_at, id LIMIT $3 FOR UPDATE SKIP LOCKED"
        );
        let values = [i64::from(limit).into(), kinds.join(",").into()];
        let mut taken = self.take(&which, values, lease, now).await?;
        // An UPDATE returns its rows in no order.
        taken.sort_by_key(|operation| (operation.created_at, operation.id));
        Ok(taken)
    }

    /// Takes this operation, if nobody is at it: one that waits for its next attempt, too, and one that failed, to begin it
    /// anew. `None` if somebody is at it, if it succeeded, or if there is none.
    ///
    /// # Errors
    /// Those of the database; of one that failed also the unique constraint that keeps it from going on beside another.
    pub async fn take_operation(
        &self,
        id: Uuid,
        lease: Duration,
        now: DateTime<Utc>,
    ) -> Result<Option<Model>, Error> {
        let which = format!(
            "SELECT id FROM operations WHERE id = $3 AND (({FREE}) OR status IN ('queued', 'failed')) FOR UPDATE"
        );
        Ok(self.take(&which, [id.into()], lease, now).await?.pop())
    }

    async fn take(
        &self,
        which: &str,
        by: impl IntoIterator<Item = Value>,
        lease: Duration,
        now: DateTime<Utc>,
    ) -> Result<Vec<Model>, Error> {
        let sql = format!(
            "UPDATE operations SET status = 'running', attempts = attempts + 1, leased_until = $2, \
                 started_at = coalesce(started_at, $1), finished_at = NULL, done = 0, total = NULL \
             WHERE id IN ({which}) RETURNING {COLUMNS}"
        );
        let values = [now.into(), after(now, lease).into()].into_iter().chain(by);
        let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
        Ok(Model::find_by_statement(statement).all(self.catalog()).await?)
    }

    /// Notes how far this attempt is, and keeps the lease. Whether it still had it: else another one is at it, or it has
    /// ended, and whoever asks is to stop.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn keep_operation(
        &self,
        (id, attempt): (Uuid, i32),
        measure: Measure,
        lease: Duration,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE operations SET done = $3, total = $4, leased_until = $5 \
             WHERE id = $1 AND attempts = $2 AND status = 'running'",
            [id.into(), attempt.into(), measure.done.into(), measure.total.into(), after(now, lease).into()],
        );
        Ok(self.catalog().execute_raw(statement).await?.rows_affected() == 1)
    }

    /// Notes what became of an attempt. Whether that counted: it does not if another one has taken the operation since.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn end_operation(
        &self,
        (id, attempt): (Uuid, i32),
        measure: Measure,
        ended: &Ended,
        now: DateTime<Utc>,
    ) -> Result<bool, Error> {
        let (status, result, error, at) = match ended {
            Ended::Succeeded(result) => ("succeeded", Some(result.clone()), None, None),
            Ended::Again { at, error } => ("queued", None, Some(error.as_str()), Some(*at)),
            Ended::HandedBack { error } => ("queued", None, Some(error.as_str()), None),
            Ended::Failed { error } => ("failed", None, Some(error.as_str()), None),
        };
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "UPDATE operations SET status = $3, result = $4, error = $5, leased_until = $6, done = $7, total = $8, \
                 finished_at = CASE WHEN $3 = 'queued' THEN NULL ELSE $9::timestamptz END, \
                 attempts = CASE WHEN $10 THEN attempts - 1 ELSE attempts END \
             WHERE id = $1 AND attempts = $2 AND status = 'running'",
            [
                id.into(),
                attempt.into(),
                status.into(),
                result.into(),
                error.into(),
                at.into(),
                measure.done.into(),
                measure.total.into(),
                now.into(),
                matches!(ended, Ended::HandedBack { .. }).into(),
            ],
        );
        Ok(self.catalog().execute_raw(statement).await?.rows_affected() == 1)
    }
}
