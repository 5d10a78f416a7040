//! `tenantry tenant limits` and `tenantry plan …`. The rules are those of the admin API.

use std::{fmt, str::FromStr};

use clap::{Args, Subcommand};
use serde::Serialize;
use serde_json::Value;
use tenants::{Limit, Limits, Slug, TenantAction, Which};

use super::{
    arguments::WrongArguments,
    output::{Exit, Table},
    run::{Context, Failure},
    tenant_changes::told,
};
use crate::{
    admin::{self, AdminError},
    audit::Actor,
    limits::{self, Change, LimitsPatch, PlanError, PlanOut},
    state::App,
};

/// What says that a limit, or a plan, is to be said elsewhere.
const NONE: &str = "none";

/// What a limit is set to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitArgument {
    /// This.
    To(i64),
    /// What is said elsewhere.
    None,
}

impl FromStr for LimitArgument {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == NONE {
            return Ok(Self::None);
        }
        text.parse().map(Self::To).map_err(|_| "a whole number, or none".to_owned())
    }
}

/// The limits that a command changes.
#[derive(Args, Clone, Copy, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Limits (a number, or none: what is said elsewhere counts)")]
pub struct LimitArguments {
    /// Requests a second in the long run, to each process
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub requests_per_second: Option<LimitArgument>,
    /// Requests at once after a pause
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub burst: Option<LimitArgument>,
    /// Requests and jobs worked on at once, by each process
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub concurrency: Option<LimitArgument>,
    /// Milliseconds after which PostgreSQL gives up a statement
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub statement_timeout_ms: Option<LimitArgument>,
    /// Users, the deactivated ones included
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub users: Option<LimitArgument>,
    /// Bytes of all tables and their indexes
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub storage_bytes: Option<LimitArgument>,
    /// Mails in a day of UTC
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub mails_per_day: Option<LimitArgument>,
}

impl LimitArguments {
    fn get(&self, limit: Limit) -> (&'static str, Option<LimitArgument>) {
        match limit {
            Limit::RequestsPerSecond => ("--requests-per-second", self.requests_per_second),
            Limit::Burst => ("--burst", self.burst),
            Limit::Concurrency => ("--concurrency", self.concurrency),
            Limit::StatementTimeoutMs => ("--statement-timeout-ms", self.statement_timeout_ms),
            Limit::Users => ("--users", self.users),
            Limit::StorageBytes => ("--storage-bytes", self.storage_bytes),
            Limit::MailsPerDay => ("--mails-per-day", self.mails_per_day),
        }
    }

    /// What they change, all that is wrong with them told at once.
    fn read(self) -> Result<LimitsPatch, Failure> {
        let (mut wrong, mut patch) = (WrongArguments::default(), LimitsPatch::default());
        let mut fits = true;
        for limit in Limit::ALL {
            match self.get(limit) {
                (_, None) => {}
                (_, Some(LimitArgument::None)) => patch.0.push((limit, None)),
                (name, Some(LimitArgument::To(value))) => {
                    let checked = limits::check(limit, value.into()).map_err(|sentence| vec![sentence]);
                    let checked = wrong.take(name, checked);
                    fits &= checked.is_some();
                    patch.0.push((limit, checked));
                }
            }
        }
        if fits { Ok(patch) } else { Err(wrong.failure()) }
    }
}

/// A plan, or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PlanArgument {
    /// This one.
    To(tenants::PlanName),
    /// None.
    None,
}

impl FromStr for PlanArgument {
    type Err = tenants::PlanNameError;

    fn from_str(text: &str) -> Result<Self, tenants::PlanNameError> {
        if text == NONE { Ok(Self::None) } else { text.parse().map(Self::To) }
    }
}

/// The arguments of `tenant limits`.
#[derive(Args, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry tenant limits acme
  tenantry tenant limits acme --requests-per-second 20 --burst 100 --concurrency 8
  tenantry tenant limits acme --plan pro --burst none")]
pub struct TenantLimits {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// Another plan, or none
    #[arg(long, value_name = "PLAN")]
    pub plan: Option<PlanArgument>,
    /// Its own limits.
    #[command(flatten)]
    pub limits: LimitArguments,
}

/// What can be done with plans.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Plan {
    /// List the plans
    List,
    /// Make a plan, or change the limits of one
    #[command(after_help = "\
Examples:
  tenantry plan set pro --requests-per-second 50 --users 500
  tenantry plan set default --requests-per-second 10 --mails-per-day 1000")]
    Set(PlanSet),
    /// Delete a plan that no tenant has
    Delete(PlanName),
}

