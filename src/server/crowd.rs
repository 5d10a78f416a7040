//! How many connections there are, of all clients and of one.

use std::{
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore},
    time::{sleep_until, timeout},
};

use super::{Limits, idle::Presence, waiting::Clients};
use crate::http::{ClientAddr, TrustedProxies};

/// How long is waited for a connection to go that was sent away. It may just have got a request, and stays then.
const FAREWELL: Duration = Duration::from_millis(100);
/// After how long at most it is looked again who may have to go.
const LOOK: Duration = Duration::from_secs(1);

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Crowd {
    room: Arc<Semaphore>,
    present: Arc<Present>,
    most_of_address: usize,
    exempt: TrustedProxies,
}

/// Who has a connection.
#[derive(Debug, Default)]
pub(super) struct Present {
    clients: Mutex<Clients>,
    /// One begins to wait.
    pub(super) came: Notify,
}

impl Present {
    pub(super) fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a connection away that waits for a request, as soon as there is one.
    pub(super) async fn dismiss(&self) {
        loop {
            let came = self.came.notified();
            let dismissed = self.clients().dismiss();
            match dismissed {
                Ok(()) => return,
                Err(None) => came.await,
                Err(Some(soonest)) => sleep_until(soonest.min(Instant::now() + LOOK).into()).await,
            }
        }
    }
}

/// Room for one more connection.
#[derive(Debug)]
pub(super) struct Room(
    #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit,
);

impl Crowd {
    /// With these limits. The addresses of proxies stand for those of many, and have none.
    pub(super) fn new(limits: &Limits, exempt: TrustedProxies) -> Self {
        Self {
            room: Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
            present: Arc::default(),
            most_of_address: limits.connections_of_address,
            exempt,
        }
    }

    /// Counts a connection; `None` if its client has as many as it may. It comes before [`room`](Self::room): nobody has to go
    /// for one who must not come.
    pub(super) fn count(&self, client: IpAddr) -> Option<Presence> {
        let client = client.to_canonical();
        let network = ClientAddr(client).network();
        let is_exempt = self.exempt.trust(client);
        let has_room = is_exempt || self.present.clients().connections(network) < self.most_of_address;
        has_room.then(|| Presence::new(Arc::clone(&self.present), network, is_exempt))
    }

    /// Makes room for one more: one of those goes that have nothing under way. So a probe is answered however many there are
    /// that say nothing. Where all are at a request, whoever comes waits in the kernel's queue, which is bounded too.
    pub(super) async fn room(&self) -> Room {
        let mut permit = pin!(Arc::clone(&self.room).acquire_owned());
        let permit = loop {
            tokio::select! {
                biased;
                permit = &mut permit => break permit,
                () = self.present.dismiss() => {}
            }
            if let Ok(permit) = timeout(FAREWELL, &mut permit).await {
                break permit;
            }
        };
        match permit {
            Ok(permit) => Room(permit),
            // It is never closed.
            Err(_) => std::future::pending().await,
        }
    }

    /// Room for one more, if there is any.
    pub(super) fn room_left(&self) -> Option<Room> {
        Arc::clone(&self.room).try_acquire_owned().ok().map(Room)
    }

    /// Sends one away whose place is needed for something else. Whether there was one to send.
    pub(super) fn shrink(&self) -> bool {
        self.present.clients().dismiss().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn an_address_has_so_many_and_a_proxy_as_many_as_there_is_room_for() {
        let limits = Limits { connections: 6, connections_of_address: 2, ..Limits::default() };
        let crowd = Crowd::new(&limits, TrustedProxies::new(["10.0.0.0/8".parse().unwrap()]));
        let comes = async |client: &str| {
            let presence = crowd.count(client.parse().unwrap())?;
            Some((crowd.room().await, presence))
        };
        let first = comes("2001:db8::1").await.unwrap();
        let _second = comes("2001:db8::2").await.unwrap();
        assert!(comes("2001:db8::3").await.is_none(), "one network, one client");
        drop(first);
        let _third = comes("2001:db8::3").await.unwrap();
        let proxies = [comes("10.0.0.1").await, comes("::ffff:10.0.0.1").await, comes("10.0.0.1").await]
            .map(Option::unwrap);
        let _last = comes("192.0.2.1").await.unwrap();
        assert!(crowd.room().now_or_never().is_none(), "it is full");
        drop(proxies);
        assert!(crowd.room().now_or_never().is_some());
        assert_eq!(crowd.present.clients().len(), 2, "who has none is forgotten");
    }
}
