//! Until when what is under way may go on, once it was told to stop.

use std::time::{Duration, Instant};

use tokio::{
    sync::watch,
    time::{sleep, sleep_until, timeout_at},
};

/// Says it. Clones say it to the same.
#[derive(Clone, Debug)]
pub(crate) struct Stop(watch::Sender<Option<Instant>>);

impl Stop {
    /// Goes on for now.
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(None))
    }

    /// Nothing is begun any more, and what is under way has to end by then.
    pub(crate) fn by(&self, deadline: Instant) {
        self.0.send_replace(Some(deadline));
    }

    /// Now, unless another time was said.
    pub(crate) fn at_last(&self) {
        self.0.send_if_modified(|stop| {
            let running = stop.is_none();
            *stop = stop.or(Some(Instant::now()));
            running
        });
    }

    /// Hears it.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Instant>> {
        self.0.subscribe()
    }
}

/// Ends when that time has come, which may still become an earlier one.
pub(crate) async fn passed(stop: &mut watch::Receiver<Option<Instant>>) {
    loop {
        let deadline = *stop.borrow_and_update();
        let changed = match deadline {
            Some(deadline) => match timeout_at(deadline.into(), stop.changed()).await {
                Ok(changed) => changed,
                Err(_) => return,
            },
            None => stop.changed().await,
        };
        if changed.is_err() {
            // Nobody is left to say anything else.
            if let Some(deadline) = deadline {
                sleep_until(deadline.into()).await;
            }
            return;
        }
    }
}

/// How long a question to the database that was asked before the stop is waited for. A sound one answers within
/// milliseconds, and what it gave is begun, and handed back if need be; behind a cut network the answer would not come for
/// half a minute. What it gives then has to wait until its lease runs out.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// Ends when it makes no sense any more to wait for the database, once it was told to stop.
pub(crate) async fn overdue(stop: &watch::Receiver<Option<Instant>>) {
    // A copy: who waits for the stop itself is still to hear it.
    let mut stop = stop.clone();
    if stop.wait_for(Option::is_some).await.is_ok() {
        tokio::select! {
            () = sleep(LAST_ANSWER) => {}
            () = passed(&mut stop) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_asked_is_waited_for_a_little_and_no_longer_than_the_deadline() {
        for (deadline, expected) in [(30_000, 2_000), (500, 500), (0, 0)] {
            let stop = Stop::new();
            let heard = stop.subscribe();
            tokio::select! {
                () = overdue(&heard) => panic!("nobody said anything yet"),
                () = sleep(Duration::from_millis(50)) => {}
            }
            let begun = Instant::now();
            stop.by(begun + Duration::from_millis(deadline));
            overdue(&heard).await;
            let (waited, expected) = (begun.elapsed(), Duration::from_millis(expected));
            assert!((expected..expected + Duration::from_millis(400)).contains(&waited), "{waited:?}");
            assert!(heard.has_changed().unwrap(), "the loop is still to hear it");
        }
    }
}
