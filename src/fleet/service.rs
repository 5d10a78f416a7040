//! The rules of runs.

use serde::Serialize;
use serde_json::json;
use tenants::{
    Canaries, Figures, HeldFleet, MigrationReport, Pace, Pass, Pooling, Run, RunPlan, RunRefused, Settings,
    Tenancy,
};
use tokio::sync::watch;
use uuid::Uuid;

use super::FleetError;
use crate::{
    audit::{self, Action, Actor},
    clock::Clock,
};

/// A run that was begun, or gone on with, and the fleet that is held for it. Dropped, it is interrupted.
#[derive(Debug)]
pub struct UnderWay {
    run: Run,
    held: HeldFleet,
    pass: Pass,
    clock: Clock,
}

impl UnderWay {
    /// The run, as it was when it was begun.
    #[must_use]
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// Works on it until it ends. How far it is can be watched.
    ///
    /// # Errors
    /// Those of the database: then it is interrupted.
    pub async fn work(self, pace: Pace, progress: &watch::Sender<Figures>) -> Result<Run, tenants::Error> {
        let Self { run, held, pass, clock } = self;
        held.work(&run, pass, pace, move || clock.now(), progress).await
    }

    /// Has this process work on it, and goes on. If the process ends before, the run is interrupted, as by any other end.
    #[must_use]
    pub fn work_in_background(self) -> Run {
        let run = self.run.clone();
        tokio::spawn(async move {
            let id = self.run.id;
            match self.work(Pace::default(), &watch::Sender::default()).await {
                Ok(run) => tracing::info!(
                    run = %id, status = run.status, done = run.done, failed = run.failed, "a migration run has ended"
                ),
                Err(error) => tracing::error!(run = %id, %error, "a migration run was interrupted"),
            }
        });
        run
    }
}

/// Starts a run for everybody who is behind.
///
/// # Errors
/// [`FleetError::UpToDate`], another run goes on, a canary is nobody, or those of the database.
pub async fn start(
    tenancy: &Tenancy,
    clock: &Clock,
    plan: &RunPlan,
    by: &Actor,
) -> Result<UnderWay, FleetError> {
    // Said even where nobody is behind: a name that is wrong today is wrong on the night of the next version.
    if let Canaries::Named(slugs) = &plan.canaries {
        tenancy.check_exist(slugs).await?;
    }
    // The one question that a deployment asks that has nothing to do.
    if tenancy.behind().await? == 0 {
        return Err(FleetError::UpToDate);
    }
    let held = tenancy.hold_fleet().await?;
    let tx = tenancy.catalog().begin().await?;
    let run = held.plan(&tx, (clock.uuid_v7(), clock.now()), plan, &by.name).await?;
    // Somebody else brought them up to date meanwhile.
    let run = run.ok_or(FleetError::UpToDate)?;
    let detail = json!({
        "run": run.id, "target": run.target, "tenants": run.total, "canaries": plan.canaries.to_string(),
        "wave": plan.wave, "stop_after": run.stop_after, "parallel": run.parallel,
    });
    audit::record_at(clock, &tx, by, Action::MigrationStarted, detail).await?;
    tx.commit().await?;
    Ok(UnderWay { run, held, pass: Pass::Pending, clock: clock.clone() })
}

/// Goes on with a run, or the latest, for those it has not come to.
///
/// # Errors
/// See [`RunRefused`], or those of the database.
pub async fn resume(
    tenancy: &Tenancy,
    clock: &Clock,
    id: Option<Uuid>,
    by: &Actor,
) -> Result<UnderWay, FleetError> {
    let held = tenancy.hold_fleet().await?;
    let tx = tenancy.catalog().begin().await?;
    let run = held.resume(&tx, id).await?;
    let detail = json!({"run": run.id, "pending": run.pending()});
    audit::record_at(clock, &tx, by, Action::MigrationResumed, detail).await?;
    tx.commit().await?;
    Ok(UnderWay { run, held, pass: Pass::Pending, clock: clock.clone() })
}

