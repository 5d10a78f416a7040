//! An operation as it goes on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::ready, stream};
use poem_openapi::{OpenApi, param::Path};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Operation, OperationOut, store};
use crate::{
    app::Tag,
    error::ServiceError,
    http::{EventStream, Problem, events},
    operators::{self, OperatorCaller, Reads},
    state::App,
    streams::Seat,
};

/// How often the catalog is asked. What is done is written twice a second; a person follows one a second.
const POLL: Duration = Duration::from_secs(1);
/// How long a stream lasts, as an operator's token does: then the client comes again, and shows who it is.
const LONGEST: Duration = Duration::from_mins(15);
/// After how long a client comes again whose stream ended.
const RETRY: Duration = Duration::from_secs(2);

/// The endpoint of the stream.
pub struct OperationStreamApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl OperationStreamApi {
    /// An operation as it goes on
    ///
    /// Scope `read`. Server-Sent Events: `event: operation`, and as `data` the operation, as GET of it answers, now and at
    /// each change until it has succeeded or failed. A comment comes at least every 15 seconds. The stream ends after 15
    /// minutes, or when the operator or the key is gone; a client that comes again begins with what is then.
    #[oai(path = "/api/admin/operations/:id/events", method = "get", operation_id = "streamOperation")]
    async fn events(
        &self,
        operator: Reads,
        /// The operation's id.
        id: Path<Uuid>,
    ) -> Result<EventStream<OperationOut>, Problem> {
        let found = store::find(self.0.tenancy.catalog(), id.0).await.map_err(ServiceError::from)?;
        let operation = found.ok_or_else(Problem::not_found)?;
        // Operators have no tenant; streams are counted by who has them.
        let seat = self.0.streams.take(Uuid::nil(), operator.0.operator)?;
        let feed = Feed {
            app: self.0.clone(),
            operator: operator.0,
            operation,
            seat,
            sent: 0,
            ends: Instant::now() + LONGEST,
            heartbeat: Instant::now() + self.0.streams.options().heartbeat,
            is_over: false,
        };
        Ok(EventStream::new(feed.frames()))
    }
}

/// An operation without what changes while nothing happens.
fn shown(operation: &Operation) -> Operation {
    Operation { leased_until: None, ..operation.clone() }
}

struct Feed {
    app: App,
    operator: OperatorCaller,
    /// As it was when it was looked at last.
    operation: Operation,
    seat: Seat,
    /// How many events were sent.
    sent: i64,
    ends: Instant,
    heartbeat: Instant,
    /// It has taken leave.
    is_over: bool,
}

impl Feed {
    fn frames(self) -> impl Stream<Item = Bytes> + Send {
        // Boxed, because it is moved with each frame.
        let news = stream::unfold(Box::new(self), |mut feed| async { Some((feed.next().await?, feed)) });
        stream::once(ready(events::retry(RETRY))).chain(news)
    }

    /// The next that is to be sent; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if self.is_over {
            return None;
        }
        let next = self.next_unless_ended().await;
        if next.is_none() && self.seat.has_ended() {
            self.is_over = true;
            return Some(events::farewell());
        }
        next
    }

    async fn next_unless_ended(&mut self) -> Option<Bytes> {
        if self.sent == 0 {
            return self.render();
        }
        if self.operation.finished_at.is_some() {
            return None;
        }
        loop {
            tokio::select! {
                () = self.seat.ended() => return None,
                () = sleep(POLL) => {}
            }
            if Instant::now() >= self.ends {
                return None;
            }
            match self.look().await {
                Ok(Some(operation)) if shown(&operation) != shown(&self.operation) => {
                    self.operation = operation;
                    return self.render();
                }
                Ok(Some(_)) => {}
                Ok(None) => return None,
                // The database may be away for a moment.
                Err(error) => tracing::debug!(%error, "a stream waits"),
            }
            if self.heartbeat <= Instant::now() {
                self.heartbeat = Instant::now() + self.app.streams.options().heartbeat;
                return Some(events::comment("heartbeat"));
            }
        }
    }

    /// The operation as it is; `None` if it is gone, or if whoever looks may not any more.
    async fn look(&self) -> Result<Option<Operation>, ServiceError> {
        if !operators::goes_on(&self.app, &self.operator).await? {
            return Ok(None);
        }
        Ok(store::find(self.app.tenancy.catalog(), self.operation.id).await?)
    }

    fn render(&mut self) -> Option<Bytes> {
        self.sent += 1;
        self.heartbeat = Instant::now() + self.app.streams.options().heartbeat;
        let mut frame = Vec::new();
        let operation = OperationOut::from(self.operation.clone());
        match events::event(&mut frame, "operation", self.sent, &operation) {
            Ok(()) => Some(frame.into()),
            Err(error) => {
                tracing::error!(%error, "an operation can't be written as JSON");
                None
            }
        }
    }
}
