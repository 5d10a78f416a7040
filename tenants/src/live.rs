//! Who is shown something live, and is to look again because it may have changed.
//!
//! A wake-up is a hint and never content. One may be lost, so those who are shown something look by themselves now and
//! then; one may come for nothing, and costs a query.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::watch;
use uuid::Uuid;

/// Those who wait to be woken, by tenant and user. Cloning it costs a reference count.
#[derive(Clone, Debug, Default)]
pub struct Live {
    waiting: Arc<Mutex<Waiting>>,
}

type Waiting = HashMap<(Uuid, Uuid), watch::Sender<()>>;

/// Somebody who is shown something live.
#[derive(Debug)]
pub struct Watching {
    live: Live,
    who: (Uuid, Uuid),
    changes: watch::Receiver<()>,
}

impl Live {
    /// Watches what a user of a tenant is shown.
    #[must_use]
    pub fn watch(&self, tenant: Uuid, user: Uuid) -> Watching {
        let changes = self.waiting().entry((tenant, user)).or_default().subscribe();
        Watching { live: self.clone(), who: (tenant, user), changes }
    }

    /// Wakes these users of a tenant.
    pub(crate) fn wake(&self, tenant: Uuid, users: Vec<Uuid>) {
        let waiting = self.waiting();
        for user in users {
            if let Some(changes) = waiting.get(&(tenant, user)) {
                changes.send_replace(());
            }
        }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watching {
    /// Ends when there may be something new since this was asked last; at once, where there was meanwhile.
    pub async fn changed(&mut self) {
        // The sender is dropped after the last receiver only.
        if self.changes.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut waiting = self.live.waiting();
        // This one is still counted.
        if waiting.get(&self.who).is_some_and(|changes| changes.receiver_count() <= 1) {
            waiting.remove(&self.who);
        }
    }
}