/// Tries those again that failed in a run, or the latest, and nobody else.
///
/// # Errors
/// See [`RunRefused`], or those of the database.
pub async fn retry(
    tenancy: &Tenancy,
    clock: &Clock,
    id: Option<Uuid>,
    by: &Actor,
) -> Result<UnderWay, FleetError> {
    let held = tenancy.hold_fleet().await?;
    let tx = tenancy.catalog().begin().await?;
    let run = held.retry(&tx, id).await?;
    let detail = json!({"run": run.id, "failed": run.failed});
    audit::record_at(clock, &tx, by, Action::MigrationRetried, detail).await?;
    tx.commit().await?;
    Ok(UnderWay { run, held, pass: Pass::Failed, clock: clock.clone() })
}

/// What is to become of the tenants.
#[derive(Clone, Debug)]
pub enum Order {
    /// All who are behind are migrated.
    Start(RunPlan),
    /// The latest run goes on.
    Resume,
    /// Those are tried again that failed in the latest run.
    Retry,
}

/// What bringing a database up to date came to.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Migrated {
    /// The catalog migrations that were applied now.
    pub catalog: Vec<String>,
    /// How many tenants were migrated now.
    pub tenants: i64,
    /// The run that did it; null where nobody was behind.
    pub run: Option<Run>,
    /// Hardening statements that this login has no right to: a superuser should run them once.
    pub not_hardened: Vec<String>,
}

/// Brings a database up to date: the catalog, and then every tenant that is behind.
///
/// # Errors
/// As [`start`], [`resume`] and [`retry`]; but that nobody is behind is none.
pub async fn migrate(
    settings: &Settings,
    clock: &Clock,
    (order, pace): (Order, Pace),
    by: &Actor,
    progress: &watch::Sender<Figures>,
) -> Result<Migrated, FleetError> {
    let MigrationReport { catalog, not_hardened } = Tenancy::migrate_catalog(settings, clock.now()).await?;
    // It works on connections that lead through no pooler, and so does all the rest here.
    let direct = Settings { owner: settings.direct.clone(), pooling: Pooling::Session, ..settings.clone() };
    let tenancy = Tenancy::open(&direct).await?;
    let done = async {
        let under_way = match order {
            Order::Start(plan) => start(&tenancy, clock, &plan, by).await,
            Order::Resume => resume(&tenancy, clock, None, by).await,
            Order::Retry => retry(&tenancy, clock, None, by).await,
        };
        match under_way {
            Ok(under_way) => {
                let before = under_way.run().done;
                let run = under_way.work(pace, progress).await?;
                Ok((run.done - before, Some(run)))
            }
            Err(FleetError::UpToDate) => Ok((0, None)),
            Err(error) => Err(error),
        }
    };
    let done = done.await;
    tenancy.close();
    let (tenants, run) = done?;
    Ok(Migrated { catalog, tenants, run, not_hardened })
}

/// At a start that nobody watches: migrates those who are behind, unless that was tried and failed. Whoever could not be
/// migrated keeps nobody else from being served.
///
/// # Errors
/// Those of the database.
pub async fn start_if_untried(tenancy: &Tenancy, clock: &Clock) -> Result<(), FleetError> {
    if tenancy.behind_and_untried().await? == 0 {
        return Ok(());
    }
    let run = match start(tenancy, clock, &RunPlan::default(), &Actor::start()).await {
        Ok(under_way) => under_way.work(Pace::default(), &watch::Sender::default()).await?,
        Err(FleetError::UpToDate) => return Ok(()),
        Err(FleetError::Refused(RunRefused::UnderWay(who))) => {
            tracing::info!("tenants are behind, but {who}");
            return Ok(());
        }
        Err(error) => return Err(error),
    };
    if !run.is_success() {
        tracing::warn!(
            run = %run.id, failed = run.failed, pending = run.pending(),
            "tenants could not be migrated: see `tenantry migrations show {}`", run.id
        );
    }
    Ok(())
}
