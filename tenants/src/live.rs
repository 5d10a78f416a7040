//! Who is shown something live, and is to look again because it may have changed.
//!
//! A wake-up is a hint and never content. One may be lost, so those who are shown something look by themselves now and
//! then; one may come for nothing, and costs a query.
//!
//! Who waits in this process is woken at once. For the others it is noted who is to be woken; the
//! [`announcer`](crate::announcer) tells them.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::sync::{Notify, Semaphore, SemaphorePermit, watch};
use uuid::Uuid;

use crate::wakes::{Announcement, Wakes, Who, announcements};

/// How many of one tenant's watchers look at once, in one process: the tenant's requests shall find a connection, too.
const LOOKS_AT_ONCE: usize = 1;

/// Those who wait to be woken, by tenant and user. Cloning it costs a reference count.
#[derive(Clone, Debug)]
pub struct Live {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// Which process this is, to tell its own announcements from those of others.
    origin: Uuid,
    waiting: Mutex<HashMap<Uuid, Waiting>>,
    /// Whether anybody takes what is noted.
    announced: AtomicBool,
    noted: Mutex<Wakes>,
    news: Notify,
}

/// Those who wait in one tenant.
#[derive(Debug)]
struct Waiting {
    users: HashMap<Uuid, watch::Sender<()>>,
    looks: Arc<Semaphore>,
}

impl Default for Waiting {
    fn default() -> Self {
        Self { users: HashMap::new(), looks: Arc::new(Semaphore::new(LOOKS_AT_ONCE)) }
    }
}

impl Default for Live {
    fn default() -> Self {
        let inner = Inner {
            origin: Uuid::from_u128(rand::random()),
            waiting: Mutex::default(),
            announced: AtomicBool::new(false),
            noted: Mutex::default(),
            news: Notify::new(),
        };
        Self { inner: Arc::new(inner) }
    }
}

/// Somebody who is shown something live.
#[derive(Debug)]
pub struct Watching {
    live: Live,
    who: Who,
    changes: watch::Receiver<()>,
    looks: Arc<Semaphore>,
}

impl Live {
    /// Watches what a user of a tenant is shown.
    #[must_use]
    pub fn watch(&self, tenant: Uuid, user: Uuid) -> Watching {
        let mut waiting = self.waiting();
        let tenants = waiting.entry(tenant).or_default();
        let changes = tenants.users.entry(user).or_default().subscribe();
        Watching { live: self.clone(), who: (tenant, user), changes, looks: Arc::clone(&tenants.looks) }
    }

    /// How many watch, in this process.
    #[must_use]
    pub fn watchers(&self) -> usize {
        let users =
            |waiting: &Waiting| waiting.users.values().map(watch::Sender::receiver_count).sum::<usize>();
        self.waiting().values().map(users).sum()
    }

    /// Wakes these users of a tenant, here and in every other process.
    pub(crate) fn wake(&self, tenant: Uuid, users: Vec<Uuid>) {
        if users.is_empty() {
            return;
        }
        let whom: Vec<Who> = users.into_iter().map(|user| (tenant, user)).collect();
        self.wake_here(&whom);
        // What nobody takes would stay for ever.
        if self.inner.announced.load(Ordering::Acquire) {
            self.note(Wakes::Of(whom.into_iter().collect()));
        }
    }

    fn wake_here(&self, whom: &[Who]) {
        let waiting = self.waiting();
        for (tenant, user) in whom {
            if let Some(changes) = waiting.get(tenant).and_then(|waiting| waiting.users.get(user)) {
                changes.send_replace(());
            }
        }
    }

    /// Wakes everybody of a tenant, here.
    pub(crate) fn wake_tenant(&self, tenant: Uuid) {
        if let Some(waiting) = self.waiting().get(&tenant) {
            waiting.wake();
        }
    }

    /// Wakes everybody, here.
    pub(crate) fn wake_everybody(&self) {
        self.waiting().values().for_each(Waiting::wake);
    }

    /// Wakes here whom another process announces.
    pub(crate) fn hear(&self, announcement: &Announcement) {
        match announcement {
            Announcement { origin, .. } if *origin == self.inner.origin => {}
            Announcement { whom: None, .. } => self.wake_everybody(),
            Announcement { whom: Some(whom), .. } => self.wake_here(whom),
        }
    }

