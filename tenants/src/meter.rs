//! What this process knows of the use that tenants make of it: what they did since it was last written down, how many
//! requests they may still send, and what is being worked on for them.
//!
//! Every tenant has a meter of its own, which everybody who holds the tenant has at hand: counting is an addition, without
//! a lock and without a look-up. A meter that nobody holds any more goes when it has nothing left to say, so that there
//! are as many as tenants in use.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use uuid::Uuid;

use crate::{limits::Rate, wait_list::WaitList};

/// In how many parts the meters are kept: who looks for one, once a minute and tenant, waits for nobody.
const SHARDS: usize = 16;
/// How many of a tenant's may wait to be worked on, in one process: a browser's own storm, and not one that fills memory.
const MOST_WAITING: usize = 64;
const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// The use of one tenant.
#[derive(Debug, Default)]
pub struct Meter {
    requests: AtomicU64,
    errors: AtomicU64,
    throttled: AtomicU64,
    database_micros: AtomicU64,
    written: AtomicBool,
    /// When the last request that was let through would have come, had they all come at their rate: nanoseconds since 1970.
    arrival: AtomicI64,
    units: Mutex<Option<Units>>,
    waiting: WaitList,
}

/// How many are worked on at once. Another limit makes another one of these; what is under way is counted by the one
/// before to its end.
#[derive(Clone, Debug)]
struct Units {
    most: usize,
    places: Arc<Semaphore>,
}

/// Something that is being worked on, until it is dropped.
#[derive(Debug)]
pub struct Unit(#[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit);

/// Too much is being worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

/// How a request fares with a rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// The rate.
    pub rate: Rate,
    /// How many more would be let through right now.
    pub remaining: u64,
    /// When that many are let through at once again as after a pause.
    pub full_in: Duration,
    /// `None` for one that is let through; else when one will be.
    pub wait: Option<Duration>,
}

impl Meter {
    /// Counts a request.
    pub fn request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that the service failed at.
    pub fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request that was one too many.
    pub fn throttled(&self) {
        self.throttled.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes for how long a connection was held.
    pub(crate) fn held(&self, time: Duration) {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        self.database_micros.fetch_add(micros, Ordering::Relaxed);
    }

    /// Notes that the tenant's rows may be others now.
    pub(crate) fn written(&self) {
        // Most often it is noted already, and then nobody else's copy of the line has to go.
        if !self.written.load(Ordering::Relaxed) {
            self.written.store(true, Ordering::Relaxed);
        }
    }

    /// Lets a request through, or not: a bucket of `burst` tokens into which `per_second` fall, as the generic cell rate
    /// algorithm has it (ITU-T I.371), which keeps one number.
    pub fn turn(&self, rate: Rate, now: DateTime<Utc>) -> Turn {
        let now = now.timestamp_nanos_opt().unwrap_or(i64::MAX / 2);
        let number = |number: u64| i64::try_from(number).unwrap_or(i64::MAX).max(1);
        let interval = NANOS_PER_SECOND / number(rate.per_second);
        let window = interval.saturating_mul(number(rate.burst));
        // No bucket is emptier than empty: not after the rate has changed, nor after the clock was set back.
        let after = |arrival: i64| arrival.clamp(now, now + window) + interval;
        let taken = self.arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |arrival| {
            let next = after(arrival);
            (next - now <= window).then_some(next)
        });
        let nanos = |nanos: i64| Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        match taken {
            Ok(before) => {
                let owed = after(before) - now;
                let remaining = u64::try_from((window - owed) / interval).unwrap_or(0);
                Turn { rate, remaining, full_in: nanos(owed), wait: None }
            }
            Err(arrival) => {
                let owed = after(arrival) - now;
                Turn { rate, remaining: 0, full_in: nanos(owed - interval), wait: Some(nanos(owed - window)) }
            }
        }
    }

