//! Requests that come again and must not count twice.
//!
//! What is kept is the id of what a request has made, in the transaction that made it: a request that failed keeps
//! nothing, and what is answered again is what there is by then. A service claims the key before it makes something, and keeps what it has made:
//!
//! ```text
//! let tx = db.begin().await?;
//! let answer = write(&tx, …).await;
//! idempotency::settle(tx, answer).await
//!
//! // write:
//! if let Some(made) = idempotency::claim(&tx, key, user, now).await? {
//!     return find(&tx, made).await?.ok_or(NotFound);
//! }
//! // … makes the thing with this id …
//! idempotency::keep(&tx, key, user, id, now).await?;
//! ```

mod error;
mod store;

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use sea_orm::{ConnectionTrait, DbErr};
use tenants::TenantTx;
use uuid::Uuid;

pub use self::error::IdempotencyError;
use crate::http::IdempotencyKey;

/// How long a key is known. The contract's.
pub const LIFETIME: TimeDelta = TimeDelta::hours(24);

/// What this user's request has made before; `None` if it did not come before, or came without a key.
///
/// # Errors
/// The key came with another body, or those of the database.
pub async fn made(
    db: &impl ConnectionTrait,
    key: &IdempotencyKey,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, IdempotencyError> {
    let Some(fingerprint) = &key.0 else { return Ok(None) };
    match store::find(db, user, &fingerprint.request, now - LIFETIME).await? {
        Some(kept) if kept.body_hash != fingerprint.body => Err(IdempotencyError::Reused),
        kept => Ok(kept.map(|kept| kept.created)),
    }
}

/// As [`made`], and keeps every other request with this key out until the transaction ends. It is the first thing that a
/// transaction does; it waits for nobody.
///
/// # Errors
/// As those of [`made`], and that another one is not decided yet.
pub async fn claim(
    tx: &TenantTx,
    key: &IdempotencyKey,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Uuid>, IdempotencyError> {
    let Some(fingerprint) = &key.0 else { return Ok(None) };
    let name = format!("idempotency {user} {}", HEXLOWER.encode(&fingerprint.request));
    if !tx.try_lock(&name).await? {
        return Err(IdempotencyError::InFlight);
    }
    made(tx, key, user, now).await
}

/// Keeps what a claimed request has made. The user is one whom nobody deletes before the end of the transaction.
///
/// # Errors
/// Those of the database.
pub async fn keep(
    tx: &TenantTx,
    key: &IdempotencyKey,
    user: Uuid,
    made: Uuid,
    now: DateTime<Utc>,
) -> Result<(), IdempotencyError> {
    let Some(fingerprint) = &key.0 else { return Ok(()) };
    Ok(store::keep(tx, user, fingerprint, made, now).await?)
}

/// Ends the transaction of a claimed request. What failed is rolled back before the client hears of it: one that tries again
/// at once would find the key taken by himself.
///
/// # Errors
/// What the request failed with, or the commit.
pub async fn settle<T, E: From<DbErr>>(tx: TenantTx, answer: Result<T, E>) -> Result<T, E> {
    match answer {
        Ok(answer) => tx.commit().await.map(|()| answer).map_err(E::from),
        Err(error) => {
            tx.rollback().await;
            Err(error)
        }
    }
}
