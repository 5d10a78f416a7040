//! The rules of changing limits.

use serde_json::{Map, Value, json};
use tenants::{CatalogTx, Limits, Plan, PlanName, TenantAction};

use super::{LimitsPatch, PlanError, mails::PUT_OFF};
use crate::{
    admin::AdminError,
    audit::{self, Action, Actor},
    error::ServiceError,
    state::App,
};

/// What to change of what a tenant may have and do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Of its own limits.
    pub limits: LimitsPatch,
    /// To which plan, if to another one; `Some(None)`: to none.
    pub plan: Option<Option<PlanName>>,
}

/// Changes what a tenant may have and do, up to the commit. What is so already is not recorded.
///
/// # Errors
/// [`AdminError::NoSuchPlan`], or those of the database.
pub async fn change(
    app: &App,
    action: &mut TenantAction,
    change: &Change,
    by: &Actor,
) -> Result<(), AdminError> {
    let [mut before, mut after] = [Map::new(), Map::new()];
    let own = Limits::of(action.reached().limits());
    let (had, in_force) = action.reached().plan_and_limits().await?;
    let changed = change.limits.apply(own);
    if changed != own {
        action.set_limits(&changed).await?;
        before.insert("limits".to_owned(), own.to_value());
        after.insert("limits".to_owned(), changed.to_value());
    }
    if let Some(plan) = &change.plan
        && had.as_deref() != plan.as_ref().map(PlanName::as_str)
    {
        action.set_plan(plan.as_ref()).await.map_err(no_such_plan)?;
        before.insert("plan".to_owned(), had.into());
        after.insert("plan".to_owned(), plan.as_ref().map(ToString::to_string).into());
    }
    if after.is_empty() {
        return Ok(());
    }
    let (_, from_now_on) = action.reached().plan_and_limits().await?;
    if from_now_on.mails_per_day != in_force.mails_per_day {
        action.hasten(PUT_OFF, app.clock.now()).await?;
    }
    let detail = json!({"before": before, "after": after});
    let tenant = action.tenant();
    let named = (tenant.id, tenant.slug.as_str(), tenant.schema_version);
    let (reached, what) = (action.reached(), Action::TenantLimitsChanged);
    Ok(audit::record_of_tenant(app, reached, named, by, what, detail).await?)
}

fn no_such_plan(error: tenants::Error) -> AdminError {
    match error {
        tenants::Error::NoSuchPlan(plan) => AdminError::NoSuchPlan(plan),
        error => error.into(),
    }
}

/// Makes a plan.
///
/// # Errors
/// [`PlanError::Taken`], or those of the database.
pub async fn create_plan(
    app: &App,
    name: &PlanName,
    limits: &LimitsPatch,
    by: &Actor,
) -> Result<Plan, PlanError> {
    let tx = app.tenancy.catalog().begin().await?;
    let limits = limits.apply(Limits::default());
    let plan = Plan::create(&tx, name, &limits, app.clock.now()).await?;
    let detail = json!({"after": {"plan": plan.name, "limits": plan.limits}});
    commit(app, tx, by, Action::PlanCreated, detail).await?;
    Ok(plan)
}

/// Changes the limits of a plan, for all tenants that have it.
///
/// # Errors
/// [`PlanError::NotFound`], or those of the database.
pub async fn set_plan(app: &App, name: &str, limits: &LimitsPatch, by: &Actor) -> Result<Plan, PlanError> {
    let tx = app.tenancy.catalog().begin().await?;
    let mut plan = Plan::lock(&tx, name).await?;
    let before = Limits::of(&plan.limits);
    let after = limits.apply(before);
    if before == after {
        return Ok(plan);
    }
    plan.set_limits(&tx, &after).await?;
    if before.mails_per_day != after.mails_per_day {
        plan.hasten(&tx, PUT_OFF, app.clock.now()).await?;
    }
    let shown = |limits: Limits| json!({"plan": plan.name, "limits": limits.to_value()});
    let detail = json!({"before": shown(before), "after": shown(after)});
    commit(app, tx, by, Action::PlanChanged, detail).await?;
    Ok(plan)
}

/// Deletes a plan that no tenant has.
///
/// # Errors
/// [`PlanError::NotFound`], [`PlanError::InUse`], or those of the database.
pub async fn delete_plan(app: &App, name: &str, by: &Actor) -> Result<(), PlanError> {
    let tx = app.tenancy.catalog().begin().await?;
    let plan = Plan::lock(&tx, name).await?;
    let detail = json!({"before": {"plan": plan.name, "limits": plan.limits}});
    // Nobody has it, but what the plan `default` says counts for those who have none.
    if Limits::of(&plan.limits).mails_per_day.is_some() {
        plan.hasten(&tx, PUT_OFF, app.clock.now()).await?;
    }
    plan.delete(&tx).await?;
    commit(app, tx, by, Action::PlanDeleted, detail).await
}

async fn commit(
    app: &App,
    tx: CatalogTx,
    by: &Actor,
    action: Action,
    detail: Value,
) -> Result<(), PlanError> {
    audit::record(app, &tx, by, action, detail).await?;
    tx.commit().await.map_err(ServiceError::from)?;
    app.tenancy.plans_changed();
    Ok(())
}
