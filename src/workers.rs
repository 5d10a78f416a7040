//! Who does what waits in the database to be done: loops that `serve` runs, in any number of processes side by side.

use std::{
    collections::HashMap,
    error::Error,
    time::{Duration, Instant},
};

use tokio::{
    sync::watch,
    task::{Id, JoinError, JoinHandle, JoinSet},
    time::sleep,
};

use crate::{
    error::ServiceError,
    state::App,
    stop::{self, Stop},
};

/// How long something waits at most, once it is due, if nobody tells of it.
const POLL: Duration = Duration::from_secs(1);

/// Something that waits in the database, leased to who takes it.
pub(crate) trait Queue: Send + Sync + 'static {
    /// One of what waits.
    type Item: Clone + Send + Sync + 'static;
    /// What those are, for the log.
    const ITEMS: &'static str;

    /// How many are done at once.
    fn slots(&self) -> usize;

    /// Takes so many at most.
    fn take(&self, most: u32) -> impl Future<Output = Result<Vec<Self::Item>, ServiceError>> + Send;

    /// Does it, and notes what became of it.
    fn perform(&self, item: Self::Item) -> impl Future<Output = ()> + Send + 'static;

    /// Gives back what did not end in time, for another worker to begin anew. Once: whoever has taken it by the time of
    /// another try would have its number.
    fn hand_back(&self, item: &Self::Item) -> impl Future<Output = ()> + Send;
}

/// The loops that were started.
#[derive(Debug)]
pub struct Workers {
    stop: Stop,
    loops: Vec<JoinHandle<()>>,
}

impl Workers {
    /// Starts one for each of these.
    pub(crate) fn start(app: &App, queues: impl IntoIterator<Item = impl Queue>) -> Self {
        let stop = Stop::new();
        let start = |queue| tokio::spawn(Worker::of(queue, app).run(stop.subscribe()));
        let loops = queues.into_iter().map(start).collect();
        Self { stop, loops }
    }

    /// Has them begin nothing any more. What is under way may go on until `deadline` and is handed back then.
    pub fn stop(&self, deadline: Instant) {
        self.stop.by(deadline);
    }

    /// Does the same, for who has them no more at hand by then; and may do it again with an earlier time.
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

/// One loop and what it has under way.
struct Worker<Q: Queue> {
    queue: Q,
    app: App,
    running: JoinSet<()>,
    held: HashMap<Id, Q::Item>,
    is_failing: bool,
}

impl<Q: Queue> Worker<Q> {
    fn of(queue: Q, app: &App) -> Self {
        Self { queue, app: app.clone(), running: JoinSet::new(), held: HashMap::new(), is_failing: false }
    }

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
                _ = work.changed(), if self.room() > 0 => {}
                () = sleep(POLL), if self.room() > 0 => {}
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

    fn room(&self) -> usize {
        self.queue.slots() - self.running.len()
    }

    /// Takes as many as there is room for, and begins them: a lease must not run out while what it is for waits for a turn.
    async fn take(&mut self) {
        let room = u32::try_from(self.room()).unwrap_or(u32::MAX);
        if room == 0 {
            return;
        }
        let taken = match self.queue.take(room).await {
            Ok(taken) => taken,
            Err(error) => {
                // Once, not each second.
                if !std::mem::replace(&mut self.is_failing, true) {
                    tracing::warn!(error = &error as &dyn Error, "{} cannot be taken", Q::ITEMS);
                }
                return;
            }
        };
        if std::mem::replace(&mut self.is_failing, false) {
            tracing::info!("{} can be taken again", Q::ITEMS);
        }
        for item in taken {
            let task = self.running.spawn(self.queue.perform(item.clone()));
            self.held.insert(task.id(), item);
        }
    }

    fn let_go(&mut self, ended: Result<(Id, ()), JoinError>) {
        self.held.remove(&id(&ended));
        if let Err(error) = ended {
            // What is done is caught; this is the report of it. The lease will run out.
            tracing::error!(%error, "one of the {} broke", Q::ITEMS);
        }
    }

    async fn hand_back(mut self) {
        self.running.abort_all();
        while let Some(ended) = self.running.join_next_with_id().await {
            if ended.is_ok() {
                self.held.remove(&id(&ended));
            }
        }
        tracing::warn!(
            count = self.held.len(),
            "some {} did not end in time and are to be handed back",
            Q::ITEMS
        );
        for item in self.held.values() {
            self.queue.hand_back(item).await;
        }
    }
}

fn id(ended: &Result<(Id, ()), JoinError>) -> Id {
    match ended {
        Ok((id, ())) => *id,
        Err(error) => error.id(),
    }
}
