//! How many answers go on at once, and until when.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::ready, stream};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use uuid::Uuid;

use crate::http::{Problem, events};

/// When a client that was refused may try again.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// How streams behave.
#[derive(Clone, Debug)]
pub struct StreamOptions {
    /// How long nothing comes at most: then a heartbeat does.
    pub heartbeat: Duration,
    /// How long a client may take nothing of what it is sent before it is dropped.
    pub patience: Duration,
    /// How many there are at once in a process.
    pub most: usize,
    /// How many of those are one user's.
    pub most_of_user: usize,
}

impl Default for StreamOptions {
    fn default() -> Self {
        Self {
            // The contract's. Proxies hang up on who is silent for a minute or half of it.
            heartbeat: Duration::from_secs(15),
            // As long as the head of a request may take to come in.
            patience: Duration::from_secs(30),
            // Each takes some 20 KiB and a file: for more, there are more processes.
            most: 10_000,
            // As many as sessions. A browser has one for each of its windows; a client that loses them all at a sleeping
            // network may come again before they are missed.
            most_of_user: 100,
        }
    }
}

impl StreamOptions {
    /// The same, with as many streams at most as half of the files that this process may have open: requests and the
    /// database take the others.
    #[must_use]
    pub fn within_file_limit(self) -> Self {
        Self { most: self.most.min(file_limit() / 2), ..self }
    }
}

/// Lets this process have as many files open as it may: a connection is one, and the limit it starts with is often that of
/// 1970s programs, 1,024.
pub fn raise_file_limit() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// How many files this process may have open.
#[must_use]
pub fn file_limit() -> usize {
    let files = getrlimit(Resource::Nofile).current.and_then(|files| usize::try_from(files).ok());
    files.unwrap_or(usize::MAX)
}

/// The streams of a process.
#[derive(Debug)]
pub struct Streams {
    options: StreamOptions,
    taken: Arc<Mutex<Taken>>,
    ended: watch::Sender<bool>,
    refused: AtomicU64,
}

/// How many streams users have.
type Taken = HashMap<(Uuid, Uuid), usize>;

impl Streams {
    /// Streams that behave so.
    #[must_use]
    pub fn new(options: StreamOptions) -> Self {
        Self { options, taken: Arc::default(), ended: watch::Sender::new(false), refused: AtomicU64::new(0) }
    }

    /// How they behave.
    #[must_use]
    pub fn options(&self) -> &StreamOptions {
        &self.options
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        lock(&self.taken).values().sum()
    }

    /// How many were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }

    /// Takes one more for a user of a tenant.
    ///
    /// # Errors
    /// There are too many, of this user or of all.
    pub fn take(&self, tenant: Uuid, user: Uuid) -> Result<Seat, Problem> {
        let mut taken = lock(&self.taken);
        if taken.values().sum::<usize>() >= self.options.most {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Problem::unavailable(RETRY_AFTER));
        }
        let of_user = taken.entry((tenant, user)).or_default();
        if *of_user >= self.options.most_of_user {
            self.refused.fetch_add(1, Ordering::Relaxed);
            return Err(Problem::throttled(RETRY_AFTER));
        }
        *of_user += 1;
        drop(taken);
        Ok(Seat { who: (tenant, user), taken: Arc::clone(&self.taken), ended: self.ended.subscribe() })
    }

    /// Ends all there are, and those to come: the process is about to stop.
    pub fn end(&self) {
        self.ended.send_replace(true);
    }
}

fn lock(taken: &Mutex<Taken>) -> MutexGuard<'_, Taken> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The right to a stream, for as long as it is held.
#[derive(Debug)]
pub struct Seat {
    who: (Uuid, Uuid),
    taken: Arc<Mutex<Taken>>,
    ended: watch::Receiver<bool>,
}

impl Seat {
    /// These frames, as long as the stream may go on; what makes the next one is left where it is then, and the client is
    /// told when to come again.
    pub fn hold(self, frames: impl Stream<Item = Bytes> + Send) -> impl Stream<Item = Bytes> + Send {
        let mut ended = self.ended.clone();
        // Without a sender the process is at its end, too.
        let told = async move { ended.wait_for(|ended| *ended).await.map(|_| ()).unwrap_or_default() };
        let leave = async move { self.ended.borrow().then(events::farewell) };
        frames.take_until(told).chain(stream::once(leave).filter_map(ready))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(of_user) = taken.get_mut(&self.who) {
            *of_user -= 1;
            if *of_user == 0 {
                taken.remove(&self.who);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::pin::{Pin, pin};

    use futures_util::FutureExt as _;

    use super::*;

    fn said(refused: Result<Seat, Problem>) -> u16 {
        refused.unwrap_err().status().as_u16()
    }

    #[test]
    fn there_are_so_many_and_no_more_of_one_and_of_all() {
        let options = StreamOptions { most: 3, most_of_user: 2, ..StreamOptions::default() };
        let streams = Streams::new(options);
        let [acme, beta, ann, bob] = [1, 2, 3, 4].map(Uuid::from_u128);
        let first = streams.take(acme, ann).unwrap();
        let second = streams.take(acme, ann).unwrap();
        assert_eq!(said(streams.take(acme, ann)), 429);
        let third = streams.take(beta, ann).unwrap();
        assert_eq!(said(streams.take(acme, bob)), 503);
        drop(third);
        let fourth = streams.take(acme, bob).unwrap();
        drop((first, fourth));
        assert_eq!(streams.count(), 1);
        assert_eq!(lock(&streams.taken).len(), 1, "who has none is forgotten");
        drop(second);
        assert_eq!(streams.count(), 0);
    }

    #[tokio::test]
    async fn at_the_end_of_the_process_each_is_told_when_to_come_again() {
        let streams = Streams::new(StreamOptions::default());
        let take = || streams.take(Uuid::nil(), Uuid::nil()).unwrap();
        let [early, done] = [(), ()].map(|()| take());
        let news = || stream::once(ready(Bytes::from_static(b"news")));
        assert_eq!(done.hold(news()).collect::<Vec<_>>().await, ["news"], "it ended by itself");
        let mut early = pin!(early.hold(news().chain(stream::pending())));
        assert_eq!(early.next().await.unwrap(), "news");
        assert!(early.next().now_or_never().is_none());
        streams.end();
        let mut late = pin!(take().hold(stream::pending()));
        for stream in [early.as_mut() as Pin<&mut (dyn Stream<Item = Bytes> + Send)>, late.as_mut()] {
            let rest: Vec<_> = stream.collect().await;
            assert!(matches!(&rest[..], [last] if last.starts_with(b"retry: ")), "{rest:?}");
        }
    }
}
