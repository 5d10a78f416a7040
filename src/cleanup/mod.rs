//! What nobody needs any more is deleted: expired sessions, links, sign-ups and invitations, devices that were not used
//! for long, what happened longer ago than a tenant wants it kept, throttles, jobs and operations that are over; and
//! organizations that were signed up and never used are closed.
//! Those whose grace period is over are purged, by [operations].
//!
//! It goes on beside the requests and must not be felt by them: one tenant after the other, one statement at a time and a
//! bounded number of rows in each, so it never has more than one connection of one lane. Rows that somebody works on are
//! passed over; they are there the next time. Several processes share the tenants.

mod store;

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::FutureExt as _;
use tenants::{JobStatus, Status, Tenant, TenantDb};

pub use store::delete;

use crate::{
    activity, archives, error::ServiceError, idempotency, invitations, operations, purge, state::App,
};

/// How many rows a statement deletes: some milliseconds of work, and few enough locks.
pub const BATCH: u32 = 1_000;
/// How often a tenant has its turn: nothing that is deleted here works any more anyway, so nobody waits for it.
const TURN: TimeDelta = TimeDelta::hours(1);
/// How many tenants a process takes at once. Those of one that dies have their next turn an hour later.
const TAKEN: u32 = 20;
/// How long to wait when there is nothing to do.
const PAUSE: Duration = Duration::from_mins(1);
/// An address from which somebody signed in during the last 30 days is exempt from a limit; three times that is more than
/// enough to call a device new again.
const DEVICES: TimeDelta = TimeDelta::days(90);
/// The longest time within which anything is counted is an hour; this leaves room for another one.
const THROTTLES: TimeDelta = TimeDelta::days(2);
/// For how long it is known that somebody was told of something that is in his inbox no more: who edits a comment to tell
/// him again does so sooner.
const TOLD: TimeDelta = TimeDelta::days(90);
/// For how long operators can look up what was done.
const DONE_JOBS: TimeDelta = TimeDelta::days(7);
/// For how long what was given up waits for an operator: it is kept with what it is to be done with, addresses and names
/// among it, which nobody may keep for ever.
const PARKED_JOBS: TimeDelta = TimeDelta::days(90);
/// For how long operators can look up what became of an operation; the audit log tells for good that it was done.
const OPERATIONS: TimeDelta = TimeDelta::days(90);
/// For how long an organization may be without a proven address and a second user. The contract's.
const ABANDONED: TimeDelta = TimeDelta::days(14);

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cleaned {
    /// The tenants that had their turn.
    pub tenants: u64,
    /// The rows that were deleted.
    pub rows: u64,
    /// The organizations that were closed.
    pub closed: u64,
    /// The organizations whose purge was left, their grace period being over.
    pub purges: u64,
}

