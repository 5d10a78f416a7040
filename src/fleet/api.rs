//! The endpoints of runs.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Enum, OpenApi,
    param::{Path, Query},
};
use tenants::{Item, ItemFilter, ItemStatus, Run};
use uuid::Uuid;

use super::{FleetError, input::MigrationRunIn, service};
use crate::{
    app::Tag,
    http::{Accepted, Json, Listing, OptionalBody, Page, PageQuery, Problem},
    operators::{Provisions, Reads},
    state::App,
};

crate::output! {
    /// A migration of all tenants who were behind.
    pub struct MigrationRunOut {
        /// The run's id.
        pub id: Uuid,
        /// `running`; `interrupted`, when its process is gone; `succeeded`; `failed`, when some tenants did; `stopped`, when so
        /// many did that the others were left alone; `abandoned`, when another run began before it was resumed.
        pub status: String,
        /// Why it stopped.
        pub reason: Option<String>,
        /// The schema version it leads to.
        pub target: i32,
        /// How many tenants it is for.
        pub total: i64,
        /// How many it has not come to yet.
        pub pending: i64,
        /// How many are migrated.
        pub done: i64,
        /// How many failed; they are as they were before.
        pub failed: i64,
        /// How many had nothing left to do when their turn came, or were gone.
        pub skipped: i64,
        /// How many are canaries.
        pub canaries: i64,
        /// How many tenants a wave has; null where one has all.
        pub wave: Option<i64>,
        /// How many failures stop it: a number or a percentage.
        pub stop_after: String,
        /// How many tenants are migrated at once.
        pub parallel: i16,
        /// Who started it.
        pub actor: String,
        /// The number of the process that works on it, or did last.
        pub process: i64,
        /// When it began.
        pub started_at: DateTime<Utc>,
        /// When it ended; null while it goes on, and of one that was interrupted.
        pub finished_at: Option<DateTime<Utc>>,
    }
}

crate::output! {
    /// A run, and what became of its tenants.
    pub struct MigrationRunDetailOut {
        /// The run.
        pub run: MigrationRunOut,
        /// Its tenants, in the order of their turns.
        pub tenants: Page<MigrationItemOut>,
    }
}

crate::output! {
    /// What became of a tenant in a run.
    pub struct MigrationItemOut {
        /// The tenant's id; it may be gone.
        pub tenant: Uuid,
        /// Its slug when the run began.
        pub slug: String,
        /// In which wave its turn comes; 0 is that of the canaries.
        pub wave: i64,
        /// `pending`, `running`, `done`, `failed` or `skipped`.
        pub status: String,
        /// Its schema version before.
        pub from_version: i32,
        /// The schema version it is brought to.
        pub to_version: i32,
        /// How often it was tried.
        pub attempts: i32,
        /// Why the last attempt failed.
        pub error: Option<String>,
        /// How long the last attempt took, in milliseconds.
        pub duration_ms: Option<f64>,
    }
}

impl From<Run> for MigrationRunOut {
    fn from(run: Run) -> Self {
        Self {
            pending: run.pending(),
            id: run.id,
            status: run.status,
            reason: run.reason,
            target: run.target,
            total: run.total,
            done: run.done,
            failed: run.failed,
            skipped: run.skipped,
            canaries: run.canaries,
            wave: run.wave_size,
            stop_after: run.stop_after,
            parallel: run.parallel,
            actor: run.actor,
            process: run.process,
            started_at: run.started_at,
            finished_at: run.finished_at,
        }
    }
}

impl From<Item> for MigrationItemOut {
    fn from(item: Item) -> Self {
        let Item { tenant_id, tenant_slug, wave, status, from_version, to_version, .. } = item;
        let Item { attempts, error, duration_ms, .. } = item;
        let (tenant, slug) = (tenant_id, tenant_slug);
        Self { tenant, slug, wave, status, from_version, to_version, attempts, error, duration_ms }
    }
}

/// Where a tenant of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum MigrationItemStatus {
    /// Yet to come.
    Pending,
    /// Taken.
    Running,
    /// Migrated.
    Done,
    /// Not migrated, and unchanged.
    Failed,
    /// There was nothing to do any more.
    Skipped,
}

impl From<MigrationItemStatus> for ItemStatus {
    fn from(status: MigrationItemStatus) -> Self {
        match status {
            MigrationItemStatus::Pending => Self::Pending,
            MigrationItemStatus::Running => Self::Running,
            MigrationItemStatus::Done => Self::Done,
            MigrationItemStatus::Failed => Self::Failed,
            MigrationItemStatus::Skipped => Self::Skipped,
        }
    }
}

