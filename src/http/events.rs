//! Answers that go on: Server-Sent Events, as the WHATWG's HTML standard has them.
//!
//! They come from a stream that is asked for more only while the client takes what there is, so that a slow one makes
//! the server keep little, and that is dropped as soon as the client hangs up.

use std::{convert::Infallible, marker::PhantomData, time::Duration};

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use poem::{
    Body, IntoResponse, Response,
    http::{
        HeaderName, HeaderValue,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaMediaType, MetaResponse, MetaResponses, MetaSchema, MetaSchemaRef, Registry},
    types::Type,
};
use serde::Serialize;

const MEDIA_TYPE: &str = "text/event-stream";
/// What nginx takes as: pass it on as it comes.
const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// 200 with events whose data is a `T` as JSON.
pub struct EventStream<T> {
    body: Body,
    of: PhantomData<fn() -> T>,
}

impl<T> EventStream<T> {
    /// The answer that consists of these frames. The first ones should be there at once: some proxies pass on no header
    /// before the body begins.
    pub fn new(frames: impl Stream<Item = Bytes> + Send + 'static) -> Self {
        Self { body: Body::from_bytes_stream(frames.map(Ok::<_, Infallible>).map(never)), of: PhantomData }
    }
}

fn never(frame: Result<Bytes, Infallible>) -> Result<Bytes, std::io::Error> {
    frame.map_err(|never| match never {})
}

/// A line that clients pass over; it shows everybody on the way that the connection is alive.
#[must_use]
pub fn comment(text: &'static str) -> Bytes {
    Bytes::from(format!(": {text}\n\n"))
}

/// Says after how long a client whose connection ended shall come again.
#[must_use]
pub fn retry(after: Duration) -> Bytes {
    Bytes::from(format!("retry: {}\n\n", after.as_millis()))
}

/// The last frame of a stream that the process has to end: when to come again, which is another time for each, because all
/// of them end at once. Wider apart than after a connection that broke: the other processes get all of these at once.
#[must_use]
pub fn farewell() -> Bytes {
    retry(Duration::from_millis(rand::random_range(1_000..=10_000)))
}

/// Writes an event.
///
/// # Errors
/// The data cannot be written as JSON.
pub fn event(
    frame: &mut Vec<u8>,
    name: &str,
    id: i64,
    data: &impl Serialize,
) -> Result<(), serde_json::Error> {
    frame.extend_from_slice(format!("event: {name}\nid: {id}\ndata: ").as_bytes());
    // On one line: in JSON, line feeds are escaped.
    serde_json::to_writer(&mut *frame, data)?;
    frame.extend_from_slice(b"\n\n");
    Ok(())
}

impl<T> IntoResponse for EventStream<T> {
    fn into_response(self) -> Response {
        let mut response = self.body.into_response();
        for (name, value) in [
            (CONTENT_TYPE, MEDIA_TYPE),
            // What transforms, compresses, and what compresses waits for more.
            (CACHE_CONTROL, "no-store, no-transform"),
            (X_ACCEL_BUFFERING, "no"),
        ] {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response
    }
}

impl<T: Type> ApiResponse for EventStream<T> {
    fn meta() -> MetaResponses {
        let field = |description| {
            let schema = MetaSchema { description: Some(description), ..MetaSchema::new("string") };
            MetaSchemaRef::Inline(Box::new(schema))
        };
        let schema = MetaSchema {
            // OpenAPI before 3.2 has no word for it; whoever reads such documents takes the schema for that of one event.
            description: Some("One of the Server-Sent Events that the answer consists of."),
            required: vec!["event", "id", "data"],
            properties: vec![
                ("event", field("What happened; the operation tells which there are.")),
                ("id", field("A number that grows. `Last-Event-ID` with it asks for what comes after.")),
                ("data", field("One line of JSON; the operation tells of what.")),
            ],
            ..MetaSchema::new("object")
        };
        let schema = MetaSchemaRef::Inline(Box::new(schema));
        MetaResponses {
            responses: vec![MetaResponse {
                description: "Events, as they happen.",
                status: Some(200),
                status_range: None,
                content: vec![MetaMediaType { content_type: MEDIA_TYPE, schema }],
                headers: Vec::new(),
            }],
        }
    }

    fn register(registry: &mut Registry) {
        T::register(registry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_as_the_standard_has_it_whatever_is_in_it() {
        let mut frame = Vec::new();
        event(&mut frame, "notification", 7, &"a\nb\r\n\ndata: c").unwrap();
        let expected = "event: notification\nid: 7\ndata: \"a\\nb\\r\\n\\ndata: c\"\n\n";
        assert_eq!(String::from_utf8(frame).unwrap(), expected);
        assert_eq!(comment("heartbeat"), ": heartbeat\n\n");
        assert_eq!(retry(Duration::from_millis(2_500)), "retry: 2500\n\n");
    }
}
