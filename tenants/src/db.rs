//! What code outside this crate gets to talk to PostgreSQL with. Each type carries where its statements run, and there
//! is no other way to run one: forgetting the tenant does not compile.

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use sqlx::postgres::{PgQueryResult, PgRow};
use tokio::sync::{Mutex, mpsc};
use tracing::Instrument as _;
use uuid::Uuid;

use crate::{
    error::{Fault, connection_error, fault, is_answer, query_error},
    jobs::{self, Job, Outbox},
    lanes::{Lanes, Share},
    live::Live,
    pool::{Lease, Permit, Pool, Work},
    resolution::Tenant,
    resolver::Resolver,
};

/// How long the rollback of a dropped transaction may take before its connection is closed instead.
const ROLLBACK_DEADLINE: Duration = Duration::from_secs(2);

/// What traces call the database, as OpenTelemetry's conventions do. They tell that something was asked, and never what.
const DBMS: &str = "postgresql";

/// Where statements run.
#[derive(Clone, Debug)]
enum Place {
    /// In a tenant's schema, as the tenant's role, on a connection of its lane.
    Tenant { lanes: Arc<Lanes>, resolver: Resolver, tenant: Arc<Tenant> },
    /// In the catalog's schema, as the login of this pool.
    Catalog { pool: Pool, binding: Arc<str> },
}

/// What binds a connection to the catalog.
const CATALOG_BINDING: &str = "RESET ROLE; SET search_path TO tenantry, pg_temp";

/// The right to a connection, waited for. Fields are dropped in order: a tenant's share is never counted short.
#[derive(Debug)]
struct Admission {
    permit: Permit,
    share: Option<Share>,
}

/// A bound connection.
#[derive(Debug)]
struct Checkout {
    lease: Lease,
    _share: Option<Share>,
}

/// What is done with a statement.
trait Exchange: 'static {
    /// What comes of it.
    type Answer: Send + Sync + 'static;

    fn run(
        lease: &mut Lease,
        statement: &Statement,
    ) -> impl Future<Output = Result<Self::Answer, sqlx::Error>> + Send;
}

/// Executes it, and tells how many rows that changed.
struct Execute;

impl Exchange for Execute {
    type Answer = PgQueryResult;

    async fn run(lease: &mut Lease, statement: &Statement) -> Result<PgQueryResult, sqlx::Error> {
        lease.execute(statement).await
    }
}

/// Reads all its rows.
struct Fetch;

impl Exchange for Fetch {
    type Answer = Vec<PgRow>;

    async fn run(lease: &mut Lease, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        lease.fetch(statement).await
    }
}

/// Does this to its end, whether the caller waits for that or not. A caller may be dropped at any await, because a
/// client hung up; an exchange that is cut short costs its connection, and a new one costs far more than the end of the
/// exchange. Statements have a timeout, and whoever is at one keeps his tenant's share of the lane.
async fn to_the_end<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, DbErr> {
    match tokio::spawn(work.in_current_span()).await {
        Ok(result) => Ok(result),
        Err(error) => match error.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            Err(error) => Err(DbErr::Custom(error.to_string())),
        },
    }
}

impl Place {
    /// Waits for the right to a connection. Who gives up waiting leaves nothing behind.
    async fn admit(&self) -> Result<Admission, DbErr> {
        match self {
            Self::Tenant { lanes, tenant, .. } => {
                let (share, permit) = lanes.admit(tenant).await?;
                Ok(Admission { permit, share: Some(share) })
            }
            Self::Catalog { pool, .. } => Ok(Admission { permit: pool.permit().await?, share: None }),
        }
    }

    async fn checkout(&self, Admission { permit, share }: Admission) -> Result<Checkout, DbErr> {
        let lease = match self {
            Self::Tenant { lanes, tenant, .. } => lanes.checkout(tenant, permit).await?,
            Self::Catalog { pool, binding } => pool.checkout(permit, binding).await?,
        };
        Ok(Checkout { lease, _share: share })
    }

    /// One statement outside a transaction.
    async fn run<E: Exchange>(&self, statement: Statement) -> Result<E::Answer, DbErr> {
        let work = if is_query(&statement) { "read" } else { "write" };
        let span = tracing::info_span!(target: "trace", "database", otel.kind = "client", db.system.name = DBMS, work);
        let place = self.clone();
        let result = async move {
            let admission = place.admit().await?;
            to_the_end(async move { place.exchange::<E>(admission, &statement).await }).await
        };
        self.noted(result.instrument(span).await.flatten())
    }

