//! What is on a page of what happened.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbErr};
use tenants::lists::{self, Extent};
use uuid::Uuid;

use super::{Verb, store};

/// How many rows a round of a search looks at, and so by how much it narrows what is left: a million rows take four
/// rounds. With more, a round costs more than it saves.
const FANOUT: i64 = 32;

/// Whose doings, and which.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scope {
    /// What this user did; `None` for what anybody did.
    pub(super) actor: Option<Uuid>,
    /// What was done with this verb; `None` for all.
    pub(super) verb: Option<Verb>,
}

/// When it happened.
#[derive(Clone, Copy, Debug)]
pub(super) struct Period {
    /// Then or later.
    pub(super) since: Option<DateTime<Utc>>,
    /// Before then.
    pub(super) until: Option<DateTime<Utc>>,
}

/// The numbers from the first one up to the end, which is none of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Numbers {
    pub(super) first: i64,
    pub(super) end: i64,
}

impl Numbers {
    fn of(extent: Extent) -> Self {
        Self { first: extent.removed + 1, end: extent.numbered + 1 }
    }

    /// How many they are.
    pub(super) fn count(self) -> u64 {
        u64::try_from(self.end - self.first).unwrap_or(0)
    }

    /// Those of a page.
    pub(super) fn of_page(self, offset: u64, limit: u64, descending: bool) -> Self {
        // A page lies within the count, which came from numbers of this size.
        let [offset, limit] = [offset, limit].map(|number| i64::try_from(number).unwrap_or(i64::MAX));
        let Self { first, end } = self;
        if descending {
            let end = end.saturating_sub(offset).max(first);
            Self { first: end.saturating_sub(limit).max(first), end }
        } else {
            let first = first.saturating_add(offset).min(end);
            Self { first, end: first.saturating_add(limit).min(end) }
        }
    }
}

/// The search for the first number at a time or later.
#[derive(Clone, Copy, Debug)]
struct Boundary {
    at: DateTime<Utc>,
    /// All before this one are before the time.
    low: i64,
    /// This one, and all behind it, are not.
    high: i64,
}

impl Boundary {
    fn probes(self) -> impl Iterator<Item = i64> {
        let span = self.high - self.low;
        let count = span.min(FANOUT);
        (1..=count).map(move |nth| self.low + span * nth / (count + 1))
    }

    /// Takes note of when these happened, which are in the order of their numbers.
    fn narrow(&mut self, times: &[(i64, DateTime<Utc>)]) {
        for (number, at) in times {
            if *at < self.at {
                self.low = self.low.max(number + 1);
            } else {
                self.high = self.high.min(*number);
            }
        }
    }
}

/// The numbers of what happened in a period, in the list of this scope.
///
/// Times grow with the numbers, so where a period begins and ends is searched for, a few rows at a time: an index on times
/// would have to be another one in each list, and would not tell how many rows there are.
pub(super) async fn numbers(
    db: &impl ConnectionTrait,
    scope: Scope,
    period: Period,
) -> Result<Numbers, DbErr> {
    let Numbers { first, end } = Numbers::of(lists::extent(db, &scope.list()).await?);
    let mut searches: Vec<Boundary> = [period.since, period.until]
        .into_iter()
        .flatten()
        .map(|at| Boundary { at, low: first, high: end })
        .collect();
    loop {
        let mut probes: Vec<i64> = searches.iter().flat_map(|search| search.probes()).collect();
        probes.sort_unstable();
        probes.dedup();
        if probes.is_empty() {
            break;
        }
        let mut times = store::times(db, scope, probes.clone()).await?;
        // What was there a moment ago is gone because it was old.
        let gone = probes.into_iter().filter(|number| !times.iter().any(|(there, _)| there == number));
        let gone: Vec<_> = gone.map(|number| (number, DateTime::<Utc>::MIN_UTC)).collect();
        times.extend(gone);
        times.sort_unstable();
        for search in &mut searches {
            search.narrow(&times);
        }
    }
    let mut found = searches.into_iter().map(|search| search.low);
    let first = period.since.and_then(|_| found.next()).unwrap_or(first);
    let end = period.until.and_then(|_| found.next()).unwrap_or(end);
    Ok(Numbers { first, end: end.max(first) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_a_range_of_numbers_from_either_end() {
        let numbers = Numbers { first: 11, end: 36 };
        assert_eq!(numbers.count(), 25);
        for (offset, descending, first, end) in [
            (0, true, 26, 36),
            (20, true, 11, 16),
            (0, false, 11, 21),
            (20, false, 31, 36),
            (30, true, 11, 11),
        ] {
            let page = numbers.of_page(offset, 10, descending);
            assert_eq!(page, Numbers { first, end }, "{offset} {descending}");
        }
    }

    #[test]
    fn a_boundary_is_found_wherever_it_is_in_four_rounds() {
        let at = |number: i64| DateTime::from_timestamp(number * 10, 0).unwrap();
        for (count, searched) in [1_i64, 2, 31, 32, 33, 34, 1_000, 1_000_000]
            .into_iter()
            .flat_map(|count| [0, 1, 2, count / 2, count - 1, count, count + 1].map(|number| (count, number)))
        {
            // Between two rows, and exactly at one.
            for (time, expected) in
                [(at(searched), searched), (at(searched) - chrono::TimeDelta::seconds(1), searched)]
            {
                let expected = expected.clamp(1, count + 1);
                let (mut search, mut rounds) = (Boundary { at: time, low: 1, high: count + 1 }, 0);
                while search.low < search.high {
                    let times: Vec<_> = search.probes().map(|number| (number, at(number))).collect();
                    search.narrow(&times);
                    rounds += 1;
                }
                assert_eq!((search.low, search.high), (expected, expected), "{searched} of {count}");
                assert!(rounds <= 4, "{rounds} rounds for {count}");
            }
        }
    }
}
