//! Numbered lists: how many rows a list has, and where a page of it begins, without a look at its rows.
//!
//! Every row of such a list has a number, drawn in the transaction that writes the row: 1, 2, 3, …, in the order of the
//! commits, and a time that is later than those of all rows before. Numbers are drawn from a row of the table `lists`,
//! which stays locked until the transaction ends. That makes those who write into one list stand in line; a tenant has
//! few connections, and most lists have few writers.
//!
//! - A list that loses only its oldest rows has no gaps: what is on a page follows from [`Extent`] alone.
//! - A list that loses rows anywhere counts the rows of each block of [`BLOCK`] numbers in the table `list_blocks`:
//!   [`seek`] adds those up, one for a thousand rows, and passes over less than a block of rows.
//! - What is only counted needs no numbers: [`adjust`].
//!
//! Locks are taken in the order of kinds and owners, within one call. Whoever makes several calls in one transaction takes
//! lists of content first, then counts, then activities, then inboxes.

pub mod kinds;

use std::{borrow::Cow, fmt::Write as _};

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement, Value,
    sea_query::{Expr, ExprTrait, Query, SelectStatement},
};
use uuid::Uuid;

/// How many numbers a block has. A page of a list of `n` rows reads `n / BLOCK` counts and passes over `BLOCK / 2` rows,
/// on average; for a million rows that is the least of both together.
pub const BLOCK: i64 = 1_024;

/// A list: what of, and whose.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List {
    kind: Cow<'static, str>,
    owner: Uuid,
}

impl List {
    /// The list of this kind that belongs to this owner.
    #[must_use]
    pub fn of(kind: impl Into<Cow<'static, str>>, owner: Uuid) -> Self {
        Self { kind: kind.into(), owner }
    }

    /// The only list of this kind.
    #[must_use]
    pub fn the(kind: impl Into<Cow<'static, str>>) -> Self {
        Self::of(kind, Uuid::nil())
    }
}

/// A place in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number, from 1.
    pub number: i64,
    /// When it was taken: after all places before it, by the clocks of whichever processes.
    pub at: DateTime<Utc>,
}

/// Which numbers of a list were given, and how many rows are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The last number that was given.
    pub numbered: i64,
    /// How many rows are gone. Where only the oldest go: the last number that is gone.
    pub removed: i64,
}

impl Extent {
    /// How many rows there are.
    #[must_use]
    pub fn count(self) -> u64 {
        u64::try_from(self.numbered - self.removed).unwrap_or(0)
    }
}

/// Which rows of a list are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// All.
    All,
    /// Those that are unread.
    Unread,
    /// Those that are read.
    Read,
}

impl Rows {
    fn column(self) -> &'static str {
        match self {
            Self::All => "total",
            Self::Unread => "unread",
            Self::Read => "(total - unread)",
        }
    }
}

/// Where to begin reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Start {
    /// The first number that may be on the page; the highest one, where the page is read downwards.
    pub number: i64,
    /// How many rows to pass over from there: less than [`BLOCK`].
    pub skip: u64,
}

/// A row of the table `lists`, as it was just written.
#[derive(FromQueryResult)]
struct Drawn {
    kind: String,
    owner: Uuid,
    numbered: i64,
    numbered_at: DateTime<Utc>,
}

/// The statement's values, and `(…), (…)` for them.
struct Rendered {
    rows: String,
    values: Vec<Value>,
}

/// Rows of values, each in the order of the lists, so that nobody waits for somebody who waits for him.
fn render(mut lists: Vec<(&List, Vec<Value>)>, casts: &[&str]) -> Rendered {
    lists.sort_unstable_by_key(|(list, _)| *list);
    let mut rendered = Rendered { rows: String::new(), values: Vec::new() };
    for (list, others) in lists {
        let comma = if rendered.rows.is_empty() { "" } else { ", " };
        let place = rendered.values.len() + 1;
        // Writing to a string cannot fail.
        write!(rendered.rows, "{comma}(${place}::text, ${}::uuid", place + 1).ok();
        for (n, cast) in casts.iter().enumerate() {
            write!(rendered.rows, ", ${}::{cast}", place + 2 + n).ok();
        }
        rendered.rows.push(')');
        rendered.values.push(list.kind.as_ref().into());
        rendered.values.push(list.owner.into());
        rendered.values.extend(others);
    }
    rendered
}

