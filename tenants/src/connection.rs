//! Pooled connections that cannot be returned in a wrong state.
//!
//! The one invariant: **a connection is in a pool only if its last exchange with the server has ended.** Every
//! exchange marks the connection as unfinished before the first byte and as finished after the last. A future may be
//! dropped at any await: then the mark stays, and the connection is closed instead of returned. PostgreSQL rolls back
//! whatever was open on it.
//!
//! The second: **nothing runs on a connection that is not bound.** [`Lease::bind`] is the only way to statements, and
//! it runs at every checkout.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use deadpool::managed::{self, Metrics, PoolError, RecycleError, RecycleResult, TimeoutType};
use sea_orm::{ConnAcquireErr, DbErr, Statement};
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection, Executor, PgConnection,
    postgres::{PgConnectOptions, PgQueryResult, PgRow},
};

use crate::error::{connection_error, is_answer, is_stale_plan, query_error};

/// How a pool behaves.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// The most connections it opens. They are opened when needed.
    pub size: usize,
    /// How long a checkout waits for a connection before the caller is told that the service is busy.
    pub wait: Duration,
    /// How long opening a connection may take.
    pub connect: Duration,
    /// The age at which a connection is closed instead of used again: a backend's memory grows with every schema it
    /// has seen. Each connection gets up to a quarter less, so that they do not all close at once.
    pub max_age: Duration,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            size: 4,
            wait: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            max_age: Duration::from_mins(30),
        }
    }
}

/// Counts what a pool did.
#[derive(Debug, Default)]
struct Counters {
    opened: AtomicU64,
    bound: AtomicU64,
    closed_unfinished: AtomicU64,
}

/// What a pool did since it was made, and what it does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolFigures {
    /// Connections opened.
    pub opened: u64,
    /// Bindings done: one for every checkout.
    pub bound: u64,
    /// Connections closed because an exchange on them was cut short.
    pub closed_unfinished: u64,
    /// Connections open now.
    pub open: usize,
    /// Callers waiting for one now.
    pub waiting: usize,
}

/// A connection and what is known of its state.
#[derive(Debug)]
pub(crate) struct Pooled {
    connection: PgConnection,
    /// True from before the first byte of an exchange until after its last, and for ever if it never ended.
    unfinished: bool,
    max_age: Duration,
}

/// As whom and where to connect. Its debug text has no password, which the one of sqlx's options has.
#[derive(Clone)]
pub(crate) struct Login(pub(crate) PgConnectOptions);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.0.get_username())
    }
}

#[derive(Debug)]
pub(crate) struct Opener {
    login: Login,
    max_age: Duration,
    counters: Arc<Counters>,
}

impl managed::Manager for Opener {
    type Type = Pooled;
    type Error = sqlx::Error;

    async fn create(&self) -> Result<Pooled, sqlx::Error> {
        let connection = self.login.0.connect().await?;
        self.counters.opened.fetch_add(1, Ordering::Relaxed);
        let max_age = self.max_age.mul_f64(rand::random_range(0.75..=1.0));
        Ok(Pooled { connection, unfinished: false, max_age })
    }

    async fn recycle(&self, pooled: &mut Pooled, metrics: &Metrics) -> RecycleResult<sqlx::Error> {
        if pooled.unfinished {
            return Err(RecycleError::message("its last exchange was cut short"));
        }
        if metrics.age() > pooled.max_age {
            return Err(RecycleError::message("it is old"));
        }
        Ok(())
    }
}

/// A pool of connections of one login.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    inner: managed::Pool<Opener>,
    counters: Arc<Counters>,
}

impl Pool {
    pub(crate) fn new(login: Login, options: &PoolOptions) -> Result<Self, DbErr> {
        let counters = Arc::<Counters>::default();
        let opener = Opener { login, max_age: options.max_age, counters: Arc::clone(&counters) };
        let inner = managed::Pool::builder(opener)
            .max_size(options.size)
            .wait_timeout(Some(options.wait))
            .create_timeout(Some(options.connect))
            .runtime(deadpool::Runtime::Tokio1)
            .build()
            .map_err(|error| DbErr::Custom(error.to_string()))?;
        Ok(Self { inner, counters })
    }

    pub(crate) fn figures(&self) -> PoolFigures {
        let status = self.inner.status();
        PoolFigures {
            opened: self.counters.opened.load(Ordering::Relaxed),
            bound: self.counters.bound.load(Ordering::Relaxed),
            closed_unfinished: self.counters.closed_unfinished.load(Ordering::Relaxed),
            open: status.size,
            waiting: status.waiting,
        }
    }

