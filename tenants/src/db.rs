//! What code outside this crate gets to talk to PostgreSQL with. Each type carries where its statements run, and there
//! is no other way to run one: forgetting the tenant does not compile.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use sea_orm::{ConnectionTrait, DbBackend, DbErr, ExecResult, QueryResult, Statement};
use tokio::sync::Mutex;

use crate::{
    connection::{Lease, Pool},
    error::{Fault, connection_error, fault, query_error},
    lanes::{Lanes, Share},
    resolution::Tenant,
    resolver::Resolver,
};

/// How long the rollback of a dropped transaction may take before its connection is closed instead.
const ROLLBACK_DEADLINE: Duration = Duration::from_secs(2);

/// Where statements run.
#[derive(Clone, Debug)]
enum Place {
    /// In a tenant's schema, as the tenant's role, on a connection of its lane.
    Tenant { lanes: Arc<Lanes>, resolver: Resolver, tenant: Arc<Tenant> },
    /// In the catalog's schema, as the login of this pool.
    Catalog { pool: Pool },
}

/// A connection on loan. `_share` goes back after the lease, so that a tenant's share is never counted short.
#[derive(Debug)]
struct Checkout {
    lease: Lease,
    _share: Option<Share>,
}

/// What binds a connection to the catalog.
pub(crate) const CATALOG_BINDING: &str = "RESET ROLE; SET search_path TO tenantry, pg_temp";

impl Place {
    async fn checkout(&self) -> Result<Checkout, DbErr> {
        let checkout = match self {
            Self::Tenant { lanes, tenant, .. } => {
                lanes.checkout(tenant).await.map(|(lease, share)| Checkout { lease, _share: Some(share) })
            }
            Self::Catalog { pool } => {
                pool.checkout(CATALOG_BINDING).await.map(|lease| Checkout { lease, _share: None })
            }
        };
        self.noted(checkout)
    }

    /// One statement outside a transaction. A plan gone stale is made anew, once: nothing has happened yet.
    async fn run<T>(
        &self,
        statement: &Statement,
        run: impl AsyncFn(&mut Lease, &Statement) -> Result<T, sqlx::Error>,
    ) -> Result<T, DbErr> {
        let mut checkout = self.checkout().await?;
        let mut result = run(&mut checkout.lease, statement).await;
        if let Err(error) = &result
            && checkout.lease.forget_stale_plans(error).await
        {
            result = run(&mut checkout.lease, statement).await;
        }
        self.noted(result.map_err(query_error))
    }

    async fn begin(&self) -> Result<Transaction, DbErr> {
        let mut checkout = self.checkout().await?;
        checkout.lease.batch("BEGIN").await.map_err(query_error)?;
        Ok(Transaction { place: self.clone(), open: Mutex::new(Some(Open { checkout, failed: false })) })
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

/// An open transaction and what is known of its state.
#[derive(Debug)]
struct Open {
    checkout: Checkout,
    /// PostgreSQL refuses everything after an error, and answers COMMIT with a rollback that looks like a success.
    failed: bool,
}

/// A transaction. Committed or, if dropped, rolled back.
#[derive(Debug)]
struct Transaction {
    place: Place,
    /// `None` once it has ended.
    open: Mutex<Option<Open>>,
}

impl Transaction {
    async fn run<T>(&self, run: impl AsyncFnOnce(&mut Lease) -> Result<T, sqlx::Error>) -> Result<T, DbErr> {
        let mut open = self.open.lock().await;
        let open = open.as_mut().ok_or_else(ended)?;
        let result = run(&mut open.checkout.lease).await;
        if let Err(error) = &result {
            open.failed = true;
            // The stale plan is gone for whoever tries the whole transaction again.
            open.checkout.lease.forget_stale_plans(error).await;
        }
        self.place.noted(result.map_err(query_error))
    }

    async fn commit(self) -> Result<(), DbErr> {
        let mut guard = self.open.lock().await;
        let open = guard.as_mut().ok_or_else(ended)?;
        if open.failed {
            return Err(DbErr::Custom(
                "a statement of this transaction failed, so it was rolled back".into(),
            ));
        }
        // A commit cut short leaves the lease unfinished: the connection is closed, never reused.
        let result = open.checkout.lease.batch("COMMIT").await.map_err(query_error);
        if open.checkout.lease.is_usable() {
            *guard = None;
        }
        result
    }
}

fn ended() -> DbErr {
    connection_error(sqlx::Error::Protocol("the transaction has ended".into()))
}

impl Drop for Transaction {
    /// Rolls back in the background, so that the connection goes back clean. If an exchange was cut short, or if there
    /// is no runtime to do it in, the connection is closed, which rolls back too.
    fn drop(&mut self) {
        let Some(mut open) = self.open.get_mut().take() else { return };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) if open.checkout.lease.is_usable() => {
                runtime.spawn(async move {
                    // A failure leaves the lease unfinished; dropping it closes the connection.
                    let rollback = open.checkout.lease.batch("ROLLBACK");
                    if !matches!(tokio::time::timeout(ROLLBACK_DEADLINE, rollback).await, Ok(Ok(()))) {
                        open.checkout.lease.abandon();
                    }
                });
            }
            _ => open.checkout.lease.abandon(),
        }
    }
}

