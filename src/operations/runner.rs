//! Who does the operations: a loop that `serve` runs, in any number of processes side by side, or a command for itself.

use std::{
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tenants::Ended;
use tokio::time::sleep;
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Failure, Kind, Operation, OperationError, Progress};
use crate::{
    error::ServiceError,
    metrics::OperationOutcome,
    state::App,
    workers::{Queue, Workers},
};

/// For how long an attempt has the operation to itself without saying so again: as long one waits whose process was killed.
pub(super) const LEASE: Duration = Duration::from_mins(1);
/// How often it says so: five of these may fail in a row.
pub(super) const RENEWAL: Duration = Duration::from_secs(10);
/// How many a process does at once. They use the database, of which requests are to have most.
const SLOTS: usize = 2;
/// How often an operation is begun. With the pauses between them that is most of an hour.
const ATTEMPTS: i32 = 10;
/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// How often, a second apart, to report what became of an attempt.
const REPORTS: u32 = 5;

/// Starts to do the operations that wait.
#[must_use]
pub fn start(app: &App) -> Workers {
    Workers::start(app, [Operations(app.clone())])
}

struct Operations(App);

impl Queue for Operations {
    type Item = Progress;
    const ITEMS: &'static str = "operations";

    fn slots(&self) -> usize {
        SLOTS
    }

    async fn take(&self, most: u32) -> Result<Vec<Progress>, ServiceError> {
        Ok(take(&self.0, most).await?.into_iter().map(Progress::of).collect())
    }

    fn perform(&self, progress: Progress) -> impl Future<Output = ()> + Send + 'static {
        let app = self.0.clone();
        async move { perform(&app, &progress).await }
    }

    async fn hand_back(&self, progress: &Progress) {
        let error = "the server was stopped before it was done".to_owned();
        let (ended, measure, now) = (Ended::HandedBack { error }, progress.measure(), self.0.clock.now());
        if let Err(error) = self.0.tenancy.end_operation(progress.attempt(), measure, &ended, now).await {
            let _entered = span_of(progress.operation()).entered();
            let error = &error as &dyn std::error::Error;
            tracing::warn!(error, "an operation cannot be handed back: its lease has to run out");
        }
    }
}

async fn take(app: &App, limit: u32) -> Result<Vec<Operation>, ServiceError> {
    let kinds: Vec<&str> = <Kind as sea_orm::Iterable>::iter().map(Kind::as_str).collect();
    Ok(app.tenancy.take_operations(&kinds, limit, LEASE, app.clock.now()).await?)
}

/// Takes what nobody is at, and does it, one after another; how many those were. For those who want it done now; else it is
/// for [workers](start).
///
/// # Errors
/// Those of the database.
pub async fn run_queued(app: &App) -> Result<usize, ServiceError> {
    let taken = take(app, u32::MAX).await?;
    let count = taken.len();
    for operation in taken {
        perform(app, &Progress::of(operation)).await;
    }
    Ok(count)
}

/// Takes this operation, to [perform](perform) it: one that waits, for its next attempt too, one whose process died, or one
/// that failed. `None` if a process has it, if it succeeded, or if there is none.
///
/// # Errors
/// [`OperationError::InProgress`], or those of the database.
pub async fn resume(app: &App, id: Uuid) -> Result<Option<Operation>, OperationError> {
    match app.tenancy.take_operation(id, LEASE, app.clock.now()).await {
        Ok(taken) => Ok(taken),
        Err(tenants::Error::Database(error))
            if matches!(tenants::fault(&error), tenants::Fault::Unique(_)) =>
        {
            Err(OperationError::InProgress)
        }
        Err(error) => Err(ServiceError::from(error).into()),
    }
}

/// Does an operation that was taken, and notes what became of it, whatever it does. When somebody else may be at it by now
/// it stops where it is.
pub async fn perform(app: &App, progress: &Progress) {
    let span = span_of(progress.operation());
    let Operation { id, kind, tenant_id, attempts, .. } = progress.operation();
    let tenant = tenant_id.map(tracing::field::display);
    let trace =
        tracing::info_span!(target: "trace", "operation", operation = %id, kind, tenant, attempt = attempts);
    perform_in_span(app, progress).instrument(trace).instrument(span).await;
}

