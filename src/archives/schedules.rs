//! Exports that nobody has to ask for: one schedule for all tenants, and others for some.
//!
//! Whose turn it is, is decided in the catalog, in the transaction that leaves the operation: of any number of processes one
//! does it. A few wait at once, so that ten thousand tenants whose turn comes together are exported one after the other.

use serde_json::json;
use tenants::archive::{ExportSchedule, NewSchedule};
use uuid::Uuid;

use super::{
    ArchiveName, ArchivesError,
    service::{ExportParams, blocking},
};
use crate::{
    audit::{self, Action, Actor},
    operations::{self, Kind, New},
    state::App,
};

/// How many scheduled exports wait or are under way at once.
const AT_ONCE: u32 = 4;

/// Leaves the exports that are due, and removes what killed processes left in the store. How many exports.
///
/// # Errors
/// Those of the database and of the store.
pub async fn leave_due(app: &App) -> Result<u64, ArchivesError> {
    let (directory, now) = (app.archives.clone(), app.clock.now());
    blocking(move || directory.sweep(now)).await?;
    let tx = app.tenancy.catalog().begin().await?;
    let due = tenants::archive::take_due(&tx, Kind::Export.as_str(), now, AT_ONCE).await?;
    let by = Actor::clean_up();
    for turn in &due {
        let archive = ArchiveName::of(&turn.slug, turn.tenant, now, true).to_string();
        let keep = u32::try_from(turn.keep).ok();
        let params = json!(ExportParams { archive: archive.clone(), keep });
        let tenant = Some((turn.tenant, turn.slug.clone()));
        let new = New { kind: Kind::Export, params, tenant, by: by.clone() };
        let operation = operations::leave(app, &tx, new).await?;
        let detail = json!({"operation": operation.id, "archive": archive});
        let named = (turn.tenant, turn.slug.as_str());
        audit::record_about(app, &tx, named, &by, Action::TenantExported, detail).await?;
    }
    tx.commit().await?;
    app.wake_workers();
    Ok(due.len() as u64)
}

/// The schedules: the one for all tenants first.
///
/// # Errors
/// Those of the database.
pub async fn schedules(app: &App) -> Result<Vec<ExportSchedule>, ArchivesError> {
    Ok(tenants::archive::schedules(app.tenancy.catalog()).await?)
}

/// Sets the schedule of a tenant, or of all that have none of their own.
///
/// # Errors
/// There is no such tenant; or those of the database.
pub async fn set_schedule(
    app: &App,
    tenant: Option<Uuid>,
    (every_hours, keep): (u16, u16),
    by: &Actor,
) -> Result<ExportSchedule, ArchivesError> {
    let (now, id) = (app.clock.now(), app.clock.uuid_v7());
    let new = NewSchedule { id, tenant, every_hours: every_hours.into(), keep: keep.into(), now };
    let tx = app.tenancy.catalog().begin().await?;
    let set = tenants::archive::set_schedule(&tx, new).await?;
    let detail = json!({"tenant": set.tenant, "after": {"every_hours": every_hours, "keep": keep}});
    audit::record(app, &tx, by, Action::ExportScheduleSet, detail).await?;
    tx.commit().await?;
    Ok(set)
}

/// Removes a schedule.
///
/// # Errors
/// [`ArchivesError::NoSuchSchedule`], or those of the database.
pub async fn remove_schedule(app: &App, id: Uuid, by: &Actor) -> Result<ExportSchedule, ArchivesError> {
    let tx = app.tenancy.catalog().begin().await?;
    let removed = tenants::archive::remove_schedule(&tx, id).await?;
    let removed = removed.ok_or(ArchivesError::NoSuchSchedule)?;
    let detail = json!({
        "tenant": removed.tenant, "before": {"every_hours": removed.every_hours, "keep": removed.keep},
    });
    audit::record(app, &tx, by, Action::ExportScheduleRemoved, detail).await?;
    tx.commit().await?;
    Ok(removed)
}
