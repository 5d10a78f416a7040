//! Until when what is under way may go on, once it was told to stop.

use std::time::Instant;

use tokio::{
    sync::watch,
    time::{sleep_until, timeout_at},
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
