//! The only place that reads the wall clock.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use chrono::{DateTime, SubsecRound as _, Utc};
use uuid::{NoContext, Timestamp, Uuid};

/// Where the time comes from: the system, or a test that moves it.
#[derive(Clone, Debug)]
pub struct Clock(Source);

#[derive(Clone, Debug)]
enum Source {
    System,
    Fixed(Arc<Mutex<DateTime<Utc>>>),
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Source::System)
    }

    /// A clock that stands at `now` until [`Clock::advance`] moves it; clones share the time.
    #[must_use]
    pub fn fixed(now: DateTime<Utc>) -> Self {
        Self(Source::Fixed(Arc::new(Mutex::new(now.trunc_subsecs(6)))))
    }

    /// The time, to the microsecond, which is what PostgreSQL keeps.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        match &self.0 {
            #[expect(clippy::disallowed_methods, reason = "this is the clock everything else asks")]
            Source::System => Utc::now().trunc_subsecs(6),
            Source::Fixed(now) => *now.lock().unwrap_or_else(PoisonError::into_inner),
        }
    }

    /// Moves a fixed clock forward; the system's clock can't be moved, so there this does nothing.
    pub fn advance(&self, by: Duration) {
        if let Source::Fixed(now) = &self.0 {
            *now.lock().unwrap_or_else(PoisonError::into_inner) += by;
        }
    }

    /// A new id that sorts by the time of its making.
    #[must_use]
    pub fn uuid_v7(&self) -> Uuid {
        let now = self.now();
        let seconds = u64::try_from(now.timestamp()).unwrap_or_default();
        Uuid::new_v7(Timestamp::from_unix(NoContext, seconds, now.timestamp_subsec_nanos()))
    }
}
