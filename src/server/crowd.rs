//! How many connections there are, of all clients and of one.

use std::{
    collections::HashMap,
    net::IpAddr,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use ipnet::IpNet;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Limits, idle::Idle};
use crate::http::{ClientAddr, TrustedProxies};

/// How long is waited for a connection to go that was sent away. It may just have got a request, and stays then.
const FAREWELL: Duration = Duration::from_millis(100);

/// The connections of a listener.
#[derive(Debug)]
pub(super) struct Crowd {
    room: Arc<Semaphore>,
    of_address: Arc<OfAddress>,
    most_of_address: usize,
    exempt: TrustedProxies,
    idle: Arc<Idle>,
}

/// How many connections clients have.
type OfAddress = Mutex<HashMap<IpNet, usize>>;

/// Room for one more connection.
#[derive(Debug)]
pub(super) struct Room(
    #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit,
);

/// A connection that is counted, until this is dropped.
#[derive(Debug)]
pub(super) struct Guest {
    _room: Room,
    counted: Option<(IpNet, Arc<OfAddress>)>,
}

impl Crowd {
    /// With these limits. The addresses of proxies stand for those of many, and count for none.
    pub(super) fn new(limits: &Limits, exempt: TrustedProxies) -> Self {
        Self {
            room: Arc::new(Semaphore::new(limits.connections.clamp(1, Semaphore::MAX_PERMITS))),
            of_address: Arc::default(),
            most_of_address: limits.connections_of_address,
            exempt,
            idle: Arc::default(),
        }
    }

    /// Those that wait for a request.
    pub(super) fn idle(&self) -> &Arc<Idle> {
        &self.idle
    }

    /// Makes room for one more: who waits longest without a request goes. So a probe is answered however many there are that
    /// say nothing. Where all are at a request, whoever comes waits in the kernel's queue, which is bounded too.
    pub(super) async fn room(&self) -> Room {
        let mut permit = pin!(Arc::clone(&self.room).acquire_owned());
        let permit = loop {
            tokio::select! {
                biased;
                permit = &mut permit => break permit,
                () = self.idle.dismiss() => {}
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

    /// Counts a connection; `None` if its client has as many as it may.
    pub(super) fn admit(&self, room: Room, client: IpAddr) -> Option<Guest> {
        let client = client.to_canonical();
        if self.exempt.trust(client) {
            return Some(Guest { _room: room, counted: None });
        }
        let network = ClientAddr(client).network();
        let mut of_address = lock(&self.of_address);
        let connections = of_address.entry(network).or_default();
        if *connections >= self.most_of_address {
            return None;
        }
        *connections += 1;
        drop(of_address);
        Some(Guest { _room: room, counted: Some((network, Arc::clone(&self.of_address))) })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let Some((network, of_address)) = &self.counted else { return };
        let mut of_address = lock(of_address);
        if let Some(connections) = of_address.get_mut(network) {
            *connections -= 1;
            if *connections == 0 {
                of_address.remove(network);
            }
        }
    }
}

fn lock(of_address: &OfAddress) -> MutexGuard<'_, HashMap<IpNet, usize>> {
    of_address.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[tokio::test]
    async fn an_address_has_so_many_and_a_proxy_as_many_as_there_is_room_for() {
        let limits = Limits { connections: 6, connections_of_address: 2, ..Limits::default() };
        let crowd = Crowd::new(&limits, TrustedProxies::new(["10.0.0.0/8".parse().unwrap()]));
        let comes = async |client: &str| crowd.admit(crowd.room().await, client.parse().unwrap());
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
        assert_eq!(lock(&crowd.of_address).len(), 2, "who has none is forgotten");
    }
}
