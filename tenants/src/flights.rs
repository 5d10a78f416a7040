//! One question at a time: whoever asks what is being asked already waits for the same answer.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::OnceCell;

/// Questions under way. It has an entry only for those that somebody waits for.
///
/// moka's own `try_get_with` does the same, but puts the answer into a cache of its own choice: here known and unknown
/// names go to different ones, and a question can be cut off from who asks later.
#[derive(Debug)]
pub(crate) struct Flights<K, V> {
    open: Mutex<HashMap<K, Flight<V>>>,
}

#[derive(Debug)]
struct Flight<V> {
    answer: Arc<OnceCell<V>>,
    waiting: usize,
}

impl<K, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { open: Mutex::default() }
    }
}

impl<K: Clone + Eq + Hash, V: Clone> Flights<K, V> {
    /// The answer to `question`: that of `ask`, or of somebody who asks the same now. Whose future is dropped leaves
    /// the asking to the next who waits.
    pub(crate) async fn join(&self, question: K, ask: impl Future<Output = V>) -> V {
        let answer = {
            let mut open = self.lock();
            let flight =
                open.entry(question.clone()).or_insert_with(|| Flight { answer: Arc::default(), waiting: 0 });
            flight.waiting += 1;
            Arc::clone(&flight.answer)
        };
        let seat = Seat { flights: self, question, answer };
        seat.answer.get_or_init(|| ask).await.clone()
    }

    /// Whoever asks from here on asks anew. Those who wait already get what they wait for.
    pub(crate) fn cut_off(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<K, Flight<V>>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One that waits. Dropped, it leaves no entry behind that nobody waits for, nor an answer to be had for later.
struct Seat<'a, K: Clone + Eq + Hash, V: Clone> {
    flights: &'a Flights<K, V>,
    question: K,
    answer: Arc<OnceCell<V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut open = self.flights.lock();
        // After a cut-off there may be another flight of this name, or none.
        let ours = open.get_mut(&self.question).filter(|flight| Arc::ptr_eq(&flight.answer, &self.answer));
        let Some(flight) = ours else { return };
        flight.waiting -= 1;
        if flight.waiting == 0 || self.answer.initialized() {
            open.remove(&self.question);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use futures_util::{future::join_all, poll};
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn many_who_ask_at_once_are_one_question() {
        let flights = Flights::default();
        let asked = AtomicU32::new(0);
        let ask = || async {
            tokio::task::yield_now().await;
            asked.fetch_add(1, Ordering::Relaxed)
        };
        assert_eq!(join_all((0..100).map(|_| flights.join("a", ask()))).await, vec![0; 100]);
        assert_eq!(flights.join("a", ask()).await, 1, "an answer is not kept");
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn who_leaves_leaves_the_asking_to_the_next() {
        let flights = Flights::default();
        let mut first = Box::pin(flights.join("a", std::future::pending()));
        let mut second = Box::pin(flights.join("a", async { 2 }));
        assert!(poll!(&mut first).is_pending());
        assert!(poll!(&mut second).is_pending());
        drop(first);
        assert_eq!(second.await, 2);
        assert!(flights.lock().is_empty());
    }

    #[tokio::test]
    async fn who_asks_after_a_cut_off_gets_no_older_answer() {
        let flights = Flights::default();
        let (sender, receiver) = oneshot::channel();
        let mut before = Box::pin(flights.join("a", async { receiver.await.unwrap() }));
        assert!(poll!(&mut before).is_pending());
        flights.cut_off();
        let (later, waits) = oneshot::channel();
        let mut after = Box::pin(flights.join("a", async { waits.await.unwrap() }));
        assert!(poll!(&mut after).is_pending());
        sender.send("old").unwrap();
        assert_eq!(before.await, "old");
        assert_eq!(flights.lock().len(), 1, "the old one's end is not the new one's");
        later.send("new").unwrap();
        assert_eq!(after.await, "new");
        assert!(flights.lock().is_empty());
    }
}
