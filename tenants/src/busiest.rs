//! The tenants that keep the service busiest, in memory that does not grow with their number.
//!
//! There may be ten thousand tenants, and a figure for each of them in each process would be more than whoever collects
//! figures can bear. So only some are told, found by the *Space-Saving* algorithm (Metwally, Agrawal, El Abbadi: Efficient
//! Computation of Frequent and Top-k Elements in Data Streams, 2005): so many places; who has none takes that of the
//! least busy one, and inherits its weight. Whoever has more than a share of one place in all that was done has a place for
//! certain. A few such summaries, of half a minute each, make a window that slides; merging them is adding them up.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use uuid::Uuid;

use crate::meter::Counts;

/// What one part of the window spans, and how many there are: five minutes, as alerts look at them.
const PART: Duration = Duration::from_secs(30);
const PARTS: usize = 10;
/// How many places there are for each tenant that is told of. With ten times as many, the weight of one that is told of wrongly
/// is less than a tenth of an even share.
const PLACES: usize = 10;
/// What a request weighs beside the time of the database it took, in microseconds: one that is refused costs some time too,
/// and a flood of them is to be seen.
const REQUEST: u64 = 100;

/// For how long what tenants do is told.
pub const BUSIEST_WINDOW: Duration = PART.saturating_mul(10);

/// What a tenant did in the last five minutes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Busy {
    /// The tenant.
    pub tenant: Uuid,
    /// Requests to it.
    pub requests: u64,
    /// Those that the service failed at.
    pub errors: u64,
    /// Those that were one too many.
    pub throttled: u64,
    /// For how long connections of the database were held for it, in microseconds.
    pub database_micros: u64,
}

impl Busy {
    fn add(&mut self, other: &Self) {
        self.requests += other.requests;
        self.errors += other.errors;
        self.throttled += other.throttled;
        self.database_micros += other.database_micros;
    }

    fn weight(&self) -> u64 {
        self.database_micros.saturating_add(self.requests.saturating_mul(REQUEST))
    }
}

impl From<&Counts> for Busy {
    fn from(counts: &Counts) -> Self {
        let Counts { tenant, requests, errors, throttled, database_micros, .. } = *counts;
        Self { tenant, requests, errors, throttled, database_micros }
    }
}

/// One place of a summary.
#[derive(Clone, Copy, Debug)]
struct Place {
    /// How much its tenant did at most: what it inherited is in it.
    weight: u64,
    /// What it did since it has the place.
    done: Busy,
}

/// What was done from a time on.
#[derive(Debug)]
struct Summary {
    since: Instant,
    places: HashMap<Uuid, Place>,
}

/// The busiest tenants of the last minutes.
#[derive(Debug, Default)]
pub(crate) struct Busiest {
    most: usize,
    /// The latest last.
    parts: VecDeque<Summary>,
}

impl Busiest {
    /// Tells of so many from now on.
    pub(crate) fn keep(&mut self, most: usize) {
        *self = Self { most, parts: VecDeque::new() };
    }

    /// Notes what tenants did.
    pub(crate) fn note(&mut self, counts: &[Counts], now: Instant) {
        if self.most == 0 {
            return;
        }
        self.forget(now);
        if self.parts.back().is_none_or(|part| now.saturating_duration_since(part.since) >= PART) {
            self.parts.push_back(Summary { since: now, places: HashMap::new() });
        }
        let capacity = self.most * PLACES;
        if let Some(part) = self.parts.back_mut() {
            for counts in counts {
                part.note(&counts.into(), capacity);
            }
        }
    }

    /// Those that did most, the busiest first.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Busy> {
        self.forget(now);
        let mut all: HashMap<Uuid, Place> = HashMap::new();
        for (tenant, place) in self.parts.iter().flat_map(|part| &part.places) {
            let done = Busy { tenant: *tenant, ..Busy::default() };
            let sum = all.entry(*tenant).or_insert(Place { weight: 0, done });
            sum.weight += place.weight;
            sum.done.add(&place.done);
        }
        let mut all: Vec<_> = all.into_values().collect();
        all.sort_unstable_by_key(|place| (std::cmp::Reverse(place.weight), place.done.tenant));
        all.truncate(self.most);
        all.into_iter().map(|place| place.done).collect()
    }

    fn forget(&mut self, now: Instant) {
        let is_over = |part: &Summary| now.saturating_duration_since(part.since) >= BUSIEST_WINDOW;
        while self.parts.len() > PARTS || self.parts.front().is_some_and(is_over) {
            self.parts.pop_front();
        }
    }
}

impl Summary {
    fn note(&mut self, busy: &Busy, capacity: usize) {
        let weight = busy.weight();
        if let Some(place) = self.places.get_mut(&busy.tenant) {
            place.weight += weight;
            place.done.add(busy);
            return;
        }
        let mut inherited = 0;
        if self.places.len() >= capacity
            && let Some((least, place)) = self.places.iter().min_by_key(|(_, place)| place.weight)
        {
            inherited = place.weight;
            let least = *least;
            self.places.remove(&least);
        }
        self.places.insert(busy.tenant, Place { weight: inherited + weight, done: *busy });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(tenant: u128, requests: u64, database_micros: u64) -> Counts {
        Counts::of(Uuid::from_u128(tenant), requests, database_micros)
    }

    fn tenants(busiest: &mut Busiest, now: Instant) -> Vec<u128> {
        busiest.take(now).iter().map(|busy| busy.tenant.as_u128()).collect()
    }

    #[test]
    fn nobody_is_told_of_unless_somebody_asked() {
        let (mut busiest, now) = (Busiest::default(), Instant::now());
        busiest.note(&[counts(1, 5, 5)], now);
        assert_eq!(busiest.take(now), []);
    }

    #[test]
    fn time_of_the_database_weighs_and_floods_do_too() {
        let (mut busiest, now) = (Busiest::default(), Instant::now());
        busiest.keep(2);
        busiest.note(&[counts(1, 5, 900_000), counts(2, 10, 10), counts(3, 20_000, 0)], now);
        assert_eq!(tenants(&mut busiest, now), [3, 1]);
    }

    #[test]
    fn the_busy_ones_are_found_among_ten_thousand_in_a_few_places() {
        let (mut busiest, now) = (Busiest::default(), Instant::now());
        busiest.keep(3);
        for round in 0..20 {
            let crowd = (0..10_000).map(|n| counts(1_000 + n, 1, 0));
            let heavy = [counts(7, 4_000, 0), counts(8, 3_000, 0), counts(9, 2_000, 0)];
            let all: Vec<_> = if round % 2 == 0 {
                crowd.chain(heavy).collect()
            } else {
                heavy.into_iter().chain(crowd).collect()
            };
            busiest.note(&all, now);
            assert!(busiest.parts.iter().all(|part| part.places.len() <= 3 * PLACES));
        }
        assert_eq!(tenants(&mut busiest, now), [7, 8, 9]);
        // What one did is never told too high, however much it inherited.
        assert!(busiest.take(now).iter().all(|busy| busy.requests <= 80_000));
    }

    #[test]
    fn the_window_slides() {
        let (mut busiest, start) = (Busiest::default(), Instant::now());
        busiest.keep(5);
        for second in 0..600 {
            let now = start + Duration::from_secs(second);
            busiest.note(&[counts(1, 1, 0)], now);
            assert!(busiest.parts.len() <= PARTS);
        }
        let end = start + Duration::from_mins(10);
        let told = busiest.take(end)[0].requests;
        assert!((270..=300).contains(&told), "{told}");
        assert_eq!(busiest.take(end + BUSIEST_WINDOW), []);
    }
}