    /// Begins to work on something for the tenant, for which so much is worked on at once at most; waits for so long if
    /// that much is. Whoever came first goes on first.
    ///
    /// # Errors
    /// [`Full`], after that time, or at once where too many wait already.
    pub async fn unit(&self, most: Option<u64>, wait: Duration) -> Result<Option<Unit>, Full> {
        let Some(most) = most else { return Ok(None) };
        let places = self.places(usize::try_from(most).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS));
        if let Ok(permit) = Arc::clone(&places).try_acquire_owned() {
            return Ok(Some(Unit(permit)));
        }
        let _waiting = self.waiting.join(MOST_WAITING).ok_or(Full)?;
        match tokio::time::timeout(wait, places.acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Some(Unit(permit))),
            Ok(Err(_)) | Err(_) => Err(Full),
        }
    }

    fn places(&self, most: usize) -> Arc<Semaphore> {
        let mut units = self.units.lock().unwrap_or_else(PoisonError::into_inner);
        match &*units {
            Some(units) if units.most == most => Arc::clone(&units.places),
            _ => {
                let places = Arc::new(Semaphore::new(most));
                *units = Some(Units { most, places: Arc::clone(&places) });
                places
            }
        }
    }

    fn take(&self, tenant: Uuid) -> Counts {
        let count = |counter: &AtomicU64| counter.swap(0, Ordering::Relaxed);
        Counts {
            tenant,
            requests: count(&self.requests),
            errors: count(&self.errors),
            throttled: count(&self.throttled),
            database_micros: count(&self.database_micros),
            written: self.written.swap(false, Ordering::Relaxed),
        }
    }

    fn put_back(&self, counts: &Counts) {
        for (counter, count) in [
            (&self.requests, counts.requests),
            (&self.errors, counts.errors),
            (&self.throttled, counts.throttled),
            (&self.database_micros, counts.database_micros),
        ] {
            counter.fetch_add(count, Ordering::Relaxed);
        }
        self.written.fetch_or(counts.written, Ordering::Relaxed);
    }
}

/// What a tenant did since it was last asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Counts {
    pub(crate) tenant: Uuid,
    pub(crate) requests: u64,
    pub(crate) errors: u64,
    pub(crate) throttled: u64,
    pub(crate) database_micros: u64,
    written: bool,
}

#[cfg(test)]
impl Counts {
    pub(crate) fn of(tenant: Uuid, requests: u64, database_micros: u64) -> Self {
        Self { tenant, requests, database_micros, ..Self::default() }
    }
}

/// The meters of all tenants in use.
#[derive(Debug, Default)]
pub(crate) struct Meters {
    shards: [Mutex<HashMap<Uuid, Arc<Meter>>>; SHARDS],
}

impl Meters {
    fn shard(&self, tenant: Uuid) -> MutexGuard<'_, HashMap<Uuid, Arc<Meter>>> {
        // The last bits of an id are random.
        let [.., last] = *tenant.as_bytes();
        self.shards[usize::from(last) % SHARDS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The tenant's.
    pub(crate) fn of(&self, tenant: Uuid) -> Arc<Meter> {
        Arc::clone(self.shard(tenant).entry(tenant).or_default())
    }

    /// What all tenants did since this was last asked, by id. Forgets who was not here for a while.
    pub(crate) fn take(&self, now: DateTime<Utc>) -> Vec<Counts> {
        let now = now.timestamp_nanos_opt().unwrap_or(i64::MAX);
        let mut all = Vec::new();
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
            shard.retain(|tenant, meter| {
                // Asked first: who lets go of it in between has counted before.
                let in_use = Arc::strong_count(meter) > 1;
                let counts = meter.take(*tenant);
                if counts != (Counts { tenant: *tenant, ..Counts::default() }) {
                    all.push(counts);
                }
                in_use || meter.arrival.load(Ordering::Relaxed) > now
            });
        }
        all.sort_unstable_by_key(|counts| counts.tenant);
        all
    }

