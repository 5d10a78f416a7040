//! How many requests are worked on at once, and how many wait for that.
//!
//! What is beyond both is told at once to come again later. Each request that is only held costs memory, and all of them
//! would be answered after their clients have given up: a process that works on less finishes more.

use std::{
    any::Any,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tenants::WaitList;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Problem;

/// How long a request waits for its turn, as long as one of a tenant that has too many under way: longer than nearly all
/// take, and short enough that a client is told before it gives up.
const WAIT: Duration = Duration::from_secs(1);
/// Of so many parts of all places, one tenant gets one: while it has a storm, others find room. It loses nothing by that,
/// for its own half of a lane has far fewer connections.
const SHARE: usize = 4;

/// The places of a listener.
#[derive(Debug)]
pub struct Places {
    free: Arc<Semaphore>,
    most: usize,
    waiting: WaitList,
}

/// There is no place, nor room to wait for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overloaded;

impl Overloaded {
    /// What the client is told. After a time that is another one for each: those that were refused together do not come
    /// back together.
    #[must_use]
    pub fn problem(self) -> Problem {
        Problem::unavailable(Duration::from_secs(rand::random_range(1..=5)))
    }
}

impl Places {
    /// So many, and half as many for those who wait.
    #[must_use]
    pub fn new(most: usize) -> Arc<Self> {
        let most = most.clamp(1, Semaphore::MAX_PERMITS);
        Arc::new(Self { free: Arc::new(Semaphore::new(most)), most, waiting: WaitList::default() })
    }

    /// A place, at once or after a wait. Whoever came first goes on first.
    ///
    /// # Errors
    /// [`Overloaded`]: at once where too many wait already.
    pub async fn take(self: &Arc<Self>) -> Result<Place, Overloaded> {
        let held = Mutex::new(Some(Held { permit: self.permit().await?, beside: None }));
        Ok(Place(Arc::new(Taken { held, places: Arc::clone(self) })))
    }

    async fn permit(&self) -> Result<OwnedSemaphorePermit, Overloaded> {
        if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
            return Ok(permit);
        }
        let _waiting = self.waiting.join(self.most.div_ceil(2)).ok_or(Overloaded)?;
        let permit = tokio::time::timeout(WAIT, Arc::clone(&self.free).acquire_owned()).await;
        permit.ok().and_then(Result::ok).ok_or(Overloaded)
    }
}

/// The place of one request. It is in the request's extensions too.
#[derive(Clone, Debug)]
pub struct Place(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    held: Mutex<Option<Held>>,
    places: Arc<Places>,
}

#[derive(Debug)]
struct Held {
    #[expect(dead_code, reason = "held, and given back when dropped")]
    permit: OwnedSemaphorePermit,
    beside: Option<Box<dyn Any + Send>>,
}

impl Place {
    /// Gives it up: for who waits for something that is the client's to send, which may be slow on purpose; or for good.
    pub fn leave(&self) {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Takes it again.
    ///
    /// # Errors
    /// As [`Places::take`].
    pub async fn come_back(&self) -> Result<(), Overloaded> {
        let permit = self.0.places.permit().await?;
        *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Held { permit, beside: None });
        Ok(())
    }

    /// Keeps something for as long as the place.
    pub fn keep(&self, beside: impl Any + Send) {
        if let Some(held) = &mut *self.0.held.lock().unwrap_or_else(PoisonError::into_inner) {
            held.beside = Some(Box::new(beside));
        }
    }

    /// How many of these places one tenant may have.
    #[must_use]
    pub fn share(&self) -> u64 {
        u64::try_from(self.0.places.most.div_ceil(SHARE)).unwrap_or(u64::MAX)
    }

    /// Whether half of the places are free: whoever does no work may keep his.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.0.places.free.available_permits() > self.0.places.most / 2
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    #[tokio::test]
    async fn so_many_are_worked_on_half_as_many_wait_and_the_others_are_told_at_once() {
        let places = Places::new(2);
        let first = places.take().await.unwrap();
        let _second = places.take().await.unwrap();
        let mut waits = Box::pin(places.take());
        assert!(poll!(&mut waits).is_pending());
        assert_eq!(places.take().await.unwrap_err(), Overloaded);
        first.leave();
        waits.await.unwrap();
        let refused = Overloaded.problem();
        assert_eq!((refused.status().as_u16(), refused.code()), (503, "service_unavailable"));
    }

    #[tokio::test]
    async fn who_waits_for_his_client_keeps_nobody_else_waiting() {
        let places = Places::new(1);
        let slow = places.take().await.unwrap();
        assert!(!slow.is_calm());
        slow.leave();
        let other = places.take().await.unwrap();
        let mut back = Box::pin(slow.come_back());
        assert!(poll!(&mut back).is_pending());
        other.leave();
        back.await.unwrap();
        assert!(poll!(Box::pin(places.take())).is_pending(), "it is taken again");
    }
}
