//! The endpoints of plans.

use chrono::{DateTime, Utc};
use poem_openapi::{OpenApi, param::Path};
use serde_json::Value;
use tenants::Plan;

use super::{ChosenPlan, LimitsIn, LimitsPatch, service};
use crate::{
    app::Tag,
    error::ServiceError,
    http::{Body, Created, Json, Listing, NoContent, Page, PageQuery, Problem},
    operators::{Destroys, Provisions, Reads},
    state::App,
};

crate::input! {
    /// A new plan.
    pub struct PlanIn {
        /// What it is called, for good. The plan `default` is everybody's: its limits count where neither a tenant's own
        /// nor those of its plan say anything.
        pub name: ChosenPlan,
        /// Its limits; none if left out.
        pub limits: Option<LimitsIn>,
    }
}

crate::input! {
    /// What to change of a plan.
    pub struct PlanPatch {
        /// Its limits.
        pub limits: LimitsIn,
    }
}

crate::output! {
    /// A plan.
    pub struct PlanOut {
        /// What it is called.
        pub name: String,
        /// Its limits; those not in there are said by the plan `default`, or by nobody.
        pub limits: Value,
        /// How many tenants have it.
        pub tenants: i64,
        /// When it was made.
        pub created_at: DateTime<Utc>,
    }
}

impl From<Plan> for PlanOut {
    fn from(plan: Plan) -> Self {
        let Plan { name, limits, tenants, created_at } = plan;
        Self { name, limits, tenants, created_at }
    }
}

/// The list of plans.
pub struct Plans;

impl Listing for Plans {
    const FIELDS: &'static [&'static str] = &["name"];
    const DEFAULT: &'static str = "name";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct PlansApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl PlansApi {
    /// The plans
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/plans", method = "get", operation_id = "listPlans")]
    async fn list(&self, _operator: Reads, query: PageQuery<Plans>) -> Result<Json<Page<PlanOut>>, Problem> {
        let catalog = self.0.tenancy.catalog();
        let window = query.window(Plan::count(catalog).await.map_err(ServiceError::from)?)?;
        let place = (window.offset, window.limit);
        let plans = Plan::list(catalog, query.is_descending(), place).await.map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, plans.into_iter().map(Into::into).collect())))
    }

    /// Make a plan
    ///
    /// Scope `provision`.
    #[oai(path = "/api/admin/plans", method = "post", operation_id = "createPlan")]
    async fn create(
        &self,
        operator: Provisions,
        Body(input): Body<PlanIn>,
    ) -> Result<Created<PlanOut>, Problem> {
        let limits = input.limits.map_or_else(LimitsPatch::default, |limits| limits.patch());
        let plan = service::create_plan(&self.0, &input.name.0, &limits, &operator.0.actor).await?;
        Ok(Created(plan.into()))
    }

    /// Change the limits of a plan
    ///
    /// Scope `provision`. They count for all its tenants from the next request on.
    #[oai(path = "/api/admin/plans/:name", method = "patch", operation_id = "updatePlan")]
    async fn update(
        &self,
        operator: Provisions,
        /// The plan's name.
        name: Path<String>,
        Body(patch): Body<PlanPatch>,
    ) -> Result<Json<PlanOut>, Problem> {
        let plan = service::set_plan(&self.0, &name.0, &patch.limits.patch(), &operator.0.actor).await?;
        Ok(Json(plan.into()))
    }

    /// Delete a plan
    ///
    /// Scope `destroy`. One that tenants have stays.
    #[oai(path = "/api/admin/plans/:name", method = "delete", operation_id = "deletePlan")]
    async fn delete(
        &self,
        operator: Destroys,
        /// The plan's name.
        name: Path<String>,
    ) -> Result<NoContent, Problem> {
        service::delete_plan(&self.0, &name.0, &operator.0.actor).await?;
        Ok(NoContent)
    }
}
