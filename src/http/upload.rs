//! The body of a request on its way in.
//!
//! A request may be refused before its body has been read. What the client is still sending then must be taken off the
//! connection: hyper would close it with bytes unread, the kernel would reset it, and the client would lose the answer,
//! or find a connection that it believes to be alive gone under its next request.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use hyper::body::{Body as HttpBody, Frame, Incoming, SizeHint};
use poem::{
    Body, Response,
    http::{
        HeaderMap, HeaderValue,
        header::{CONNECTION, EXPECT},
    },
};
use tokio::runtime::Handle;

/// How long the announced rest of a body may be for the connection to be worth keeping.
const KEPT_BYTES: u64 = 64 * 1024;
/// How much of a body that nobody reads is taken off the connection before it is closed. A client that only listens once it has
/// sent all gets its answer up to here.
const LINGER_BYTES: usize = 16 << 20;
/// How long that may take: nginx's `lingering_timeout`.
const LINGER: Duration = Duration::from_secs(5);

/// What becomes of a connection whose request has a body.
#[derive(Debug)]
pub struct Upload {
    read: Arc<AtomicBool>,
    keeps: bool,
}

impl Upload {
    /// The body for the application, and what is to become of the connection. `None`: the request has no body.
    #[must_use]
    pub fn new(headers: &HeaderMap, incoming: Incoming) -> Option<(Self, Body)> {
        if incoming.is_end_stream() {
            return None;
        }
        // Whoever waits for "100 Continue" may send the body after a refusal, or not. Reading would ask for it.
        let asked = headers.contains_key(EXPECT);
        let keeps = !asked && incoming.size_hint().upper().is_some_and(|bytes| bytes <= KEPT_BYTES);
        let read = Arc::new(AtomicBool::new(false));
        let body = Lingering { incoming: Some(incoming), read: Arc::clone(&read), wanted: !asked };
        Some((Self { read, keeps }, Body::from(body.boxed())))
    }

    /// Says in the answer that the connection ends, where the rest of the body is too much to wait for.
    pub fn finish(&self, response: &mut Response) {
        if !self.keeps && !self.read.load(Ordering::Relaxed) {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
    }
}

/// A body whose rest is read and forgotten when it is dropped.
struct Lingering {
    incoming: Option<Incoming>,
    read: Arc<AtomicBool>,
    /// The client sends it whatever is answered, or has been told to.
    wanted: bool,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.wanted = true;
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(incoming).poll_frame(context));
        if frame.is_none() || self.is_end_stream() {
            self.read.store(true, Ordering::Relaxed);
        }
        Poll::Ready(frame.map(|frame| frame.map_err(io::Error::other)))
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(SizeHint::default, HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(incoming) = self.incoming.take() else { return };
        if !self.wanted || self.read.load(Ordering::Relaxed) || incoming.is_end_stream() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        runtime.spawn(tokio::time::timeout(LINGER, forget(incoming)));
    }
}

async fn forget(mut incoming: Incoming) {
    let mut bytes = 0;
    while let Some(Ok(frame)) = incoming.frame().await {
        bytes += frame.data_ref().map_or(0, Bytes::len);
        if bytes > LINGER_BYTES {
            return;
        }
    }
}
