//! A pool that knows whom its connections are bound to.
//!
//! Pools of the registry hand out any idle connection; this one looks for the one that is bound already, which saves a
//! round trip, and takes the one that was idle for longest otherwise, which leaves the others to their tenants.

use std::{
    ops::{Deref, DerefMut},
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};

use sea_orm::{ConnAcquireErr, DbErr};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{
    binding::Binding,
    breaker::{Breaker, Openings},
    connection::{Access, Bound, Connection, Loss, silence},
    error::{connection_error, is_loss, query_error},
    pool_figures::{Counters, PoolFigures, PoolReport, Work},
    pool_options::PoolOptions,
};

/// A connection that was idle for longer than this is bound anew although it is remembered: that finds out whether it
/// is still alive, before anything depends on it.
const TRUSTED_FOR: Duration = Duration::from_secs(1);

/// A place among the open connections of a pool, for as long as it lives.
#[derive(Debug)]
struct Counted {
    /// Its number in the pool.
    number: u64,
    counters: Arc<Counters>,
}

impl Counted {
    fn among(counters: &Arc<Counters>) -> Self {
        counters.open.fetch_add(1, Ordering::Relaxed);
        Self { number: counters.places.fetch_add(1, Ordering::Relaxed), counters: Arc::clone(counters) }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.counters.touched.forget(self.number);
        self.counters.open.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection of a pool.
#[derive(Debug)]
struct Pooled {
    connection: Connection,
    /// When it is too old to be used again.
    retires_at: Instant,
    uses: u32,
    idle_since: Instant,
    /// Dropped last: what is counted is there.
    counted: Counted,
}

/// What a checkout finds.
enum Taken {
    Idle(Pooled),
    Room(Counted),
}

#[derive(Debug)]
struct Shared {
    access: Access,
    options: PoolOptions,
    /// A permit for each connection that may be checked out. Closed with the pool.
    permits: Arc<Semaphore>,
    /// Those that were given back last stand last.
    idle: Mutex<Vec<Pooled>>,
    breaker: Breaker,
    openings: Openings,
    counters: Arc<Counters>,
}

/// A pool of connections of one login. Cloning it costs a reference count.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

impl Pool {
    pub(crate) fn new(access: Access, options: &PoolOptions, openings: &Openings) -> Self {
        let permits = Arc::new(Semaphore::new(options.size));
        let shared = Shared {
            access,
            options: options.clone(),
            permits,
            idle: Mutex::default(),
            breaker: Breaker::default(),
            openings: openings.clone(),
            counters: Arc::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    pub(crate) fn figures(&self) -> PoolFigures {
        self.shared.counters.figures(self.shared.breaker.is_down())
    }

    /// All that is known of it.
    pub(crate) fn report(&self, name: impl Into<String>) -> PoolReport {
        let counters = &self.shared.counters;
        PoolReport {
            name: name.into(),
            size: self.shared.options.size,
            figures: self.figures(),
            timings: counters.timings(),
            touched: counters.touched.figures(),
        }
    }

    /// Closes the pool: idle connections now, the others as they come back.
    pub(crate) fn close(&self) {
        self.shared.permits.close();
        let idle = std::mem::take(&mut *self.shared.idle());
        drop(idle);
    }

    /// A connection, bound by `binding`.
    ///
    /// A pooled connection may have died since its last use. Where binding finds that out, it is tried again with the
    /// next one, and at last with a new one.
    pub(crate) async fn checkout(&self, permit: Permit, binding: &Arc<Binding>) -> Result<Lease, DbErr> {
        loop {
            let (pooled, used_before) = match self.shared.take(binding) {
                Taken::Idle(pooled) => (pooled, true),
                Taken::Room(counted) => (self.open(counted).await.map_err(connection_error)?, false),
            };
            let mut loan = Loan { pooled: Some(pooled), shared: Arc::clone(&self.shared) };
            match loan.bind(binding).await {
                Ok(bound) => {
                    self.shared.counters.note(bound, used_before);
                    if bound == Bound::Anew {
                        self.shared.counters.touched.note(loan.number(), binding.session());
                    }
                    let (since, work) = (Instant::now(), Work::Transaction);
                    return Ok(Lease { loan, used_before, since, work, _permit: permit });
                }
                Err(error) if used_before && is_loss(&error) => drop(loan),
                Err(error) => return Err(query_error(error)),
            }
        }
    }

    /// Waits for the right to check out a connection.
    pub(crate) async fn permit(&self) -> Result<Permit, DbErr> {
        let acquire = Arc::clone(&self.shared.permits).acquire_owned();
        let (waiting, since) = (self.shared.counters.waiting.join(usize::MAX), Instant::now());
        let permit = tokio::time::timeout(self.shared.options.wait, acquire).await;
        drop(waiting);
        self.shared.counters.wait.note(since.elapsed());
        match permit {
            Ok(Ok(permit)) => Ok(Permit(permit)),
            Ok(Err(_closed)) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::ConnectionClosed)),
            Err(_late) => Err(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout)),
        }
    }

    /// Opens a connection, unless the server was not there a moment ago.
    async fn open(&self, counted: Counted) -> Result<Pooled, sqlx::Error> {
        let Shared {
            access, options: PoolOptions { connect, max_age, .. }, counters, breaker, openings, ..
        } = &*self.shared;
        let login = &access.login;
        // Never closed, so this cannot fail; whoever waits here learns from those before him.
        let turn = openings.0.acquire().await.ok();
        let attempt = breaker.attempt(Instant::now()).inspect_err(|_| {
            counters.refused.fetch_add(1, Ordering::Relaxed);
        })?;
        let opened = tokio::time::timeout(*connect, Connection::to(access)).await;
        drop(turn);
        match opened.unwrap_or_else(|_late| Err(silence())) {
            Ok(connection) => {
                if attempt.succeeded() {
                    tracing::info!(?login, "the database is there again");
                }
                counters.opened.fetch_add(1, Ordering::Relaxed);
                let now = Instant::now();
                let retires_at = now + max_age.mul_f64(rand::random_range(0.75..=1.0));
                Ok(Pooled { connection, retires_at, uses: 0, idle_since: now, counted })
            }
            Err(error) => {
                counters.failed.fetch_add(1, Ordering::Relaxed);
                if attempt.failed(&error, Instant::now()) {
                    tracing::warn!(?login, %error, "the database cannot be had");
                }
                Err(error)
            }
        }
    }
}

impl Shared {
    fn idle(&self) -> MutexGuard<'_, Vec<Pooled>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An idle connection, or else a place for a new one. The idle one is the one bound by `binding` that was used last; else one that is bound to nobody; else the one
    /// that was idle for longest, unless its tenant was here a moment ago and there is room for another connection.
    fn take(&self, binding: &Arc<Binding>) -> Taken {
        let now = Instant::now();
        // What is too old is dropped, which closes it, after the lock.
        let (taken, retired): (Taken, Vec<Pooled>) = {
            let mut idle = self.idle();
            let retired = idle.extract_if(.., |pooled| pooled.retires_at <= now).collect();
            let bound = idle.iter().rposition(|pooled| pooled.connection.is_bound_by(binding));
            let nobodys = || idle.iter().rposition(|pooled| !pooled.connection.is_bound());
            let oldest = || {
                let room = self.counters.open.load(Ordering::Relaxed) < self.options.size;
                let in_use = |pooled: &Pooled| now - pooled.idle_since < TRUSTED_FOR;
                idle.first().is_some_and(|pooled| !(room && in_use(pooled))).then_some(0)
            };
            let taken = match bound.or_else(nobodys).or_else(oldest) {
                Some(index) => Taken::Idle(idle.remove(index)),
                // Counted before it is opened, under the lock: nobody else finds the same room.
                None => Taken::Room(Counted::among(&self.counters)),
            };
            (taken, retired)
        };
        self.counters.retired.fetch_add(retired.len() as u64, Ordering::Relaxed);
        match taken {
            Taken::Idle(mut pooled) => {
                if now - pooled.idle_since > TRUSTED_FOR {
                    pooled.connection.forget_binding();
                }
                Taken::Idle(pooled)
            }
            room @ Taken::Room(_) => room,
        }
    }

