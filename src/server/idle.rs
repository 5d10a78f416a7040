//! Which connections have nothing under way: where there is no room for another one, one of them has to go.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use ipnet::IpNet;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::{Notify, watch},
};

use super::{
    crowd::Present,
    waiting::{Place, Stage},
};

/// A connection, which waits or is at a request: from the head of that until the last of the answer is with the kernel.
#[derive(Debug)]
pub(super) struct Presence {
    present: Arc<Present>,
    network: IpNet,
    state: Mutex<State>,
    dismissed: Arc<Notify>,
    asked: watch::Sender<bool>,
}

#[derive(Debug, Default)]
struct State {
    /// Requests that are not answered yet, or whose answer hyper does not have yet.
    requests: usize,
    /// There may be something of an answer that hyper has and the kernel does not.
    is_unwritten: bool,
    /// Its place among those that wait, which it may have lost.
    place: Option<Place>,
}

impl Presence {
    /// One that is counted, and has no part in anything until it [rests](Self::rest).
    pub(super) fn new(present: Arc<Present>, network: IpNet, is_exempt: bool) -> Self {
        present.clients().come(network, is_exempt);
        let (state, dismissed, asked) = (Mutex::default(), Arc::default(), watch::Sender::new(false));
        Self { present, network, state, dismissed, asked }
    }

    /// It begins to wait, for anything.
    pub(super) fn rest(&self) {
        self.rest_in(&mut self.state(), Stage::Silent);
    }

    /// It is at a request until this is dropped, and until what came of it is written.
    pub(super) fn work(self: Arc<Self>) -> AtWork {
        let mut state = self.state();
        state.requests += 1;
        if let Some(place) = state.place.take() {
            self.present.clients().rise(self.network, place);
        }
        drop(state);
        self.asked.send_replace(true);
        AtWork(self)
    }

    /// Something came. Where it was waited for, it is the beginning of something.
    pub(super) fn receive(&self) {
        let mut state = self.state();
        if matches!(state.place, Some((Stage::Silent, _))) {
            self.move_to(&mut state, Stage::Begun);
        }
    }

    /// What had begun has come to its end, and was no request.
    pub(super) fn wait_anew(&self) {
        self.move_to(&mut self.state(), Stage::Silent);
    }

    /// All that there was to write is with the kernel, which sends it on even when the connection is closed.
    pub(super) fn written(&self) {
        let mut state = self.state();
        if state.requests == 0 && std::mem::take(&mut state.is_unwritten) {
            self.rest_in(&mut state, Stage::Silent);
        }
    }

    /// Whether a request has ever come.
    pub(super) fn has_asked(&self) -> bool {
        *self.asked.borrow()
    }

    /// Ends when a first request has come.
    pub(super) async fn asked(&self) {
        // It fails when there is nobody left to say so, and that is this.
        let _ = self.asked.subscribe().wait_for(|asked| *asked).await;
    }

    /// Ends when it has to go.
    pub(super) async fn dismissed(&self) {
        loop {
            self.dismissed.notified().await;
            let place = self.state().place;
            // It may have been at a request by then.
            if place.is_some_and(|place| !self.present.clients().waits(self.network, place)) {
                return;
            }
        }
    }

    fn rest_in(&self, held: &mut State, stage: Stage) {
        let dismissed = Arc::clone(&self.dismissed);
        held.place = Some(self.present.clients().rest(self.network, stage, dismissed));
        self.present.came.notify_one();
    }

    /// Nothing for one that was sent away.
    fn move_to(&self, held: &mut State, stage: Stage) {
        if let Some(place) = held.place
            && self.present.clients().rise(self.network, place)
        {
            self.rest_in(held, stage);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        let place = self.state().place;
        let mut clients = self.present.clients();
        if let Some(place) = place {
            clients.rise(self.network, place);
        }
        clients.leave(self.network);
    }
}

/// A connection that is at a request.
#[derive(Debug)]
pub(super) struct AtWork(Arc<Presence>);

impl Drop for AtWork {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.requests -= 1;
        // hyper takes an answer that is one piece at once, however slow its client is, and writes it then.
        state.is_unwritten = true;
    }
}