/// The list of runs.
pub struct Runs;

impl Listing for Runs {
    const FIELDS: &'static [&'static str] = &["started_at"];
    const DEFAULT: &'static str = "-started_at";
    const SEARCH: Option<&'static str> = None;
}

/// The list of a run's tenants.
pub struct Turns;

impl Listing for Turns {
    const FIELDS: &'static [&'static str] = &["turn"];
    const DEFAULT: &'static str = "turn";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct FleetApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl FleetApi {
    /// The migrations of all tenants
    ///
    /// Scope `read`. The last hundred are kept.
    #[oai(path = "/api/admin/migrations", method = "get", operation_id = "listMigrationRuns")]
    async fn list(
        &self,
        _operator: Reads,
        query: PageQuery<Runs>,
    ) -> Result<Json<Page<MigrationRunOut>>, Problem> {
        let tenancy = &self.0.tenancy;
        let window = query.window(tenancy.count_runs().await.map_err(FleetError::from)?)?;
        let runs = tenancy.runs(query.is_descending(), (window.offset, window.limit)).await;
        let runs = runs.map_err(FleetError::from)?.into_iter().map(Into::into).collect();
        Ok(Json(query.page(&window, runs)))
    }

    /// Migrate all tenants who are behind
    ///
    /// Scope `provision`. Canaries first, then the others in waves; it goes on after the answer, in this process. A tenant that
    /// fails stays as it was. There is one run at a time.
    #[oai(path = "/api/admin/migrations", method = "post", operation_id = "startMigrationRun")]
    async fn start(
        &self,
        operator: Provisions,
        OptionalBody(input): OptionalBody<MigrationRunIn>,
    ) -> Result<Accepted<MigrationRunOut>, Problem> {
        let plan = input.map_or_else(|| Ok(tenants::RunPlan::default()), MigrationRunIn::plan)?;
        let (tenancy, clock) = (&self.0.tenancy, &self.0.clock);
        let under_way = service::start(tenancy, clock, &plan, &operator.0.actor).await?;
        Ok(Accepted(under_way.work_in_background().into()))
    }

    /// A migration of all tenants, and what became of each
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/migrations/:id", method = "get", operation_id = "getMigrationRun")]
    async fn detail(
        &self,
        _operator: Reads,
        /// The run's id.
        id: Path<Uuid>,
        query: PageQuery<Turns>,
        /// Only the tenants with this status.
        status: Query<Option<MigrationItemStatus>>,
    ) -> Result<Json<MigrationRunDetailOut>, Problem> {
        let tenancy = &self.0.tenancy;
        let run = tenancy.run(Some(id.0)).await.map_err(FleetError::from)?.ok_or_else(Problem::not_found)?;
        let filter = ItemFilter { status: status.0.map(Into::into), last_first: query.is_descending() };
        let count = tenancy.count_run_items(run.id, filter).await.map_err(FleetError::from)?;
        let window = query.window(count)?;
        let items = tenancy.run_items(run.id, filter, (window.offset, window.limit)).await;
        let items = items.map_err(FleetError::from)?.into_iter().map(Into::into).collect();
        Ok(Json(MigrationRunDetailOut { run: run.into(), tenants: query.page(&window, items) }))
    }

    /// Go on with a run
    ///
    /// Scope `provision`. For the tenants it has not come to, because it was interrupted or stopped. It goes on after the
    /// answer, in this process; failures from before do not count again.
    #[oai(path = "/api/admin/migrations/:id/resume", method = "post", operation_id = "resumeMigrationRun")]
    async fn resume(
        &self,
        operator: Provisions,
        /// The run's id.
        id: Path<Uuid>,
    ) -> Result<Accepted<MigrationRunOut>, Problem> {
        let (tenancy, clock) = (&self.0.tenancy, &self.0.clock);
        let under_way = service::resume(tenancy, clock, Some(id.0), &operator.0.actor).await?;
        Ok(Accepted(under_way.work_in_background().into()))
    }

    /// Try those again that failed in a run
    ///
    /// Scope `provision`. And nobody else. It goes on after the answer, in this process.
    #[oai(path = "/api/admin/migrations/:id/retry", method = "post", operation_id = "retryMigrationRun")]
    async fn retry(
        &self,
        operator: Provisions,
        /// The run's id.
        id: Path<Uuid>,
    ) -> Result<Accepted<MigrationRunOut>, Problem> {
        let (tenancy, clock) = (&self.0.tenancy, &self.0.clock);
        let under_way = service::retry(tenancy, clock, Some(id.0), &operator.0.actor).await?;
        Ok(Accepted(under_way.work_in_background().into()))
    }
}
