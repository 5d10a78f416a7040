//! What runs the API until it is told to stop.

mod certificate;
mod connection;
mod crowd;
mod follow;
mod idle;
mod signals;
mod socket;
mod tls;
mod waiting;

use std::{
    io,
    net::SocketAddr,
    pin::pin,
    sync::Arc,
    time::{Duration, Instant},
};

use poem::{Endpoint, Response};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinSet,
};

use self::{
    connection::Host,
    crowd::{Crowd, Room},
    idle::Presence,
};
pub use self::{
    signals::Signals,
    tls::{CertificateFiles, Tls, TlsError},
};
use crate::{
    app::{self, ApiError},
    http::{Face, Places, Policy, TrustedProxies},
    state::App,
};

/// How long to wait when no connection can be accepted, most often because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often at most it is told that an address has too many connections, or that none can be accepted.
const COMPLAINT_PAUSE: Duration = Duration::from_secs(10);

/// How many connections a listener has at most that is for operators, or for figures: proxies and people, not customers.
const CONNECTIONS_ASIDE: usize = 1_024;

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error(
        "cannot listen on {0}: {1}. TENANTRY_LISTEN and TENANTRY_ADMIN_LISTEN name another address; port 0 takes any free one"
    )]
    Listen(SocketAddr, io::Error),
    /// There is no certificate to use.
    #[error("TENANTRY_TLS_CERT_FILE and TENANTRY_TLS_KEY_FILE: {0}")]
    Tls(#[from] TlsError),
    /// The API cannot be put together: a defect.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// How much a listener takes on at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Requests that are worked on; half as many wait for that.
    pub requests: usize,
    /// Connections. When another one comes then, one of those goes that have nothing under way; where there is none, it waits.
    pub connections: usize,
    /// Connections of one client. Who comes then is hung up on.
    pub connections_of_address: usize,
    /// How long a client may take to agree on a key. It is two round trips.
    pub handshake: Duration,
    /// How long the head of a request may take to arrive, and a connection may wait for its next request.
    pub head: Duration,
}

impl Limits {
    /// These for the listener that everybody comes to, and others for each of those beside it, that operators and probes come
    /// to: all of them together have as many connections as these, and a flood on one leaves the others theirs.
    #[must_use]
    pub fn divided(self, beside: usize) -> (Self, Self) {
        let aside = (self.connections / 8).clamp(1, CONNECTIONS_ASIDE);
        let connections = self.connections.saturating_sub(aside * beside).max(1);
        (Self { connections, ..self }, Self { connections: aside, ..self })
    }
}

impl Default for Limits {
    /// As the settings have it.
    fn default() -> Self {
        Self {
            requests: 512,
            connections: 16_384,
            connections_of_address: 1_024,
            handshake: Duration::from_secs(10),
            head: Duration::from_secs(30),
        }
    }
}

/// A listener. It is there before the service is, so that its port is known.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    face: Face,
    tls: Option<Tls>,
    limits: Limits,
    exempt: TrustedProxies,
}

impl Server {
    /// Listens on this address, within a runtime. Requests wait until [`run`](Self::run).
    ///
    /// # Errors
    /// The address is taken, or not ours.
    pub fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let failed = |error| ServerError::Listen(address, error);
        let listener = socket::listen(address).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (face, limits, exempt) = (Face::default(), Limits::default(), TrustedProxies::default());
        Ok(Self { listener, address, face, tls: None, limits, exempt })
    }

    /// Answers some of the paths only.
    #[must_use]
    pub fn showing(self, face: Face) -> Self {
        Self { face, ..self }
    }

    /// Speaks TLS, or not.
    #[must_use]
    pub fn encrypted(self, tls: Option<Tls>) -> Self {
        Self { tls, ..self }
    }

    /// Takes on no more than this at once. Addresses of these networks may have as many connections as there is room for.
    #[must_use]
    pub fn within(self, limits: Limits, exempt: TrustedProxies) -> Self {
        Self { limits, exempt, ..self }
    }

    /// Where it listens: with the port it got, where it was asked for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How it is spoken to: `http` or `https`.
    #[must_use]
    pub fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "https" } else { "http" }
    }

    /// Serves until `stop`, and then for up to `drain` the requests that are under way.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn run(
        self,
        app: &App,
        policy: Policy,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) -> Result<(), ServerError> {
        let Self { listener, address, face, tls, limits, exempt } = self;
        let host = Arc::new(Host {
            app: app.clone(),
            endpoint: app::endpoint(app, policy, face)?,
            address,
            tls,
            places: Places::new(limits.requests),
            handshake: limits.handshake,
            http: connection::http(limits.head),
        });
        let mut guests = Guests {
            host,
            crowd: Crowd::new(&limits, exempt),
            draining: watch::Sender::new(false),
            connections: JoinSet::new(),
            refused: Complaint::default(),
            unaccepted: Complaint::default(),
        };
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = &mut stop => break,
                Some(_) = guests.connections.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            let (stream, client) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    guests.cannot_accept(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Some(presence) = guests.count(client) else { continue };
            tokio::select! {
                // The room first: who was accepted is thrown out by the end only if there is none.
                biased;
                room = guests.crowd.room() => guests.admit(room, presence, stream, client),
                () = &mut stop => break,
            }
        }
        guests.admit_queue(listener);
        // They would not end by themselves.
        app.streams.end();
        guests.finish(drain).await;
        Ok(())
    }
}

