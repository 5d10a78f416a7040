//! How often is too often.

use chrono::{DateTime, TimeDelta, Utc};

/// How often something may be attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// What is attempted: attempts under one name are counted together.
    pub name: &'static str,
    /// How often.
    pub rule: Rule,
}

/// How often is too often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// So many within any such time.
    AtMost {
        /// How many.
        count: usize,
        /// Within which time.
        within: TimeDelta,
    },
    /// Once there were so many within such a time, each waits twice as long for the next. What is older than
    /// an hour does not count.
    Slower {
        /// How many.
        after: usize,
        /// Within which time.
        within: TimeDelta,
        /// The first delay.
        first: TimeDelta,
        /// No delay is longer.
        longest: TimeDelta,
    },
}

/// How much later it may be in another process: more than the clocks of two ever differ.
const SKEW: TimeDelta = TimeDelta::minutes(1);
/// When a failure is forgiven.
const FORGIVEN: TimeDelta = TimeDelta::hours(1);

impl Rule {
    /// For how long an attempt counts.
    #[must_use]
    pub fn memory(&self) -> TimeDelta {
        match self {
            Self::AtMost { within, .. } => *within,
            Self::Slower { .. } => FORGIVEN,
        }
    }

    /// How long the latest of these attempts should have waited; `None` if it may go ahead. Oldest first; the latest is
    /// the one in question.
    #[must_use]
    pub fn wait(&self, hits: &[DateTime<Utc>], now: DateTime<Utc>) -> Option<TimeDelta> {
        // Those of before the clock was set back would shut people out until it is that late again.
        let known: Vec<_> = hits.iter().copied().filter(|hit| *hit <= now + SKEW).collect();
        let (_, before) = known.split_last()?;
        match *self {
            Self::AtMost { count, within } => {
                let first_in_the_way = before.len().checked_sub(count)?;
                Some(before[first_in_the_way] + within - now)
            }
            Self::Slower { after, within, first, longest } => {
                let burst = before.windows(after).position(|some| some[after - 1] - some[0] <= within)?;
                let doublings = before.len() - (burst + after);
                let delay = (0..doublings).try_fold(first, |delay, _| {
                    let next = delay * 2;
                    (next < longest).then_some(next)
                });
                let wait = *before.last()? + delay.unwrap_or(longest) - now;
                (wait > TimeDelta::zero()).then_some(wait)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SLOWER: Rule = Rule::Slower {
        after: 3,
        within: TimeDelta::seconds(10),
        first: TimeDelta::seconds(15),
        longest: TimeDelta::seconds(50),
    };
    const AT_MOST: Rule = Rule::AtMost { count: 2, within: TimeDelta::seconds(60) };

    /// What the last of these attempts, so many seconds after the first, is told.
    fn wait(rule: Rule, seconds: &[i64]) -> Option<i64> {
        let start = DateTime::UNIX_EPOCH;
        let hits: Vec<_> = seconds.iter().map(|second| start + TimeDelta::seconds(*second)).collect();
        rule.wait(&hits, *hits.last().unwrap()).map(|wait| wait.num_seconds())
    }

    #[test]
    fn so_many_are_let_through_until_the_first_is_forgotten() {
        assert_eq!(wait(AT_MOST, &[0]), None);
        assert_eq!(wait(AT_MOST, &[0, 1]), None);
        assert_eq!(wait(AT_MOST, &[0, 20, 20]), Some(40));
        // Of four at once, the second has to be forgotten before there is room for one.
        assert_eq!(wait(AT_MOST, &[0, 10, 20, 30]), Some(40));
    }

    #[test]
    fn each_failure_after_a_burst_doubles_the_delay_up_to_the_longest() {
        assert_eq!(wait(SLOWER, &[0, 1, 2]), None);
        assert_eq!(wait(SLOWER, &[0, 1, 2, 3]), Some(14));
        assert_eq!(wait(SLOWER, &[0, 1, 2, 17]), None);
        assert_eq!(wait(SLOWER, &[0, 1, 2, 17, 18]), Some(29));
        assert_eq!(wait(SLOWER, &[0, 1, 2, 17, 47, 48]), Some(49));
        assert_eq!(wait(SLOWER, &[0, 1, 2, 17, 47, 97, 97]), Some(50));
        assert_eq!(wait(SLOWER, &[0, 1, 2, 17, 47, 97, 147]), None);
    }

    #[test]
    fn nobody_is_shut_out_by_what_happened_before_the_clock_was_set_back() {
        let now = DateTime::UNIX_EPOCH;
        for rule in [AT_MOST, SLOWER] {
            let later: Vec<_> = (0..9).map(|second| now + TimeDelta::seconds(3_600 + second)).collect();
            assert_eq!(rule.wait(&[vec![now], later].concat(), now), None);
            // Another process's clock is a little ahead.
            let soon: Vec<_> = (1..9).map(|second| now + TimeDelta::seconds(second)).collect();
            assert!(rule.wait(&[vec![now], soon].concat(), now).is_some());
        }
    }

    #[test]
    fn failures_far_apart_are_no_burst() {
        assert_eq!(wait(SLOWER, &[0, 20, 40, 60, 80]), None);
        assert_eq!(wait(SLOWER, &[0, 20, 40, 60, 65, 70, 71]), Some(14));
    }
}
