//! How patient a run is, and how far it is.

use std::time::Duration;

use super::Run;

/// Which items of a run are worked on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Those it has not come to yet.
    Pending,
    /// Those that failed.
    Failed,
}

impl Pass {
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Failed => "failed",
        }
    }
}

/// How patient a run is with a tenant whose tables are in use, or which meets another transaction.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// How long a statement waits for a lock. Whoever comes to the table meanwhile waits behind it.
    pub lock_timeout: Duration,
    /// How often a tenant is tried.
    pub attempts: u32,
    /// How long it is left alone after the first attempt; each further one doubles it.
    pub first_pause: Duration,
    /// The longest that it is.
    pub longest_pause: Duration,
}

impl Default for Pace {
    /// Some 40 seconds in all: longer than a statement of a tenant may take.
    fn default() -> Self {
        Self {
            lock_timeout: Duration::from_millis(300),
            attempts: 10,
            first_pause: Duration::from_millis(250),
            longest_pause: Duration::from_secs(8),
        }
    }
}

impl Pace {
    /// Different ones for those that failed together: what they met is often each other.
    pub(super) fn pause(&self, tries: u32) -> Duration {
        let doubled = self.first_pause.saturating_mul(1 << (tries.saturating_sub(1)).min(16));
        doubled.min(self.longest_pause).mul_f64(rand::random_range(0.5..=1.0))
    }
}

/// How far a run is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// How many tenants it is for.
    pub total: u64,
    /// How many are migrated.
    pub done: u64,
    /// How many failed.
    pub failed: u64,
    /// How many had nothing left to do, or are gone.
    pub skipped: u64,
}

impl Figures {
    /// Those of a run.
    #[must_use]
    pub fn of(run: &Run) -> Self {
        let [total, done, failed, skipped] =
            [run.total, run.done, run.failed, run.skipped].map(|number| u64::try_from(number).unwrap_or(0));
        Self { total, done, failed, skipped }
    }

    /// How many it has come to.
    #[must_use]
    pub fn tried(&self) -> u64 {
        self.done + self.failed + self.skipped
    }
}
