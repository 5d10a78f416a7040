//! `tenantry audit`

use clap::Args;
use tenants::{Slug, Which};

use super::{
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    admin::{self, AdminError},
    audit::{self, AuditOut},
};

/// The arguments of `audit`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Only what was done to this tenant
    #[arg(long, value_name = "SLUG")]
    pub tenant: Option<Slug>,
    /// How many entries to show at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

pub(super) async fn audit(context: &Context, arguments: Audit) -> Result<Exit, Failure> {
    let Audit { tenant, limit } = arguments;
    let app = context.open_app().await?;
    let entries = async {
        let tenant = match &tenant {
            Some(slug) => Some(admin::reach(&app, Which::Slug(slug)).await?.tenant().id),
            None => None,
        };
        Ok(audit::latest(app.tenancy.catalog(), tenant, u64::from(limit)).await?)
    };
    let entries = entries.await.map_err(|error: AdminError| match (error, &tenant) {
        (AdminError::NotFound, Some(slug)) => tenants::Error::NoSuchTenant(slug.to_string()).into(),
        (error, _) => Failure::from(error),
    });
    let entries: Vec<AuditOut> = app.finish(entries).await?.into_iter().map(audit::entry_out).collect();
    context.output.list(&entries, |entries| {
        let headings = ["WHEN", "WHO", "WHAT", "TENANT", "FROM", "DETAIL"];
        entries.iter().fold(Table::new(&headings, "Nothing was done yet."), |table, entry| {
            let with = entry.actor.api_key.as_ref().map(|key| format!(" ({})", key.name));
            let blank = || "-".to_owned();
            table.row([
                entry.created_at.format("%Y-%m-%d %H:%M:%S UTC").to_string(),
                format!("{}{}", entry.actor.name, with.unwrap_or_default()),
                entry.action.clone(),
                entry.tenant.as_ref().map_or_else(blank, |tenant| tenant.slug.clone()),
                entry.ip.clone().unwrap_or_else(blank),
                entry.detail.to_string(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}
