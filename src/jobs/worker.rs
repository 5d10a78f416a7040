//! Who does the jobs: loops that `serve` runs, in any number of processes side by side.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tenants::{Kinds, LeasedJob, Outcome};
use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::{sleep, timeout_at},
};
use tracing::Instrument as _;

use super::{LEASE, MAIL, attempt, report, span_of};
use crate::state::App;

/// How long a job waits at most, once it is due, if nobody tells of it.
const POLL: Duration = Duration::from_secs(1);
/// Mails at once: a server far away takes a second for one, and ten a second are enough for a wave of sign-ups.
const MAILS: usize = 10;
/// Other jobs at once. They use the database, of which requests are to have most.
const OTHERS: usize = 4;

/// The workers of a process.
#[derive(Debug)]
pub struct Workers {
    stop: watch::Sender<Option<Instant>>,
    loops: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts them. Mails have a loop of their own: a mail server that does not answer keeps nothing else waiting.
    #[must_use]
    pub fn start(app: &App) -> Self {
        let stop = watch::Sender::new(None);
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
        self.stop.send_replace(Some(deadline));
    }

    /// Waits until they have stopped.
    pub async fn finish(self) {
        self.stop.send_if_modified(|stop| {
            let running = stop.is_none();
            *stop = stop.or(Some(Instant::now()));
            running
        });
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
        let deadline = loop {
            if let Some(deadline) = *stop.borrow_and_update() {
                break deadline;
            }
            // Woken for what comes from here on: what is there already is taken now.
            work.mark_unchanged();
            self.take().await;
            tokio::select! {
                changed = stop.changed() => if changed.is_err() {
                    // Nobody is left to stop it, or to wait for it.
                    break Instant::now();
                },
                Some(ended) = self.running.join_next_with_id() => self.let_go(ended),
                _ = work.changed(), if self.has_room() => {}
                () = sleep(POLL), if self.has_room() => {}
            }
        };
        let drained = async {
            while let Some(ended) = self.running.join_next_with_id().await {
                self.held.remove(&id(&ended));
            }
        };
        if timeout_at(deadline.into(), drained).await.is_err() {
            self.hand_back().await;
        }
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
        for job in self.held.values() {
            let at = self.app.clock.now();
            let outcome =
                Outcome::Retry { at, error: "the server was stopped before it was done".to_owned() };
            report(&self.app, job, &outcome).instrument(span_of(job)).await;
        }
    }
}

fn id(ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}
