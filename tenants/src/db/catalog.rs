//! The catalog, as code outside this crate sees it.

use std::{sync::Arc, time::Duration};

use sea_orm::DbErr;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{place::Place, transaction::Transaction};
use crate::{
    binding::Binding,
    jobs::{self, Job, Outbox},
    pool::Pool,
};

/// The catalog, for what may read and write it: never for a tenant's endpoint.
#[derive(Clone, Debug)]
pub struct CatalogDb {
    pub(super) place: Place,
}

impl CatalogDb {
    /// On the connections of this pool, whose statements may take this long; or as long as the connections allow.
    pub(crate) fn new(pool: Pool, statement_timeout: Option<Duration>) -> Self {
        Self { place: Place::Catalog { pool, binding: Arc::new(Binding::of_catalog(statement_timeout)) } }
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
    pub(super) transaction: Transaction,
}

impl CatalogTx {
    /// Commits.
    ///
    /// # Errors
    /// As [`TenantTx::commit`](super::TenantTx::commit).
    pub async fn commit(self) -> Result<(), DbErr> {
        self.transaction.commit().await
    }

    /// Several statements in one round trip; for the DDL of this crate.
    pub(crate) async fn batch(&self, sql: &str) -> Result<(), DbErr> {
        self.transaction.batch(sql.to_owned()).await
    }

    /// Allows its statements to take this long.
    pub(crate) async fn allow(&self, statement_timeout: Duration) -> Result<(), DbErr> {
        self.transaction.allow(statement_timeout).await
    }

    /// Sends what a COPY gives, in pieces of up to this many bytes. Whoever stops reading ends the transaction.
    pub(crate) async fn copy_out(
        &self,
        sql: String,
        piece: usize,
        pieces: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), DbErr> {
        self.transaction.copy_out(sql, piece, pieces).await
    }

    /// Feeds a COPY with these pieces, and says how many rows that were. A piece that is `None` ends the transaction.
    pub(crate) async fn copy_in(
        &self,
        sql: String,
        pieces: mpsc::Receiver<Option<Vec<u8>>>,
    ) -> Result<u64, DbErr> {
        self.transaction.copy_in(sql, pieces).await
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
