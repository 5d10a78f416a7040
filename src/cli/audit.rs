//! `tenantry audit`

use clap::Args;

use super::{
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::audit::{self, About, AuditOut};

/// The arguments of `audit`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct Audit {
    /// Only what was done to the tenant of this id, or that has this slug, or had it
    #[arg(long, value_name = "SLUG|ID")]
    pub tenant: Option<About>,
    /// How many entries to show at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

pub(super) async fn audit(context: &Context, arguments: Audit) -> Result<Exit, Failure> {
    let Audit { tenant, limit } = arguments;
    let app = context.open_app().await?;
    let entries = async {
        let catalog = app.tenancy.catalog();
        let tenants = match &tenant {
            Some(about) => Some(about.tenants(catalog).await?),
            None => None,
        };
        if let (Some(about), Some([])) = (&tenant, tenants.as_deref()) {
            return Err(tenants::Error::NoSuchTenant(about.to_string()));
        }
        Ok(audit::latest(catalog, tenants.as_deref(), u64::from(limit)).await?)
    };
    let entries = entries.await;
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