/// Cleans until it is dropped. What fails is tried again when its next turn comes.
pub async fn forever(app: &App) {
    loop {
        match pass(app, app.clock.now() - TURN).await {
            Ok(cleaned) if cleaned != Cleaned::default() => {
                let Cleaned { tenants, rows, closed, purges } = cleaned;
                tracing::info!(tenants, rows, closed, purges, "cleaned up");
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "the clean-up goes on later"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Cleans the catalog, and every tenant that had its last turn before this time.
///
/// # Errors
/// Those of the catalog. What fails in one tenant is logged and keeps no other from its turn.
pub async fn pass(app: &App, before: DateTime<Utc>) -> Result<Cleaned, ServiceError> {
    let now = app.clock.now();
    if let Err(error) = archives::leave_due(app).await {
        tracing::warn!(%error, "scheduled exports are left later");
    }
    let (rows, purges) = (clean_catalog(app, now).await?, purge::leave_due(app).await?);
    let mut cleaned = Cleaned { rows, purges, ..Cleaned::default() };
    loop {
        let taken = app.tenancy.take_tenants_to_clean(before, now, TAKEN).await?;
        if taken.is_empty() {
            return Ok(cleaned);
        }
        for tenant in taken {
            let id = tenant.id;
            // Whatever a tenant has in its rows, it ends neither the process nor the others' turns.
            let cleaning = AssertUnwindSafe(clean_tenant(app, tenant, now)).catch_unwind();
            let Ok(outcome) = cleaning.await else {
                tracing::error!(tenant = %id, "the clean-up of a tenant panicked");
                continue;
            };
            match outcome {
                Ok(of_tenant) => {
                    cleaned.tenants += 1;
                    cleaned.rows += of_tenant.rows;
                    cleaned.closed += of_tenant.closed;
                }
                // Suspended since it was taken, for example.
                Err(error) => tracing::warn!(tenant = %id, %error, "a tenant is cleaned up later"),
            }
        }
    }
}

async fn clean_catalog(app: &App, now: DateTime<Utc>) -> Result<u64, ServiceError> {
    let mut jobs = 0;
    for (status, age) in [(JobStatus::Done, DONE_JOBS), (JobStatus::Parked, PARKED_JOBS)] {
        jobs += batches(async || app.tenancy.forget_jobs(status, now - age, BATCH).await).await?;
    }
    let throttles =
        batches(async || tenants::forget_attempts(app.tenancy.catalog(), now - THROTTLES, BATCH).await)
            .await?;
    let operations =
        batches(async || operations::forget(app.tenancy.catalog(), now - OPERATIONS, BATCH).await).await?;
    Ok(jobs + throttles + operations)
}

async fn clean_tenant(app: &App, tenant: Arc<Tenant>, now: DateTime<Utc>) -> Result<Cleaned, ServiceError> {
    if tenant.status != Status::Active {
        return Ok(Cleaned::default());
    }
    let db = app.tenancy.database_of(tenant);
    let mut rows = batches(async || store::sessions(&db, now, BATCH).await).await?;
    rows += batches(async || store::links(&db, now, BATCH).await).await?;
    rows += batches(async || store::sign_ups(&db, now, BATCH).await).await?;
    rows += batches(async || invitations::remove_expired(&db, now, BATCH).await).await?;
    rows += batches(async || activity::remove_old(&db, now, BATCH).await).await?;
    rows += batches(async || store::devices(&db, now - DEVICES, BATCH).await).await?;
    rows += batches(async || store::told(&db, now - TOLD, BATCH).await).await?;
    rows += batches(async || store::idempotency_keys(&db, now - idempotency::LIFETIME, BATCH).await).await?;
    rows += batches(async || tenants::forget_attempts(&db, now - THROTTLES, BATCH).await).await?;
    let closed = u64::from(close_if_abandoned(app, &db, now).await?);
    Ok(Cleaned { tenants: 1, rows, closed, purges: 0 })
}

/// Deletes batch after batch until one is not full.
async fn batches<E>(delete: impl AsyncFn() -> Result<u64, E>) -> Result<u64, E> {
    let mut rows = 0;
    loop {
        let deleted = delete().await?;
        rows += deleted;
        if deleted < u64::from(BATCH) {
            return Ok(rows);
        }
    }
}

/// Closes an organization whose owner has never proven an address and is alone in it. An operator can restore it while
/// its grace period lasts.
async fn close_if_abandoned(app: &App, db: &TenantDb, now: DateTime<Utc>) -> Result<bool, ServiceError> {
    // Without a lock at first: of most tenants, one look is enough.
    if !store::is_abandoned(db, now - ABANDONED).await? {
        return Ok(false);
    }
    let tx = db.begin().await?;
    // Who proves his address in this moment waits for the lock, and one of the two comes first.
    if !store::lock_only_user(&tx).await? || !store::is_abandoned(&tx, now - ABANDONED).await? {
        return Ok(false);
    }
    let id = db.tenant().id;
    app.tenancy.close_tenant(id, now).await?;
    tracing::info!(tenant = %id, "an organization that was never used was closed");
    Ok(true)
}
