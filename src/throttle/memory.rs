//! What one process remembers by itself of what happened too often.

use std::{
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use moka::sync::Cache;
use sha2::{Digest as _, Sha256};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::Limit;

/// Whose attempts are remembered at once; some 200 bytes each. Who was not seen for the longest time is forgotten for
/// another.
const REMEMBERED: u64 = 50_000;

type Hits = Arc<Mutex<Vec<DateTime<Utc>>>>;

/// Attempts by whose they are, a network's or a user's, bounded in number and time.
#[derive(Debug)]
pub struct Memory<K: Eq + Hash + Send + Sync + 'static> {
    limit: Limit,
    hits: Cache<K, Hits>,
}

impl<K: Copy + Eq + Hash + Send + Sync + 'static> Memory<K> {
    pub(super) fn new(limit: Limit) -> Self {
        let idle = limit.rule.memory().to_std().unwrap_or(Duration::MAX);
        Self { limit, hits: Cache::builder().max_capacity(REMEMBERED).time_to_idle(idle).build() }
    }

    /// How long the next attempt has to wait, if it has to.
    #[must_use]
    pub fn wait(&self, whose: K, now: DateTime<Utc>) -> Option<TimeDelta> {
        let hits = self.hits.get(&whose)?;
        let mut hits = self.counting(&hits, now).clone();
        hits.push(now);
        self.limit.rule.wait(&hits, now)
    }

    /// Remembers an attempt.
    pub fn note(&self, whose: K, now: DateTime<Utc>) {
        let hits = self.hits.get_with(whose, Hits::default);
        self.counting(&hits, now).push(now);
    }

    /// Those that count; the others are forgotten.
    fn counting<'a>(&self, hits: &'a Hits, now: DateTime<Utc>) -> MutexGuard<'a, Vec<DateTime<Utc>>> {
        let since = now - self.limit.rule.memory();
        let mut hits = hits.lock().unwrap_or_else(PoisonError::into_inner);
        hits.retain(|hit| *hit > since);
        hits
    }
}

/// Who does something at once with others of the same kind: so many, and the others wait.
#[derive(Debug)]
pub struct Turns {
    at_once: usize,
    /// By a hash of the kind: a client chooses what it says, and how long that is.
    places: Cache<[u8; 32], Arc<Semaphore>>,
}

impl Turns {
    pub(super) fn new(at_once: usize) -> Self {
        let idle = Duration::from_mins(1);
        Self { at_once, places: Cache::builder().max_capacity(REMEMBERED).time_to_idle(idle).build() }
    }

    /// Waits for a place among those of this kind. It is free again when what is returned is dropped.
    pub async fn wait(&self, kind: &str) -> Option<OwnedSemaphorePermit> {
        let places =
            self.places.get_with(Sha256::digest(kind).into(), || Arc::new(Semaphore::new(self.at_once)));
        // Nobody closes it.
        places.acquire_owned().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_remembered_of_a_kind_is_no_longer_than_any_other() {
        let turns = Turns::new(1);
        let _turn = turns.wait(&"x".repeat(1 << 20)).await;
        let lengths: Vec<usize> = turns.places.iter().map(|(kind, _)| kind.len()).collect();
        assert_eq!(lengths, [32]);
    }
}
