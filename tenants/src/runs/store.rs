//! Reading runs.

use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value};
use uuid::Uuid;

use super::{Item, ItemStatus, Run};
use crate::{Error, Tenancy, db::CatalogDb};

/// Who works on runs holds this, for as long as his session lasts. Advisory locks belong to a database, and a database
/// holds one installation.
pub(super) const FLEET: &str = "hashtextextended('tenantry.fleet', 0)";

/// What reads a [`Run`]. A row that says `running` while nobody holds the fleet is of a process that is gone: it was killed
/// before it noted how far it was, so its items are counted.
fn select() -> String {
    format!(
        "SELECT id, target, CASE WHEN is_interrupted THEN 'interrupted' ELSE status END AS status, reason, canaries, \
             wave_size, stop_after, parallel, actor, process, coalesce(counted.total, r.total) AS total, \
             coalesce(counted.done, r.done) AS done, coalesce(counted.failed, r.failed) AS failed, \
             coalesce(counted.skipped, r.skipped) AS skipped, started_at, finished_at \
         FROM (SELECT *, status = 'running' AND NOT EXISTS (\
                 SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1 \
                 AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
                 AND (classid::bigint << 32) | objid::bigint = {FLEET}) AS is_interrupted \
             FROM tenantry.migration_runs) AS r \
         LEFT JOIN LATERAL ({COUNTED} WHERE run_id = r.id AND r.is_interrupted) AS counted ON r.is_interrupted"
    )
}

/// What became of items.
const COUNTED: &str = "SELECT count(*) AS total, count(*) FILTER (WHERE status = 'done') AS done, \
         count(*) FILTER (WHERE status = 'failed') AS failed, count(*) FILTER (WHERE status = 'skipped') AS skipped \
     FROM tenantry.migration_items";

/// Counts again what became of the items of a run.
pub(super) fn count_again(run: Uuid) -> Statement {
    let sql = format!(
        "UPDATE tenantry.migration_runs r SET (total, done, failed, skipped) = ({COUNTED} WHERE run_id = r.id) WHERE id = $1"
    );
    statement(sql, [run.into()])
}

pub(super) fn statement(sql: impl Into<String>, values: impl IntoIterator<Item = Value>) -> Statement {
    Statement::from_sql_and_values(DbBackend::Postgres, sql, values)
}

/// Some run, or the latest.
pub(super) async fn find(db: &impl ConnectionTrait, id: Option<Uuid>) -> Result<Option<Run>, DbErr> {
    let sql =
        format!("{} WHERE $1::uuid IS NULL OR id = $1 ORDER BY started_at DESC, id DESC LIMIT 1", select());
    Run::find_by_statement(statement(sql, [id.into()])).one(db).await
}

/// Which items of a run a list shows.
#[derive(Clone, Copy, Debug, Default)]
pub struct ItemFilter {
    /// Only those.
    pub status: Option<ItemStatus>,
    /// From the last to the first.
    pub last_first: bool,
}

async fn count(db: &CatalogDb, statement: Statement) -> Result<u64, Error> {
    let count: i64 = match db.query_one_raw(statement).await? {
        Some(row) => row.try_get("", "count")?,
        None => 0,
    };
    Ok(u64::try_from(count).unwrap_or(0))
}

fn number(number: u64) -> Value {
    i64::try_from(number).unwrap_or(i64::MAX).into()
}

impl Tenancy {
    /// A run, or the latest; `None` if there is none.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run(&self, id: Option<Uuid>) -> Result<Option<Run>, Error> {
        Ok(find(self.catalog(), id).await?)
    }

    /// How many runs there are.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_runs(&self) -> Result<u64, Error> {
        count(self.catalog(), statement("SELECT count(*) AS count FROM migration_runs", [])).await
    }

    /// Some runs, by when they began: `limit` of them after the first `offset`.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn runs(&self, newest_first: bool, (offset, limit): (u64, u64)) -> Result<Vec<Run>, Error> {
        let direction = if newest_first { "DESC" } else { "ASC" };
        let sql = format!("{} ORDER BY started_at {direction}, id {direction} OFFSET $1 LIMIT $2", select());
        Ok(Run::find_by_statement(statement(sql, [number(offset), number(limit)]))
            .all(self.catalog())
            .await?)
    }

    /// How many such items a run has.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn count_run_items(&self, run: Uuid, filter: ItemFilter) -> Result<u64, Error> {
        let sql = "SELECT count(*) AS count FROM migration_items \
                   WHERE run_id = $1 AND ($2::text IS NULL OR status = $2)";
        let status = filter.status.map(ItemStatus::as_str);
        count(self.catalog(), statement(sql, [run.into(), status.into()])).await
    }

    /// Some of them, in the order in which their turn comes.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn run_items(
        &self,
        run: Uuid,
        filter: ItemFilter,
        (offset, limit): (u64, u64),
    ) -> Result<Vec<Item>, Error> {
        let direction = if filter.last_first { "DESC" } else { "ASC" };
        let sql = format!(
            "SELECT tenant_id, tenant_slug, wave, status, from_version, to_version, attempts, error, duration_ms \
             FROM migration_items WHERE run_id = $1 AND ($2::text IS NULL OR status = $2) \
             ORDER BY position {direction} OFFSET $3 LIMIT $4"
        );
        let status = filter.status.map(ItemStatus::as_str);
        let values = [run.into(), status.into(), number(offset), number(limit)];
        Ok(Item::find_by_statement(statement(sql, values)).all(self.catalog()).await?)
    }
}
