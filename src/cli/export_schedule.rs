//! `tenantry export-schedule …`

use clap::{Args, Subcommand};
use tenants::{Slug, Which};

use super::{
    archive::told,
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    admin,
    archives::{self, ArchivesError},
    audit::Actor,
    state::App,
};

/// What can be done with export schedules.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum ExportSchedule {
    /// List the schedules
    List,
    /// Export a tenant, or all that have no schedule of their own, every so many hours
    Set(ExportScheduleSet),
    /// Remove a schedule; the archives that it made stay
    Remove(ExportScheduleRemove),
}

/// The arguments of `export-schedule set`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct ExportScheduleSet {
    /// The tenant.
    #[arg(long, value_name = "SLUG", help = "The tenant [default: all that have no schedule of their own]")]
    pub tenant: Option<Slug>,
    /// Every so many hours; 0 means never
    #[arg(long, value_name = "HOURS", value_parser = clap::value_parser!(u16).range(0..=8_784))]
    pub every: u16,
    /// How many archives of a tenant to keep
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1_000))]
    pub keep: u16,
}

/// The arguments of `export-schedule remove`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct ExportScheduleRemove {
    /// The tenant.
    #[arg(long, value_name = "SLUG", help = "The tenant [default: the schedule of all others]")]
    pub tenant: Option<Slug>,
}

/// Does what was typed.
pub(super) async fn export_schedule(context: &Context, command: ExportSchedule) -> Result<Exit, Failure> {
    match command {
        ExportSchedule::List => list_schedules(context).await,
        ExportSchedule::Set(arguments) => set_schedule(context, arguments).await,
        ExportSchedule::Remove(arguments) => remove_schedule(context, arguments).await,
    }
}

async fn list_schedules(context: &Context) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let rows = archives::schedules(&app).await;
    let rows = app.finish(rows).await?;
    context.output.list(&rows, |rows| {
        let headings = ["TENANT", "EVERY", "KEEP"];
        rows.iter().fold(Table::new(&headings, "No schedules."), |table, row| {
            let often =
                if row.every_hours == 0 { "never".to_owned() } else { format!("{} h", row.every_hours) };
            table.row([
                row.slug.clone().unwrap_or_else(|| "all others".to_owned()),
                often,
                row.keep.to_string(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

async fn tenant_of(app: &App, tenant: Option<&Slug>) -> Result<Option<uuid::Uuid>, Failure> {
    let Some(slug) = tenant else { return Ok(None) };
    let reached = admin::reach(app, Which::Slug(slug)).await;
    Ok(Some(reached.map_err(|error| told(slug, error.into()))?.tenant().id))
}

/// A tenant's name, or what the others are called.
fn whom(tenant: Option<&Slug>) -> String {
    tenant.map_or_else(|| "all tenants without a schedule of their own".to_owned(), ToString::to_string)
}

async fn set_schedule(context: &Context, arguments: ExportScheduleSet) -> Result<Exit, Failure> {
    let ExportScheduleSet { tenant, every, keep } = arguments;
    let app = context.open_app().await?;
    let set = async {
        let id = tenant_of(&app, tenant.as_ref()).await?;
        let set = archives::set_schedule(&app, id, (every, keep), &Actor::command_line()).await?;
        Ok::<_, Failure>(set)
    };
    let set = set.await;
    let set = app.finish(set).await?;
    let whom = whom(tenant.as_ref());
    context.output.answer(&set, |_| match every {
        0 => format!("No exports of {whom}."),
        _ => format!("A running `tenantry serve` exports {whom} every {every} hours, and keeps {keep} archives of each."),
    })?;
    Ok(Exit::Ok)
}

async fn remove_schedule(context: &Context, arguments: ExportScheduleRemove) -> Result<Exit, Failure> {
    let ExportScheduleRemove { tenant } = arguments;
    let app = context.open_app().await?;
    let removed = async {
        let id = tenant_of(&app, tenant.as_ref()).await?;
        let schedules = archives::schedules(&app).await?;
        let found = schedules.into_iter().find(|schedule| schedule.tenant == id);
        let found = found.ok_or(ArchivesError::NoSuchSchedule)?;
        Ok::<_, Failure>(archives::remove_schedule(&app, found.id, &Actor::command_line()).await?)
    };
    let removed = removed.await;
    let removed = app.finish(removed).await?;
    let whom = whom(tenant.as_ref());
    context.output.answer(&removed, |_| format!("Removed the schedule of {whom}. Its archives stay."))?;
    Ok(Exit::Ok)
}
