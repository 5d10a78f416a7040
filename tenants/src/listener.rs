//! What other processes change in the catalog, heard at once: each change is announced by a NOTIFY in the transaction
//! that makes it, and each process listens on one connection.
//!
//! An announcement is a hint to read again and never content: any role of the database can send one. What makes no
//! sense is ignored, and what does costs a query.
//!
//! Only what changes rarely is announced so: commits with a NOTIFY stand in line behind each other, in the whole cluster.
//! No transaction of a tenant sends one. Who is to look again in a tenant, the [`announcer`](crate::announcer) tells.
//!
//! Announcements sent while this process does not listen are lost. So when the connection is lost, and again when there
//! is a new one, everything is forgotten, and everybody looks again; and meanwhile nothing is believed for longer than [`UNHEARD_FOR`].

use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use sea_orm::DbErr;
use sqlx::{
    AssertSqlSafe, Connection as _, Row as _,
    postgres::{PgListener, PgPoolOptions},
};
use tokio::{task::AbortHandle, time::timeout};
use uuid::Uuid;

use crate::{connection::Login, db::CatalogTx, live::Live, probe, resolver::Resolver, wakes::Announcement};

/// Where changes are announced. Channels belong to a database, and a database holds one installation.
pub(crate) const CHANNEL: &str = "tenantry";
/// What `pg_stat_activity` calls the connection.
const APPLICATION_NAME: &str = "tenantry listener";
/// How long anything is believed while nothing would be heard of its change.
pub(crate) const UNHEARD_FOR: Duration = Duration::from_secs(1);
/// How long opening the connection may take.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// After this long without a word the connection is asked whether it still listens.
const SILENCE: Duration = Duration::from_secs(5);
/// How long it has for the answer: with the silence before, a dead connection is noticed in ten seconds.
const ANSWER_DEADLINE: Duration = Duration::from_secs(5);
/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What changed in the catalog.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// A tenant: it is new, or its status, schema version, limits or names are others.
    Tenant(Uuid),
    /// A plan, and with it the limits of any number of tenants.
    Plans,
    /// The signing keys.
    SigningKeys,
}

impl Change {
    /// The statement that announces it when the transaction commits. NOTIFY takes no parameters; the texts here are
    /// made of letters, digits and hyphens alone.
    pub(crate) fn announcement(self) -> String {
        format!("NOTIFY {CHANNEL}, '{self}'")
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tenant(id) => write!(f, "tenant {id}"),
            Self::Plans => f.write_str("plans"),
            Self::SigningKeys => f.write_str("keys"),
        }
    }
}

/// A text that announces nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Nonsense;

impl FromStr for Change {
    type Err = Nonsense;

    fn from_str(text: &str) -> Result<Self, Nonsense> {
        match text.split_once(' ') {
            Some(("tenant", id)) => id.parse().map(Self::Tenant).map_err(|_| Nonsense),
            None if text == "plans" => Ok(Self::Plans),
            None if text == "keys" => Ok(Self::SigningKeys),
            _ => Err(Nonsense),
        }
    }
}

impl CatalogTx {
    /// Makes this the only transaction that changes the signing keys, and announces it to every process at its commit.
    ///
    /// # Errors
    /// Those of the database; among them that another transaction takes too long.
    pub async fn change_signing_keys(&self) -> Result<(), DbErr> {
        const LOCK: &str = "SELECT pg_advisory_xact_lock(hashtextextended('tenantry.signing_keys', 0))";
        self.batch(&format!("{LOCK}; {}", Change::SigningKeys.announcement())).await
    }
}

/// What this process hears, for those who remember something of the catalog. Cloning it costs a reference count.
#[derive(Clone, Debug, Default)]
pub struct Signals {
    inner: Arc<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    listening: AtomicBool,
    signing_keys: AtomicU64,
}

impl Signals {
    /// Whether a change by another process would be heard of now.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.inner.listening.load(Ordering::Acquire)
    }

    /// How long something can be believed that is good for `limit` as long as its changes are heard of.
    #[must_use]
    pub fn believable_for(&self, limit: Duration) -> Duration {
        if self.is_listening() { limit } else { limit.min(UNHEARD_FOR) }
    }

    /// Which signing keys there are: another number, where they may be others.
    #[must_use]
    pub fn signing_keys(&self) -> u64 {
        self.inner.signing_keys.load(Ordering::Acquire)
    }

    fn signing_keys_changed(&self) {
        self.inner.signing_keys.fetch_add(1, Ordering::AcqRel);
    }

    fn set_listening(&self, listening: bool) {
        self.inner.listening.store(listening, Ordering::Release);
    }
}

/// Listens for as long as it is held.
#[derive(Debug)]
pub(crate) struct Listening(AbortHandle);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts to listen, on a connection of this login.
pub(crate) fn listen(login: Login, signals: Signals, resolver: Resolver, live: Live) -> Listening {
    let listener = Listener { login, signals, resolver, live };
    Listening(tokio::spawn(listener.run()).abort_handle())
}