    /// A plan gone stale is made anew, once: nothing has happened yet. A query whose connection turns out to be dead is
    /// asked again on another one, as long as the binding was only remembered; a change is not, because nobody knows
    /// whether it was made.
    async fn exchange<E: Exchange>(
        &self,
        mut admission: Admission,
        statement: &Statement,
    ) -> Result<E::Answer, DbErr> {
        loop {
            let mut checkout = self.checkout(admission).await?;
            checkout.lease.held_for(if is_query(statement) { Work::Read } else { Work::Write });
            let mut result = E::run(&mut checkout.lease, statement).await;
            match &result {
                Err(error) if checkout.lease.forget_stale_plans(error).await => {
                    result = E::run(&mut checkout.lease, statement).await;
                }
                Err(error) if !is_answer(error) && checkout.lease.is_remembered() && is_query(statement) => {
                    drop(checkout);
                    admission = self.admit().await?;
                    continue;
                }
                _ => {}
            }
            if !is_query(statement) {
                self.written();
            }
            return result.map_err(query_error);
        }
    }

    /// Notes that a tenant's rows may be others now.
    fn written(&self) {
        if let Self::Tenant { tenant, .. } = self {
            tenant.meter.written();
        }
    }

    async fn begin(&self) -> Result<Transaction, DbErr> {
        let span = tracing::info_span!(target: "trace", "database begin", otel.kind = "client", db.system.name = DBMS);
        let place = self.clone();
        let open = async move {
            let admission = place.admit().await?;
            to_the_end(async move { place.open(admission).await }).await
        };
        let open = self.noted(open.instrument(span).await.flatten())?;
        Ok(Transaction { place: self.clone(), open: Mutex::new(Some(open)) })
    }

    async fn open(&self, mut admission: Admission) -> Result<Open, DbErr> {
        loop {
            let mut checkout = self.checkout(admission).await?;
            match checkout.lease.batch("BEGIN").await {
                Ok(()) => return Ok(Open { checkout: Some(checkout), failed: false }),
                // Dead since its last use. A transaction that was not begun can be begun on another one.
                Err(error) if !is_answer(&error) && checkout.lease.is_remembered() => {
                    drop(checkout);
                    admission = self.admit().await?;
                }
                Err(error) => return Err(query_error(error)),
            }
        }
    }

    /// The result itself; and where the database says that the tenant changed, what is cached of it is forgotten.
    fn noted<T>(&self, result: Result<T, DbErr>) -> Result<T, DbErr> {
        if let (Self::Tenant { resolver, tenant, .. }, Err(error)) = (self, &result)
            && fault(error) == Fault::TenantChanged
        {
            tracing::info!(tenant = %tenant.id, "the database refused a tenant's role; resolving the tenant again");
            resolver.changed(tenant.id);
        }
        result
    }
}

/// Whether a statement only reads. What the functions of the catalog change, they change in a transaction.
fn is_query(statement: &Statement) -> bool {
    statement.sql.starts_with("SELECT ")
}

/// An open transaction and what is known of its state. Dropped, it is rolled back.
#[derive(Debug)]
struct Open {
    /// `None` once it has ended.
    checkout: Option<Checkout>,
    /// PostgreSQL refuses everything after an error, and answers COMMIT with a rollback that looks like a success.
    failed: bool,
}

impl Open {
    async fn run<E: Exchange>(&mut self, statement: &Statement) -> Result<E::Answer, DbErr> {
        let lease = &mut self.checkout.as_mut().ok_or_else(ended)?.lease;
        let result = E::run(lease, statement).await;
        if let Err(error) = &result {
            self.failed = true;
            // The stale plan is gone for whoever tries the whole transaction again.
            lease.forget_stale_plans(error).await;
        }
        result.map_err(query_error)
    }

    /// Runs several statements, written by this crate.
    async fn batch(&mut self, sql: &str) -> Result<(), DbErr> {
        let lease = &mut self.checkout.as_mut().ok_or_else(ended)?.lease;
        let result = lease.batch(sql).await;
        self.failed |= result.is_err();
        result.map_err(query_error)
    }

    async fn copy_out(
        &mut self,
        sql: &str,
        piece: usize,
        pieces: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), DbErr> {
        let lease = &mut self.checkout.as_mut().ok_or_else(ended)?.lease;
        let result = lease.copy_out(sql, piece, pieces).await;
        self.failed |= result.is_err();
        result.map_err(query_error)
    }