    /// What becomes of the idle connections when one was lost. Those of a server that ended one are looked at anew, by
    /// binding them, before anything depends on them. Where nobody answers, nobody will answer the others either, and
    /// each would be waited for.
    fn doubt_idle(&self, loss: Loss) {
        let mut idle = self.idle();
        let closed = match loss {
            Loss::Silent => std::mem::take(&mut *idle),
            Loss::Ended => {
                idle.iter_mut().for_each(|pooled| pooled.connection.forget_binding());
                Vec::new()
            }
        };
        drop(idle);
        self.counters.closed_unfinished.fetch_add(closed.len() as u64, Ordering::Relaxed);
    }
}

/// A connection that goes back to its pool when this is dropped, unless its last exchange was cut short. Then it is
/// closed, here and now: kept for later, it would keep a transaction and its locks open meanwhile.
#[derive(Debug)]
struct Loan {
    /// `None` only while being dropped.
    pooled: Option<Pooled>,
    shared: Arc<Shared>,
}

impl Loan {
    fn number(&self) -> u64 {
        self.pooled.as_ref().map_or(0, |pooled| pooled.counted.number)
    }
}

impl Deref for Loan {
    type Target = Connection;

    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn deref(&self) -> &Connection {
        &self.pooled.as_ref().expect("there until it is dropped").connection
    }
}

impl DerefMut for Loan {
    #[expect(clippy::expect_used, reason = "it is there until it is dropped")]
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.pooled.as_mut().expect("there until it is dropped").connection
    }
}

