//! What goes on beside the requests: writing down what was counted, and measuring what there is.

use std::time::Duration;

use chrono::{DateTime, Days, TimeDelta, Utc};
use tenants::{Status, Tenant};

use crate::{cleanup::BATCH, error::ServiceError, state::App, users};

/// How often is written down what was counted: so much a process that is killed loses. However many tenants, it is one
/// statement.
const FLUSH: Duration = Duration::from_secs(5);
/// How often is looked for what has to be measured.
const LOOK: Duration = Duration::from_secs(30);
/// How often a tenant is measured at most. It takes some milliseconds, and this long it may grow beyond its limit.
const TURN: TimeDelta = TimeDelta::minutes(5);
/// How many tenants a process takes at once to measure, one after the other.
const TAKEN: u32 = 20;
/// For how long it is known what was used: a year, and a month to compare it with.
const KEPT: Days = Days::new(400);

/// Writes down and measures until it is dropped. What fails is tried again.
pub async fn forever(app: &App) {
    tokio::join!(flush_forever(app), measure_forever(app));
}

async fn flush_forever(app: &App) {
    loop {
        tokio::time::sleep(FLUSH).await;
        if let Err(error) = flush(app).await {
            tracing::warn!(%error, "what tenants use is written down later");
        }
    }
}

async fn measure_forever(app: &App) {
    loop {
        match measure(app, app.clock.now() - TURN).await {
            Ok(tenants) => tracing::debug!(tenants, "measured"),
            Err(error) => tracing::warn!(%error, "what tenants have is measured later"),
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Writes down what this process has counted since it last did; of how many tenants that was.
///
/// # Errors
/// Those of the database.
pub async fn flush(app: &App) -> Result<usize, ServiceError> {
    Ok(app.tenancy.flush_usage(app.clock.now()).await?)
}

/// Measures every tenant that was written to since it was measured, which was before this time; how many those were. What
/// nobody needs to know any more is forgotten.
///
/// # Errors
/// Those of the catalog. What fails in one tenant is logged and keeps no other from its turn.
pub async fn measure(app: &App, before: DateTime<Utc>) -> Result<u64, ServiceError> {
    let (mut measured, now) = (0, app.clock.now());
    if let Some(before) = now.date_naive().checked_sub_days(KEPT) {
        while app.tenancy.forget_usage(before, BATCH).await? == u64::from(BATCH) {}
    }
    loop {
        let taken = app.tenancy.take_tenants_to_measure(before, now, TAKEN).await?;
        if taken.is_empty() {
            return Ok(measured);
        }
        for tenant in taken.into_iter().filter(|tenant| tenant.status == Status::Active) {
            match measure_one(app, &tenant).await {
                Ok(()) => measured += 1,
                // Suspended since it was taken, for example.
                Err(error) => tracing::warn!(tenant = %tenant.id, %error, "a tenant is measured later"),
            }
        }
    }
}

async fn measure_one(app: &App, tenant: &std::sync::Arc<Tenant>) -> Result<(), ServiceError> {
    let db = app.tenancy.database_of(std::sync::Arc::clone(tenant));
    let size = db.size(users::count_all(&db).await?).await?;
    Ok(app.tenancy.note_size(tenant, size).await?)
}