    async fn copy_in(
        &mut self,
        sql: &str,
        pieces: &mut mpsc::Receiver<Option<Vec<u8>>>,
    ) -> Result<u64, DbErr> {
        let lease = &mut self.checkout.as_mut().ok_or_else(ended)?.lease;
        let result = lease.copy_in(sql, pieces).await;
        self.failed |= result.is_err();
        result.map_err(query_error)
    }

    async fn commit(mut self) -> Result<(), DbErr> {
        if self.failed {
            return Err(DbErr::Custom(
                "a statement of this transaction failed, so it was rolled back".into(),
            ));
        }
        let mut checkout = self.checkout.take().ok_or_else(ended)?;
        // If the connection breaks here it is closed, never used again, and nobody knows what became of the commit.
        checkout.lease.batch("COMMIT").await.map_err(query_error)
    }
}

/// Rolls back. A failure leaves the lease unfinished; it is closed, which rolls back too.
async fn roll_back(mut checkout: Checkout) {
    let rollback = checkout.lease.batch("ROLLBACK");
    if !matches!(tokio::time::timeout(ROLLBACK_DEADLINE, rollback).await, Ok(Ok(()))) {
        checkout.lease.abandon();
    }
}

impl Drop for Open {
    /// Rolls back in the background, so that the connection goes back clean. If it is broken, or if there is no runtime
    /// to do it in, the connection is closed, which rolls back too.
    fn drop(&mut self) {
        let Some(mut checkout) = self.checkout.take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if checkout.lease.is_usable() => {
                runtime.spawn(roll_back(checkout));
            }
            _ => checkout.lease.abandon(),
        }
    }
}

/// A transaction. Committed or, if dropped, rolled back.
#[derive(Debug)]
struct Transaction {
    place: Place,
    /// `None` while a statement is at it, and once it has ended. A statement that nobody waits for any more ends the
    /// transaction: it is rolled back.
    open: Mutex<Option<Open>>,
}

impl Transaction {
    async fn run<E: Exchange>(&self, statement: Statement) -> Result<E::Answer, DbErr> {
        self.with(|mut open| async move {
            let result = open.run::<E>(&statement).await;
            (open, result)
        })
        .await
    }

    async fn batch(&self, sql: String) -> Result<(), DbErr> {
        self.with(|mut open| async move {
            let result = open.batch(&sql).await;
            (open, result)
        })
        .await
    }

    async fn with<T, Work>(&self, work: impl FnOnce(Open) -> Work) -> Result<T, DbErr>
    where
        T: Send + 'static,
        Work: Future<Output = (Open, Result<T, DbErr>)> + Send + 'static,
    {
        let mut place = self.open.lock().await;
        let open = place.take().ok_or_else(ended)?;
        let span = tracing::info_span!(target: "trace", "database statement", otel.kind = "client", db.system.name = DBMS);
        let (open, result) = to_the_end(work(open)).instrument(span).await?;
        *place = Some(open);
        drop(place);
        self.place.noted(result)
    }

    async fn commit(self) -> Result<(), DbErr> {
        let open = self.open.lock().await.take().ok_or_else(ended)?;
        self.place.written();
        let span = tracing::info_span!(target: "trace", "database commit", otel.kind = "client", db.system.name = DBMS);
        to_the_end(open.commit()).instrument(span).await.flatten()
    }

    async fn rollback(self) {
        let checkout = self.open.lock().await.take().and_then(|mut open| open.checkout.take());
        if let Some(checkout) = checkout.filter(|checkout| checkout.lease.is_usable()) {
            // Whoever does not wait for its end leaves it to itself, as everywhere here.
            to_the_end(roll_back(checkout)).await.ok();
        }
    }
}

fn ended() -> DbErr {
    connection_error(sqlx::Error::Protocol("the transaction has ended".into()))
}

/// A tenant's database, as a handle: a statement checks a connection out, binds it and gives it back. Nothing is held
/// between two statements; what has to be seen or written together goes into a transaction by [`begin`](Self::begin).
#[derive(Clone, Debug)]
pub struct TenantDb {
    place: Place,
    tenant: Arc<Tenant>,
    live: Live,
}