    /// Says whether somebody takes from now on what is noted.
    pub(crate) fn set_announced(&self, announced: bool) {
        self.inner.announced.store(announced, Ordering::Release);
    }

    /// Notes who is to be woken in other processes.
    pub(crate) fn note(&self, wakes: Wakes) {
        lock(&self.inner.noted).add(wakes);
        self.inner.news.notify_one();
    }

    /// Waits until something is noted, and takes it.
    pub(crate) async fn take_noted(&self) -> Wakes {
        loop {
            let noted = std::mem::take(&mut *lock(&self.inner.noted));
            if !noted.is_empty() {
                return noted;
            }
            self.inner.news.notified().await;
        }
    }

    /// What other processes are told.
    pub(crate) fn announcements(&self, wakes: &Wakes) -> Vec<String> {
        announcements(self.inner.origin, wakes)
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<Uuid, Waiting>> {
        lock(&self.inner.waiting)
    }
}

/// What is held under these locks is whole at every moment.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Waiting {
    fn wake(&self) {
        for changes in self.users.values() {
            changes.send_replace(());
        }
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

    /// Waits until it is this one's turn to look, among those of its tenant. To be held while it looks.
    pub async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed.
        self.looks.acquire().await.ok()
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let (tenant, user) = self.who;
        let mut waiting = self.live.waiting();
        let Some(of_tenant) = waiting.get_mut(&tenant) else { return };
        // This one is still counted.
        if of_tenant.users.get(&user).is_some_and(|changes| changes.receiver_count() <= 1) {
            of_tenant.users.remove(&user);
        }
        if of_tenant.users.is_empty() {
            waiting.remove(&tenant);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn id(n: u128) -> Uuid {
        Uuid::from_u128(n)
    }

    fn is_woken(watching: &mut Watching) -> bool {
        watching.changes.has_changed().unwrap() && {
            watching.changes.mark_unchanged();
            true
        }
    }

    #[tokio::test]
    async fn who_is_meant_is_woken_and_nobody_else() {
        let live = Live::default();
        let mut ann = live.watch(id(1), id(1));
        let mut ann_again = live.watch(id(1), id(1));
        let mut bob = live.watch(id(1), id(2));
        let mut other = live.watch(id(2), id(1));
        let mut woken = || [&mut ann, &mut ann_again, &mut bob, &mut other].map(is_woken);
        assert_eq!(woken(), [false; 4]);
        live.wake(id(1), vec![id(1)]);
        assert_eq!(woken(), [true, true, false, false]);
        live.wake_tenant(id(1));
        assert_eq!(woken(), [true, true, true, false]);
        live.wake_everybody();
        assert_eq!(woken(), [true; 4]);
        live.hear(&Announcement { origin: id(9), whom: Some(vec![(id(2), id(1)), (id(3), id(1))]) });
        assert_eq!(woken(), [false, false, false, true]);
        live.hear(&Announcement { origin: id(9), whom: None });
        assert_eq!(woken(), [true; 4]);
        live.hear(&Announcement { origin: live.inner.origin, whom: None });
        assert_eq!(woken(), [false; 4], "its own comes back");
    }

    #[tokio::test]
    async fn who_is_gone_leaves_nothing_behind() {
        let live = Live::default();
        let (first, second) = (live.watch(id(1), id(1)), live.watch(id(1), id(1)));
        let other = live.watch(id(1), id(2));
        assert_eq!(live.watchers(), 3);
        drop(first);
        live.wake(id(1), vec![id(1)]);
        assert!(second.changes.has_changed().unwrap());
        drop((second, other));
        assert_eq!(live.watchers(), 0);
        assert!(live.waiting().is_empty());
    }

    #[tokio::test]
    async fn nothing_is_noted_that_nobody_takes() {
        let live = Live::default();
        live.wake(id(1), vec![id(2)]);
        assert!(lock(&live.inner.noted).is_empty());
        live.set_announced(true);
        live.wake(id(1), vec![id(2), id(3)]);
        live.wake(id(1), Vec::new());
        assert_eq!(live.take_noted().await, Wakes::Of(HashSet::from([(id(1), id(2)), (id(1), id(3))])));
        assert!(lock(&live.inner.noted).is_empty());
    }
}
