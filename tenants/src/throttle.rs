//! What must not happen too often: when it happened, kept in a table `throttles`, a tenant's own or the catalog's.
//!
//! An attempt is recorded before anybody knows how it ends, and its record says how many others there are: whoever runs
//! at the same moment, in this process or another one, waits for the row and sees this attempt. So a limit holds
//! exactly. What turns out not to count is taken back.

use std::fmt::Write as _;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement, Value};

/// A keyed hash of what is counted.
pub type ThrottleKey = [u8; 32];

/// Something that is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted {
    /// What.
    pub key: ThrottleKey,
    /// For how long an attempt counts.
    pub memory: TimeDelta,
}

/// Records an attempt under each of these keys, in one statement; `at` has whole microseconds. Returns for each, in the
/// order given, when there were attempts that count, the oldest first and this one with them.
///
/// # Errors
/// Those of the database.
pub async fn record_attempt(
    db: &impl ConnectionTrait,
    counted: &[Counted],
    at: DateTime<Utc>,
) -> Result<Vec<Vec<DateTime<Utc>>>, DbErr> {
    // Rows are locked in the order of their values: two that record the same keys never wait for each other.
    let mut sorted = counted.to_vec();
    sorted.sort_unstable_by_key(|one| one.key);
    sorted.dedup_by_key(|one| one.key);
    let (mut rows, mut since) = (String::new(), String::new());
    let mut values = vec![Value::from(at)];
    for one in &sorted {
        let place = values.len() + 1;
        let comma = if rows.is_empty() { "" } else { ", " };
        // Writing to a string cannot fail.
        write!(rows, "{comma}(${place}, ARRAY[$1::timestamptz])").ok();
        write!(since, " WHEN ${place} THEN ${}::timestamptz", place + 1).ok();
        values.push(one.key.to_vec().into());
        values.push((at - one.memory).into());
    }
    let sql = format!(
        "INSERT INTO throttles AS t (key, hits) VALUES {rows} \
         ON CONFLICT ON CONSTRAINT throttles_pkey DO UPDATE SET hits = ARRAY(\
             SELECT hit FROM unnest(t.hits) AS hit WHERE hit > CASE t.key{since} END) || EXCLUDED.hits \
         RETURNING key, {HITS}"
    );
    read(db, sql, values, counted).await
}

/// As [`record_attempt`], without recording one.
///
/// # Errors
/// Those of the database.
pub async fn attempts(
    db: &impl ConnectionTrait,
    counted: &[Counted],
    now: DateTime<Utc>,
) -> Result<Vec<Vec<DateTime<Utc>>>, DbErr> {
    let values = counted.iter().map(|one| one.key.to_vec().into()).collect();
    let sql = format!("SELECT key, {HITS} FROM throttles WHERE key IN ({})", places(1, counted.len()));
    let all = read(db, sql, values, counted).await?;
    let counts =
        |(hits, one): (Vec<_>, &Counted)| hits.into_iter().filter(|hit| *hit > now - one.memory).collect();
    Ok(all.into_iter().zip(counted).map(counts).collect())
}

/// Takes back an attempt that was recorded at this time under these keys: one of each, whichever, for attempts of the
/// same moment are alike.
///
/// # Errors
/// Those of the database.
pub async fn withdraw_attempt(
    db: &impl ConnectionTrait,
    keys: &[ThrottleKey],
    at: DateTime<Utc>,
) -> Result<(), DbErr> {
    let mut values = vec![Value::from(at)];
    values.extend(keys.iter().map(|key| key.to_vec().into()));
    let sql = format!(
        "UPDATE throttles SET hits = hits[:array_position(hits, $1) - 1] || hits[array_position(hits, $1) + 1:] \
         WHERE array_position(hits, $1) IS NOT NULL \
         AND key IN (SELECT key FROM throttles WHERE key IN ({}) ORDER BY key FOR UPDATE)",
        places(2, keys.len())
    );
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    db.execute_raw(statement).await.map(|_| ())
}

/// Deletes up to `limit` rows whose attempts were all before this time, and says how many there were.
///
/// # Errors
/// Those of the database.
pub async fn forget_attempts(
    db: &impl ConnectionTrait,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbErr> {
    // Attempts are appended, so the last is the latest. What somebody is writing to is not old.
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "DELETE FROM throttles WHERE key IN (SELECT key FROM throttles \
             WHERE cardinality(hits) = 0 OR hits[cardinality(hits)] < $1 LIMIT $2 FOR UPDATE SKIP LOCKED)",
        [before.into(), i64::from(limit).into()],
    );
    Ok(db.execute_raw(statement).await?.rows_affected())
}

/// Times as a text of microseconds since 1970: a list of times is no value of sea-orm's.
const HITS: &str = "array_to_string(ARRAY(SELECT (extract(epoch FROM hit) * 1000000)::bigint \
                    FROM unnest(hits) AS hit ORDER BY hit), ',') AS hits";

fn places(first: usize, count: usize) -> String {
    let places: Vec<String> = (first..first + count).map(|place| format!("${place}")).collect();
    places.join(", ")
}

async fn read(
    db: &impl ConnectionTrait,
    sql: String,
    values: Vec<Value>,
    counted: &[Counted],
) -> Result<Vec<Vec<DateTime<Utc>>>, DbErr> {
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, values);
    let mut all = vec![Vec::new(); counted.len()];
    for row in db.query_all_raw(statement).await? {
        let (key, hits): (Vec<u8>, String) = (row.try_get("", "key")?, row.try_get("", "hits")?);
        let hits: Vec<_> = hits
            .split(',')
            .filter_map(|hit| hit.parse().ok().and_then(DateTime::from_timestamp_micros))
            .collect();
        for (place, _) in counted.iter().enumerate().filter(|(_, one)| one.key == *key) {
            all[place].clone_from(&hits);
        }
    }
    Ok(all)
}
