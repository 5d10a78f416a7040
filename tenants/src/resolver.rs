//! From a name in a request to a tenant: one query in the catalog at most, and then bounded caches.
//!
//! Three caches, because they must not push each other out:
//!
//! | cache | holds | for |
//! | --- | --- | --- |
//! | tenants | one entry a tenant, by its id | a minute, while it is open |
//! | names | which tenant a slug or host led to when it was last asked for | a hint: it counts only where the tenant's entry has the name |
//! | unknown | the names that nobody has | ten seconds, and not beyond any change |
//!
//! So there is one entry to drop when a tenant changes, by whichever names it is asked for; a flood of random hosts
//! fills the cache of unknown names and no other. Both times are upper bounds for changes that nobody announces. Those
//! that are announced count at once ([`listener`](crate::listener)); while no announcement would be heard, nothing is
//! believed for longer than [`UNHEARD_FOR`](crate::listener::UNHEARD_FOR).

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use moka::sync::Cache;
use sea_orm::{ConnAcquireErr, ConnectionTrait, DbErr};
use tokio::sync::{Semaphore, SemaphorePermit};
use uuid::Uuid;

use crate::{
    db::CatalogDb,
    flights::Flights,
    listener::Signals,
    meter::Meters,
    resolution::{Status, Tenant, TenantName},
    tenancy::CATALOG_CONNECTIONS,
};

/// How long an open tenant is believed to be as it was read. What ends a tenant's access does not wait for this: the
/// database refuses.
const KNOWN_FOR: Duration = Duration::from_mins(1);
/// How long an unknown name is believed to be nobody's.
const UNKNOWN_FOR: Duration = Duration::from_secs(10);
/// How many names that led nowhere yet may be looked up at once: one connection of the catalog's pool is always left
/// for the tenants in use.
const STRANGERS: usize = CATALOG_CONNECTIONS - 1;

/// How much a process remembers of names and tenants.
#[derive(Clone, Debug)]
pub struct ResolverOptions {
    /// The most tenants, and the most names of theirs.
    pub known: u64,
    /// The most names that nobody has.
    pub unknown: u64,
    /// How long an unknown name waits to be looked up before the caller is told that the service is busy.
    pub wait: Duration,
}

impl Default for ResolverOptions {
    fn default() -> Self {
        Self { known: 50_000, unknown: 50_000, wait: Duration::from_secs(5) }
    }
}

/// What a resolver did since it was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResolverFigures {
    /// Answers from memory.
    pub hits: u64,
    /// Queries in the catalog.
    pub queries: u64,
    /// Tenants remembered.
    pub tenants: u64,
    /// Names of tenants remembered.
    pub names: u64,
    /// Names remembered that nobody has.
    pub unknown: u64,
}

/// Finds tenants by name, and remembers what it found and what it did not. Cloning it costs a reference count.
#[derive(Clone, Debug)]
pub struct Resolver {
    inner: Arc<Inner>,
}

type Found = Result<Option<Arc<Tenant>>, DbErr>;

#[derive(Debug)]
struct Inner {
    catalog: CatalogDb,
    /// For tenants that have no limit of their own.
    statement_timeout: Duration,
    meters: Arc<Meters>,
    signals: Signals,
    tenants: Cache<Uuid, Known>,
    names: Cache<TenantName, Uuid>,
    unknown: Cache<TenantName, Unknown>,
    flights: Flights<TenantName, Found>,
    strangers: Semaphore,
    wait: Duration,
    /// How many changes were heard of. What was read before the last one may be older than it.
    changes: AtomicU64,
    hits: AtomicU64,
    queries: AtomicU64,
}

/// A tenant, as it was at a time.
#[derive(Clone, Debug)]
struct Known {
    tenant: Arc<Tenant>,
    read_at: Instant,
}

/// That there was no tenant at a time.
#[derive(Clone, Copy, Debug)]
struct Unknown {
    read_at: Instant,
    changes: u64,
}