impl Drop for Loan {
    fn drop(&mut self) {
        let Some(mut pooled) = self.pooled.take() else { return };
        if !pooled.connection.is_clean() {
            self.shared.counters.closed_unfinished.fetch_add(1, Ordering::Relaxed);
            if let Some(loss) = pooled.connection.loss() {
                self.shared.doubt_idle(loss);
            }
            return;
        }
        pooled.uses = pooled.uses.saturating_add(1);
        if self.shared.options.max_uses.is_some_and(|most| pooled.uses >= most) {
            self.shared.counters.retired.fetch_add(1, Ordering::Relaxed);
            return;
        }
        pooled.idle_since = Instant::now();
        let mut idle = self.shared.idle();
        // Asked under the lock: a pool that is closing empties the list after it has closed the permits.
        if !self.shared.permits.is_closed() {
            idle.push(pooled);
        }
    }
}

/// The right to check out a connection.
#[derive(Debug)]
pub(crate) struct Permit(
    #[expect(dead_code, reason = "held, and given back when dropped")] OwnedSemaphorePermit,
);

/// A bound connection, and the right to have it. Fields are dropped in order: whoever gets the permit finds the
/// connection among the idle ones.
#[derive(Debug)]
pub(crate) struct Lease {
    loan: Loan,
    used_before: bool,
    /// Since when it is held, and what for.
    since: Instant,
    work: Work,
    _permit: Permit,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.loan.shared.counters.held(self.work, self.since.elapsed());
    }
}

impl Lease {
    /// Says that it is held for something else than a transaction.
    pub(crate) fn held_for(&mut self, work: Work) {
        self.work = work;
    }

    /// Whether it is older than this checkout, so that it may have died unnoticed since it was used last.
    pub(crate) fn was_used_before(&self) -> bool {
        self.used_before
    }
}

impl Deref for Lease {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.loan
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.loan
    }
}
