//! The time, as an argument.
//!
//! The only module that reads the wall clock: everything else takes the time from a [`Clock`], so that a test can say
//! "ten minutes later" without waiting.
//!
//! The wall clock is read once. From there on a clock runs by itself, whatever is done to that of the machine, and
//! is [set](Clock::set) by the database's, which all processes share: who has which job until when, they have to agree on.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use tenants::Tenancy;
use uuid::{ContextV7, Timestamp, Uuid};

/// How often a clock is compared with the database's. Quartz is off by less than a millisecond in that time; a machine that
/// slept, or a database that moved to a machine whose clock is another, is noticed soon enough.
const COMPARISON: Duration = Duration::from_secs(10);
/// What two clocks may differ without one being set: more than it takes to ask.
const TOLERANCE: TimeDelta = TimeDelta::milliseconds(100);
/// What is worth being told.
const REMARKABLE: TimeDelta = TimeDelta::seconds(2);

/// Tells the time and makes the ids that carry it.
///
/// Clones share both: the time of a fixed clock, and the counter that keeps the ids of one millisecond in order.
#[derive(Clone, Debug)]
pub struct Clock {
    source: Source,
    ids: Arc<Mutex<ContextV7>>,
}

#[derive(Clone, Debug)]
enum Source {
    Running(Arc<Running>),
    /// Microseconds since 1970.
    Fixed(Arc<AtomicI64>),
}

#[derive(Debug)]
struct Running {
    since: Instant,
    /// What time it was then, in microseconds since 1970.
    began: AtomicI64,
}

impl Clock {
    /// A clock that starts with the one on the wall.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
        let now = Utc::now();
        Self::running(now)
    }

    /// A clock that starts at `now`.
    #[must_use]
    pub fn running(now: DateTime<Utc>) -> Self {
        let began = AtomicI64::new(now.timestamp_micros());
        Self::new(Source::Running(Arc::new(Running { since: Instant::now(), began })))
    }

    /// A clock that stands at `now` until it is [advanced](Self::advance).
    #[must_use]
    pub fn fixed(now: DateTime<Utc>) -> Self {
        Self::new(Source::Fixed(Arc::new(AtomicI64::new(now.timestamp_micros()))))
    }

    fn new(source: Source) -> Self {
        Self { source, ids: Arc::default() }
    }

    /// Moves a fixed clock, and all its clones, forward.
    ///
    /// # Panics
    /// On the system's clock, which nobody moves.
    pub fn advance(&self, by: Duration) {
        let Source::Fixed(micros) = &self.source else { panic!("only a fixed clock can be advanced") };
        micros.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }

    /// Moves a clock, and all its clones, to another time.
    pub fn set(&self, to: DateTime<Utc>) {
        let micros = to.timestamp_micros();
        match &self.source {
            Source::Running(running) => {
                running.began.store(micros.saturating_sub(running.elapsed()), Ordering::SeqCst);
            }
            Source::Fixed(fixed) => fixed.store(micros, Ordering::SeqCst),
        }
    }

    /// Sets it by the database's clock, if it differs from that by more than can be told. By how much it did.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn follow(&self, tenancy: &Tenancy) -> Result<TimeDelta, tenants::Error> {
        let asked = Instant::now();
        let told = tenancy.time().await?;
        // It was read half-way between the question and the answer.
        let told = told + asked.elapsed() / 2;
        let ahead = self.now() - told;
        let uncertain = TimeDelta::from_std(asked.elapsed()).unwrap_or(TimeDelta::MAX);
        if ahead.abs() > TOLERANCE.max(uncertain) {
            self.set(told);
            if ahead.abs() > REMARKABLE {
                let seconds = ahead.num_seconds();
                tracing::warn!(seconds, "this clock was ahead of the database's by so much, and is set");
            }
        }
        Ok(ahead)
    }

    /// Does so from time to time, until it is dropped. While the database is away, the clock runs on.
    pub async fn follow_forever(&self, tenancy: &Tenancy) {
        loop {
            tokio::time::sleep(COMPARISON).await;
            if let Err(error) = self.follow(tenancy).await {
                tracing::debug!(%error, "the clock is compared later");
            }
        }
    }

    /// The present time, to the microsecond: as much as PostgreSQL keeps, so that what was written equals what is read.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let micros = match &self.source {
            Source::Running(running) => {
                running.began.load(Ordering::SeqCst).saturating_add(running.elapsed())
            }
            Source::Fixed(micros) => micros.load(Ordering::SeqCst),
        };
        DateTime::from_timestamp_micros(micros).unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// A new id that sorts after every earlier one of this clock, also while the clock stands still or goes back.
    #[must_use]
    pub fn uuid_v7(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        Uuid::new_v7(Timestamp::from_unix(&*self.ids, seconds, now.timestamp_subsec_nanos()))
    }
}

impl Running {
    fn elapsed(&self) -> i64 {
        i64::try_from(self.since.elapsed().as_micros()).unwrap_or(i64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noon() -> DateTime<Utc> {
        "2030-01-02T12:00:00.123456Z".parse().unwrap()
    }

    #[test]
    fn a_fixed_clock_stands_until_it_is_advanced_and_takes_its_clones_along() {
        let clock = Clock::fixed(noon());
        let clone = clock.clone();
        assert_eq!(clone.now(), noon());

        clock.advance(Duration::from_millis(90_500));
        assert_eq!(clone.now(), noon() + TimeDelta::milliseconds(90_500));
    }

    #[test]
    fn times_have_whole_microseconds() {
        assert_eq!(Clock::system().now().timestamp_subsec_nanos() % 1_000, 0);

        let finer = noon() + TimeDelta::nanoseconds(789);
        assert_eq!(Clock::fixed(finer).now(), noon());
    }

    #[test]
    fn a_running_clock_goes_on_from_where_it_is_set_and_takes_its_clones_along() {
        let clock = Clock::running(noon());
        let clone = clock.clone();
        let first = clone.now();
        assert!(first >= noon() && first < noon() + TimeDelta::minutes(1));
        let id = clock.uuid_v7();
        clock.set(noon() - TimeDelta::hours(1));
        let second = clone.now();
        assert!(second >= noon() - TimeDelta::hours(1) && second < noon() - TimeDelta::minutes(59));
        assert!(clock.uuid_v7() > id, "ids go on in their order");
        assert!(clone.now() >= second);
    }

    #[test]
    fn ids_carry_the_time_of_the_clock() {
        let id = Clock::fixed(noon()).uuid_v7();
        let (seconds, nanos) = id.get_timestamp().unwrap().to_unix();
        assert_eq!(id.get_version_num(), 7);
        assert_eq!(i64::try_from(seconds).unwrap(), noon().timestamp());
        assert_eq!(nanos, 123_000_000, "a version 7 id keeps milliseconds");
    }

    #[test]
    fn ids_are_unique_and_in_order_while_time_stands_still() {
        let clock = Clock::fixed(noon());
        let ids: Vec<_> = (0..10_000).map(|_| clock.clone().uuid_v7()).collect();
        assert!(ids.is_sorted_by(|a, b| a < b));

        clock.advance(Duration::from_millis(1));
        assert!(clock.uuid_v7() > ids[ids.len() - 1]);
    }

    #[test]
    fn threads_never_get_the_same_id() {
        let clock = Clock::fixed(noon());
        let mut ids: Vec<Uuid> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..1_000).map(|_| clock.uuid_v7()).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), 4_000);
    }

    #[test]
    #[should_panic = "only a fixed clock"]
    fn nobody_advances_the_wall_clock() {
        Clock::system().advance(Duration::from_secs(1));
    }
}
