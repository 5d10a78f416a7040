//! A certificate whose files are looked at again and again.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    task::{Id, JoinError, JoinSet},
    time::sleep,
};

use super::{
    Signals,
    tls::{Pair, TlsError},
};
use crate::clock::Clock;

/// How often the files are looked at. Those who renew certificates do so days before the old one ends, but one that was
/// stolen is to be gone when it is replaced.
const POLL: Duration = Duration::from_secs(5);
/// How long files may take to be read until it is told that they do not come, and they are tried once more: by then, others
/// may be where they were. Twice as long each time.
const READING: Duration = Duration::from_secs(10);
/// How many threads of each pair wait for files that do not come. What holds one may hold it for ever.
const MOST_THREADS: usize = 8;
/// How often it is told that a certificate has ended or is about to, or that its files do not come.
const REMINDER: Duration = Duration::from_hours(24);
/// How often at most the same is told of a file, however often somebody asks by SIGHUP.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);
/// What is told of files that do not come.
const NO_ANSWER: &str = "it, or its key, cannot be read: no answer yet";

/// Who looks at a pair of files.
pub(super) struct Follower {
    pair: Arc<Pair>,
    /// Files may be where nobody answers any more: so it is on threads that nobody has to wait for.
    readings: JoinSet<Result<bool, TlsError>>,
    /// The one of them that was begun last, while it is not done; when that was, and how many before it came to nothing.
    latest: Option<Id>,
    begun: Instant,
    in_vain: u32,
    /// What was told, and when.
    complaint: Option<(String, Instant)>,
}

impl Follower {
    pub(super) fn of(pair: &Arc<Pair>) -> Self {
        let (pair, readings, begun) = (Arc::clone(pair), JoinSet::new(), Instant::now());
        Self { pair, readings, latest: None, begun, in_vain: 0, complaint: None }
    }

    /// Never ends. See [`Tls::follow`](super::Tls::follow).
    pub(super) async fn follow(mut self, signals: &Signals, clock: &Clock, changed: impl Fn()) {
        let (mut hangups, mut heard) = (signals.hangups(), 0);
        let mut reminded = None::<Instant>;
        loop {
            if reminded.is_none_or(|at| at.elapsed() >= REMINDER) {
                reminded = Some(Instant::now());
                self.remind(clock);
            }
            let hung_up = async {
                match hangups.wait_for(|times| *times > heard).await {
                    Ok(times) => *times,
                    Err(_) => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(read) = self.readings.join_next_with_id() => if self.take(read) {
                    changed();
                    reminded = None;
                },
                () = sleep(POLL) => self.look(false),
                times = hung_up => {
                    heard = times;
                    // Somebody waits for what comes of it.
                    if self.complaint.as_ref().is_some_and(|(_, told)| told.elapsed() >= COMPLAINT_PAUSE) {
                        self.complaint = None;
                    }
                    self.look(true);
                }
            }
        }
    }

    fn remind(&mut self, clock: &Clock) {
        if let Some(warning) = self.pair.loaded().warning(clock.now()) {
            let file = self.pair.files.chain.display();
            tracing::warn!(%file, warning, "a certificate needs to be replaced");
        }
        // Told again, if it is still so.
        self.complaint = None;
    }

    /// Has the files read, unless they are being read. Those that do not come are tried again when it is time, or where that
    /// `is_asked` for.
    fn look(&mut self, is_asked: bool) {
        if self.latest.is_some() {
            let waited = self.begun.elapsed();
            if waited >= READING {
                self.complain(NO_ANSWER);
            }
            let is_time = waited >= READING.saturating_mul(2_u32.saturating_pow(self.in_vain));
            if !(is_time || is_asked && waited >= POLL) {
                return;
            }
            self.in_vain += 1;
        }
        if self.readings.len() >= MOST_THREADS {
            return self.complain(NO_ANSWER);
        }
        let pair = Arc::clone(&self.pair);
        self.begun = Instant::now();
        self.latest = Some(self.readings.spawn_blocking(move || pair.reload()).id());
    }

    /// Whether they held another certificate.
    fn take(&mut self, read: Result<(Id, Result<bool, TlsError>), JoinError>) -> bool {
        let Ok((id, reloaded)) = read else {
            // It broke: a defect.
            self.latest = None;
            return false;
        };
        if self.latest == Some(id) {
            self.latest = None;
            self.in_vain = 0;
        }
        match reloaded {
            Ok(is_new) => {
                self.complaint = None;
                is_new
            }
            Err(error) => {
                self.complain(&error.to_string());
                false
            }
        }
    }

    /// Once, not every few seconds.
    fn complain(&mut self, error: &str) {
        if self.complaint.as_ref().is_some_and(|(told, _)| told == error) {
            return;
        }
        let file = self.pair.files.chain.display();
        tracing::error!(%file, error, "the new certificate is of no use, the one before stays");
        self.complaint = Some((error.to_owned(), Instant::now()));
    }
}
