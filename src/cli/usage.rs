//! `tenantry usage` and `tenantry tenant usage`.

use chrono::NaiveDate;
use clap::{Args, ValueEnum};
use tenants::{Slug, UsageOrder, Which};

use super::{
    output::{Exit, Table},
    run::{Context, Failure},
    tenant_changes::told,
};
use crate::{
    admin::{self, AdminError},
    usage,
};

/// The arguments of `tenant usage`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantUsage {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// How many days to show at most, the newest first
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub days: u32,
}

/// The arguments of `usage`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry usage --by database-time
  tenantry usage --day 2026-01-31 --limit 10")]
pub struct Usage {
    /// What the busiest are busy with
    #[arg(long, value_name = "WHAT", default_value = "requests")]
    pub by: UsageBy,
    /// The day, of UTC.
    #[arg(long, value_name = "DAY", help = "The day, of UTC [default: today]")]
    pub day: Option<NaiveDate>,
    /// How many tenants to show at most
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// What tenants are ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum UsageBy {
    /// Requests.
    Requests,
    /// Requests that the service failed at.
    Errors,
    /// For how long connections to the database were held.
    #[value(alias = "database_time")]
    DatabaseTime,
}

impl From<UsageBy> for UsageOrder {
    fn from(by: UsageBy) -> Self {
        match by {
            UsageBy::Requests => Self::Requests,
            UsageBy::Errors => Self::Errors,
            UsageBy::DatabaseTime => Self::DatabaseTime,
        }
    }
}

pub(super) async fn of_tenant(context: &Context, arguments: &TenantUsage) -> Result<Exit, Failure> {
    let TenantUsage { slug, days } = arguments;
    let app = context.open_app().await?;
    let days = async {
        let tenant = admin::reach(&app, Which::Slug(slug)).await?.tenant().id;
        Ok(usage::days_of(&app, tenant, true, (0, u64::from(*days))).await?)
    };
    let days = days.await.map_err(|error: AdminError| told(slug, error));
    let days = app.finish(days).await?;
    context.output.list(&days, |days| {
        let headings = ["DAY", "REQUESTS", "ERRORS", "THROTTLED", "DATABASE", "MAILS"];
        days.iter().fold(Table::new(&headings, "It used nothing yet."), |table, day| {
            table.row([
                day.day.to_string(),
                day.requests.to_string(),
                day.errors.to_string(),
                day.throttled.to_string(),
                format!("{} ms", day.database_time_ms),
                day.mails.to_string(),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

pub(super) async fn of_day(context: &Context, arguments: &Usage) -> Result<Exit, Failure> {
    let Usage { by, day, limit } = *arguments;
    let day = day.unwrap_or_else(|| context.clock.now().date_naive());
    let app = context.open_app().await?;
    let tenants = usage::tenants_of(&app, day, &[(by.into(), true)], (0, u64::from(limit))).await;
    let tenants = app.finish(tenants).await?;
    context.output.list(&tenants, |tenants| {
        let headings =
            ["TENANT", "REQUESTS", "ERRORS", "THROTTLED", "DATABASE", "MAILS", "USERS", "ROWS", "BYTES"];
        let measured =
            |number: Option<i64>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
        tenants.iter().fold(Table::new(&headings, "Nobody used anything on that day."), |table, usage| {
            table.row([
                usage.tenant.slug.clone(),
                usage.requests.to_string(),
                usage.errors.to_string(),
                usage.throttled.to_string(),
                format!("{} ms", usage.database_time_ms),
                usage.mails.to_string(),
                measured(usage.users),
                measured(usage.rows),
                measured(usage.bytes),
            ])
        })
    })?;
    Ok(Exit::Ok)
}
