//! What goes on in the catalog for a while, as an operator follows it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::ready, stream};
use serde::Serialize;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{OperatorCaller, gate::goes_on};
use crate::{
    error::ServiceError,
    http::{EventStream, Problem, events},
    state::App,
};

/// How long a stream lasts, as an operator's token does: then the client comes again, and shows who it is.
const LONGEST: Duration = Duration::from_mins(15);
/// After how long a client comes again whose stream ended.
const RETRY: Duration = Duration::from_secs(2);

/// A row of the catalog that changes until it is done with.
pub trait Followed: Clone + PartialEq + Send + Sync + 'static {
    /// How it is shown.
    type Shown: Serialize + From<Self>;
    /// What the event is called.
    const EVENT: &'static str;
    /// How often the catalog is asked, for any process may be at it.
    const POLL: Duration;

    /// The row as it is, without what changes while nothing happens.
    fn find(app: &App, id: Uuid) -> impl Future<Output = Result<Option<Self>, ServiceError>> + Send;

    /// Whether nothing will change any more.
    fn has_ended(&self) -> bool;
}

/// An event with the row now and at each change, until it has ended, is gone, or whoever looks may not any more; a comment
/// with each heartbeat.
///
/// # Errors
/// There is no such row, the database does not answer, or there are too many streams.
pub async fn follow<T: Followed>(
    app: &App,
    operator: OperatorCaller,
    id: Uuid,
) -> Result<EventStream<T::Shown>, Problem> {
    let row = T::find(app, id).await?.ok_or_else(Problem::not_found)?;
    // Operators have no tenant; streams are counted by who has them.
    let seat = app.streams.take(Uuid::nil(), operator.operator)?;
    let begun = Instant::now();
    let feed = Feed {
        app: app.clone(),
        operator,
        id,
        row,
        sent: 0,
        ends: begun + LONGEST,
        heartbeat: begun + app.streams.options().heartbeat,
    };
    let retry = stream::once(ready(events::retry(RETRY)));
    Ok(EventStream::new(seat.hold(retry.chain(feed.news()))))
}

struct Feed<T> {
    app: App,
    operator: OperatorCaller,
    id: Uuid,
    /// As it was when it was looked at last.
    row: T,
    /// How many events were sent.
    sent: i64,
    ends: Instant,
    heartbeat: Instant,
}

impl<T: Followed> Feed<T> {
    fn news(self) -> impl Stream<Item = Bytes> + Send {
        // Boxed, because it is moved with each frame.
        stream::unfold(Box::new(self), |mut feed| async { Some((feed.next().await?, feed)) })
    }

    /// The next that is to be sent; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.sent == 0 {
            return self.render();
        }
        if self.row.has_ended() {
            return None;
        }
        loop {
            sleep(T::POLL).await;
            if Instant::now() >= self.ends {
                return None;
            }
            match self.look().await {
                Ok(Some(row)) if row != self.row => {
                    self.row = row;
                    return self.render();
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                // The database may be away for a moment.
                Err(error) => tracing::debug!(%error, "a stream waits"),
            }
            if self.heartbeat <= Instant::now() {
                self.put_heartbeat_off();
                return Some(events::comment("heartbeat"));
            }
        }
    }

    /// The row as it is; `None` if it is gone, or if whoever looks may not any more.
    async fn look(&self) -> Result<Option<T>, ServiceError> {
        if goes_on(&self.app, &self.operator).await? { T::find(&self.app, self.id).await } else { Ok(None) }
    }

    fn render(&mut self) -> Option<Bytes> {
        self.sent += 1;
        self.put_heartbeat_off();
        let mut frame = Vec::new();
        match events::event(&mut frame, T::EVENT, self.sent, &T::Shown::from(self.row.clone())) {
            Ok(()) => Some(frame.into()),
            Err(error) => {
                tracing::error!(%error, event = T::EVENT, "an event can't be written as JSON");
                None
            }
        }
    }

    fn put_heartbeat_off(&mut self) {
        self.heartbeat = Instant::now() + self.app.streams.options().heartbeat;
    }
}
