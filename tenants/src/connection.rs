//! A connection that knows its state: whose it is bound to, and whether its last exchange with the server has ended.
//!
//! The one invariant: **a connection is used again only if its last exchange has ended.** Every exchange marks the
//! connection as unfinished before the first byte and as finished after the last. A future may be dropped at any
//! await: then the mark stays, and the connection is closed. PostgreSQL rolls back whatever was open on it.
//!
//! The second: **nothing runs on a connection whose binding is not known.** [`Connection::bind`] is the only function
//! that binds. It remembers what it has bound, and forgets it before it sends a change and after every error that may
//! mean that the role or the schema is not what it was.

use std::{fmt, sync::Arc};

use futures_util::StreamExt as _;
use sea_orm::Statement;
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Executor, PgConnection,
    postgres::{PgConnectOptions, PgQueryResult, PgRow},
};
use tokio::sync::mpsc;

use crate::error::{is_answer, is_stale_plan, is_violation};

/// As whom and where to connect. Its debug text has no password, which the one of sqlx's options has.
#[derive(Clone)]
pub(crate) struct Login(pub(crate) PgConnectOptions);

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.0.get_username())
    }
}

/// What binding a connection took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    /// Nothing: it was bound so already.
    Remembered,
    /// A round trip, on a connection that was bound otherwise, or not known to be bound.
    Anew,
}

/// A connection and what is known of its state.
#[derive(Debug)]
pub(crate) struct Connection {
    inner: PgConnection,
    /// True from before the first byte of an exchange until after its last, and for ever if it never ended.
    unfinished: bool,
    /// The batch it was bound by last; `None` while that is not known.
    binding: Option<Arc<str>>,
}

impl Connection {
    pub(crate) async fn open(login: &Login) -> Result<Self, sqlx::Error> {
        Ok(Self { inner: login.0.connect().await?, unfinished: false, binding: None })
    }

    /// Whether it is known to be bound by this batch.
    pub(crate) fn is_bound_by(&self, binding: &Arc<str>) -> bool {
        self.binding.as_ref().is_some_and(|bound| Arc::ptr_eq(bound, binding) || bound == binding)
    }

    /// Whether it is known to be bound to anybody.
    pub(crate) fn is_bound(&self) -> bool {
        self.binding.is_some()
    }

    /// Forgets what it is bound to, so that it will be bound anew.
    pub(crate) fn forget_binding(&mut self) {
        self.binding = None;
    }

    /// The one function that binds: by one batch, which PostgreSQL takes whole or not at all, or by remembering that
    /// the same batch was the last one.
    pub(crate) async fn bind(&mut self, binding: &Arc<str>) -> Result<Bound, sqlx::Error> {
        if self.is_bound_by(binding) {
            return Ok(Bound::Remembered);
        }
        self.forget_binding();
        self.batch(binding).await?;
        self.binding = Some(Arc::clone(binding));
        Ok(Bound::Anew)
    }

    /// Whether it can still be used.
    pub(crate) fn is_usable(&self) -> bool {
        !self.unfinished
    }

    /// Gives it up: it will be closed.
    pub(crate) fn abandon(&mut self) {
        self.unfinished = true;
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

    /// Sends what a COPY gives, in pieces of up to this many bytes; its statement is a text of this crate's. Whether it
    /// ended or not: after a COPY that did not, the connection is of no use.
    pub(crate) async fn copy_out(
        &mut self,
        sql: &str,
        piece: usize,
        pieces: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), sqlx::Error> {
        let copied = self.exchange(async |connection| send_copy(connection, sql, piece, pieces).await).await;
        if copied.is_err() {
            self.abandon();
        }
        copied
    }

    /// Feeds a COPY with these pieces, until there are no more, and says how many rows that were. A piece that is `None`
    /// says that what came before is not all: then nothing is taken, and the connection is of no use.
    pub(crate) async fn copy_in(
        &mut self,
        sql: &str,
        pieces: &mut mpsc::Receiver<Option<Vec<u8>>>,
    ) -> Result<u64, sqlx::Error> {
        let copied = self
            .exchange(async |connection| {
                let mut copy = connection.copy_in_raw(sql).await?;
                while let Some(piece) = pieces.recv().await {
                    let piece = piece.ok_or_else(|| sqlx::Error::Protocol("the copy was given up".into()))?;
                    copy.send(piece).await?;
                }
                copy.finish().await
            })
            .await;
        if copied.is_err() {
            self.abandon();
        }
        copied
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
        if self.unfinished {
            return Err(sqlx::Error::Protocol("an earlier exchange on this connection was cut short".into()));
        }
        self.unfinished = true;
        let result = exchange(&mut self.inner).await;
        let finished = match &result {
            Ok(_) => true,
            Err(error) if is_answer(error) => {
                // A row that breaks a rule says nothing about the connection; anything else may.
                if !is_violation(error) {
                    self.forget_binding();
                }
                // sqlx returns at the error and leaves the rest of the answer unread: read up to its end.
                self.inner.ping().await.is_ok()
            }
            Err(_) => false,
        };
        self.unfinished = !finished;
        result
    }
}

/// PostgreSQL sends a message for each row. They are put together, and torn apart where one is longer than a piece.
async fn send_copy(
    connection: &mut PgConnection,
    sql: &str,
    piece: usize,
    pieces: &mpsc::Sender<Vec<u8>>,
) -> Result<(), sqlx::Error> {
    let nobody = |_| sqlx::Error::Protocol("nobody reads the copy any more".into());
    let mut rows = connection.copy_out_raw(sql).await?;
    let mut filled = Vec::with_capacity(piece);
    while let Some(row) = rows.next().await {
        let row = row?;
        let mut row = &row[..];
        while let Some((fits, rest)) = row.split_at_checked(piece - filled.len()) {
            filled.extend_from_slice(fits);
            row = rest;
            pieces.send(std::mem::replace(&mut filled, Vec::with_capacity(piece))).await.map_err(nobody)?;
        }
        filled.extend_from_slice(row);
    }
    if !filled.is_empty() {
        pieces.send(filled).await.map_err(nobody)?;
    }
    Ok(())
}

fn query(statement: &Statement) -> sqlx::query::Query<'_, sqlx::Postgres, SqlxValues> {
    let values = statement.values.clone().unwrap_or_else(|| sea_orm::sea_query::Values(Vec::new()));
    sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
}