/// A tenant's database, as a handle: a statement checks a connection out, binds it and gives it back. Nothing is held
/// between two statements; what has to be seen or written together goes into a transaction by [`begin`](Self::begin).
#[derive(Clone, Debug)]
pub struct TenantDb {
    place: Place,
    tenant: Arc<Tenant>,
}

impl TenantDb {
    pub(crate) fn new(lanes: Arc<Lanes>, resolver: Resolver, tenant: Arc<Tenant>) -> Self {
        Self { place: Place::Tenant { lanes, resolver, tenant: Arc::clone(&tenant) }, tenant }
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
        Ok(TenantTx { transaction: self.place.begin().await?, tenant: Arc::clone(&self.tenant) })
    }
}

/// A transaction in a tenant's schema. Dropped without [`commit`](Self::commit), it is rolled back.
#[derive(Debug)]
pub struct TenantTx {
    transaction: Transaction,
    tenant: Arc<Tenant>,
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
        self.transaction.commit().await
    }

    /// Leaves a job for the installation, in this transaction. `None` where one with this `dedupe_key` stands already.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn enqueue(&self, job: &Job) -> Result<Option<uuid::Uuid>, DbErr> {
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

/// Work that a tenant leaves for the installation.
#[derive(Clone, Debug)]
pub struct Job {
    /// What is to be done.
    pub kind: &'static str,
    /// With what.
    pub payload: serde_json::Value,
    /// Not before this time.
    pub run_at: chrono::DateTime<chrono::Utc>,
    /// No second job of the same tenant with the same key.
    pub dedupe_key: Option<String>,
}

/// The catalog, for what may read and write it: never for a tenant's endpoint.
#[derive(Clone, Debug)]
pub struct CatalogDb {
    place: Place,
}

impl CatalogDb {
    pub(crate) fn new(pool: Pool) -> Self {
        Self { place: Place::Catalog { pool } }
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
        self.transaction.run(async |lease| lease.batch(sql).await).await
    }
}

/// SQL comes from sea-query, with its values bound apart: text that is already SQL is refused.
fn refuse_unprepared() -> DbErr {
    DbErr::Custom("unprepared SQL is refused here".into())
}

macro_rules! connection_trait {
    ($type:ty, $self:ident, |$statement:ident, $run:ident| $exchange:expr) => {
        #[async_trait]
        impl ConnectionTrait for $type {
            fn get_database_backend(&self) -> DbBackend {
                DbBackend::Postgres
            }

            async fn execute_raw(&$self, $statement: Statement) -> Result<ExecResult, DbErr> {
                let $run = async |lease: &mut Lease, statement: &Statement| lease.execute(statement).await;
                $exchange.await.map(Into::into)
            }

            async fn execute_unprepared(&self, _: &str) -> Result<ExecResult, DbErr> {
                Err(refuse_unprepared())
            }

            async fn query_one_raw(&$self, $statement: Statement) -> Result<Option<QueryResult>, DbErr> {
                let $run = async |lease: &mut Lease, statement: &Statement| lease.fetch(statement).await;
                Ok($exchange.await?.into_iter().next().map(Into::into))
            }

            async fn query_all_raw(&$self, $statement: Statement) -> Result<Vec<QueryResult>, DbErr> {
                let $run = async |lease: &mut Lease, statement: &Statement| lease.fetch(statement).await;
                Ok($exchange.await?.into_iter().map(Into::into).collect())
            }
        }
    };
}

connection_trait!(TenantDb, self, |statement, run| self.place.run(&statement, run));
connection_trait!(CatalogDb, self, |statement, run| self.place.run(&statement, run));
connection_trait!(TenantTx, self, |statement, run| {
    self.transaction.run(async |lease| run(lease, &statement).await)
});
connection_trait!(CatalogTx, self, |statement, run| {
    self.transaction.run(async |lease| run(lease, &statement).await)
});
