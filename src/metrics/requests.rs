//! The requests: by route, method and outcome, and how long they took.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use poem::http::{Method, StatusCode};
use tenants::{Timing, TimingFigures};

/// The route of what has none.
const NO_ROUTE: &str = "none";
/// Methods that every route answers beside its own; and what stands for all that nobody knows.
const METHODS: [&str; 3] = ["HEAD", "OPTIONS", "other"];
/// Classes of statuses, as Prometheus' own figures name them.
const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// What was asked at one route.
#[derive(Debug)]
pub struct RouteFigures {
    route: Arc<str>,
    /// Its own methods first.
    methods: Vec<(String, [AtomicU64; CLASSES.len()])>,
    /// How many of them are its own.
    own: usize,
    time: Timing,
}

impl RouteFigures {
    /// Of the route of this path, which has these methods.
    #[must_use]
    pub fn of<'a>(route: Arc<str>, methods: impl IntoIterator<Item = &'a Method>) -> Self {
        let mut methods: Vec<_> = methods.into_iter().map(|method| method.as_str().to_owned()).collect();
        let own = methods.len();
        methods.extend(METHODS.map(str::to_owned));
        let methods = methods.into_iter().map(|method| (method, Default::default())).collect();
        Self { route, methods, own, time: Timing::default() }
    }

    /// Notes an answer.
    pub fn note(&self, method: &Method, status: StatusCode, time: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(2).min(CLASSES.len() - 1);
        let method = method.as_str();
        let counts = self.methods.iter().find(|(name, _)| name == method).or_else(|| self.methods.last());
        if let Some((_, counts)) = counts {
            counts[class].fetch_add(1, Ordering::Relaxed);
        }
        self.time.note(time);
    }
}

impl Default for RouteFigures {
    fn default() -> Self {
        Self::of(NO_ROUTE.into(), [])
    }
}

/// The requests of a process, on whichever listener.
#[derive(Debug, Default)]
pub struct Requests {
    routes: Mutex<Vec<Arc<RouteFigures>>>,
    /// Those without a route.
    nowhere: Arc<RouteFigures>,
    under_way: AtomicI64,
    abandoned: AtomicU64,
    /// Problems by their codes, which are texts of the program.
    problems: Mutex<BTreeMap<&'static str, u64>>,
}

/// What is known of the requests.
pub(super) struct Seen {
    /// By route, method and class of status. Each that may come is there from the beginning, so that the first failure
    /// is seen as one.
    pub(super) counts: BTreeMap<(Arc<str>, String, &'static str), u64>,
    /// By route; only where there were any.
    pub(super) times: BTreeMap<Arc<str>, TimingFigures>,
}

impl Requests {
    /// Tells of the requests at these routes too.
    pub fn tell_of(&self, routes: impl IntoIterator<Item = Arc<RouteFigures>>) {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner).extend(routes);
    }

    /// What counts requests without a route.
    #[must_use]
    pub fn nowhere(&self) -> &RouteFigures {
        &self.nowhere
    }

    /// Counts a request as under way, until what is returned is dropped.
    #[must_use]
    pub fn begin(self: &Arc<Self>) -> Flight {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        Flight { requests: Arc::clone(self), answered: false }
    }

    /// Counts a problem.
    pub fn problem(&self, code: &'static str) {
        *self.problems.lock().unwrap_or_else(PoisonError::into_inner).entry(code).or_default() += 1;
    }

    /// How many are under way.
    pub(super) fn under_way(&self) -> i64 {
        self.under_way.load(Ordering::Relaxed)
    }

    /// How many were given up before they were answered: the client hung up.
    pub(super) fn abandoned(&self) -> u64 {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// How many problems there were of each code.
    pub(super) fn problems(&self) -> BTreeMap<&'static str, u64> {
        self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What is known of all routes. One that several listeners have is one.
    pub(super) fn seen(&self) -> Seen {
        let routes = self.routes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut seen = Seen { counts: BTreeMap::new(), times: BTreeMap::new() };
        for figures in routes.iter().chain([&self.nowhere]) {
            for (number, (method, counts)) in figures.methods.iter().enumerate() {
                for (class, count) in CLASSES.into_iter().zip(counts) {
                    let count = count.load(Ordering::Relaxed);
                    // What a route's own methods answer as a rule is told before it was answered once.
                    if count > 0 || (number < figures.own && class != "3xx") {
                        let key = (Arc::clone(&figures.route), method.clone(), class);
                        *seen.counts.entry(key).or_default() += count;
                    }
                }
            }
            let time = figures.time.figures();
            if time.count() > 0 {
                let sum = seen.times.entry(Arc::clone(&figures.route)).or_default();
                *sum = sum.plus(&time);
            }
        }
        seen
    }
}

/// A request under way.
#[derive(Debug)]
pub struct Flight {
    requests: Arc<Requests>,
    answered: bool,
}

impl Flight {
    /// It was answered.
    pub fn land(mut self) {
        self.answered = true;
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.requests.under_way.fetch_sub(1, Ordering::Relaxed);
        if !self.answered {
            self.requests.abandoned.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_asked_there_are_no_more_figures() {
        let requests = Arc::new(Requests::default());
        let users = Arc::new(RouteFigures::of("/api/users/".into(), [&Method::GET, &Method::POST]));
        requests
            .tell_of([Arc::clone(&users), Arc::new(RouteFigures::of("/api/users/".into(), [&Method::GET]))]);
        assert_eq!(requests.seen().counts.len(), 6);
        for n in 0..100_u16 {
            let method = Method::from_bytes(format!("X{n}").as_bytes()).unwrap();
            for status in [100, 200, 304, 404, 503, 599] {
                users.note(&method, StatusCode::from_u16(status).unwrap(), Duration::from_millis(1));
                requests.nowhere().note(&method, StatusCode::NOT_FOUND, Duration::ZERO);
            }
        }
        users.note(&Method::GET, StatusCode::OK, Duration::ZERO);
        let seen = requests.seen();
        let other = |class| seen.counts[&("/api/users/".into(), "other".to_owned(), class)];
        assert_eq!(CLASSES.map(other), [200, 100, 100, 200]);
        assert_eq!(seen.counts[&("none".into(), "other".to_owned(), "4xx")], 600);
        assert_eq!(seen.counts[&("/api/users/".into(), "GET".to_owned(), "2xx")], 1);
        assert_eq!(seen.counts.len(), 6 + 4 + 1);
        assert_eq!(seen.times[&Arc::from("/api/users/")].count(), 601);
    }

    #[test]
    fn a_request_is_under_way_until_it_is_answered_or_dropped() {
        let requests = Arc::new(Requests::default());
        let (first, second) = (requests.begin(), requests.begin());
        assert_eq!(requests.under_way(), 2);
        first.land();
        drop(second);
        assert_eq!((requests.under_way(), requests.abandoned()), (0, 1));
    }
}