/// A stream that tells what comes and when all is written. It has to be the one that hyper has: of what is flushed there,
/// nobody keeps anything back, hyper and TLS among them.
#[derive(Debug)]
pub(super) struct Watched<S> {
    pub(super) stream: S,
    pub(super) presence: Arc<Presence>,
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.presence.receive();
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// hyper calls it when it has written all that it has.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        if flushed.is_ready() {
            self.presence.written();
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use tokio::io::AsyncWriteExt as _;

    use super::*;

    fn come(present: &Arc<Present>, client: &str) -> Arc<Presence> {
        let is_exempt = client.starts_with("10.");
        let presence = Arc::new(Presence::new(Arc::clone(present), client.parse().unwrap(), is_exempt));
        presence.rest();
        presence
    }

    fn is_dismissed(presence: &Presence) -> bool {
        presence.dismissed().now_or_never().is_some()
    }

    async fn finish(presence: &Arc<Presence>) {
        let mut stream = Watched { stream: tokio::io::sink(), presence: Arc::clone(presence) };
        stream.flush().await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_longest_goes_first_and_who_is_at_work_stays() {
        let present = Arc::<Present>::default();
        let [one, two, three] = std::array::from_fn(|_| come(&present, "192.0.2.1/32"));
        assert!(present.dismiss().now_or_never().is_none(), "none of them has waited for long");
        let at_work = Arc::clone(&one).work();
        assert!(one.has_asked() && !two.has_asked());
        present.dismiss().await;
        two.dismissed().await;
        assert!(!is_dismissed(&one) && !is_dismissed(&three));
        drop((two, at_work));
        present.dismiss().await;
        three.dismissed().await;
        drop(three);
        assert!(present.clients().dismiss().is_err(), "its answer is not written yet");
        finish(&one).await;
        present.dismiss().await;
        // A request has come in the meantime.
        let at_work = Arc::clone(&one).work();
        assert!(!is_dismissed(&one));
        drop((at_work, one));
        assert_eq!(present.clients().len(), 0, "who is gone is forgotten");
    }

    #[tokio::test]
    async fn who_has_many_and_keeps_them_busy_drives_nobody_out_but_proxies_are_spared() {
        let present = Arc::<Present>::default();
        let single = come(&present, "192.0.2.1/32");
        tokio::time::sleep(std::time::Duration::from_millis(1_050)).await;
        let many: [_; 2] = std::array::from_fn(|_| come(&present, "192.0.2.2/32"));
        let proxy: [_; 3] = std::array::from_fn(|_| come(&present, "10.0.0.1/32"));
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        present.clients().dismiss().unwrap();
        assert!(is_dismissed(&many[0]) && !is_dismissed(&single));
        let [first, last] = many;
        drop(first);
        present.clients().dismiss().unwrap();
        assert!(is_dismissed(&single) && !is_dismissed(&last), "it has no more than that one");
        assert!(proxy.iter().all(|it| !is_dismissed(it)));
    }

    #[tokio::test]
    async fn it_is_one_of_who_has_most_and_not_one_whose_request_has_begun_to_come() {
        let present = Arc::<Present>::default();
        let single = come(&present, "192.0.2.1/32");
        let [half, silent] = std::array::from_fn(|_| come(&present, "192.0.2.2/32"));
        half.receive();
        present.dismiss().await;
        assert!(is_dismissed(&silent) && !is_dismissed(&single) && !is_dismissed(&half));
        // What was sent away stays so, whatever comes of it.
        silent.receive();
        silent.wait_anew();
        drop(silent);
        present.dismiss().await;
        assert!(
            is_dismissed(&single) && !is_dismissed(&half),
            "they have as many, and it waits for anything"
        );
        drop(single);
        present.dismiss().await;
        assert!(is_dismissed(&half));
    }
}
