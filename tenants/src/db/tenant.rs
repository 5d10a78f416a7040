//! One tenant's database, as code outside this crate sees it.

use std::sync::{Arc, Mutex, PoisonError};

use sea_orm::{ConnectionTrait as _, DbBackend, DbErr, Statement};
use uuid::Uuid;

use super::{place::Place, transaction::Transaction};
use crate::{
    jobs::{Job, Outbox},
    lanes::Lanes,
    live::Live,
    resolution::Tenant,
    resolver::Resolver,
};

/// A tenant's database, as a handle: a statement checks a connection out, binds it and gives it back. Nothing is held
/// between two statements; what has to be seen or written together goes into a transaction by [`begin`](Self::begin).
#[derive(Clone, Debug)]
pub struct TenantDb {
    pub(super) place: Place,
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
        Ok(TenantTx { transaction: self.place.begin().await?, tenant, live, wakes: Mutex::default() })
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
    pub(super) transaction: Transaction,
    tenant: Arc<Tenant>,
    live: Live,
    /// Who is to be woken once this is committed.
    wakes: Mutex<Vec<Uuid>>,
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