const DRAW: &str = "INSERT INTO lists AS l (kind, owner, numbered, numbered_at) VALUES {rows} \
     ON CONFLICT ON CONSTRAINT lists_pkey DO UPDATE SET numbered = l.numbered + EXCLUDED.numbered, \
         numbered_at = greatest(l.numbered_at + EXCLUDED.numbered * interval '1 microsecond', EXCLUDED.numbered_at) \
     RETURNING kind, owner, numbered, numbered_at";

async fn read_drawn(
    tx: &impl ConnectionTrait,
    sql: String,
    values: Vec<Value>,
    lists: &[(List, i64)],
) -> Result<Vec<Vec<Place>>, DbErr> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let drawn = Drawn::find_by_statement(statement).all(tx).await?;
    lists
        .iter()
        .map(|(list, count)| {
            let row = drawn.iter().find(|row| row.owner == list.owner && row.kind == list.kind);
            let row = row.ok_or_else(|| DbErr::Custom("a list that was written is not there".into()))?;
            let place = |before: i64| Place {
                number: row.numbered - before,
                at: row.numbered_at - TimeDelta::microseconds(before),
            };
            Ok((0..*count).rev().map(place).collect())
        })
        .collect()
}

/// Draws numbers for rows that are written in this transaction: as many as asked for of each list, which must be given
/// once at most. What comes back is in the same order, the lowest numbers first.
///
/// # Errors
/// Those of the database.
pub async fn draw(
    tx: &impl ConnectionTrait,
    lists: &[(List, i64)],
    now: DateTime<Utc>,
) -> Result<Vec<Vec<Place>>, DbErr> {
    if lists.is_empty() {
        return Ok(Vec::new());
    }
    let rows = lists.iter().map(|(list, count)| (list, vec![(*count).into(), now.into()])).collect();
    let Rendered { rows, values } = render(rows, &["bigint", "timestamptz"]);
    read_drawn(tx, DRAW.replace("{rows}", &rows), values, lists).await
}

/// As [`draw`], one number of each list, for lists that lose rows anywhere. The rows are counted as unread, too, where they
/// are that.
///
/// # Errors
/// Those of the database.
pub async fn enter(
    tx: &impl ConnectionTrait,
    lists: &[List],
    rows: Rows,
    now: DateTime<Utc>,
) -> Result<Vec<Place>, DbErr> {
    if lists.is_empty() {
        return Ok(Vec::new());
    }
    let one_each = lists.iter().map(|list| (list, vec![1_i64.into(), now.into()])).collect();
    let Rendered { rows: drawn, values } = render(one_each, &["bigint", "timestamptz"]);
    let unread = i32::from(rows == Rows::Unread);
    let sql = format!(
        "WITH drawn AS ({}), \
         counted AS (INSERT INTO list_blocks AS b (kind, owner, block, total, unread) \
             SELECT kind, owner, numbered / {BLOCK}, 1, {unread} FROM drawn ORDER BY kind, owner \
             ON CONFLICT ON CONSTRAINT list_blocks_pkey DO UPDATE \
                 SET total = b.total + 1, unread = b.unread + EXCLUDED.unread) \
         SELECT kind, owner, numbered, numbered_at FROM drawn",
        DRAW.replace("{rows}", &drawn)
    );
    let counted: Vec<_> = lists.iter().map(|list| (list.clone(), 1)).collect();
    Ok(read_drawn(tx, sql, values, &counted).await?.into_iter().flatten().collect())
}

/// Counts a row that is deleted from a list that loses rows anywhere.
///
/// # Errors
/// Those of the database.
pub async fn leave(tx: &impl ConnectionTrait, list: &List, number: i64, rows: Rows) -> Result<(), DbErr> {
    let unread = i32::from(rows == Rows::Unread);
    let sql = format!(
        "WITH l AS (UPDATE lists SET removed = removed + 1 WHERE kind = $1 AND owner = $2 RETURNING kind, owner) \
         UPDATE list_blocks b SET total = total - 1, unread = unread - {unread} FROM l \
         WHERE b.kind = l.kind AND b.owner = l.owner AND b.block = $3"
    );
    let values = [list.kind.as_ref().into(), list.owner.into(), (number / BLOCK).into()];
    execute(tx, &sql, values).await
}

