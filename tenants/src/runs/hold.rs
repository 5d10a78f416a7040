//! Holding the fleet, and beginning or going on with a run.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, QueryResult, Statement};
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::{
    Canaries, Run, RunPlan, RunRefused,
    store::{FLEET, count_again, find, statement},
};
use crate::{
    Error, Slug, Tenancy,
    connection::{Connection, Login},
    db::CatalogTx,
    error::query_error,
    install::SESSION_SETTINGS,
};

/// How a connection of a run differs from others.
const SETTINGS: [(&str, &str); 5] = [
    // A migration may rewrite a table; what it waits for is another matter.
    ("statement_timeout", "10min"),
    ("idle_session_timeout", "0"),
    // A machine that is gone is noticed in half a minute, and its run can be gone on with.
    ("tcp_keepalives_idle", "15"),
    ("tcp_keepalives_interval", "5"),
    ("tcp_keepalives_count", "3"),
];
/// The same for this side of the connection.
pub(super) const STATEMENT_TIMEOUT: Duration = Duration::from_mins(10);
/// What `pg_stat_activity` calls the connections.
const APPLICATION_NAME: &str = "tenantry migrations";
/// So many runs are kept: a deployment makes at most one.
const KEPT: i64 = 100;

/// The fleet, which nobody else migrates as long as this is held.
#[derive(Debug)]
pub struct HeldFleet {
    pub(super) tenancy: Tenancy,
    pub(super) connection: Connection,
}

impl Tenancy {
    pub(super) fn run_login(&self) -> Login {
        let Login(options) = self.direct().clone();
        Login(options.options(SESSION_SETTINGS).options(SETTINGS).application_name(APPLICATION_NAME))
    }

    /// Makes this the only process that migrates tenants.
    ///
    /// # Errors
    /// [`RunRefused::UnderWay`], which says who does, or those of the database.
    pub async fn hold_fleet(&self) -> Result<HeldFleet, Error> {
        let mut held = HeldFleet {
            tenancy: self.clone(),
            connection: Connection::open(&self.run_login(), STATEMENT_TIMEOUT).await?,
        };
        let taken =
            held.rows(&statement(format!("SELECT pg_try_advisory_lock({FLEET}) AS taken"), [])).await?;
        match taken.first().map(|row| row.try_get("", "taken")).transpose()? {
            Some(true) => Ok(held),
            _ => Err(RunRefused::UnderWay(self.who_is_at_it().await?).into()),
        }
    }

    /// Whether there are tenants of these names.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], or those of the database.
    pub async fn check_exist(&self, slugs: &[Slug]) -> Result<(), Error> {
        check_exist(self.catalog(), slugs).await
    }

    async fn who_is_at_it(&self) -> Result<String, Error> {
        Ok(match find(self.catalog(), None).await? {
            Some(Run { id, actor, process, started_at, done, total, status, .. }) if status == "running" => {
                let since = started_at.format("%Y-%m-%d %H:%M:%S UTC");
                format!(
                    "the migration run {id} of {actor} goes on since {since}, in process {process}: {done} of {total} \
                     tenants are done"
                )
            }
            _ => "another process is about to start a migration run".to_owned(),
        })
    }
}

impl HeldFleet {
    pub(super) async fn rows(&mut self, statement: &Statement) -> Result<Vec<QueryResult>, Error> {
        let rows: Vec<PgRow> = self.connection.fetch(statement).await.map_err(query_error)?;
        Ok(rows.into_iter().map(Into::into).collect())
    }

    /// Plans a run for everybody who is behind; `None` if that is nobody. It is there when the transaction is committed.
    /// One that was interrupted is abandoned: its tenants are in this one.
    ///
    /// # Errors
    /// [`Error::NoSuchTenant`], or those of the database.
    pub async fn plan(
        &self,
        tx: &CatalogTx,
        (id, now): (Uuid, DateTime<Utc>),
        plan: &RunPlan,
        actor: &str,
    ) -> Result<Option<Run>, Error> {
        if let Canaries::Named(slugs) = &plan.canaries {
            check_exist(tx, slugs).await?;
        }
        tx.execute_raw(statement(
            "UPDATE migration_items SET status = CASE WHEN failures > 0 THEN 'failed' ELSE 'pending' END \
             WHERE status = 'running' AND run_id IN (SELECT id FROM migration_runs WHERE status = 'running')",
            [],
        ))
        .await?;
        tx.execute_raw(statement(
            "UPDATE migration_runs SET status = 'abandoned', finished_at = $1 WHERE status = 'running'",
            [now.into()],
        ))
        .await?;
        tx.execute_raw(statement(
            "INSERT INTO migration_runs (id, target, status, wave_size, stop_after, parallel, actor, process, started_at) \
             VALUES ($1, $2, 'running', $3, $4, $5, $6, $7, $8)",
            [
                id.into(),
                self.target().into(),
                plan.wave.map(i64::from).into(),
                plan.stop_after.to_string().into(),
                i16::from(plan.parallel).into(),
                actor.into(),
                process().into(),
                now.into(),
            ],
        ))
        .await?;
        self.plan_items(tx, id, plan).await?;
        tx.execute_raw(statement(
            "DELETE FROM migration_runs WHERE id IN (\
                 SELECT id FROM migration_runs ORDER BY started_at DESC, id DESC OFFSET $1)",
            [KEPT.into()],
        ))
        .await?;
        Ok(find(tx, Some(id)).await?.filter(|run| run.total > 0))
    }

