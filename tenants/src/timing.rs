//! How long something takes: counted in buckets, without a lock, so that it can be done at every request.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper bounds of the buckets in microseconds: from what a remembered binding takes to what nobody waits for. One row
/// for everything that is timed, so that one figure can be laid over another.
const BOUNDS: [u64; 15] = [
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000,
];
/// As many as there are bounds, and one for what took longer.
const BUCKETS: usize = BOUNDS.len() + 1;

/// How long things took since the process began.
#[derive(Debug, Default)]
pub struct Timing {
    counts: [AtomicU64; BUCKETS],
    nanos: AtomicU64,
}

/// A look at a [`Timing`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TimingFigures {
    counts: [u64; BUCKETS],
    nanos: u64,
}

impl Timing {
    /// Counts something that took this long.
    pub fn note(&self, time: Duration) {
        let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let bucket = BOUNDS.partition_point(|bound| bound * 1_000 < nanos);
        self.counts[bucket].fetch_add(1, Ordering::Relaxed);
        self.nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn figures(&self) -> TimingFigures {
        TimingFigures {
            counts: std::array::from_fn(|bucket| self.counts[bucket].load(Ordering::Relaxed)),
            nanos: self.nanos.load(Ordering::Relaxed),
        }
    }
}

impl TimingFigures {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// How long they took together.
    #[must_use]
    pub fn total(&self) -> Duration {
        Duration::from_nanos(self.nanos)
    }

    /// The upper bound of each bucket in seconds, the last one infinite, and how many fell into it and not into one before.
    #[must_use]
    pub fn buckets(&self) -> [(f64, u64); BUCKETS] {
        std::array::from_fn(|bucket| {
            let bound = BOUNDS.get(bucket);
            let seconds = bound.map_or(f64::INFINITY, |micros| Duration::from_micros(*micros).as_secs_f64());
            (seconds, self.counts[bucket])
        })
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|bucket| self.counts[bucket] + other.counts[bucket]),
            nanos: self.nanos + other.nanos,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let timing = Timing::default();
        for micros in [0, 250, 251, 10_000_000, 10_000_001] {
            timing.note(Duration::from_micros(micros));
        }
        let figures = timing.figures();
        let filled: Vec<_> = figures.buckets().into_iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(filled, [(0.000_25, 2), (0.000_5, 1), (10.0, 1), (f64::INFINITY, 1)]);
        assert_eq!((figures.count(), figures.total()), (5, Duration::from_micros(20_000_502)));
        assert_eq!(figures.plus(&figures).count(), 10);
    }
}
