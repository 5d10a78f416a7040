//! Answers that go on, read as the standard says.

use std::time::Duration;

use reqwest::header::{CONTENT_TYPE, HeaderMap};
use serde_json::Value;
use tokio::time::timeout;

/// Longer than anything takes that is expected.
const PATIENCE: Duration = Duration::from_secs(20);
/// What belongs to the beginning of an answer comes within this time of what came before it.
const MOMENT: Duration = Duration::from_millis(100);

/// An event.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Event {
    /// The number to resume at.
    pub(crate) id: i64,
    /// What kind of event.
    pub(crate) name: String,
    /// What happened.
    pub(crate) data: Value,
}

/// What stands between two empty lines.
#[derive(Debug)]
pub(crate) enum Frame {
    /// A comment.
    Comment(String),
    /// After how many milliseconds to come again.
    Retry(u64),
    /// An event.
    Event(Event),
}

/// An answer that goes on. Dropped, the client hangs up.
pub(crate) struct EventStream {
    /// Its headers.
    pub(crate) headers: HeaderMap,
    response: reqwest::Response,
    bytes: Vec<u8>,
}

impl EventStream {
    pub(super) fn is_one(response: &reqwest::Response) -> bool {
        response.headers().get(CONTENT_TYPE).is_some_and(|value| value == "text/event-stream")
    }

    pub(super) fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.status(), 200);
        Self { headers: response.headers().clone(), response, bytes: Vec::new() }
    }

    /// What comes before it waits for something to happen.
    pub(super) async fn first_moment(mut self) -> String {
        let mut patience = PATIENCE;
        while let Ok(Some(bytes)) = timeout(patience, self.response.chunk()).await.map(Result::unwrap) {
            self.bytes.extend(bytes);
            patience = MOMENT;
        }
        String::from_utf8(self.bytes).unwrap()
    }

    /// The next frame; `None` at the end, which has to be an orderly one.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(end) = self.bytes.windows(2).position(|bytes| bytes == b"\n\n") {
                let frame: Vec<u8> = self.bytes.drain(..end + 2).collect();
                return Some(parse(str::from_utf8(&frame).unwrap()));
            }
            let chunk = timeout(PATIENCE, self.response.chunk()).await.expect("nothing comes");
            let Some(bytes) = chunk.unwrap() else {
                assert_eq!(self.bytes, b"", "it ends within a frame");
                return None;
            };
            self.bytes.extend(bytes);
        }
    }

    /// The next event; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Event> {
        loop {
            if let Frame::Event(event) = self.frame().await? {
                return Some(event);
            }
        }
    }

    /// The next event's number.
    pub(crate) async fn number(&mut self) -> i64 {
        self.next().await.expect("it ended").id
    }

    /// Waits for its end, before which no event may come.
    pub(crate) async fn ends(&mut self) {
        assert_eq!(self.next().await, None);
    }

    /// Waits for a comment of this text, before which no event may come.
    pub(crate) async fn comment(&mut self, expected: &str) {
        loop {
            match self.frame().await.expect("it ended") {
                Frame::Comment(text) if text == expected => return,
                Frame::Comment(_) | Frame::Retry(_) => {}
                Frame::Event(event) => panic!("{event:?}"),
            }
        }
    }
}

fn parse(frame: &str) -> Frame {
    let (mut id, mut name, mut data) = (None, None, None);
    for line in frame.trim_end_matches('\n').split('\n') {
        let (field, value) = line.split_once(':').unwrap_or_else(|| panic!("{frame:?}"));
        let value = value.strip_prefix(' ').unwrap_or(value);
        let once = match field {
            "" => return Frame::Comment(value.to_owned()),
            "retry" => return Frame::Retry(value.parse().unwrap()),
            "id" => id.replace(value.parse().unwrap()).is_none(),
            "event" => name.replace(value.to_owned()).is_none(),
            "data" => data.replace(serde_json::from_str(value).unwrap()).is_none(),
            _ => false,
        };
        assert!(once, "{frame:?}");
    }
    let (Some(id), Some(name), Some(data)) = (id, name, data) else { panic!("{frame:?}") };
    Frame::Event(Event { id, name, data })
}
