//! Open transactions, and how they end.

use std::time::Duration;

use sea_orm::{DbErr, Statement};
use tokio::sync::{Mutex, mpsc};
use tracing::Instrument as _;

use super::place::{Checkout, DBMS, Exchange, Place, to_the_end};
use crate::error::{connection_error, query_error};

/// How long the rollback of a dropped transaction may take before its connection is closed instead.
const ROLLBACK_DEADLINE: Duration = Duration::from_secs(2);

/// An open transaction and what is known of its state. Dropped, it is rolled back.
#[derive(Debug)]
pub(super) struct Open {
    /// `None` once it has ended.
    checkout: Option<Checkout>,
    /// PostgreSQL refuses everything after an error, and answers COMMIT with a rollback that looks like a success.
    failed: bool,
}

impl Open {
    /// One that was begun on this connection.
    pub(super) fn new(checkout: Checkout) -> Self {
        Self { checkout: Some(checkout), failed: false }
    }

    async fn run<E: Exchange>(&mut self, statement: &Statement) -> Result<E::Answer, DbErr> {
        if self.checkout.is_none() {
            return Err(ended());
        }
        self.exchange::<E>(statement).await.map_err(query_error)
    }

    pub(super) async fn exchange<E: Exchange>(
        &mut self,
        statement: &Statement,
    ) -> Result<E::Answer, sqlx::Error> {
        let Some(checkout) = &mut self.checkout else { return Err(has_ended()) };
        let lease = &mut checkout.lease;
        let result = E::run(lease, statement).await;
        if let Err(error) = &result {
            self.failed = true;
            // The stale plan is gone for whoever tries the whole transaction again.
            lease.forget_stale_plans(error).await;
        }
        result
    }

    /// Runs several statements, written by this crate.
    async fn batch(&mut self, sql: &str) -> Result<(), DbErr> {
        let lease = &mut self.checkout.as_mut().ok_or_else(ended)?.lease;
        let result = lease.batch(sql).await;
        self.failed |= result.is_err();
        result.map_err(query_error)
    }

    /// Allows its statements to take this long.
    async fn allow(&mut self, statement_timeout: Duration) -> Result<(), DbErr> {
        self.batch(&format!("SET LOCAL statement_timeout TO {}", statement_timeout.as_millis())).await?;
        let lease = &mut self.checkout.as_mut().ok_or_else(ended)?.lease;
        lease.allow(Some(statement_timeout));
        Ok(())
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

    pub(super) async fn commit(mut self) -> Result<(), DbErr> {
        if self.failed {
            return Err(DbErr::Custom(
                "a statement of this transaction failed, so it was rolled back".into(),
            ));
        }
        let mut checkout = self.checkout.take().ok_or_else(ended)?;
        // If the connection breaks here it is closed, never used again, and nobody knows what became of the commit.
        checkout.lease.commit().await.map_err(query_error)
    }
}

/// Rolls back. A failure leaves the lease unfinished; it is closed, which rolls back too.
async fn roll_back(mut checkout: Checkout) {
    let rollback = checkout.lease.rollback();
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
pub(super) struct Transaction {
    place: Place,
    /// `None` while a statement is at it, and once it has ended. A statement that nobody waits for any more ends the
    /// transaction: it is rolled back.
    open: Mutex<Option<Open>>,
}

impl Transaction {
    pub(super) fn new(place: Place, open: Open) -> Self {
        Self { place, open: Mutex::new(Some(open)) }
    }

    pub(super) async fn run<E: Exchange>(&self, statement: Statement) -> Result<E::Answer, DbErr> {
        self.with(|mut open| async move {
            let result = open.run::<E>(&statement).await;
            (open, result)
        })
        .await
    }

    pub(super) async fn batch(&self, sql: String) -> Result<(), DbErr> {
        self.with(|mut open| async move {
            let result = open.batch(&sql).await;
            (open, result)
        })
        .await
    }

    /// Allows its statements to take this long.
    pub(super) async fn allow(&self, statement_timeout: Duration) -> Result<(), DbErr> {
        self.with(|mut open| async move {
            let result = open.allow(statement_timeout).await;
            (open, result)
        })
        .await
    }

    /// Sends what a COPY gives, in pieces of up to this many bytes.
    pub(super) async fn copy_out(
        &self,
        sql: String,
        piece: usize,
        pieces: mpsc::Sender<Vec<u8>>,
    ) -> Result<(), DbErr> {
        self.with(|mut open| async move {
            let result = open.copy_out(&sql, piece, &pieces).await;
            (open, result)
        })
        .await
    }

    /// Feeds a COPY with these pieces.
    pub(super) async fn copy_in(
        &self,
        sql: String,
        mut pieces: mpsc::Receiver<Option<Vec<u8>>>,
    ) -> Result<u64, DbErr> {
        self.with(|mut open| async move {
            let result = open.copy_in(&sql, &mut pieces).await;
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
        let (open, result) = to_the_end(Box::pin(work(open))).instrument(span).await?;
        *place = Some(open);
        drop(place);
        self.place.noted(result)
    }

    pub(super) async fn commit(self) -> Result<(), DbErr> {
        let open = self.open.lock().await.take().ok_or_else(ended)?;
        self.place.written();
        let span = tracing::info_span!(target: "trace", "database commit", otel.kind = "client", db.system.name = DBMS);
        to_the_end(Box::pin(open.commit())).instrument(span).await.flatten()
    }

    pub(super) async fn rollback(self) {
        let checkout = self.open.lock().await.take().and_then(|mut open| open.checkout.take());
        if let Some(checkout) = checkout.filter(|checkout| checkout.lease.is_usable()) {
            // Whoever does not wait for its end leaves it to itself, as everywhere here.
            to_the_end(roll_back(checkout)).await.ok();
        }
    }
}

fn ended() -> DbErr {
    connection_error(has_ended())
}

fn has_ended() -> sqlx::Error {
    sqlx::Error::Protocol("the transaction has ended".into())
}