impl TenantDb {
    pub(crate) fn new(lanes: Arc<Lanes>, resolver: Resolver, tenant: Arc<Tenant>, live: Live) -> Self {
        Self { place: Place::Tenant { lanes, resolver, tenant: Arc::clone(&tenant) }, tenant, live }
    }

    /// The tenant whose database this is.
    #[must_use]
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// Whatever keeps a connection from being had or bound.
    pub async fn begin(&self) -> Result<TenantTx, DbErr> {
        let (tenant, live) = (Arc::clone(&self.tenant), self.live.clone());
        Ok(TenantTx { transaction: self.place.begin().await?, tenant, live, wakes: StdMutex::default() })
    }
}

/// Where a tenant's rows are changed so that somebody is to look again at what he is shown live.
pub trait Wake {
    /// Has what this user is shown live looked at again, on every process, once what was done here is committed.
    fn wake(&self, user: Uuid);
}

impl Wake for TenantDb {
    /// Each statement is committed when it has ended, so this is at once.
    fn wake(&self, user: Uuid) {
        self.live.wake(self.tenant.id, vec![user]);
    }
}

impl Wake for TenantTx {
    fn wake(&self, user: Uuid) {
        Self::wake(self, user);
    }
}

/// A transaction in a tenant's schema. Dropped without [`commit`](Self::commit), it is rolled back.
#[derive(Debug)]
pub struct TenantTx {
    transaction: Transaction,
    tenant: Arc<Tenant>,
    live: Live,
    /// Who is to be woken once this is committed.
    wakes: StdMutex<Vec<Uuid>>,
}

impl TenantTx {
    /// The tenant in whose schema this runs.
    #[must_use]
    pub fn tenant(&self) -> &Arc<Tenant> {
        &self.tenant
    }

    /// Commits.
    ///
    /// # Errors
    /// The commit failed, or a statement before it had, so that there was nothing to commit. If the connection broke
    /// while committing, nobody knows whether it was committed.
    pub async fn commit(self) -> Result<(), DbErr> {
        let Self { transaction, tenant, live, wakes } = self;
        transaction.commit().await?;
        live.wake(tenant.id, wakes.into_inner().unwrap_or_else(PoisonError::into_inner));
        Ok(())
    }

    /// Rolls back, and waits for that. Dropping it does the same in the background, while its locks are still held: that is
    /// too late for who comes again at once and must not find what he has locked himself.
    pub async fn rollback(self) {
        self.transaction.rollback().await;
    }

    /// Has what this user is shown live looked at again, on every process, once this transaction is committed.
    pub fn wake(&self, user: Uuid) {
        self.wakes.lock().unwrap_or_else(PoisonError::into_inner).push(user);
    }

    /// Takes a lock of this name in this tenant until the transaction ends, unless somebody else has it. Whether it did.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn try_lock(&self, name: &str) -> Result<bool, DbErr> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 0)) AS taken",
            [format!("tenantry {} {name}", self.tenant.id).into()],
        );
        self.query_one_raw(statement).await?.map_or(Ok(false), |row| row.try_get("", "taken"))
    }

    /// Takes a lock of this name in this tenant until the transaction ends, and waits for whoever has it.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn wait_for_lock(&self, name: &str) -> Result<(), DbErr> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))",
            [format!("tenantry {} {name}", self.tenant.id).into()],
        );
        self.query_one_raw(statement).await.map(|_| ())
    }

    /// Moves an address in the catalog's blind index, in this transaction: `old` goes, `new` comes. Both are keyed
    /// hashes; the catalog holds no address in clear for this.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn index_email(&self, old: Option<&[u8; 32]>, new: Option<&[u8; 32]>) -> Result<(), DbErr> {
        let value = |hash: Option<&[u8; 32]>| hash.map(|hash| hash.to_vec()).into();
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT tenantry.index_email($1, $2)",
            [value(old), value(new)],
        );
        self.query_one_raw(statement).await.map(|_| ())
    }

    /// Writes the tenant's name into the catalog, where operators see it, in this transaction.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn rename_tenant(&self, name: &str) -> Result<(), DbErr> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT tenantry.rename_tenant($1)",
            [name.into()],
        );
        self.query_one_raw(statement).await.map(|_| ())
    }

    /// Adds many addresses to the catalog's blind index, in this transaction.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn index_emails(&self, hashes: &[[u8; 32]]) -> Result<(), DbErr> {
        // One value in base 16, for a list of byte strings is no value of sea-orm's.
        let hashes: Vec<String> = hashes.iter().map(|hash| data_encoding::HEXLOWER.encode(hash)).collect();
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT count(tenantry.index_email(NULL, decode(hash, 'hex'))) \
             FROM string_to_table($1, ',') AS hash",
            [hashes.join(",").into()],
        );
        self.query_one_raw(statement).await.map(|_| ())
    }
}