    /// Who is behind, in the order of their turns.
    async fn plan_items(&self, tx: &CatalogTx, run: Uuid, plan: &RunPlan) -> Result<(), Error> {
        let (count, named) = match &plan.canaries {
            Canaries::Count(count) => (i64::from(*count), String::new()),
            Canaries::Named(_) => (0, plan.canaries.to_string()),
        };
        let wave = plan.wave.map(i64::from);
        let values = [run.into(), self.target().into(), count.into(), named.into(), wave.into()];
        tx.execute_raw(statement(PLAN, values)).await?;
        tx.execute_raw(statement(
            "UPDATE migration_runs r SET (total, canaries) = (\
                 SELECT count(*), count(*) FILTER (WHERE wave = 0) FROM migration_items WHERE run_id = r.id) WHERE id = $1",
            [run.into()],
        ))
        .await?;
        Ok(())
    }

    /// Takes up a run, or the latest, for what is pending of it. That counts when the transaction is committed.
    ///
    /// # Errors
    /// See [`RunRefused`]; or those of the database.
    pub async fn resume(&self, tx: &CatalogTx, id: Option<Uuid>) -> Result<Run, Error> {
        let run = self.take_up(tx, id).await?;
        // One that was killed when all was done has only its end left to be noted.
        if (run.pending() == 0 && !run.is_running()) || run.status == "abandoned" {
            return Err(RunRefused::NothingPending(run.status).into());
        }
        self.begin_again(tx, run.id).await
    }

    /// Takes up a run, or the latest, for those who failed in it, and nobody else. That counts when the transaction is
    /// committed.
    ///
    /// # Errors
    /// See [`RunRefused`]; or those of the database.
    pub async fn retry(&self, tx: &CatalogTx, id: Option<Uuid>) -> Result<Run, Error> {
        let run = self.take_up(tx, id).await?;
        if run.failed == 0 {
            return Err(RunRefused::NothingFailed.into());
        }
        self.begin_again(tx, run.id).await
    }

    /// What the process before had taken when it went is nobody's now, and what it counted is counted again.
    async fn take_up(&self, tx: &CatalogTx, id: Option<Uuid>) -> Result<Run, Error> {
        let run = find(tx, id).await?.ok_or(RunRefused::Unknown)?;
        if run.target != self.target() {
            return Err(RunRefused::OtherVersion { run: run.target, program: self.target() }.into());
        }
        tx.execute_raw(statement(GIVE_BACK, [run.id.into()])).await?;
        tx.execute_raw(count_again(run.id)).await?;
        Ok(find(tx, Some(run.id)).await?.ok_or(RunRefused::Unknown)?)
    }

    async fn begin_again(&self, tx: &CatalogTx, id: Uuid) -> Result<Run, Error> {
        tx.execute_raw(statement(
            "UPDATE migration_runs SET status = 'running', reason = NULL, finished_at = NULL, process = $2 WHERE id = $1",
            [id.into(), process().into()],
        ))
        .await?;
        Ok(find(tx, Some(id)).await?.ok_or(RunRefused::Unknown)?)
    }

    /// The version that runs of this program lead to.
    pub(super) fn target(&self) -> i32 {
        self.tenancy.migrations().version()
    }
}

/// The youngest are the canaries, if no others are named; the others follow in their age.
const PLAN: &str = "INSERT INTO migration_items \
         (run_id, position, wave, tenant_id, tenant_slug, from_version, to_version, status) \
     SELECT $1, place, CASE WHEN is_canary THEN 0 \
             ELSE 1 + (place - count(*) FILTER (WHERE is_canary) OVER ()) / coalesce($5, 9223372036854775807) END, \
         id, slug, schema_version, $2, 'pending' \
     FROM (SELECT b.*, row_number() OVER (ORDER BY NOT is_canary, id) - 1 AS place FROM (\
         SELECT id, slug, schema_version, \
             row_number() OVER (ORDER BY id DESC) <= $3 OR slug IN (SELECT string_to_table($4, ',')) AS is_canary \
         FROM tenants WHERE schema_version < $2 AND status <> 'purging') AS b) AS placed";

/// Gives back what was taken and not done.
pub(super) const GIVE_BACK: &str = "UPDATE tenantry.migration_items \
     SET status = CASE WHEN failures > 0 THEN 'failed' ELSE 'pending' END WHERE run_id = $1 AND status = 'running'";

fn process() -> i64 {
    i64::from(std::process::id())
}

/// A name that is nobody's is a mistake that is told, before a fleet is migrated without the canary that was meant.
async fn check_exist(db: &impl ConnectionTrait, slugs: &[Slug]) -> Result<(), Error> {
    let named: Vec<&str> = slugs.iter().map(Slug::as_str).collect();
    let unknown = statement(
        "SELECT slug FROM string_to_table($1, ',') AS slug WHERE slug NOT IN (SELECT slug FROM tenants) LIMIT 1",
        [named.join(",").into()],
    );
    match db.query_one_raw(unknown).await? {
        Some(row) => Err(Error::NoSuchTenant(row.try_get("", "slug")?)),
        None => Ok(()),
    }
}