impl Resolver {
    pub(crate) fn new(
        catalog: CatalogDb,
        statement_timeout: Duration,
        meters: Arc<Meters>,
        signals: Signals,
        options: &ResolverOptions,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                catalog,
                statement_timeout,
                meters,
                signals,
                tenants: Cache::builder().max_capacity(options.known).time_to_live(KNOWN_FOR).build(),
                names: Cache::builder().max_capacity(options.known).build(),
                unknown: Cache::builder().max_capacity(options.unknown).time_to_live(UNKNOWN_FOR).build(),
                flights: Flights::default(),
                strangers: Semaphore::new(STRANGERS),
                wait: options.wait,
                changes: AtomicU64::new(0),
                hits: AtomicU64::new(0),
                queries: AtomicU64::new(0),
            }),
        }
    }

    /// The tenant of this name, whatever its status. However many ask for one name at once, the catalog is asked once.
    ///
    /// # Errors
    /// The catalog could not be asked, or too many ask it for unknown names; neither is remembered.
    pub async fn resolve(&self, name: TenantName) -> Result<Option<Arc<Tenant>>, DbErr> {
        let inner = &*self.inner;
        if let Some(remembered) = inner.recall(&name) {
            inner.hits.fetch_add(1, Ordering::Relaxed);
            return remembered;
        }
        inner.flights.join(name.clone(), inner.look_up(name)).await
    }

    /// Takes note that something about this tenant is another than before, its names perhaps: the next request asks
    /// the catalog. Any unknown name may be its name now.
    pub fn changed(&self, tenant: Uuid) {
        self.inner.next_change();
        self.inner.tenants.invalidate(&tenant);
    }

    /// Takes note that anything may have changed.
    pub(crate) fn flush(&self) {
        self.inner.next_change();
        self.inner.tenants.invalidate_all();
    }

    /// What it did and holds.
    #[must_use]
    pub fn figures(&self) -> ResolverFigures {
        let inner = &*self.inner;
        // What is counted as held is else behind by what moka has yet to do.
        inner.tenants.run_pending_tasks();
        inner.names.run_pending_tasks();
        inner.unknown.run_pending_tasks();
        ResolverFigures {
            hits: inner.hits.load(Ordering::Relaxed),
            queries: inner.queries.load(Ordering::Relaxed),
            tenants: inner.tenants.entry_count(),
            names: inner.names.entry_count(),
            unknown: inner.unknown.entry_count(),
        }
    }
}

impl Inner {
    /// What is remembered of this name and can still be believed.
    fn recall(&self, name: &TenantName) -> Option<Found> {
        let believed = |read_at: Instant, limit| read_at.elapsed() < self.signals.believable_for(limit);
        let known = self.id_behind(name).and_then(|id| self.tenants.get(&id));
        if let Some(Known { tenant, read_at }) = known
            && believed(read_at, KNOWN_FOR)
            && tenant.is_called(name)
        {
            return Some(Ok(Some(tenant)));
        }
        let unknown = self.unknown.get(name)?;
        let holds = unknown.changes == self.changes.load(Ordering::Acquire);
        (holds && believed(unknown.read_at, UNKNOWN_FOR)).then_some(Ok(None))
    }

    /// Whose name it was when it was last asked for.
    fn id_behind(&self, name: &TenantName) -> Option<Uuid> {
        match name {
            TenantName::Id(id) => Some(*id),
            TenantName::Slug(_) | TenantName::Domain(_) => self.names.get(name),
        }
    }

    async fn look_up(&self, name: TenantName) -> Found {
        let _turn = self.turn(&name).await?;
        let (changes, read_at) = (self.changes.load(Ordering::Acquire), Instant::now());
        self.queries.fetch_add(1, Ordering::Relaxed);
        let Some(row) = self.catalog.query_one_raw(name.statement()).await? else {
            self.names.invalidate(&name);
            self.unknown.insert(name, Unknown { read_at, changes });
            return Ok(None);
        };
        let tenant = Arc::new(Tenant::from_row(&row, self.statement_timeout, &self.meters)?);
        if !matches!(name, TenantName::Id(_)) {
            self.names.insert(name, tenant.id);
        }
        if tenant.status == Status::Active && tenant.is_served() {
            self.tenants.insert(tenant.id, Known { tenant: Arc::clone(&tenant), read_at });
        }
        // A closed tenant is not remembered: it may be opened at any moment, by another process, and nothing in the
        // database would refuse to go on taking it for closed. Nor is what may have been read before a change that was
        // heard of meanwhile. In this order: a change heard of after this look drops the entry itself.
        if tenant.status != Status::Active
            || !tenant.is_served()
            || self.changes.load(Ordering::Acquire) != changes
        {
            self.tenants.invalidate(&tenant.id);
        }
        Ok(Some(tenant))
    }

    /// Waits until this name may be looked up. Names that led to a tenant before need not wait, nor do ids, which stand
    /// in tokens of our own: so a flood of random hosts takes no connection from the tenants in use.
    async fn turn(&self, name: &TenantName) -> Result<Option<SemaphorePermit<'_>>, DbErr> {
        if self.id_behind(name).is_some() {
            return Ok(None);
        }
        // The semaphore is never closed, so what fails is the wait.
        let turn = tokio::time::timeout(self.wait, self.strangers.acquire()).await;
        turn.ok().and_then(Result::ok).map(Some).ok_or(DbErr::ConnectionAcquire(ConnAcquireErr::Timeout))
    }

    fn next_change(&self) {
        self.changes.fetch_add(1, Ordering::AcqRel);
        self.flights.cut_off();
    }
}
