//! Whether it is worth while to open a connection.
//!
//! While the server is away, everybody would wait for what nobody gets, and when it comes back, everybody would come at
//! once. So after a failure it is left alone for a moment, which grows with each further one; then one caller tries, and
//! all others are told at once that it is not there. Connections that are open already are used as before.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::Semaphore;

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause: so long a server may be back without this pool knowing, which is what those who are refused are told
/// to wait.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many connections a process opens at once.
const AT_ONCE: usize = 8;

/// How many connections the pools of a process open at once. When a server is back, all who wait for it would come together,
/// and each costs it a process and a password check.
#[derive(Clone, Debug)]
pub(crate) struct Openings(pub(crate) Arc<Semaphore>);

impl Default for Openings {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(AT_ONCE)))
    }
}

/// What is known of the server behind a pool.
#[derive(Debug, Default)]
pub(crate) struct Breaker {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// How often in a row it could not be had.
    failures: u32,
    /// When it may be tried again, once it could not be had.
    again_at: Option<Instant>,
    /// Whether somebody tries it now.
    trying: bool,
    /// Why it could not be had.
    reason: String,
}

impl Breaker {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the server could not be had when it was last tried.
    pub(crate) fn is_down(&self) -> bool {
        self.state().failures > 0
    }

    /// The right to try, or why there is none.
    pub(crate) fn attempt(&self, now: Instant) -> Result<Attempt<'_>, sqlx::Error> {
        let mut state = self.state();
        let is_probe = state.failures > 0;
        if is_probe {
            if state.trying || state.again_at.is_some_and(|at| now < at) {
                let text = format!("it was not there a moment ago ({})", state.reason);
                return Err(sqlx::Error::Io(io::Error::new(io::ErrorKind::NotConnected, text)));
            }
            state.trying = true;
        }
        drop(state);
        Ok(Attempt { breaker: self, is_probe, is_settled: false })
    }
}

/// The right to open a connection, until it is known how that went.
#[derive(Debug)]
pub(crate) struct Attempt<'a> {
    breaker: &'a Breaker,
    is_probe: bool,
    is_settled: bool,
}

impl Attempt<'_> {
    /// It is there. Returns whether it was not there before.
    pub(crate) fn succeeded(mut self) -> bool {
        self.is_settled = true;
        let mut state = self.breaker.state();
        let was_down = state.failures > 0;
        *state = State::default();
        was_down
    }

    /// It could not be had. Returns whether that is news.
    pub(crate) fn failed(mut self, reason: &sqlx::Error, now: Instant) -> bool {
        self.is_settled = true;
        let mut state = self.breaker.state();
        let is_news = state.failures == 0;
        // Those who tried at the same time as the first to fail know no more than he does.
        if is_news || self.is_probe {
            state.reason = reason.to_string();
            let doubled = FIRST_PAUSE.saturating_mul(1 << state.failures.min(10)).min(LONGEST_PAUSE);
            // Processes that lost the same server do not come back to it all at once.
            state.again_at = Some(now + doubled.mul_f64(rand::random_range(0.5..=1.0)));
            state.failures = state.failures.saturating_add(1);
            state.trying = false;
        }
        is_news
    }
}

impl Drop for Attempt<'_> {
    /// Given up in the middle: the next one tries.
    fn drop(&mut self) {
        if self.is_probe && !self.is_settled {
            self.breaker.state().trying = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone() -> sqlx::Error {
        sqlx::Error::Io(io::ErrorKind::ConnectionRefused.into())
    }

    #[test]
    fn while_the_server_is_away_one_at_a_time_tries_and_the_others_are_told_at_once() {
        let (breaker, start) = (Breaker::default(), Instant::now());
        let both = [breaker.attempt(start).unwrap(), breaker.attempt(start).unwrap()];
        let news = both.map(|attempt| attempt.failed(&gone(), start));
        assert_eq!(news, [true, false], "two who tried at once tell one thing");
        let refused = breaker.attempt(start).unwrap_err().to_string();
        assert!(refused.contains("a moment ago"), "{refused}");

        let later = start + FIRST_PAUSE;
        let probe = breaker.attempt(later).unwrap();
        assert!(breaker.attempt(later).is_err(), "somebody tries already");
        drop(probe);
        let probe = breaker.attempt(later).unwrap();
        assert!(!probe.failed(&gone(), later));
        assert!(breaker.attempt(later + FIRST_PAUSE / 2).is_err(), "the second pause is longer");

        let probe = breaker.attempt(later + FIRST_PAUSE * 2).unwrap();
        assert!(probe.succeeded() && !breaker.is_down());
        let _all_at_once: Vec<_> = (0..3).map(|_| breaker.attempt(later).unwrap()).collect();
    }

    #[test]
    fn however_long_it_is_away_it_is_found_soon_after_it_is_back() {
        let (breaker, mut now) = (Breaker::default(), Instant::now());
        for _ in 0..40 {
            breaker.attempt(now).unwrap().failed(&gone(), now);
            now += LONGEST_PAUSE;
        }
        assert!(breaker.attempt(now).is_ok());
    }
}