/// The arguments of `plan set`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct PlanSet {
    /// The plan; `default` is everybody's
    #[arg(value_name = "NAME")]
    pub name: tenants::PlanName,
    /// Its limits.
    #[command(flatten)]
    pub limits: LimitArguments,
}

/// The plan that a command is about.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct PlanName {
    /// The plan
    #[arg(value_name = "NAME")]
    pub name: tenants::PlanName,
}

/// What a tenant may have and do.
#[derive(Serialize)]
struct Shown {
    slug: String,
    plan: Option<String>,
    limits: Value,
    effective_limits: Limits,
}

impl Shown {
    async fn of(action: &TenantAction) -> Result<Self, AdminError> {
        let (plan, effective_limits) = action.reached().plan_and_limits().await?;
        let (slug, limits) = (action.tenant().slug.clone(), action.reached().limits().clone());
        Ok(Self { slug, plan, limits, effective_limits })
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = self.plan.as_deref().unwrap_or(NONE);
        writeln!(f, "{}, plan {plan}", self.slug)?;
        let own = Limits::of(&self.limits);
        for limit in Limit::ALL {
            let name = limit.as_str();
            match (self.effective_limits.get(limit), own.get(limit)) {
                (None, _) => write!(f, "\n  {name:<20}  -")?,
                (Some(value), None) => write!(f, "\n  {name:<20}  {value}")?,
                (Some(value), Some(_)) => write!(f, "\n  {name:<20}  {value} (its own)")?,
            }
        }
        Ok(())
    }
}

pub(super) async fn of_tenant(context: &Context, arguments: TenantLimits) -> Result<Exit, Failure> {
    let TenantLimits { slug, plan, limits } = arguments;
    let plan = plan.map(|plan| match plan {
        PlanArgument::To(plan) => Some(plan),
        PlanArgument::None => None,
    });
    let change = Change { limits: limits.read()?, plan };
    let app = context.open_app().await?;
    let shown = changed(&app, &slug, &change).await.map_err(|error| told(&slug, error));
    let shown = app.finish(shown).await?;
    context.output.answer(&shown, ToString::to_string)?;
    Ok(Exit::Ok)
}

async fn changed(app: &App, slug: &Slug, change: &Change) -> Result<Shown, AdminError> {
    let mut action = admin::act_on(app, Which::Slug(slug), false).await?;
    if *change == Change::default() {
        return Shown::of(&action).await;
    }
    limits::change(app, &mut action, change, &Actor::command_line()).await?;
    let shown = Shown::of(&action).await?;
    action.commit().await?;
    Ok(shown)
}

pub(super) async fn plan(context: &Context, command: Plan) -> Result<Exit, Failure> {
    match command {
        Plan::List => list(context).await,
        Plan::Set(PlanSet { name, limits }) => set(context, &name, limits).await,
        Plan::Delete(PlanName { name }) => delete(context, &name).await,
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let tenancy = context.open_tenancy().await?;
    let plans = tenants::Plan::list(tenancy.catalog(), false, (0, u64::MAX)).await;
    let plans = tenancy.finish(plans.map_err(tenants::Error::from)).await?;
    let plans: Vec<PlanOut> = plans.into_iter().map(Into::into).collect();
    context.output.list(&plans, |plans| {
        plans.iter().fold(Table::new(&["NAME", "TENANTS", "LIMITS"], "No plans yet."), |table, plan| {
            table.row([plan.name.clone(), plan.tenants.to_string(), plan.limits.to_string()])
        })
    })?;
    Ok(Exit::Ok)
}

async fn set(context: &Context, name: &tenants::PlanName, limits: LimitArguments) -> Result<Exit, Failure> {
    let patch = limits.read()?;
    let app = context.open_app().await?;
    let by = Actor::command_line();
    let set = match limits::set_plan(&app, name.as_str(), &patch, &by).await {
        Err(PlanError::NotFound) => limits::create_plan(&app, name, &patch, &by).await,
        set => set,
    };
    let plan = PlanOut::from(app.finish(set).await?);
    context.output.answer(&plan, |plan| {
        format!("The plan {} has these limits from the next request on: {}", plan.name, plan.limits)
    })?;
    Ok(Exit::Ok)
}

/// What was deleted.
#[derive(Serialize)]
struct Deleted {
    name: String,
}

async fn delete(context: &Context, name: &tenants::PlanName) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let deleted = limits::delete_plan(&app, name.as_str(), &Actor::command_line()).await;
    app.finish(deleted).await?;
    let deleted = Deleted { name: name.to_string() };
    context.output.answer(&deleted, |deleted| format!("Deleted the plan {}.", deleted.name))?;
    Ok(Exit::Ok)
}
