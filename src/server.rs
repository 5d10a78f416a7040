//! What runs the API until it is told to stop.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
};
use poem::{
    Endpoint as _, Request,
    http::uri::Scheme,
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};

use crate::{
    app::{self, ApiError},
    http::{Face, Impatient, Policy, Upload},
    state::App,
};

/// How long the head of a request may take to arrive, and a connection may wait for its next request.
const HEAD_DEADLINE: Duration = Duration::from_secs(30);
/// How long to wait when no connection can be accepted, most often because there are too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why the server does not run.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// The address is taken, or not ours.
    #[error(
        "cannot listen on {0}: {1}. TENANTRY_LISTEN and TENANTRY_ADMIN_LISTEN name another address; port 0 takes any free one"
    )]
    Listen(SocketAddr, io::Error),
    /// The API cannot be put together: a defect.
    #[error(transparent)]
    Api(#[from] ApiError),
}

/// A listener. It is there before the service is, so that its port is known.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    face: Face,
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
        Ok(Self { listener, address, face: Face::default() })
    }

    /// Answers some of the paths only.
    #[must_use]
    pub fn showing(self, face: Face) -> Self {
        Self { face, ..self }
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
        policy: Policy,
        stop: impl Future<Output = ()>,
        drain: Duration,
    ) -> Result<(), ServerError> {
        let endpoint = Arc::new(app::endpoint(app, policy, self.face)?);
        // HTTP/1.1 alone: HTTP/2 is for clients behind TLS, which ends at a proxy; and telling the two apart would wait
        // without a deadline for a client that sends nothing.
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
        let (address, patience) = (self.address, app.streams.options().patience);
        let open = GracefulShutdown::new();
        let mut stop = pin!(stop);
        loop {
            let (stream, client) = tokio::select! {
                () = &mut stop => break,
                accepted = self.listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            // Without it, the end of an answer may wait for the client's acknowledgement of its beginning.
            stream.set_nodelay(true).ok();
            let endpoint = Arc::clone(&endpoint);
            let service = service_fn(move |request: hyper::Request<Incoming>| {
                let (head, incoming) = request.into_parts();
                let head = (head, LocalAddr(address.into()), RemoteAddr(client.into()), Scheme::HTTP);
                let (upload, body) = Upload::new(&head.0.headers, incoming).unzip();
                let request = Request::from_parts(head.into(), body.unwrap_or_default());
                let endpoint = Arc::clone(&endpoint);
                async move {
                    let mut response = endpoint.get_response(request).await;
                    if let Some(upload) = upload {
                        upload.finish(&mut response);
                    }
                    Ok::<hyper::Response<_>, Infallible>(response.into())
                }
            });
            let connection = http.serve_connection(TokioIo::new(Impatient::new(stream, patience)), service);
            let connection = open.watch(connection);
            tokio::spawn(async move {
                // Its end ends what it was at: a client that hangs up is not served any further.
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "a connection broke");
                }
            });
        }
        drop(self.listener);
        // They would not end by themselves.
        app.streams.end();
        if tokio::time::timeout(drain, open.shutdown()).await.is_err() {
            tracing::warn!("some requests did not end in time");
        }
        Ok(())
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
