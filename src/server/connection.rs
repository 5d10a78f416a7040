//! One connection, from its first byte to its last.

use std::{
    convert::Infallible,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::{Body, Frame, Incoming, SizeHint},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use poem::{
    Endpoint, Request, Response,
    http::{HeaderValue, header::CONNECTION, uri::Scheme},
    web::{LocalAddr, RemoteAddr},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    time::{sleep, timeout},
};

use super::{
    Tls,
    idle::{AtWork, Presence, Watched},
};
use crate::{
    http::{Impatient, Overloaded, Place, Places, Upload, health},
    metrics::Refusal,
    state::App,
};

/// How much of a request hyper keeps at once, the whole head among it: twice what the edge allows for the headers, so that
/// it is the edge that refuses what is a little too long. hyper's own bound, 400 KiB, is memory that each connection may take.
const BUFFER_BYTES: usize = 64 * 1024;
/// How long a connection that has not had a request yet may take for one while the service stops, and for a handshake
/// before it: a round trip and some. Half a head is no request, and must not hold up the end.
const LAST_CHANCE: Duration = Duration::from_secs(1);
/// The first byte of everything that begins as TLS: the type of a record with a handshake (RFC 8446, 5.1).
const HANDSHAKE: u8 = 22;
/// What somebody is told who speaks HTTP where TLS is spoken.
const NOT_TLS: &str = concat!(
    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/problem+json\r\nContent-Length: 126\r\n",
    "Cache-Control: no-store\r\nConnection: close\r\n\r\n",
    r#"{"type":"about:blank","title":"Bad Request","status":400,"code":"tls_required","detail":"This port speaks TLS: use https://."}"#,
);

/// What all connections of a listener have in common.
pub(super) struct Host<E> {
    pub(super) app: App,
    pub(super) endpoint: E,
    pub(super) address: SocketAddr,
    pub(super) tls: Option<Tls>,
    pub(super) places: Arc<Places>,
    pub(super) handshake: Duration,
    pub(super) http: http1::Builder,
}

/// How HTTP is spoken. HTTP/1.1 alone: see [`Tls::load`]. Without TLS, telling the two apart would wait without a deadline
/// for a client that sends nothing.
pub(super) fn http(head: Duration) -> http1::Builder {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(head).max_buf_size(BUFFER_BYTES);
    http
}

impl<E: Endpoint<Output = Response> + 'static> Host<E> {
    /// Serves a connection to its end. Its end ends what it was at: a client that hangs up is not served any further.
    ///
    /// When `draining` comes to be true, it answers the request that it is at and no other, or, if it has not had any, the
    /// first.
    pub(super) async fn serve(
        self: Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        presence: Arc<Presence>,
        draining: watch::Receiver<bool>,
    ) {
        let too_late = async {
            begun(draining.clone()).await;
            sleep(LAST_CHANCE).await;
            if presence.has_asked() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            () = self.agree(stream, client, &presence, draining.clone()) => {}
            () = presence.dismissed() => tracing::debug!("a connection without a request makes room"),
            () = too_late => tracing::debug!("a connection without a request is closed for the end"),
        }
    }

    /// Agrees on TLS where it is spoken, and goes on from there.
    async fn agree(
        self: Arc<Self>,
        stream: TcpStream,
        client: SocketAddr,
        presence: &Arc<Presence>,
        draining: watch::Receiver<bool>,
    ) {
        let patience = self.app.streams.options().patience;
        let Some(tls) = &self.tls else {
            let stream = Impatient::new(stream, patience);
            return self.converse(stream, Scheme::HTTP, client, presence, draining).await;
        };
        let acceptor = tls.acceptor();
        let handshake = async {
            let mut first = [0];
            let came = stream.peek(&mut first).await?;
            presence.receive();
            if came == 1 && first != [HANDSHAKE] {
                let mut stream = stream;
                stream.write_all(NOT_TLS.as_bytes()).await?;
                stream.shutdown().await?;
                return Ok(None);
            }
            // Inside of TLS, so that it sees what the client takes, and not what rustls keeps for it.
            acceptor.accept(Impatient::new(stream, patience)).await.map(Some)
        };
        match timeout(self.handshake, handshake).await {
            Ok(Ok(Some(stream))) => {
                presence.wait_anew();
                self.converse(stream, Scheme::HTTPS, client, presence, draining).await;
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) => tracing::debug!(%error, "no TLS came about"),
            Err(_) => tracing::debug!("no TLS came about in time"),
        }
    }

    async fn converse<S>(
        self: Arc<Self>,
        stream: S,
        scheme: Scheme,
        client: SocketAddr,
        presence: &Arc<Presence>,
        draining: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (host, present) = (Arc::clone(&self), Arc::clone(presence));
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            let (head, incoming) = request.into_parts();
            let head = (head, LocalAddr(host.address.into()), RemoteAddr(client.into()), scheme.clone());
            let (upload, body) = Upload::new(&head.0.headers, incoming).unzip();
            let request = Request::from_parts(head.into(), body.unwrap_or_default());
            let host = Arc::clone(&host);
            let at_work = Arc::clone(&present).work();
            async move {
                let mut response = host.answer(request).await;
                if let Some(upload) = upload {
                    upload.finish(&mut response);
                }
                // Whoever comes again comes over another connection, and by then to another process.
                if host.app.is_leaving() {
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                let response = hyper::Response::from(response).map(|body| Sent { body, _at_work: at_work });
                Ok::<_, Infallible>(response)
            }
        });
        let stream = TokioIo::new(Watched { stream, presence: Arc::clone(presence) });
        let mut connection = pin!(self.http.serve_connection(stream, service));
        let last = async {
            begun(draining).await;
            presence.asked().await;
        };
        let ended = tokio::select! {
            ended = &mut connection => ended,
            () = last => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "a connection broke");
        }
    }

    /// Answers a request when it has a place. Whoever asks how the process is needs none: a process that has much to do is
    /// alive.
    async fn answer(&self, mut request: Request) -> Response {
        if health::is_health(request.uri().path()) {
            return self.endpoint.get_response(request).await;
        }
        match self.places.take().await {
            Ok(place) => {
                let held = Held(place.clone());
                request.extensions_mut().insert(place);
                let response = self.endpoint.get_response(request).await;
                drop(held);
                response
            }
            Err(overloaded) => {
                self.app.metrics().refusals.count(Refusal::Overload);
                request.extensions_mut().insert::<Overloaded>(overloaded);
                self.endpoint.get_response(request).await
            }
        }
    }
}

/// The body of an answer: its connection is at work until it is through, and what hyper has of it is written, or nobody takes
/// it any more.
struct Sent<B> {
    body: B,
    _at_work: AtWork,
}

impl<B: Body + Unpin> Body for Sent<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Ends when the end has begun.
async fn begun(mut draining: watch::Receiver<bool>) {
    if draining.wait_for(|draining| *draining).await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// A place that is given up when this is dropped, whoever else still has it at hand.
struct Held(Place);

impl Drop for Held {
    fn drop(&mut self) {
        self.0.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_of_plain_http_is_as_long_as_it_says() {
        let (head, body) = NOT_TLS.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}\r\n", body.len())), "{}", body.len());
        serde_json::from_str::<serde_json::Value>(body).unwrap();
    }
}