/// The connections of a listener, and what all of them have in common.
struct Guests<E> {
    host: Arc<Host<E>>,
    crowd: Crowd,
    draining: watch::Sender<bool>,
    connections: JoinSet<()>,
    refused: Complaint,
    unaccepted: Complaint,
}

impl<E: Endpoint<Output = Response> + 'static> Guests<E> {
    /// `None` for one whose client has as many as it may: it is hung up on.
    fn count(&mut self, client: SocketAddr) -> Option<Presence> {
        let presence = self.crowd.count(client.ip());
        if presence.is_none()
            && let Some(refused) = self.refused.due()
        {
            tracing::warn!(refused, "an address has as many connections as it may");
        }
        presence
    }

    fn admit(&mut self, room: Room, presence: Presence, stream: TcpStream, client: SocketAddr) {
        presence.rest();
        let presence = Arc::new(presence);
        let (host, draining) = (Arc::clone(&self.host), self.draining.subscribe());
        self.connections.spawn(async move {
            host.serve(stream, client, presence, draining).await;
            drop(room);
        });
    }

    /// Most often because there are too many open files: one that waits for a request has one that is needed.
    fn cannot_accept(&mut self, error: &io::Error) {
        let made_room = self.crowd.shrink();
        if let Some(times) = self.unaccepted.due() {
            tracing::warn!(%error, times, made_room, "a connection cannot be accepted");
        }
    }

    /// Closes the port. Who is in the kernel's queue by then has a connection, and often has sent a request: the kernel would
    /// throw both away.
    fn admit_queue(&mut self, listener: TcpListener) {
        // Asked for themselves: the runtime may not have been told yet that they are there.
        let Ok(listener) = listener.into_std() else { return };
        while let Some(room) = self.crowd.room_left()
            && let Ok((stream, client)) = listener.accept()
        {
            if let Ok(stream) = stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream))
                && let Some(presence) = self.count(client)
            {
                self.admit(room, presence, stream, client);
            }
        }
    }

    /// Waits for what is under way, and cuts off what does not end in time.
    async fn finish(self, drain: Duration) {
        let Self { draining, mut connections, .. } = self;
        draining.send_replace(true);
        let drained = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(drain, drained).await.is_err() {
            while connections.try_join_next().is_some() {}
            if !connections.is_empty() {
                tracing::warn!(connections = connections.len(), "some requests did not end in time");
            }
            connections.shutdown().await;
        }
    }
}

/// Something that is told now and then, however often it happens.
#[derive(Default)]
struct Complaint {
    made: Option<Instant>,
    times: u64,
}

impl Complaint {
    /// It happened once more. How often since it was told, if it is to be told now.
    fn due(&mut self) -> Option<u64> {
        self.times += 1;
        if self.made.is_some_and(|made| made.elapsed() < COMPLAINT_PAUSE) {
            return None;
        }
        self.made = Some(Instant::now());
        Some(std::mem::take(&mut self.times))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_listeners_together_have_what_one_would() {
        for connections in [1, 8, 20, 192, 16_384, 1 << 20] {
            let limits = Limits { connections, ..Limits::default() };
            let (all, aside) = limits.divided(2);
            let together = all.connections + 2 * aside.connections;
            assert!(together <= connections.max(3), "{connections}: {all:?} {aside:?}");
            assert_eq!(limits.divided(0).0, limits);
        }
        let (all, aside) = Limits::default().divided(1);
        assert_eq!((all.connections, aside.connections), (15_360, 1_024));
    }
}
