//! What runs the API until it is told to stop.

use std::{io, net::SocketAddr, time::Duration};

use poem::listener::TcpAcceptor;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    app::{self, ApiError},
    http::TrustedProxies,
    state::App,
};

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The API cannot be put together: a defect.
    #[error(transparent)]
    Api(#[from] ApiError),
    /// The listener broke.
    #[error("the listener broke: {0}")]
    Serve(io::Error),
}

/// A listener. It is there before the service is, so that its port is known.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Listens on this address. Requests wait until [`run`](Self::run).
    ///
    /// # Errors
    /// The address is taken, or not ours.
    pub async fn bind(address: SocketAddr) -> Result<Self, ServerError> {
        let failed = |error| ServerError::Listen(address, error);
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address })
    }

    /// Where it listens: with the port it got, where it was asked for port 0.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, and then for up to `drain` the requests that are under way.
    ///
    /// # Errors
    /// See [`ServerError`].
    pub async fn run(
        self,
        app: &App,
        proxies: TrustedProxies,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) -> Result<(), ServerError> {
        let endpoint = app::endpoint(app, proxies)?;
        let acceptor = TcpAcceptor::from_tokio(self.listener).map_err(ServerError::Serve)?;
        poem::Server::new_with_acceptor(acceptor)
            .run_with_graceful_shutdown(endpoint, stop, Some(drain))
            .await
            .map_err(ServerError::Serve)
    }
}

/// Ends when the process is told to: by SIGTERM, or by Ctrl-C.
///
/// # Errors
/// Signals cannot be listened for.
pub fn stop_signal() -> io::Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("stopping on SIGTERM"),
            _ = interrupt.recv() => tracing::info!("stopping on Ctrl-C"),
        }
    })
}
