//! Which connections wait for a request, and since when: where there is no room for another one, the one that waits longest
//! has to go.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, watch},
    time::sleep_until,
};

/// How long a connection waits at least until it may have to go: the last of an answer may still be on its way.
const SETTLED: Duration = Duration::from_secs(1);

/// The connections that wait, in the order in which they began to.
#[derive(Debug, Default)]
pub(super) struct Idle {
    waiting: Mutex<Waiting>,
    came: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    next: u64,
    places: BTreeMap<u64, (Instant, Arc<Notify>)>,
}

impl Idle {
    /// Sends away the connection that waits longest, as soon as there is one.
    pub(super) async fn dismiss(&self) {
        loop {
            let came = self.came.notified();
            let longest = self.lock().places.values().next().map(|(since, _)| *since);
            match longest {
                None => came.await,
                Some(since) if since.elapsed() < SETTLED => sleep_until((since + SETTLED).into()).await,
                Some(_) => {
                    if let Some((_, (_, dismissed))) = self.lock().places.pop_first() {
                        dismissed.notify_one();
                        return;
                    }
                }
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection, which waits or is at a request.
#[derive(Debug)]
pub(super) struct Presence {
    idle: Arc<Idle>,
    /// Its place among those that wait, which it may have lost.
    place: Mutex<Option<u64>>,
    dismissed: Arc<Notify>,
    asked: watch::Sender<bool>,
}

impl Presence {
    /// One that waits.
    pub(super) fn new(idle: Arc<Idle>) -> Self {
        let presence = Self {
            idle,
            place: Mutex::default(),
            dismissed: Arc::default(),
            asked: watch::Sender::new(false),
        };
        presence.rest();
        presence
    }

    /// It is at a request until this is dropped.
    pub(super) fn work(self: Arc<Self>) -> AtWork {
        self.rise();
        self.asked.send_replace(true);
        AtWork(self)
    }

    /// Whether a request has ever come.
    pub(super) fn has_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Ends when a first request has come.
    pub(super) async fn asked(&self) {
        // It fails when there is nobody left to say so, and that is this.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// Ends when it has to go.
    pub(super) async fn dismissed(&self) {
        loop {
            self.dismissed.notified().await;
            let place = *self.place();
            // It may have been at a request by then.
            if place.is_some_and(|place| !self.idle.lock().places.contains_key(&place)) {
                return;
            }
        }
    }

    fn rest(&self) {
        let mut waiting = self.idle.lock();
        let place = waiting.next;
        waiting.next += 1;
        waiting.places.insert(place, (Instant::now(), Arc::clone(&self.dismissed)));
        drop(waiting);
        *self.place() = Some(place);
        self.idle.came.notify_one();
    }

    fn rise(&self) {
        if let Some(place) = self.place().take() {
            self.idle.lock().places.remove(&place);
        }
    }

    fn place(&self) -> MutexGuard<'_, Option<u64>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        self.rise();
    }
}

/// A connection that is at a request.
#[derive(Debug)]
pub(super) struct AtWork(Arc<Presence>);

impl Drop for AtWork {
    fn drop(&mut self) {
        self.0.rest();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn who_waits_longest_goes_first_and_who_is_at_work_stays() {
        let idle = Arc::<Idle>::default();
        let [one, two, three] = std::array::from_fn(|_| Arc::new(Presence::new(Arc::clone(&idle))));
        assert!(idle.dismiss().now_or_never().is_none(), "none of them has waited for long");
        let at_work = Arc::clone(&one).work();
        assert!(one.has_asked() && !two.has_asked());
        idle.dismiss().await;
        two.dismissed().await;
        assert!(one.dismissed().now_or_never().is_none() && three.dismissed().now_or_never().is_none());
        drop((two, at_work));
        idle.dismiss().await;
        three.dismissed().await;
        drop(three);
        idle.dismiss().await;
        // A request has come in the meantime.
        let at_work = Arc::clone(&one).work();
        assert!(one.dismissed().now_or_never().is_none());
        drop((at_work, one));
        assert!(idle.lock().places.is_empty(), "who is gone is forgotten");
    }
}