/// Changes how many rows of a block are unread: of the block that has this number.
///
/// # Errors
/// Those of the database.
pub async fn adjust_unread(
    tx: &impl ConnectionTrait,
    list: &List,
    number: i64,
    by: i32,
) -> Result<(), DbErr> {
    let sql = "WITH l AS (SELECT kind, owner FROM lists WHERE kind = $1 AND owner = $2 FOR UPDATE) \
               UPDATE list_blocks b SET unread = unread + $4 FROM l \
               WHERE b.kind = l.kind AND b.owner = l.owner AND b.block = $3";
    let values = [list.kind.as_ref().into(), list.owner.into(), (number / BLOCK).into(), by.into()];
    execute(tx, sql, values).await
}

/// Counts all rows up to this number as read. Of the block that has it, `left` rows are still unread: those after it. Under
/// the list's [`lock`], so that nobody counts meanwhile.
///
/// # Errors
/// Those of the database.
pub async fn read_up_to(tx: &impl ConnectionTrait, list: &List, number: i64, left: i32) -> Result<(), DbErr> {
    let sql = "UPDATE list_blocks SET unread = CASE WHEN block = $3 THEN $4 ELSE 0 END \
               WHERE kind = $1 AND owner = $2 AND block <= $3 AND unread > 0";
    let values = [list.kind.as_ref().into(), list.owner.into(), (number / BLOCK).into(), left.into()];
    execute(tx, sql, values).await
}

/// Makes this the only transaction that changes the list, and returns its extent. A list that has never had a row is not
/// locked, and there is nothing in it to change.
///
/// # Errors
/// Those of the database.
pub async fn lock(tx: &impl ConnectionTrait, list: &List) -> Result<Extent, DbErr> {
    extent_of(tx, "SELECT numbered, removed FROM lists WHERE kind = $1 AND owner = $2 FOR UPDATE", list).await
}

/// Counts rows that come to lists without numbers, and such as go: by how many each list has more than before. For a list
/// that loses only its oldest rows, a negative number says how many those were.
///
/// No list has fewer rows than none. A count that is wrong for whatever reason must not keep anybody from deleting what he
/// may delete: he would be refused for ever.
///
/// # Errors
/// Those of the database.
pub async fn adjust(
    tx: &impl ConnectionTrait,
    lists: &[(List, i64)],
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let changed: Vec<_> = lists.iter().filter(|(_, by)| *by != 0).collect();
    if changed.is_empty() {
        return Ok(());
    }
    // PostgreSQL checks what would be inserted before it looks for a conflict, so it has to make sense by itself: what goes
    // has come before, and a row that is there has counted that already.
    let row = |by: i64| vec![by.abs().into(), Ord::max(-by, 0).into(), now.into()];
    let rows = changed.iter().map(|(list, by)| (list, row(*by))).collect();
    let Rendered { rows, values } = render(rows, &["bigint", "bigint", "timestamptz"]);
    let sql = format!(
        "INSERT INTO lists AS l (kind, owner, numbered, removed, numbered_at) VALUES {rows} \
         ON CONFLICT ON CONSTRAINT lists_pkey DO UPDATE \
             SET numbered = l.numbered + EXCLUDED.numbered - EXCLUDED.removed, \
                 removed = least(l.removed + EXCLUDED.removed, l.numbered + EXCLUDED.numbered - EXCLUDED.removed)"
    );
    execute(tx, &sql, values).await
}

/// Forgets the lists of owners that are gone.
///
/// # Errors
/// Those of the database.
pub async fn forget(tx: &impl ConnectionTrait, owners: &[Uuid]) -> Result<(), DbErr> {
    if owners.is_empty() {
        return Ok(());
    }
    // One value, for a list of ids is no value of sea-orm's.
    let owners: Vec<String> = owners.iter().map(Uuid::to_string).collect();
    let sql = "WITH gone AS (SELECT id::uuid AS owner FROM string_to_table($1, ',') AS id), \
               l AS (DELETE FROM lists WHERE owner IN (SELECT owner FROM gone)) \
               DELETE FROM list_blocks WHERE owner IN (SELECT owner FROM gone)";
    execute(tx, sql, [owners.join(",").into()]).await
}

/// Forgets the lists of all owners that this selects.
///
/// # Errors
/// Those of the database.
pub async fn forget_of(tx: &impl ConnectionTrait, owners: SelectStatement) -> Result<(), DbErr> {
    for table in ["lists", "list_blocks"] {
        let theirs = ExprTrait::in_subquery(Expr::col("owner"), owners.clone());
        tx.execute(Query::delete().from_table(table).and_where(theirs)).await?;
    }
    Ok(())
}

