//! Those who wait for something of which there is too little.

use std::sync::atomic::{AtomicUsize, Ordering};

/// How many wait.
#[derive(Debug, Default)]
pub struct WaitList(AtomicUsize);

/// One of those who wait, until it is dropped.
#[derive(Debug)]
#[must_use = "whoever drops it waits no more"]
pub struct Waiting<'a>(&'a WaitList);

impl WaitList {
    /// One more; `None` where so many wait already.
    pub fn join(&self, most: usize) -> Option<Waiting<'_>> {
        let waiting = Waiting(self);
        (self.0.fetch_add(1, Ordering::Relaxed) < most).then_some(waiting)
    }

    /// How many there are.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_so_many_until_one_goes() {
        let list = WaitList::default();
        let [first, second] = [list.join(2), list.join(2)];
        assert!(second.is_some());
        assert!(list.join(2).is_none());
        assert_eq!(list.count(), 2);
        drop(first);
        assert!(list.join(2).is_some());
        assert_eq!(list.count(), 1);
    }
}
