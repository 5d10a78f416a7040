//! How often what was done came out how, and how long it took.

use std::{
    marker::PhantomData,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use tenants::{Timing, TimingFigures};

/// What it is called that nobody has a name for: work of a kind that only a later program knows.
pub(super) const OTHER: &str = "other";

/// How something came out.
pub trait Outcome: Copy + 'static {
    /// All there are, by their number.
    const NAMES: &'static [&'static str];

    /// Which of them.
    fn number(self) -> usize;
}

macro_rules! outcomes {
    ($(#[$doc:meta])* $name:ident { $($(#[$of:meta])* $variant:ident = $text:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$of])* $variant,)*
        }

        impl Outcome for $name {
            const NAMES: &'static [&'static str] = &[$($text),*];

            fn number(self) -> usize {
                self as usize
            }
        }
    };
}

outcomes! {
    /// What became of an attempt at a job.
    JobOutcome {
        /// It is done.
        Done = "done",
        /// It failed, and is tried again.
        Retried = "retried",
        /// It was not its turn.
        PutOff = "put_off",
        /// The process was stopped meanwhile.
        HandedBack = "handed_back",
        /// It failed for good.
        Parked = "parked",
    }
}

outcomes! {
    /// What became of an attempt to deliver a mail.
    MailOutcome {
        /// The server took it.
        Sent = "sent",
        /// It may go out later.
        Retried = "retried",
        /// It will never go out.
        Refused = "refused",
    }
}

outcomes! {
    /// What became of an attempt at an operation.
    OperationOutcome {
        /// It is done.
        Succeeded = "succeeded",
        /// It failed, and is begun again.
        Retried = "retried",
        /// The process was stopped meanwhile.
        HandedBack = "handed_back",
        /// It failed for good.
        Failed = "failed",
    }
}

outcomes! {
    /// Why a request was one too many.
    Refusal {
        /// There were more in a second than the tenant may send.
        Rate = "tenant_rate",
        /// There were more at once than are worked on for the tenant.
        Concurrency = "tenant_concurrency",
        /// There were more than the process works on, and too many who waited for that.
        Overload = "overload",
    }
}

/// Counts outcomes by kind of work. The kinds are known from the beginning, so there are never more figures.
#[derive(Debug)]
pub struct Tally<O> {
    kinds: Vec<Kind>,
    of: PhantomData<fn(O)>,
}

#[derive(Debug)]
struct Kind {
    name: String,
    outcomes: Vec<AtomicU64>,
    time: Timing,
}

impl<O: Outcome> Tally<O> {
    /// One for these kinds, and for any other.
    #[must_use]
    pub fn of(kinds: &[&str]) -> Self {
        let kind = |name: &&str| Kind {
            name: (*name).to_owned(),
            outcomes: O::NAMES.iter().map(|_| AtomicU64::default()).collect(),
            time: Timing::default(),
        };
        Self { kinds: kinds.iter().chain([&OTHER]).map(kind).collect(), of: PhantomData }
    }

    /// Notes that work of this kind came out so, after this time.
    pub fn note(&self, kind: &str, outcome: O, time: Duration) {
        if let Some(kind) = self.kind(kind) {
            kind.outcomes[outcome.number()].fetch_add(1, Ordering::Relaxed);
            kind.time.note(time);
        }
    }

    /// Notes one that took no time worth telling, where there is one kind only.
    pub fn count(&self, outcome: O) {
        self.note(OTHER, outcome, Duration::ZERO);
    }

    fn kind(&self, name: &str) -> Option<&Kind> {
        self.kinds.iter().find(|kind| kind.name == name).or_else(|| self.kinds.last())
    }

    /// Each kind with each outcome, and how often that was.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&str, &'static str, u64)> {
        self.kinds.iter().flat_map(|kind| {
            let counts = O::NAMES.iter().zip(&kind.outcomes);
            counts.map(|(outcome, count)| (kind.name.as_str(), *outcome, count.load(Ordering::Relaxed)))
        })
    }

    /// Each kind, and how long it took.
    pub(super) fn times(&self) -> impl Iterator<Item = (&str, TimingFigures)> {
        self.kinds.iter().map(|kind| (kind.name.as_str(), kind.time.figures()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_nobody_knows_is_another_and_makes_no_figure_of_its_own() {
        let tally = Tally::of(&["mail"]);
        for kind in ["mail", "carrier pigeon", "mail", ""] {
            tally.note(kind, JobOutcome::Done, Duration::from_millis(3));
        }
        tally.note("mail", JobOutcome::Parked, Duration::ZERO);
        let counts: Vec<_> = tally.counts().filter(|(.., count)| *count > 0).collect();
        assert_eq!(counts, [("mail", "done", 2), ("mail", "parked", 1), ("other", "done", 2)]);
        assert_eq!(tally.counts().count(), 10);
        assert_eq!(tally.times().map(|(_, time)| time.count()).collect::<Vec<_>>(), [3, 2]);
    }
}
