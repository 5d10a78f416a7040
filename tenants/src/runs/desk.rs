//! What the workers of a run share, and what they note there.

use std::collections::{BTreeMap, VecDeque};

use sea_orm::{QueryResult, Statement};
use tokio::time::Instant;
use uuid::Uuid;

use super::{Figures, store::statement};
use crate::{Error, SchemaName, connection::Connection, error::query_error};

/// A tenant that was taken.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) position: i64,
    pub(super) tenant: Uuid,
    pub(super) slug: String,
    pub(super) schema: SchemaName,
    pub(super) version: i32,
    /// How often it was tried, in all passes.
    pub(super) attempts: i32,
    /// How often in this one.
    pub(super) tries: u32,
}

/// What the workers share. What is noted here goes out on the connection that holds the fleet.
pub(super) struct Desk {
    pub(super) connection: Connection,
    pub(super) ready: VecDeque<Task>,
    /// Those that are to be tried again, by when, and by their positions.
    pub(super) later: BTreeMap<(Instant, i64), Task>,
    /// The last position that was taken.
    pub(super) taken: i64,
    pub(super) wave: i64,
    /// Whether all of the wave was taken.
    pub(super) is_taken: bool,
    /// How many are planned up to the end of the wave.
    pub(super) planned: u64,
    /// How many failed in this pass.
    pub(super) failures: u64,
    pub(super) figures: Figures,
    /// Those that the run's row has, and since when.
    pub(super) noted: (Figures, Instant),
    pub(super) stopped: Option<String>,
}

impl Desk {
    /// One with nothing on it, on the connection that holds the fleet.
    pub(super) fn new(connection: Connection, figures: Figures) -> Self {
        Self {
            connection,
            ready: VecDeque::new(),
            later: BTreeMap::new(),
            taken: -1,
            wave: 0,
            is_taken: true,
            planned: 0,
            failures: 0,
            figures,
            noted: (figures, Instant::now()),
            stopped: None,
        }
    }

    pub(super) async fn rows(&mut self, statement: &Statement) -> Result<Vec<QueryResult>, Error> {
        let rows = self.connection.fetch(statement).await.map_err(query_error)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Where a tenant is by now: nobody knows what became of a batch whose connection broke.
    pub(super) async fn version_of(&mut self, tenant: Uuid) -> Result<Option<i32>, Error> {
        let version = "SELECT schema_version FROM tenantry.tenants WHERE id = $1";
        let rows = self.rows(&statement(version, [tenant.into()])).await?;
        Ok(rows.first().map(|row| row.try_get("", "schema_version")).transpose()?)
    }
}

/// Takes the next items of a wave, and tells where their tenants are.
pub(super) const TAKE: &str = "WITH taken AS (\
         UPDATE tenantry.migration_items SET status = 'running' WHERE run_id = $1 AND position IN (\
             SELECT position FROM tenantry.migration_items \
             WHERE run_id = $1 AND wave = $2 AND status = $3 AND position > $4 ORDER BY position LIMIT $5) \
         RETURNING position, tenant_id, tenant_slug, attempts) \
     SELECT taken.position, taken.tenant_id, taken.tenant_slug, taken.attempts, t.schema_name, t.schema_version \
     FROM taken LEFT JOIN tenantry.tenants t ON t.id = taken.tenant_id AND t.status <> 'purging' \
     ORDER BY taken.position";

/// Appends those who are behind and not in the run.
pub(super) const APPEND: &str = "INSERT INTO tenantry.migration_items \
         (run_id, position, wave, tenant_id, tenant_slug, from_version, to_version, status) \
     SELECT $1, last.position + row_number() OVER (ORDER BY t.id), last.wave + 1, t.id, t.slug, t.schema_version, $2, 'pending' \
     FROM tenantry.tenants t, (SELECT max(position) AS position, max(wave) AS wave \
         FROM tenantry.migration_items WHERE run_id = $1) AS last \
     WHERE t.schema_version < $2 AND t.status <> 'purging' AND NOT EXISTS (\
         SELECT FROM tenantry.migration_items i WHERE i.run_id = $1 AND i.tenant_id = t.id) \
     RETURNING position";

/// What a tenant that was not migrated is now: that somebody else did it, or that it is gone or going, is no failure.
pub(super) const END: &str = "UPDATE tenantry.migration_items i SET attempts = $3, duration_ms = round($5::numeric, 3)::float8, \
         status = found.status, error = CASE WHEN found.status = 'failed' THEN $4 END, \
         failures = failures + CASE WHEN found.status = 'failed' THEN 1 ELSE 0 END \
     FROM (SELECT CASE WHEN s.status = 'done' THEN 'done' \
             WHEN t.id IS NULL OR t.schema_version >= s.to_version THEN 'skipped' ELSE 'failed' END AS status \
         FROM tenantry.migration_items s LEFT JOIN tenantry.tenants t ON t.id = s.tenant_id AND t.status <> 'purging' \
         WHERE s.run_id = $1 AND s.position = $2) AS found \
     WHERE i.run_id = $1 AND i.position = $2 RETURNING i.status";

/// The end of a run.
pub(super) const FINISH: &str = "UPDATE tenantry.migration_runs SET finished_at = $3, \
         status = CASE WHEN $2::text IS NOT NULL OR done + failed + skipped < total THEN 'stopped' \
             WHEN failed > 0 THEN 'failed' ELSE 'succeeded' END, \
         reason = CASE WHEN $2::text IS NOT NULL THEN $2 \
             WHEN done + failed + skipped < total THEN 'only those that had failed were to be tried again' END \
     WHERE id = $1 RETURNING id";
