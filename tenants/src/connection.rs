//! A connection that knows its state: whose it is bound to, and whether its last exchange with the server has ended.
//!
//! The one invariant: **a connection is used again only if its last exchange has ended.** Every exchange marks the
//! connection as unfinished before the first byte and as finished after the last. A future may be dropped at any
//! await, or given up because no answer comes: then the mark stays, and the connection is closed. PostgreSQL rolls back
//! whatever was open on it.
//!
//! The second: **nothing runs on a connection whose binding is not known.** [`Connection::bind`] and
//! [`Connection::begin`] are the only functions that bind. For a connection that stays ours the former remembers what it
//! has bound, and forgets it before it sends a change and after every error that may mean that the role or the schema is
//! not what it was; and that it stays ours is made sure of when it is opened ([`Mark`]). Behind a pooler that gives each
//! transaction another connection the latter binds each transaction in the message that begins it, and outside of one
//! nothing is sent.

use std::{fmt, io, sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use sea_orm::Statement;
use sea_query_sqlx::SqlxValues;
use sqlx::{
    AssertSqlSafe, ConnectOptions, Connection as _, Executor, PgConnection,
    postgres::{PgConnectOptions, PgQueryResult, PgRow},
};
use tokio::{sync::mpsc, time::timeout};

use crate::{
    binding::{Binding, Guards, Pooling},
    error::{is_answer, is_loss, is_silence, is_stale_plan, is_violation},
    probe::{ASK_FOR_MARK, Mark},
};

/// How long it takes at most until an answer is here that the server has no work with. A little longer than a pooler lets
/// its clients wait for a connection, if it is set up as `deploy/` has it.
pub(crate) const ANSWER: Duration = Duration::from_secs(6);
/// For how long nothing of a COPY may move. It may have to sort, or to build an index, before its first row or after its last.
const COPY_DEADLINE: Duration = Duration::from_mins(10);

/// As whom and where to connect. Its debug text has no password, which the one of sqlx's options has.
#[derive(Clone)]
pub(crate) struct Login(pub(crate) PgConnectOptions);

impl Login {
    /// A connection. What keeps it from being reached says whence: of several databases one may be away.
    pub(crate) async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        self.0.connect().await.map_err(|error| match error {
            sqlx::Error::Io(error) => {
                let text = format!("{}:{}: {error}", self.0.get_host(), self.0.get_port());
                sqlx::Error::Io(io::Error::new(error.kind(), text))
            }
            error => error,
        })
    }
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Login({})", self.0.get_username())
    }
}

/// How the connections of a pool come about: as whom, what they keep, and what guards each of them.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) login: Login,
    pub(crate) pooling: Pooling,
    pub(crate) guards: Arc<Guards>,
    /// How long it takes at most until an answer is here, beside the work that the server has with it. One that is not here
    /// by then does not come any more: the connection is closed.
    pub(crate) answer: Duration,
}

impl Access {
    /// To PostgreSQL itself, by a login whose options say all there is to set.
    pub(crate) fn direct(login: Login) -> Self {
        Self { login, pooling: Pooling::Session, guards: Arc::default(), answer: ANSWER }
    }
}

/// How a connection was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loss {
    /// The other side ended it, or is not what it was.
    Ended,
    /// Nobody answers.
    Silent,
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
    pooling: Pooling,
    guards: Arc<Guards>,
    /// How long an exchange may take that the server has no work with: binding, beginning, rolling back.
    answer: Duration,
    /// True from before the first byte of an exchange until after its last, and for ever if it never ended.
    unfinished: bool,
    /// True from before the first byte of what begins a transaction until after the last of what ends it.
    in_transaction: bool,
    /// What it was bound by last, or what its next transaction is to be bound by; `None` while that is not known.
    binding: Option<Arc<Binding>>,
    /// How long the answer to a statement may take.
    deadline: Option<Duration>,
    loss: Option<Loss>,
}

impl Connection {
    /// One that leads to PostgreSQL itself, whose statements may take this long.
    pub(crate) async fn open(login: &Login, statement_timeout: Duration) -> Result<Self, sqlx::Error> {
        let access = Access::direct(login.clone());
        let mut connection =
            timeout(ANSWER, Self::to(&access)).await.unwrap_or_else(|_late| Err(silence()))?;
        connection.allow(Some(statement_timeout));
        Ok(connection)
    }

