//! A run as it goes on.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::ready, stream};
use poem_openapi::{OpenApi, param::Path};
use tenants::Run;
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{FleetError, MigrationRunOut};
use crate::{
    app::Tag,
    http::{EventStream, Problem, events},
    operators::{self, OperatorCaller, Reads},
    state::App,
    streams::Seat,
};

/// How often the catalog is asked: a run may go on in any process, and its numbers are written at each step.
const POLL: Duration = Duration::from_millis(500);
/// How long a stream lasts, as an operator's token does: then the client comes again, and shows who it is.
const LONGEST: Duration = Duration::from_mins(15);
/// After how long a client comes again whose stream ended.
const RETRY: Duration = Duration::from_secs(2);

/// The endpoint of the stream.
pub struct FleetStreamApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl FleetStreamApi {
    /// A run as it goes on
    ///
    /// Scope `read`. Server-Sent Events: `event: run`, and as `data` the run, as the list of them has it, now and at each
    /// change until it ends or is interrupted. A comment comes at least every 15 seconds. The stream ends after 15 minutes, or
    /// when the operator or the key is gone; a client that comes again begins with what is then.
    #[oai(path = "/api/admin/migrations/:id/events", method = "get", operation_id = "streamMigrationRun")]
    async fn events(
        &self,
        operator: Reads,
        /// The run's id.
        id: Path<Uuid>,
    ) -> Result<EventStream<MigrationRunOut>, Problem> {
        let found = self.0.tenancy.run(Some(id.0)).await.map_err(FleetError::from)?;
        let run = found.ok_or_else(Problem::not_found)?;
        // Operators have no tenant; streams are counted by who has them.
        let seat = self.0.streams.take(Uuid::nil(), operator.0.operator)?;
        let feed = Feed {
            app: self.0.clone(),
            operator: operator.0,
            run,
            seat,
            sent: 0,
            ends: Instant::now() + LONGEST,
            heartbeat: Instant::now() + self.0.streams.options().heartbeat,
            is_over: false,
        };
        Ok(EventStream::new(feed.frames()))
    }
}

struct Feed {
    app: App,
    operator: OperatorCaller,
    /// As it was when it was looked at last.
    run: Run,
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
        if !self.run.is_running() {
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
                Ok(Some(run)) if run != self.run => {
                    self.run = run;
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

    /// The run as it is; `None` if it is gone, or if whoever looks may not any more.
    async fn look(&self) -> Result<Option<Run>, FleetError> {
        if !operators::goes_on(&self.app, &self.operator).await.map_err(FleetError::Service)? {
            return Ok(None);
        }
        Ok(self.app.tenancy.run(Some(self.run.id)).await?)
    }

    fn render(&mut self) -> Option<Bytes> {
        self.sent += 1;
        self.heartbeat = Instant::now() + self.app.streams.options().heartbeat;
        let mut frame = Vec::new();
        match events::event(&mut frame, "run", self.sent, &MigrationRunOut::from(self.run.clone())) {
            Ok(()) => Some(frame.into()),
            Err(error) => {
                tracing::error!(%error, "a run can't be written as JSON");
                None
            }
        }
    }
}