/// Why there is no connection to listen on.
#[derive(Debug, thiserror::Error)]
enum Lost {
    #[error("{0}")]
    Database(#[from] sqlx::Error),
    #[error("the connection was closed")]
    Closed,
    #[error("no answer in time")]
    Silent,
    #[error("the connection does not listen any more: it leads through a pooler, which LISTEN cannot")]
    Pooler,
}

struct Listener {
    login: Login,
    signals: Signals,
    resolver: Resolver,
    live: Live,
}

impl Listener {
    async fn run(self) {
        let mut pause = FIRST_PAUSE;
        loop {
            let lost = match self.connect().await {
                Ok(connection) => {
                    pause = FIRST_PAUSE;
                    self.follow(connection).await
                }
                Err(lost) => lost,
            };
            tracing::warn!(reason = %lost, "changes by other processes are not heard of for now");
            // Processes that lost the same server do not come back to it all at once.
            tokio::time::sleep(pause.mul_f64(rand::random_range(0.5..=1.0))).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    /// A connection that listens. sqlx lets a connection listen only where it comes from a pool of its own kind; this
    /// one holds that connection alone, and is gone with it, so that nothing reconnects behind our back.
    async fn connect(&self) -> Result<PgListener, Lost> {
        let connect = async {
            // The pool tries again and again by itself, until it is too late to say why; and takes what a pooler gives it.
            probe::open(&self.login).await?.close().await?;
            let pool = PgPoolOptions::new()
                .max_connections(1)
                .idle_timeout(None)
                .max_lifetime(None)
                .connect_lazy_with(self.login.0.clone().application_name(APPLICATION_NAME));
            let mut listener = PgListener::connect_with(&pool).await?;
            listener.eager_reconnect(false);
            listener.listen(CHANNEL).await?;
            Ok(listener)
        };
        timeout(CONNECT_DEADLINE, connect).await.unwrap_or(Err(Lost::Silent))
    }

    /// Takes in what is announced, until the connection is lost.
    async fn follow(&self, mut connection: PgListener) -> Lost {
        // What changed while nobody listened was never heard of.
        self.forget_everything();
        self.live.wake_everybody();
        self.signals.set_listening(true);
        tracing::debug!("listening for changes by other processes");
        let lost = loop {
            let heard = timeout(SILENCE, connection.try_recv()).await;
            match heard {
                Ok(Ok(Some(notification))) => self.take_in(notification.payload()),
                Ok(Ok(None)) => break Lost::Closed,
                Ok(Err(error)) => break error.into(),
                Err(_) => {
                    let alive = timeout(ANSWER_DEADLINE, check(&mut connection)).await;
                    if let Err(lost) = alive.unwrap_or(Err(Lost::Silent)) {
                        break lost;
                    }
                }
            }
        };
        self.signals.set_listening(false);
        self.forget_everything();
        lost
    }

    fn take_in(&self, announcement: &str) {
        if let Ok(announcement) = announcement.parse::<Announcement>() {
            return self.live.hear(&announcement);
        }
        match announcement.parse() {
            Ok(Change::Tenant(id)) => {
                self.resolver.changed(id);
                // It may be closed: who is shown something of it asks first.
                self.live.wake_tenant(id);
            }
            Ok(Change::Plans) => self.resolver.flush(),
            Ok(Change::SigningKeys) => self.signals.signing_keys_changed(),
            Err(Nonsense) => tracing::debug!("an announcement that makes no sense"),
        }
    }

    fn forget_everything(&self) {
        self.resolver.flush();
        self.signals.signing_keys_changed();
    }
}

/// Whether the connection still listens. Behind a pooler it would be answered by a session that does not.
async fn check(connection: &mut PgListener) -> Result<(), Lost> {
    let sql = format!("SELECT '{CHANNEL}' IN (SELECT pg_listening_channels())");
    let row = sqlx::raw_sql(AssertSqlSafe(sql)).fetch_one(connection).await?;
    if row.try_get(0)? { Ok(()) } else { Err(Lost::Pooler) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_announcement_is_understood_as_it_was_meant() {
        let id = Uuid::from_u128(0x0123_4567_89ab_cdef);
        for change in [Change::Tenant(id), Change::Plans, Change::SigningKeys] {
            assert_eq!(change.to_string().parse(), Ok(change));
        }
        assert_eq!(
            Change::Tenant(id).announcement(),
            "NOTIFY tenantry, 'tenant 00000000-0000-0000-0123-456789abcdef'"
        );
    }

    #[test]
    fn what_makes_no_sense_is_none() {
        for text in
            ["", " ", "tenant", "tenant ", "tenant x", "tenant acme", "keys ", "keys now", "KEYS", "💥"]
        {
            assert_eq!(text.parse::<Change>(), Err(Nonsense), "{text:?}");
        }
    }
}