    /// Closes the pool: connections close as they come back.
    pub(crate) fn close(&self) {
        self.inner.close();
    }

    /// A connection, bound by `binding`.
    ///
    /// A pooled connection may have died since its last use. Binding finds that out before anything depends on it, so
    /// it is tried again with the next one, and at last with a new one.
    pub(crate) async fn checkout(&self, binding: &str) -> Result<Lease, DbErr> {
        loop {
            let object = self.inner.get().await.map_err(acquire_error)?;
            let used_before = managed::Object::metrics(&object).recycle_count > 0;
            let mut lease = Lease { object: Some(object), counters: Arc::clone(&self.counters) };
            match lease.bind(binding).await {
                Ok(()) => return Ok(lease),
                Err(error) if used_before && !is_answer(&error) => drop(lease),
                Err(error) => return Err(query_error(error)),
            }
        }
    }
}

fn acquire_error(error: PoolError<sqlx::Error>) -> DbErr {
    match error {
        PoolError::Timeout(TimeoutType::Wait) => DbErr::ConnectionAcquire(ConnAcquireErr::Timeout),
        PoolError::Backend(error) => connection_error(error),
        PoolError::Timeout(_) => connection_error(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        PoolError::Closed | PoolError::NoRuntimeSpecified | PoolError::PostCreateHook(_) => {
            DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)
        }
    }
}

/// A connection checked out of a pool. Dropped, it goes back, unless its last exchange was cut short.
#[derive(Debug)]
pub(crate) struct Lease {
    /// `None` only while being dropped.
    object: Option<managed::Object<Opener>>,
    counters: Arc<Counters>,
}

impl Lease {
    /// The one function that binds. It runs at every checkout, as one batch that PostgreSQL takes whole or not at all.
    async fn bind(&mut self, binding: &str) -> Result<(), sqlx::Error> {
        self.batch(binding).await?;
        self.counters.bound.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    /// Whether this connection can still be used.
    pub(crate) fn is_usable(&self) -> bool {
        self.object.as_ref().is_some_and(|object| !object.unfinished)
    }

    /// Gives the connection up: dropping the lease will close it.
    pub(crate) fn abandon(&mut self) {
        if let Some(object) = &mut self.object {
            object.unfinished = true;
        }
    }

    /// Runs several statements in one round trip, by the simple query protocol.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql.to_owned());
        self.exchange(async |connection| connection.execute(sql).await).await?;
        Ok(())
    }

    pub(crate) async fn execute(&mut self, statement: &Statement) -> Result<PgQueryResult, sqlx::Error> {
        self.exchange(async |connection| connection.execute(query(statement)).await).await
    }

    /// Reads all rows: stopping after the first would leave an unread answer on the connection.
    pub(crate) async fn fetch(&mut self, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        self.exchange(async |connection| connection.fetch_all(query(statement)).await).await
    }

    /// Forgets the prepared statements of this connection, where `error` says that one of them is stale.
    /// Returns whether the statement may be tried again.
    pub(crate) async fn forget_stale_plans(&mut self, error: &sqlx::Error) -> bool {
        is_stale_plan(error)
            && self.exchange(async |connection| connection.clear_cached_statements().await).await.is_ok()
    }

    async fn exchange<T>(
        &mut self,
        exchange: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        let Some(pooled) = self.object.as_deref_mut().filter(|pooled| !pooled.unfinished) else {
            return Err(sqlx::Error::Protocol("an earlier exchange on this connection was cut short".into()));
        };
        pooled.unfinished = true;
        let result = exchange(&mut pooled.connection).await;
        let finished = match &result {
            Ok(_) => true,
            // sqlx returns at the error and leaves the rest of the answer unread: read up to its end.
            Err(error) if is_answer(error) => pooled.connection.ping().await.is_ok(),
            Err(_) => false,
        };
        pooled.unfinished = !finished;
        result
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(object) = self.object.take_if(|object| object.unfinished) {
            // Taken out of the pool and closed here and now; waiting for the next checkout would leave a transaction
            // and its locks open meanwhile.
            drop(managed::Object::take(object));
            self.counters.closed_unfinished.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn query(statement: &Statement) -> sqlx::query::Query<'_, sqlx::Postgres, SqlxValues> {
    let values = statement.values.clone().unwrap_or_else(|| sea_orm::sea_query::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}
