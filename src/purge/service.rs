//! The rules of purges, and what one does.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tenants::{Purging, Status, TenantAction, Which};

use super::{Certificate, PurgeError, certificate};
use crate::{
    admin::AdminError,
    audit::{self, Action, Actor},
    error::ServiceError,
    operations::{self, Failure, Kind, New, Operation, Progress},
    state::App,
};

/// How many purges the clean-up leaves at once. They wait for their turns; the next pass leaves more.
const AT_ONCE: u32 = 20;

/// With what a purge is left.
#[derive(Debug, Serialize, Deserialize)]
struct Params {
    /// When the tenant was closed: one that was restored and closed again has another grace period.
    closed_at: DateTime<Utc>,
}

/// How a purge is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// At once, whatever is left of the grace period.
    pub now: bool,
    /// By whoever asks: nobody else takes it.
    pub is_taken: bool,
}

/// Leaves the purge of a tenant that is being deleted, and notes who wanted it.
///
/// # Errors
/// See [`PurgeError`].
pub async fn request(
    app: &App,
    which: Which<'_>,
    wanted: Wanted,
    by: &Actor,
) -> Result<Operation, PurgeError> {
    let action = app.tenancy.act_on(which).await?.ok_or(AdminError::NotFound)?;
    leave(app, action, wanted, by).await
}

async fn leave(app: &App, action: TenantAction, wanted: Wanted, by: &Actor) -> Result<Operation, PurgeError> {
    let status = action.status()?;
    let Some(closed_at) = action.closed_at().filter(|_| matches!(status, Status::Deleting | Status::Purging))
    else {
        return Err(PurgeError::NotClosed);
    };
    let until = closed_at + app.grace;
    if status == Status::Deleting && !wanted.now && app.clock.now() < until {
        return Err(PurgeError::InGrace(until));
    }
    let tenant = action.tenant();
    let params = json!(Params { closed_at });
    let named = Some((tenant.id, tenant.slug.clone()));
    let new = New { kind: Kind::Purge, params, tenant: named, by: by.clone() };
    let operation = if wanted.is_taken {
        operations::leave_taken(app, action.reached(), new).await?
    } else {
        operations::leave(app, action.reached(), new).await?
    };
    let detail = json!({"operation": operation.id, "now": wanted.now});
    let named = (tenant.id, tenant.slug.as_str(), action.reached().log_version());
    audit::record_of_tenant(app, action.reached(), named, by, Action::TenantPurgeRequested, detail).await?;
    action.commit().await?;
    app.wake_workers();
    Ok(operation)
}

/// Leaves the purges of those whose grace period is over. How many.
///
/// # Errors
/// Those of the database. What cannot be left of one keeps no other from it.
pub async fn leave_due(app: &App) -> Result<u64, ServiceError> {
    let now = app.clock.now();
    let mut left = 0;
    for id in app.tenancy.tenants_to_purge(now - app.grace, now, AT_ONCE).await? {
        let wanted = Wanted { now: false, is_taken: false };
        match request(app, Which::Id(id), wanted, &Actor::clean_up()).await {
            Ok(_) => left += 1,
            // Restored since, or another process was faster.
            Err(error) => tracing::info!(tenant = %id, %error, "a tenant is not purged now"),
        }
    }
    Ok(left)
}

/// Purges: begins, or goes on from what is left.
///
/// # Errors
/// See [`Failure`].
pub async fn run(app: &App, progress: &Progress, params: Value) -> Result<Value, Failure> {
    let Params { closed_at } = serde_json::from_value(params).map_err(|error| damaged(&error))?;
    let id = progress.operation().tenant_id.ok_or_else(|| damaged(&"no tenant"))?;
    let done = match app.tenancy.purge(id, closed_at).await? {
        Some(purging) => finish(app, progress, &purging).await,
        None => Err(ServiceError::from(tenants::Error::NoSuchTenant(id.to_string()))),
    };
    match done {
        // The attempt before this one came to the end and could not say so, or another process has come to it.
        Err(ServiceError::Tenancy(tenants::Error::NoSuchTenant(_))) => {
            let signed = certificate::find(app, Some(id), None).await?;
            signed
                .map(|signed| json!(signed))
                .ok_or_else(|| Failure::GiveUp("there is no such tenant".to_owned()))
        }
        done => Ok(done?),
    }
}

fn damaged(error: &dyn std::fmt::Display) -> Failure {
    Failure::GiveUp(format!("its parameters make no sense: {error}"))
}

/// Drops what is left, and leaves the certificate.
async fn finish(app: &App, progress: &Progress, purging: &Purging) -> Result<Value, ServiceError> {
    let all = purging.left().await?;
    // One more is what comes after the tables.
    progress.set_total(purging.purged.tables + as_count(all.len()) + 1);
    progress.advance(purging.purged.tables);
    let mut left = &all[..];
    while !left.is_empty() {
        let (these, rest) = purging.next_of(left).await?;
        purging.drop_these(these).await?;
        progress.advance(as_count(these.len()));
        left = rest;
    }
    while purging.delete_some_rows().await? {}
    let (now, operation) = (app.clock.now(), progress.operation());
    let last = purging.last_step(now).await?;
    let certificate = Certificate {
        operation: operation.id,
        tenant: purging.id,
        slug: purging.slug.clone(),
        name: purging.name.clone(),
        schema: purging.schema.to_string(),
        purged: last.purged,
        absent: last.absent,
        role_held_in: last.role_held_in.clone(),
        by: operation.actor.clone(),
        closed_at: purging.closed_at,
        purged_at: now,
    };
    let signed = certificate.sign(app).map_err(|error| tenants::Error::Damaged(error.to_string()))?;
    let (by, detail, named) = (progress.actor(), json!(signed), (purging.id, purging.slug.as_str()));
    audit::record_about(app, last.transaction(), named, &by, Action::TenantPurged, detail.clone()).await?;
    let held_in = last.role_held_in.join(", ");
    last.commit().await?;
    if !held_in.is_empty() {
        tracing::warn!(role = %purging.schema, %held_in, "the role of a purged tenant stays: it has rights in other databases");
    }
    progress.advance(1);
    Ok(detail)
}

fn as_count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
