//! Who does the jobs: loops that `serve` runs, in any number of processes side by side.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tenants::{Kinds, LeasedJob, Outcome};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::sleep,
};
use tracing::Instrument as _;

use super::{LEASE, MAIL, attempt, report, span_of};
use crate::{
    state::App,
    stop::{self, Stop},
};

/// How long a job waits at most, once it is due, if nobody tells of it.
const POLL: Duration = Duration::from_secs(1);
/// Mails at once: a server far away takes a second for one, and ten a second are enough for a wave of sign-ups.
const MAILS: usize = 10;
/// Other jobs at once. They use the database, of which requests are to have most.
const OTHERS: usize = 4;

/// The workers of a process.
#[derive(Debug)]
pub struct Workers {
    stop: Stop,
    loops: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them. Mails have a loop of their own: a mail server that does not answer keeps nothing else waiting.
    #[must_use]
    pub fn start(app: &App) -> Self {
        let stop = Stop::new();
        let start = |kinds, slots| {
            let worker = Worker {
                app: app.clone(),
                kinds,
                slots,
                running: JoinSet::new(),
                held: HashMap::new(),
                is_failing: false,
            };
            tokio::spawn(worker.run(stop.subscribe()))
        };
        let loops = vec![start(Kinds::Only(MAIL), MAILS), start(Kinds::Except(MAIL), OTHERS)];
        Self { stop, loops }
    }

    /// Has them begin nothing any more. What is under way may go on until `deadline` and is handed back then.
    pub fn stop(&self, deadline: Instant) {
        self.stop.by(deadline);
    }

    /// Does the same, for who has it no more at hand by then; and may do it again with an earlier time.
    pub(crate) fn stopping(&self) -> Stop {
        self.stop.clone()
    }

    /// Waits until they have stopped.
    pub async fn finish(self) {
        self.stop.at_last();
        for work in self.loops {
            if let Err(error) = work.await {
                tracing::error!(%error, "a worker broke");
            }
        }
    }
}

/// One loop and the jobs it has under way.
struct Worker {
    app: App,
    kinds: Kinds,
    slots: usize,
    running: JoinSet<()>,
    held: HashMap<Id, LeasedJob>,
    is_failing: bool,
}

impl Worker {
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
        self.running.len() < self.slots
    }

    /// Takes as many jobs as there is room for, and begins them: a lease must not run out while its job waits for a turn.
    async fn take(&mut self) {
        let room = self.slots - self.running.len();
        if room == 0 {
            return;
        }
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let taken = self.app.tenancy.take_jobs(self.kinds, limit, LEASE, self.app.clock.now()).await;
        let jobs = match taken {
            Ok(jobs) => jobs,
            Err(error) => {
                // Once, not each second.
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(error = &error as &dyn std::error::Error, "jobs cannot be taken");
                }
                return;
            }
        };
        if std::mem::replace(&mut self.is_failing, false) {
            tracing::info!("jobs can be taken again");
        }
        for job in jobs {
            let (app, held) = (self.app.clone(), job.clone());
            let span = span_of(&job);
            let work = async move {
                let outcome = attempt(&app, &job).await;
                report(&app, &job, &outcome).await;
            };
            let task = self.running.spawn(work.instrument(span));
            self.held.insert(task.id(), held);
        }
    }

    fn let_go(&mut self, ended: Result<(Id, ()), JoinError>) {
        self.held.remove(&id(&ended));
        if let Err(error) = ended {
            // What a job does is caught; this is the report of it. The lease will run out.
            tracing::error!(%error, "a job broke");
        }
    }

    /// Ends what is under way, for another worker to begin anew.
    async fn hand_back(mut self) {
        self.running.abort_all();
        while let Some(ended) = self.running.join_next_with_id().await {
            if ended.is_ok() {
                self.held.remove(&id(&ended));
            }
        }
        tracing::warn!(jobs = self.held.len(), "some jobs did not end in time and are handed back");
        let reason = "the server was stopped before it was done".to_owned();
        let outcome = Outcome::HandedBack { reason };
        for job in self.held.values() {
            // Once: whoever has taken it by the time of another try would have its number.
            if let Err(error) = self.app.tenancy.finish_job(job, &outcome, self.app.clock.now()).await {
                let _entered = span_of(job).entered();
                let error = &error as &dyn std::error::Error;
                tracing::warn!(error, "a job cannot be handed back: its lease has to run out");
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
