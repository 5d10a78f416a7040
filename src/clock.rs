//! The time, as an argument.
//!
//! The only module that reads the wall clock: everything else takes the time from a [`Clock`], so that a test can say
//! "ten minutes later" without waiting.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use uuid::{ContextV7, Timestamp, Uuid};

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
    System,
    /// Microseconds since 1970.
    Fixed(Arc<AtomicI64>),
}

impl Clock {
    /// The clock on the wall.
    #[must_use]
    pub fn system() -> Self {
        Self::new(Source::System)
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

    /// The present time, to the microsecond: as much as PostgreSQL keeps, so that what was written equals what is read.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.source {
            Source::System => {
                #[expect(clippy::disallowed_methods, reason = "this is the place that reads the wall clock")]
                let now = Utc::now();
                now.trunc_subsecs(6)
            }
            Source::Fixed(micros) => DateTime::from_timestamp_micros(micros.load(Ordering::SeqCst))
                .unwrap_or(DateTime::<Utc>::MAX_UTC),
        }
    }

    /// A new id that sorts after every earlier one of this clock, also while the clock stands still or goes back.
    #[must_use]
    pub fn uuid_v7(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or(0);
        Uuid::new_v7(Timestamp::from_unix(&*self.ids, seconds, now.timestamp_subsec_nanos()))
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

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