    /// Takes back what could not be written down.
    pub(crate) fn put_back(&self, all: &[Counts]) {
        for counts in all {
            self.of(counts.tenant).put_back(counts);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    const NOON: DateTime<Utc> = DateTime::from_timestamp_nanos(1_767_355_445_678_901_000);

    #[test]
    fn a_bucket_is_emptied_at_once_and_filled_at_its_rate() {
        let (meter, rate) = (Meter::default(), Rate { per_second: 4, burst: 3 });
        let left: Vec<_> = (0..3).map(|_| meter.turn(rate, NOON)).collect();
        assert_eq!(left.iter().map(|turn| turn.remaining).collect::<Vec<_>>(), [2, 1, 0]);
        assert!(left.iter().all(|turn| turn.wait.is_none()));
        assert_eq!(left[2].full_in, Duration::from_millis(750));
        let refused = meter.turn(rate, NOON);
        assert_eq!((refused.wait, refused.remaining), (Some(Duration::from_millis(250)), 0));
        assert_eq!(refused.full_in, Duration::from_millis(750));
        // A refusal costs nothing, however often it comes.
        assert_eq!(meter.turn(rate, NOON), refused);
        assert!(meter.turn(rate, NOON + TimeDelta::milliseconds(249)).wait.is_some());
        assert!(meter.turn(rate, NOON + TimeDelta::milliseconds(250)).wait.is_none());
        assert!(meter.turn(rate, NOON + TimeDelta::milliseconds(251)).wait.is_some());
        let later = meter.turn(rate, NOON + TimeDelta::hours(1));
        assert_eq!((later.wait, later.remaining), (None, 2), "it does not overflow");
    }

    #[test]
    fn no_more_than_an_empty_bucket_is_ever_owed() {
        let (meter, rate) = (Meter::default(), Rate { per_second: 1, burst: 10 });
        meter.turn(rate, NOON + TimeDelta::days(1));
        let set_back = meter.turn(rate, NOON);
        assert_eq!(set_back.wait, Some(Duration::from_secs(1)), "the clock was set back by a day");
        let lower = Rate { per_second: 100, burst: 1 };
        assert_eq!(meter.turn(lower, NOON).wait, Some(Duration::from_millis(10)), "by another rate");
    }

    #[tokio::test]
    async fn so_much_is_worked_on_at_once() {
        let (meter, now) = (Meter::default(), Duration::ZERO);
        assert!(matches!(meter.unit(None, now).await, Ok(None)));
        let first = meter.unit(Some(1), now).await.unwrap();
        assert_eq!(meter.unit(Some(1), now).await.unwrap_err(), Full);
        let mut waits = Box::pin(meter.unit(Some(1), Duration::from_hours(1)));
        assert!(futures_util::poll!(&mut waits).is_pending());
        drop(first);
        assert!(waits.await.unwrap().is_some());
        let _held = meter.unit(Some(1), now).await.unwrap();
        assert!(meter.unit(Some(2), now).await.is_ok(), "another limit counts at once");
    }

    #[tokio::test]
    async fn not_everybody_waits() {
        let meter = Meter::default();
        let _held = meter.unit(Some(1), Duration::ZERO).await.unwrap();
        let mut waiting: Vec<_> =
            (0..MOST_WAITING).map(|_| Box::pin(meter.unit(Some(1), Duration::from_hours(1)))).collect();
        for one in &mut waiting {
            assert!(futures_util::poll!(one).is_pending());
        }
        assert_eq!(meter.unit(Some(1), Duration::from_hours(1)).await.unwrap_err(), Full);
        waiting.pop();
        assert!(futures_util::poll!(Box::pin(meter.unit(Some(1), Duration::from_hours(1)))).is_pending());
    }

    #[test]
    fn a_meter_goes_when_it_has_nothing_left_to_say() {
        let (meters, tenant) = (Meters::default(), Uuid::from_u128(7));
        let meter = meters.of(tenant);
        meter.request();
        meter.held(Duration::from_micros(5));
        meter.written();
        let counts = meters.take(NOON);
        let expected = Counts { tenant, requests: 1, database_micros: 5, written: true, ..Counts::default() };
        assert_eq!(counts, [expected]);
        assert_eq!(meters.take(NOON), []);
        meters.put_back(&counts);
        assert_eq!(meters.take(NOON), [expected]);

        meter.turn(Rate { per_second: 1, burst: 1 }, NOON);
        drop(meter);
        meters.take(NOON);
        assert_eq!(meters.shard(tenant).len(), 1, "its bucket is not full");
        meters.take(NOON + TimeDelta::seconds(1));
        assert_eq!(meters.shard(tenant).len(), 0);
    }
}