/// What the log says of everything that is done for an operation.
fn span_of(operation: &Operation) -> tracing::Span {
    let Operation { id, kind, tenant_id, attempts, .. } = operation;
    let tenant = tenant_id.map(tracing::field::display);
    tracing::info_span!("operation", operation = %id, kind, tenant, attempt = attempts)
}

async fn perform_in_span(app: &App, progress: &Progress) {
    let since = Instant::now();
    let work = AssertUnwindSafe(attempt(app, progress)).catch_unwind();
    let outcome = tokio::select! {
        outcome = work => outcome,
        () = progress.keep(app) => {
            return tracing::warn!("another process may be at the operation: this one leaves it");
        }
    };
    let ended = match outcome {
        Ok(Ok(result)) => Ended::Succeeded(result),
        Ok(Err(Failure::GiveUp(error))) => Ended::Failed { error },
        Ok(Err(Failure::Retry(error))) => again(app, progress.operation().attempts, error),
        // The panic has written its own line into the log; what it says may hold anything.
        Err(_) => Ended::Failed { error: "it broke: the log of that time says where".to_owned() },
    };
    let what = match ended {
        Ended::Succeeded(_) => OperationOutcome::Succeeded,
        Ended::Again { .. } => OperationOutcome::Retried,
        Ended::HandedBack { .. } => OperationOutcome::HandedBack,
        Ended::Failed { .. } => OperationOutcome::Failed,
    };
    app.metrics().operations.note(&progress.operation().kind, what, since.elapsed());
    report(app, progress, &ended).await;
}

async fn attempt(app: &App, progress: &Progress) -> Result<serde_json::Value, Failure> {
    let Operation { kind, params, attempts, error, .. } = progress.operation();
    if *attempts > ATTEMPTS {
        let why = error.as_deref().unwrap_or("no process that began it lived to its end");
        return Err(Failure::GiveUp(format!("given up after {ATTEMPTS} attempts: {why}")));
    }
    let unknown = || Failure::GiveUp(format!("this program does not know the operation {kind}"));
    Kind::of(kind).ok_or_else(unknown)?.run(app, progress, params.clone()).await
}

fn again(app: &App, attempts: i32, error: String) -> Ended {
    if attempts >= ATTEMPTS {
        return Ended::Failed { error: format!("given up after {ATTEMPTS} attempts: {error}") };
    }
    Ended::Again { at: app.clock.now() + pause(attempts), error }
}

/// After this attempt: twice as long as after the one before.
fn pause(attempt: i32) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0);
    let factor = 2_u32.checked_pow(doublings).unwrap_or(u32::MAX);
    FIRST_PAUSE.saturating_mul(factor).min(LONGEST_PAUSE)
}

/// Notes what became of an attempt, within its [span](span_of). The database may be away for a moment.
async fn report(app: &App, progress: &Progress, ended: &Ended) {
    match ended {
        Ended::Succeeded(_) => tracing::info!("operation succeeded"),
        Ended::Again { at, error } => {
            tracing::warn!(error, at = at.to_rfc3339(), "operation failed, to be tried again");
        }
        Ended::Failed { error } => tracing::error!(error, "operation failed"),
        Ended::HandedBack { error } => tracing::warn!(error, "operation handed back"),
    }
    for pause in (0..REPORTS).rev() {
        let (measure, now) = (progress.measure(), app.clock.now());
        match app.tenancy.end_operation(progress.attempt(), measure, ended, now).await {
            Ok(true) => return,
            Ok(false) => return tracing::warn!("another process has taken the operation"),
            Err(error) if pause == 0 => {
                let error = &error as &dyn std::error::Error;
                tracing::error!(error, "what became of it cannot be noted: it is begun anew");
            }
            Err(_) => sleep(Duration::from_secs(1)).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(
            [1, 2, 3, 7, 40, i32::MAX].map(|attempt| pause(attempt).as_secs()),
            [10, 20, 40, 600, 600, 600]
        );
    }

    #[test]
    fn every_kind_is_found_by_its_name() {
        for kind in <Kind as sea_orm::Iterable>::iter() {
            assert_eq!(Kind::of(kind.as_str()), Some(kind));
        }
        assert_eq!(Kind::of("tenant.forget"), None);
    }
}