/// The catalog, for what may read and write it: never for a tenant's endpoint.
#[derive(Clone, Debug)]
pub struct CatalogDb {
    place: Place,
}

impl CatalogDb {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { place: Place::Catalog { pool, binding: CATALOG_BINDING.into() } }
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// Whatever keeps a connection from being had.
    pub async fn begin(&self) -> Result<CatalogTx, DbErr> {
        Ok(CatalogTx { transaction: self.place.begin().await? })
    }
}

/// A transaction in the catalog. Dropped without [`commit`](Self::commit), it is rolled back.
#[derive(Debug)]
pub struct CatalogTx {
    transaction: Transaction,
}

impl CatalogTx {
    /// Commits.
    ///
    /// # Errors
    /// As [`TenantTx::commit`].
    pub async fn commit(self) -> Result<(), DbErr> {
        self.transaction.commit().await
    }

    /// Several statements in one round trip; for the DDL of this crate.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), DbErr> {
        self.transaction.batch(sql.to_owned()).await
    }

    /// Sends what a COPY gives, in pieces of up to this many bytes. Whoever stops reading ends the transaction.
    pub(crate) async fn copy_out(
        &self,
        sql: String,
        piece: usize,
        pieces: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), DbErr> {
        self.transaction
            .with(|mut open| async move {
                let result = open.copy_out(&sql, piece, &pieces).await;
                (open, result)
            })
            .await
    }

    /// Feeds a COPY with these pieces, and says how many rows that were. A piece that is `None` ends the transaction.
    pub(crate) async fn copy_in(
        &self,
        sql: String,
        mut pieces: mpsc::Receiver<Option<Vec<u8>>>,
    ) -> Result<u64, DbErr> {
        self.transaction
            .with(|mut open| async move {
                let result = open.copy_in(&sql, &mut pieces).await;
                (open, result)
            })
            .await
    }
}

/// SQL comes from sea-query, with its values bound apart: text that is already SQL is refused.
fn refuse_unprepared() -> DbErr {
    DbErr::Custom("unprepared SQL is refused here".into())
}

macro_rules! connection_trait {
    ($type:ty, $inner:ident) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                DbBackend::Postgres
            }

            async fn execute_raw(&self, statement: Statement) -> Result<ExecResult, DbErr> {
                self.$inner.run::<Execute>(statement).await.map(Into::into)
            }

            async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
                Err(refuse_unprepared())
            }

            async fn query_one_raw(&self, statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                Ok(self.query_all_raw(statement).await?.into_iter().next())
            }

            async fn query_all_raw(&self, statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                let rows = self.$inner.run::<Fetch>(statement).await?;
                Ok(rows.into_iter().map(Into::into).collect())
            }
        }
    };
}

connection_trait!(TenantDb, place);
connection_trait!(CatalogDb, place);
connection_trait!(TenantTx, transaction);
connection_trait!(CatalogTx, transaction);

impl Outbox for TenantTx {
    fn tenant_id(&self) -> Option<Uuid> {
        Some(self.tenant.id)
    }

    async fn enqueue(&self, job: &Job) -> Result<Option<Uuid>, DbErr> {
        let statement = Statement::from_sql_and_values(
            DbBackend::Postgres,
            "SELECT tenantry.enqueue($1, $2, $3, $4) AS id",
            [job.kind.into(), job.payload.clone().into(), job.run_at.into(), job.dedupe_key.clone().into()],
        );
        match self.query_one_raw(statement).await? {
            Some(row) => row.try_get("", "id"),
            None => Ok(None),
        }
    }
}

impl Outbox for CatalogTx {
    fn tenant_id(&self) -> Option<Uuid> {
        None
    }

    async fn enqueue(&self, job: &Job) -> Result<Option<Uuid>, DbErr> {
        jobs::insert(self, None, job).await
    }
}

impl Outbox for CatalogDb {
    fn tenant_id(&self) -> Option<Uuid> {
        None
    }

    async fn enqueue(&self, job: &Job) -> Result<Option<Uuid>, DbErr> {
        jobs::insert(self, None, job).await
    }
}
