//! Who does the operations: a loop that `serve` runs, in any number of processes side by side, or a command for itself.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use tenants::Ended;
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::sleep,
};
use tracing::Instrument as _;
use uuid::Uuid;

use super::{Failure, Kind, Operation, OperationError, Progress};
use crate::{
    error::ServiceError,
    metrics::OperationOutcome,
    state::App,
    stop::{self, Stop},
};

/// For how long an attempt has the operation to itself without saying so again: as long one waits whose process was killed.
pub(super) const LEASE: Duration = Duration::from_mins(1);
/// How often it says so: five of these may fail in a row.
pub(super) const RENEWAL: Duration = Duration::from_secs(10);
/// How long an operation waits at most if nobody tells of it.
const POLL: Duration = Duration::from_secs(1);
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

/// The loop of a process.
#[derive(Debug)]
pub struct Runners {
    stop: Stop,
    work: JoinHandle<()>,
}

impl Runners {
    /// Starts it.
    #[must_use]
    pub fn start(app: &App) -> Self {
        let stop = Stop::new();
        let runner =
            Runner { app: app.clone(), running: JoinSet::new(), held: HashMap::new(), is_failing: false };
        let work = tokio::spawn(runner.run(stop.subscribe()));
        Self { stop, work }
    }

    /// Has it begin nothing any more. What is under way may go on until `deadline` and is handed back then.
    pub fn stop(&self, deadline: Instant) {
        self.stop.by(deadline);
    }

    /// Does the same, for who has it no more at hand by then; and may do it again with an earlier time.
    pub(crate) fn stopping(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits until it has stopped.
    pub async fn finish(self) {
        self.stop.at_last();
        if let Err(error) = self.work.await {
            tracing::error!(%error, "the loop of operations broke");
        }
    }
}

struct Runner {
    app: App,
    running: JoinSet<()>,
    held: HashMap<Id, Progress>,
    is_failing: bool,
}

impl Runner {
    async fn run(mut self, mut stop: watch::Receiver<Option<Instant>>) {
        let mut work = self.app.work();
        while stop.borrow_and_update().is_none() {
            // Woken for what comes from here on: what is there already is taken now.
            work.mark_unchanged();
            tokio::select! {
                () = self.take() => {}
                () = stop::overdue(&stop) => break,
            }
            tokio::select! {
                changed = stop.changed() => if changed.is_err() {
                    // Nobody is left to stop it, or to wait for it.
                    break;
                },
                Some(ended) = self.running.join_next_with_id() => self.let_go(ended),
                _ = work.changed(), if self.has_room() => {}
                () = sleep(POLL), if self.has_room() => {}
            }
        }
        loop {
            tokio::select! {
                ended = self.running.join_next_with_id() => match ended {
                    Some(ended) => self.let_go(ended),
                    None => return,
                },
                () = stop::passed(&mut stop) => break,
            }
        }
        self.hand_back().await;
    }

    fn has_room(&self) -> bool {
        self.running.len() < SLOTS
    }

    async fn take(&mut self) {
        let room = u32::try_from(SLOTS - self.running.len()).unwrap_or(0);
        if room == 0 {
            return;
        }
        let taken = match take(&self.app, room).await {
            Ok(taken) => taken,
            Err(error) => {
                // Once, not each second.
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "operations cannot be taken");
                }
                return;
            }
        };
        self.is_failing = false;
        for operation in taken {
            let (app, progress) = (self.app.clone(), Progress::of(operation));
            let held = progress.clone();
            let task = self.running.spawn(async move { perform(&app, &progress).await });
            self.held.insert(task.id(), held);
        }
    }

    fn let_go(&mut self, ended: Result<(Id, ()), JoinError>) {
        self.held.remove(&id(&ended));
        if let Err(error) = ended {
            // What an operation does is caught; this is the report of it. The lease will run out.
            tracing::error!(%error, "an operation broke");
        }
    }

    /// Ends what is under way, for another process to begin anew.
    async fn hand_back(mut self) {
        self.running.abort_all();
        while let Some(ended) = self.running.join_next_with_id().await {
            if ended.is_ok() {
                self.held.remove(&id(&ended));
            }
        }
        let error = "the server was stopped before it was done".to_owned();
        let ended = Ended::HandedBack { error };
        for progress in self.held.values() {
            let (measure, now) = (progress.measure(), self.app.clock.now());
            // Once: whoever has taken it by the time of another try would have its number.
            let noted = self.app.tenancy.end_operation(progress.attempt(), measure, &ended, now).await;
            let _entered = span_of(progress.operation()).entered();
            match noted {
                Ok(_) => tracing::warn!("an operation did not end in time and is handed back"),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::warn!(error, "an operation cannot be handed back: its lease has to run out");
                }
            }
        }
    }
}

fn id(ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}

async fn take(app: &App, limit: u32) -> Result<Vec<Operation>, ServiceError> {
    let kinds: Vec<&str> = <Kind as sea_orm::Iterable>::iter().map(Kind::as_str).collect();
    Ok(app.tenancy.take_operations(&kinds, limit, LEASE, app.clock.now()).await?)
}

/// Takes what nobody is at, and does it, one after another; how many those were. For those who want it done now; else it is
/// for [`Runners`].
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