/// Which numbers were given, and how many rows are gone.
///
/// # Errors
/// Those of the database.
pub async fn extent(db: &impl ConnectionTrait, list: &List) -> Result<Extent, DbErr> {
    extent_of(db, "SELECT numbered, removed FROM lists WHERE kind = $1 AND owner = $2", list).await
}

async fn extent_of(db: &impl ConnectionTrait, sql: &str, list: &List) -> Result<Extent, DbErr> {
    let values = [list.kind.as_ref().into(), list.owner.into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    match db.query_one_raw(statement).await? {
        Some(row) => {
            Ok(Extent { numbered: row.try_get("", "numbered")?, removed: row.try_get("", "removed")? })
        }
        None => Ok(Extent::default()),
    }
}

/// How many rows these lists have together.
///
/// # Errors
/// Those of the database.
pub async fn count(db: &impl ConnectionTrait, lists: &[List]) -> Result<u64, DbErr> {
    if lists.is_empty() {
        return Ok(0);
    }
    let rows = lists.iter().map(|list| (list, Vec::new())).collect();
    let Rendered { rows, values } = render(rows, &[]);
    let sql = format!(
        "SELECT coalesce(sum(numbered - removed), 0)::bigint AS count FROM lists WHERE (kind, owner) IN ({rows})"
    );
    count_of(db, sql, values).await
}

/// How many rows a list has, and how many of them are unread, both at one moment.
///
/// # Errors
/// Those of the database.
pub async fn unread(db: &impl ConnectionTrait, list: &List) -> Result<(u64, u64), DbErr> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "SELECT numbered - removed AS count, (\
             SELECT coalesce(sum(b.unread), 0)::bigint FROM list_blocks b WHERE b.kind = $1 AND b.owner = $2) AS unread \
         FROM lists WHERE kind = $1 AND owner = $2",
        [list.kind.as_ref().into(), list.owner.into()],
    );
    let Some(row) = db.query_one_raw(statement).await? else { return Ok((0, 0)) };
    let (count, unread): (i64, i64) = (row.try_get("", "count")?, row.try_get("", "unread")?);
    Ok((u64::try_from(count).unwrap_or(0), u64::try_from(unread).unwrap_or(0)))
}

/// Where to begin, to read the rows from this offset on in the order of their numbers; `descending` if the highest number
/// comes first. For a list that loses rows anywhere.
///
/// # Errors
/// Those of the database.
pub async fn seek(
    db: &impl ConnectionTrait,
    list: &List,
    rows: Rows,
    offset: u64,
    descending: bool,
) -> Result<Start, DbErr> {
    let beginning = Start { number: if descending { i64::MAX } else { 0 }, skip: offset };
    // Within the first block, adding up would save nothing.
    if offset < BLOCK.unsigned_abs() {
        return Ok(beginning);
    }
    let (column, direction) = (rows.column(), if descending { "DESC" } else { "ASC" });
    let sql = format!(
        "SELECT block, before FROM (\
             SELECT block, {column}, sum({column}) OVER (ORDER BY block {direction}) - {column} AS before \
             FROM list_blocks WHERE kind = $1 AND owner = $2) AS blocks \
         WHERE before <= $3 ORDER BY before DESC, block {direction} LIMIT 1"
    );
    let values: [Value; 3] =
        [list.kind.as_ref().into(), list.owner.into(), i64::try_from(offset).unwrap_or(i64::MAX).into()];
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let Some(row) = db.query_one_raw(statement).await? else { return Ok(beginning) };
    let (block, before): (i64, i64) = (row.try_get("", "block")?, row.try_get("", "before")?);
    let number = if descending { block * BLOCK + BLOCK - 1 } else { block * BLOCK };
    Ok(Start { number, skip: offset.saturating_sub(u64::try_from(before).unwrap_or(0)) })
}

async fn count_of(db: &impl ConnectionTrait, sql: String, values: Vec<Value>) -> Result<u64, DbErr> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let row = db.query_one_raw(statement).await?;
    let count: i64 = row.map(|row| row.try_get("", "count")).transpose()?.unwrap_or_default();
    Ok(u64::try_from(count).unwrap_or(0))
}

async fn execute(
    tx: &impl ConnectionTrait,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> Result<(), DbErr> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    tx.execute_raw(statement).await.map(|_| ())
}
