//! What a pool counts and tells of itself.

use std::{
    iter::Sum,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use crate::{
    connection::Bound,
    timing::{Timing, TimingFigures},
    touched::{Touched, TouchedFigures},
    wait_list::WaitList,
};

/// What a pool did since it was made, and what it does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct PoolFigures {
    /// Connections opened.
    pub opened: u64,
    /// Checkouts that bound a new connection.
    pub bound: u64,
    /// Checkouts that bound a connection anew, because it was bound otherwise, or had been idle.
    pub rebound: u64,
    /// Checkouts of a connection that was bound already: no round trip.
    pub reused: u64,
    /// Connections closed because of their age, or of how often they were used.
    pub retired: u64,
    /// Connections closed because an exchange on them was cut short or failed.
    pub closed_unfinished: u64,
    /// Connections that could not be opened.
    pub failed: u64,
    /// Callers who were told at once that the server is not there, because it had not been there a moment ago.
    pub refused: u64,
    /// Whether the last connection that was to be opened could not be.
    pub is_down: bool,
    /// Connections open now.
    pub open: usize,
    /// Callers waiting for one now.
    pub waiting: usize,
}

impl Sum for PoolFigures {
    fn sum<I: Iterator<Item = Self>>(pools: I) -> Self {
        pools.fold(Self::default(), |sum, pool| Self {
            opened: sum.opened + pool.opened,
            bound: sum.bound + pool.bound,
            rebound: sum.rebound + pool.rebound,
            reused: sum.reused + pool.reused,
            retired: sum.retired + pool.retired,
            closed_unfinished: sum.closed_unfinished + pool.closed_unfinished,
            failed: sum.failed + pool.failed,
            refused: sum.refused + pool.refused,
            is_down: sum.is_down || pool.is_down,
            open: sum.open + pool.open,
            waiting: sum.waiting + pool.waiting,
        })
    }
}

/// How long a pool's callers waited, and how long they held what they got.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolTimings {
    /// Waiting for the right to a connection.
    pub wait: TimingFigures,
    /// Holding one for a statement that reads.
    pub read: TimingFigures,
    /// Holding one for a statement that may write.
    pub write: TimingFigures,
    /// Holding one for a transaction.
    pub transaction: TimingFigures,
}

/// A pool, for whoever watches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolReport {
    /// `lane_0` and so on, `catalog`, `owner` or `bulk`.
    pub name: String,
    /// The most connections it opens.
    pub size: usize,
    /// What it did and does.
    pub figures: PoolFigures,
    /// How long that took.
    pub timings: PoolTimings,
    /// How many tenants its open connections have seen.
    pub touched: TouchedFigures,
}

/// What a connection was checked out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// One statement that only reads.
    Read,
    /// One statement that may change something.
    Write,
    /// A transaction: from its beginning to its end, whatever is done meanwhile.
    Transaction,
}

/// What a pool counts.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) opened: AtomicU64,
    bound: AtomicU64,
    rebound: AtomicU64,
    reused: AtomicU64,
    pub(crate) retired: AtomicU64,
    pub(crate) closed_unfinished: AtomicU64,
    pub(crate) failed: AtomicU64,
    pub(crate) refused: AtomicU64,
    /// The places that there were so far.
    pub(crate) places: AtomicU64,
    pub(crate) open: AtomicUsize,
    pub(crate) waiting: WaitList,
    pub(crate) wait: Timing,
    read: Timing,
    write: Timing,
    transaction: Timing,
    pub(crate) touched: Touched,
}

impl Counters {
    /// Notes a connection that was bound.
    pub(crate) fn note(&self, bound: Bound, used_before: bool) {
        let counter = match bound {
            Bound::Remembered => &self.reused,
            Bound::Anew if used_before => &self.rebound,
            Bound::Anew => &self.bound,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    /// Notes for how long one was held.
    pub(crate) fn held(&self, work: Work, time: Duration) {
        let timing = match work {
            Work::Read => &self.read,
            Work::Write => &self.write,
            Work::Transaction => &self.transaction,
        };
        timing.note(time);
    }

    pub(crate) fn figures(&self, is_down: bool) -> PoolFigures {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        PoolFigures {
            opened: count(&self.opened),
            bound: count(&self.bound),
            rebound: count(&self.rebound),
            reused: count(&self.reused),
            retired: count(&self.retired),
            closed_unfinished: count(&self.closed_unfinished),
            failed: count(&self.failed),
            refused: count(&self.refused),
            is_down,
            open: self.open.load(Ordering::Relaxed),
            waiting: self.waiting.count(),
        }
    }

    pub(crate) fn timings(&self) -> PoolTimings {
        PoolTimings {
            wait: self.wait.figures(),
            read: self.read.figures(),
            write: self.write.figures(),
            transaction: self.transaction.figures(),
        }
    }
}