    /// One of a pool.
    pub(crate) async fn to(access: &Access) -> Result<Self, sqlx::Error> {
        let Access { login, pooling, guards, answer } = access;
        let (inner, mark) = match pooling {
            Pooling::Session => {
                let (inner, mark) = Mark::connect(login).await?;
                (inner, Some(mark))
            }
            Pooling::Transaction => (login.connect().await?, None),
        };
        let mut connection = Self {
            inner,
            pooling: *pooling,
            guards: Arc::clone(guards),
            answer: *answer,
            unfinished: false,
            in_transaction: false,
            binding: None,
            deadline: None,
            loss: None,
        };
        if let Some(mark) = mark {
            let sql = AssertSqlSafe(format!("{}{ASK_FOR_MARK}", guards.session()));
            let ask = async |inner: &mut PgConnection| inner.fetch_all(sql).await;
            mark.check(&connection.exchange(Some(*answer), ask).await?)?;
        }
        Ok(connection)
    }

    /// Whether it is known to be bound by this.
    pub(crate) fn is_bound_by(&self, binding: &Arc<Binding>) -> bool {
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

    /// What it keeps from one transaction to the next.
    pub(crate) fn pooling(&self) -> Pooling {
        self.pooling
    }

    /// Binds it: by one batch, which PostgreSQL takes whole or not at all, or by remembering that the same batch was the
    /// last one. Where nothing is kept, by noting what the next transaction begins with.
    pub(crate) async fn bind(&mut self, binding: &Arc<Binding>) -> Result<Bound, sqlx::Error> {
        self.allow(binding.statement_timeout());
        if self.pooling == Pooling::Session {
            if self.is_bound_by(binding) {
                return Ok(Bound::Remembered);
            }
            self.forget_binding();
            self.send(binding.session().to_owned(), Some(self.answer)).await?;
        }
        self.binding = Some(Arc::clone(binding));
        Ok(Bound::Anew)
    }

    /// Begins a transaction. Where the connection keeps nothing, the same message binds it.
    pub(crate) async fn begin(&mut self) -> Result<(), sqlx::Error> {
        let binding = self.binding.as_ref().ok_or_else(|| protocol("the connection is not bound"))?;
        let begin = match self.pooling {
            Pooling::Session => "BEGIN".to_owned(),
            Pooling::Transaction => format!("BEGIN; {}{}", self.guards.local(), binding.local()),
        };
        self.in_transaction = true;
        let result = self.send(begin, Some(self.answer)).await;
        if result.is_err() && self.is_usable() && self.rollback().await.is_err() {
            self.abandon();
        }
        result
    }

    /// Commits. If that fails by an answer, the transaction was rolled back.
    pub(crate) async fn commit(&mut self) -> Result<(), sqlx::Error> {
        let ended = self.send("COMMIT".to_owned(), self.deadline).await;
        self.end();
        ended
    }

    /// Rolls back.
    pub(crate) async fn rollback(&mut self) -> Result<(), sqlx::Error> {
        let ended = self.send("ROLLBACK".to_owned(), Some(self.answer)).await;
        self.end();
        ended
    }

    /// There is no transaction any more, unless the connection is of no use anyway.
    fn end(&mut self) {
        self.in_transaction = false;
        if self.pooling == Pooling::Transaction {
            self.forget_binding();
        }
    }

    /// Until it is bound again, statements may take this long, or as long as they take.
    pub(crate) fn allow(&mut self, statement_timeout: Option<Duration>) {
        self.deadline = statement_timeout.map(|timeout| timeout.saturating_add(self.answer));
    }

    /// Whether it can still be used.
    pub(crate) fn is_usable(&self) -> bool {
        !self.unfinished
    }

    /// Whether somebody else can have it: it can be used, and nobody's transaction is open on it.
    pub(crate) fn is_clean(&self) -> bool {
        self.is_usable() && !self.in_transaction
    }

    /// How it was lost, if it was.
    pub(crate) fn loss(&self) -> Option<Loss> {
        self.loss
    }

    /// Gives it up: it will be closed.
    pub(crate) fn abandon(&mut self) {
        self.unfinished = true;
    }

    /// Runs several statements in one round trip, by the simple query protocol.
    pub(crate) async fn batch(&mut self, sql: &str) -> Result<(), sqlx::Error> {
        self.check_bound()?;
        self.send(sql.to_owned(), self.deadline).await
    }

    async fn send(&mut self, sql: String, deadline: Option<Duration>) -> Result<(), sqlx::Error> {
        let sql = AssertSqlSafe(sql);
        self.exchange(deadline, async |connection| connection.execute(sql).await).await?;
        Ok(())
    }

    pub(crate) async fn execute(&mut self, statement: &Statement) -> Result<PgQueryResult, sqlx::Error> {
        self.check_bound()?;
        let query = self.query(statement);
        self.exchange(self.deadline, async |connection| connection.execute(query).await).await
    }

    /// Reads all rows: stopping after the first would leave an unread answer on the connection.
    pub(crate) async fn fetch(&mut self, statement: &Statement) -> Result<Vec<PgRow>, sqlx::Error> {
        self.check_bound()?;
        let query = self.query(statement);
        self.exchange(self.deadline, async |connection| connection.fetch_all(query).await).await
    }

    /// Where nothing is kept, a statement outside of a transaction would run as whoever was there before.
    fn check_bound(&self) -> Result<(), sqlx::Error> {
        if self.pooling == Pooling::Transaction && !self.in_transaction {
            return Err(protocol("nothing runs outside of a transaction here"));
        }
        Ok(())
    }

    /// A statement that keeps its name is prepared once. Where the next transaction has another connection, none of that
    /// name is there, or another client's: so it gets none.
    fn query<'q>(&self, statement: &'q Statement) -> sqlx::query::Query<'q, sqlx::Postgres, SqlxValues> {
        let values = statement.values.clone().unwrap_or_else(|| sea_orm::sea_query::Values(Vec::new()));
        sqlx::query_with(AssertSqlSafe(statement.sql.as_str()), SqlxValues(values))
            .persistent(self.pooling == Pooling::Session)
    }

    /// Sends what a COPY gives, in pieces of up to this many bytes; its statement is a text of this crate's. Whether it
    /// ended or not: after a COPY that did not, the connection is of no use.
    pub(crate) async fn copy_out(
        &mut self,
        sql: &str,
        piece: usize,
        pieces: &mpsc::Sender<Vec<u8>>,
    ) -> Result<(), sqlx::Error> {
        self.check_bound()?;
        let copied =
            self.exchange(None, async |connection| send_copy(connection, sql, piece, pieces).await).await;
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
        self.check_bound()?;
        let copied = self
            .exchange(None, async |connection| {
                let mut copy = moves(connection.copy_in_raw(sql)).await?;
                while let Some(piece) = pieces.recv().await {
                    let piece = piece.ok_or_else(|| protocol("the copy was given up"))?;
                    moves(copy.send(piece)).await?;
                }
                moves(copy.finish()).await
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
            && self
                .exchange(Some(self.answer), async |connection| connection.clear_cached_statements().await)
                .await
                .is_ok()
    }

    async fn exchange<T>(
        &mut self,
        deadline: Option<Duration>,
        exchange: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, sqlx::Error> {
        if self.unfinished {
            return Err(protocol("an earlier exchange on this connection was cut short"));
        }
        self.unfinished = true;
        let inner = &mut self.inner;
        let work = async {
            let result = exchange(inner).await;
            let in_step = match &result {
                Ok(_) => true,
                // sqlx returns at the error and leaves the rest of the answer unread: read up to its end.
                Err(error) => is_answer(error) && !is_loss(error) && inner.ping().await.is_ok(),
            };
            (result, in_step)
        };
        let (result, in_step) = match deadline {
            Some(deadline) => timeout(deadline, work).await.unwrap_or_else(|_late| (Err(silence()), false)),
            None => work.await,
        };
        if let Err(error) = &result {
            // A row that breaks a rule says nothing about the connection; anything else may.
            if !is_violation(error) {
                self.forget_binding();
            }
            if is_silence(error) {
                self.loss = Some(Loss::Silent);
            } else if is_loss(error) {
                self.loss = Some(Loss::Ended);
            }
        }
        self.unfinished = !in_step;
        result
    }
}

fn protocol(text: &str) -> sqlx::Error {
    sqlx::Error::Protocol(text.into())
}

/// What a connection is told of that does not answer.
pub(crate) fn silence() -> sqlx::Error {
    sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "no answer in time"))
}

/// A step of a COPY. How long the whole takes depends on its length; that it goes on does not.
async fn moves<T>(step: impl Future<Output = Result<T, sqlx::Error>>) -> Result<T, sqlx::Error> {
    timeout(COPY_DEADLINE, step).await.unwrap_or_else(|_late| Err(silence()))
}

/// PostgreSQL sends a message for each row. They are put together, and torn apart where one is longer than a piece.
async fn send_copy(
    connection: &mut PgConnection,
    sql: &str,
    piece: usize,
    pieces: &mpsc::Sender<Vec<u8>>,
) -> Result<(), sqlx::Error> {
    let nobody = |_| protocol("nobody reads the copy any more");
    let mut rows = moves(connection.copy_out_raw(sql)).await?;
    let mut filled = Vec::with_capacity(piece);
    while let Some(row) = moves(async { rows.next().await.transpose() }).await? {
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
