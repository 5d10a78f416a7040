//! Notifications as they come.
//!
//! A stream holds no connection of the database: it waits to be woken, and then asks first whether its session goes on,
//! and then for what has a higher number than the last one it sent. Numbers are drawn in the transaction that writes the
//! notification, and its list is locked until that ends; so whoever sees a number sees all before it, and nothing is
//! missed or comes twice, whenever and wherever the stream is taken up again.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, future::ready, stream};
use poem::web::Data;
use poem_openapi::{OpenApi, param::Header};
use tenants::{TenantDb, Watching, lists};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::{NotificationOut, notify::inbox, service};
use crate::{
    app::Tag,
    auth::{self, Caller},
    error::ServiceError,
    http::{EventStream, Problem, events},
    state::App,
};

/// How many notifications are read and sent at once, some 6 KiB of them.
const AT_ONCE: u64 = 16;
/// After how long a client comes again, in milliseconds: chosen for each, so that those of a process that ended do not come
/// all at once.
const RETRY_MILLIS: std::ops::RangeInclusive<u64> = 2_000..=5_000;
/// After how long the database is asked again when it could not be.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// The endpoint of the stream.
pub struct NotificationStreamApi(pub App);

#[OpenApi(tag = "Tag::Notifications")]
impl NotificationStreamApi {
    /// Notifications as they come
    ///
    /// Server-Sent Events. Each is `event: notification`, has as `id` a number that grows with each notification of this
    /// user, and as `data` the notification, as GET of it answers. It begins with what comes from now on; with
    /// `Last-Event-ID`, with what came after that one, so that nothing is missed and nothing comes twice. A comment comes
    /// at least every 15 seconds. The stream outlives the access token: it ends with the session, and when the
    /// organization is suspended. A client that takes nothing for 30 seconds is dropped.
    #[oai(path = "/api/notifications/stream", method = "get", operation_id = "streamNotifications")]
    async fn stream(
        &self,
        caller: Caller,
        Data(db): Data<&TenantDb>,
        /// The `id` of the last event that the client has seen.
        #[oai(name = "Last-Event-ID")]
        last_event_id: Header<Option<String>>,
    ) -> Result<EventStream<NotificationOut>, Problem> {
        let (tenant, user) = (db.tenant().id, caller.account.pk);
        // A client that has seen none may send an empty one.
        let last = last_event_id.0.as_deref().filter(|id| !str::is_empty(id)).map(parse).transpose()?;
        let seat = self.0.streams.take(tenant, user)?;
        // Before anything is read, so that what comes after that is heard of.
        let watching = self.0.tenancy.live().watch(tenant, user);
        let newest = lists::extent(db, &inbox(user)).await.map_err(ServiceError::from)?.numbered;
        let feed = Feed {
            app: self.0.clone(),
            tenant,
            user,
            session: caller.session,
            // A number that was never given is one of before a restore: waiting for it would be waiting for long.
            after: last.map_or(newest, |last| last.min(newest)),
            watching,
            is_due: true,
            heartbeat: Instant::now() + self.0.streams.options().heartbeat,
            ask_again: None,
        };
        Ok(EventStream::new(seat.hold(feed.frames())))
    }
}

/// A number that this server sent. What is not one is a mistake in the client, which would go on without what it missed.
fn parse(last_event_id: &str) -> Result<i64, Problem> {
    let number = last_event_id.parse().ok().filter(|number| *number >= 0);
    number.ok_or_else(|| Problem::field("Last-Event-ID", "A valid integer is required."))
}

/// What one client is shown.
struct Feed {
    app: App,
    tenant: Uuid,
    user: Uuid,
    session: Uuid,
    /// The number of the last notification that was sent.
    after: i64,
    watching: Watching,
    /// Whether there may be something new.
    is_due: bool,
    /// When something is to be sent, if there is nothing to send until then.
    heartbeat: Instant,
    /// When to look again, because it could not be done.
    ask_again: Option<Instant>,
}

/// What a look comes to.
enum Look {
    /// These are new.
    New(Vec<(i64, NotificationOut)>),
    /// Whoever looks may not any more.
    Ended,
}

impl Feed {
    fn frames(self) -> impl Stream<Item = Bytes> + Send {
        let retry = events::retry(Duration::from_millis(rand::random_range(RETRY_MILLIS)));
        // Boxed, because it is moved with each frame.
        let news = stream::unfold(Box::new(self), |mut feed| async { Some((feed.next().await?, feed)) });
        stream::once(ready(events::comment("welcome"))).chain(stream::once(ready(retry))).chain(news)
    }

    /// The next that is to be sent; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.is_due {
                match self.look().await {
                    Ok(Look::New(news)) if !news.is_empty() => return self.render(&news),
                    Ok(Look::New(_)) => self.is_due = false,
                    Ok(Look::Ended) => return None,
                    Err(error) => self.put_off(error)?,
                }
            }
            let now = Instant::now();
            if self.heartbeat <= now {
                self.heartbeat = now + self.app.streams.options().heartbeat;
                return Some(events::comment("heartbeat"));
            }
            let next = self.ask_again.map_or(self.heartbeat, |again| again.min(self.heartbeat));
            tokio::select! {
                () = self.watching.changed() => {}
                () = sleep_until(next) => {}
            }
            self.is_due = true;
            self.ask_again = None;
        }
    }

    async fn look(&mut self) -> Result<Look, ServiceError> {
        let _turn = self.watching.turn().await;
        let Some(db) = auth::admit_again(&self.app, self.tenant, self.user, self.session).await? else {
            return Ok(Look::Ended);
        };
        Ok(Look::New(service::shown(&db, self.user, self.after, AT_ONCE).await?))
    }

    fn render(&mut self, news: &[(i64, NotificationOut)]) -> Option<Bytes> {
        let mut frame = Vec::new();
        for (number, notification) in news {
            if let Err(error) = events::event(&mut frame, "notification", *number, notification) {
                tracing::error!(%error, "a notification can't be written as JSON");
                return None;
            }
            self.after = *number;
        }
        self.heartbeat = Instant::now() + self.app.streams.options().heartbeat;
        Some(frame.into())
    }

    /// Looks again later: a client whose stream ended because the database is busy would only come again, and keep it
    /// busier. `None` where that would not help.
    fn put_off(&mut self, error: ServiceError) -> Option<()> {
        let problem = Problem::from(error);
        let cause = problem.causes().unwrap_or_default();
        if !problem.is_tenant_changed() && problem.status().as_u16() != 503 {
            tracing::error!(code = problem.code(), cause, "a stream failed");
            return None;
        }
        tracing::debug!(code = problem.code(), cause, "a stream waits");
        self.is_due = false;
        // What was believed of the tenant is forgotten by now; the next look asks the catalog.
        self.ask_again = Some(Instant::now() + ASK_AGAIN.mul_f64(rand::random_range(0.5..=1.0)));
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_number_is_the_id_of_an_event() {
        assert_eq!(parse("0").ok(), Some(0));
        assert_eq!(parse("9223372036854775807").ok(), Some(i64::MAX));
        for text in ["", "-1", "1.5", "x", "9223372036854775808", " 1", "0x1"] {
            assert_eq!(parse(text).unwrap_err().code(), "invalid", "{text:?}");
        }
    }
}
