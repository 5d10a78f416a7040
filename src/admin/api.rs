//! The endpoints of tenants for operators.

use chrono::{DateTime, Utc};
use poem_openapi::{
    Enum, OpenApi,
    param::{Path, Query},
    types::MaybeUndefined,
};
use serde_json::Value;
use tenants::{
    Reached, SchemaName, SlugChoice, Status, TenantAction, TenantFilter, TenantSummary, Usage, Which,
};
use uuid::Uuid;

use super::{
    AdminError,
    service::{self, Change, NewTenant, Owner},
};
use crate::{
    app::Tag,
    audit::Actor,
    error::ServiceError,
    http::{
        Body, Created, Field, FieldErrors, IfMatch, Input, Json, Listing, Name, NoContent, OptionalBody,
        Page, PageQuery, Problem,
        input::{Wrong, kind, wrong},
    },
    invitations::OwnerInvited,
    limits::{self, ChosenPlan, LimitsIn, LimitsPatch},
    operators::{Destroys, Provisions, Reads},
    sign_up::{ChosenSlug, derive_slug},
    state::App,
    users::{
        UserOut, Users,
        identity::{Email, Password, Username},
    },
};

crate::input! {
    /// A new tenant.
    pub struct AdminTenantIn {
        /// The organization's name.
        pub name: Name<1, 100>,
        /// Its name in hosts. Left out, it is made from the organization's name.
        pub slug: Option<ChosenSlug>,
        /// Its plan. Left out, it has none.
        pub plan: Option<ChosenPlan>,
        /// Who owns it.
        pub owner: TenantOwnerIn,
    }
}

crate::input! {
    /// The owner of a new tenant.
    pub struct TenantOwnerIn {
        /// The e-mail address.
        pub email: Email,
        /// The username. Left out, it is made from the address; without a password the owner chooses it.
        pub username: Option<Username>,
        /// The password. Left out, the owner gets an invitation by mail, good for seven days.
        pub password: Option<Password>,
    }
}

/// As a member of another input: what is wrong with its members is said of it as a whole.
impl Field for TenantOwnerIn {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let Value::Object(mut object) = value else {
            return wrong(format!("Invalid data. Expected a dictionary, but got {}.", kind(&value)));
        };
        let mut errors = FieldErrors::new();
        let owner = Self::collect(&mut object, &mut errors);
        owner.ok_or_else(|| {
            let named = errors.iter().flat_map(|(name, sentences)| {
                sentences.iter().map(move |sentence| format!("{name}: {sentence}").into())
            });
            named.collect()
        })
    }
}

crate::input! {
    /// What to change of a tenant. What is left out stays.
    pub struct AdminTenantPatch {
        /// Another name for the organization.
        pub name: Option<Name<1, 100>>,
        /// Another name in hosts: the one before leads nowhere from now on, and stays taken for 90 days.
        pub slug: Option<ChosenSlug>,
        /// Its own limits. They count from the next request on.
        pub limits: Option<LimitsIn>,
        /// Another plan; null for none.
        pub plan: MaybeUndefined<ChosenPlan>,
    }
}

crate::output! {
    /// A tenant, as operators see it in a list.
    pub struct TenantSummaryOut {
        /// The tenant's id.
        pub id: Uuid,
        /// Its name in hosts and headers.
        pub slug: String,
        /// The organization's name.
        pub name: String,
        /// `active`, `suspended`, `deleting` or `purging`.
        pub status: String,
        /// How many tenant migrations its schema has had.
        pub schema_version: i32,
        /// When it was made.
        pub created_at: DateTime<Utc>,
    }
}

crate::output! {
    /// A tenant, as operators see it.
    pub struct TenantDetailOut {
        /// The tenant's id.
        pub id: Uuid,
        /// Its name in hosts and headers.
        pub slug: String,
        /// The organization's name.
        pub name: String,
        /// `active`, `suspended`, `deleting` or `purging`.
        pub status: String,
        /// Its schema in the database, and the role that reaches nothing else.
        pub schema: String,
        /// How many tenant migrations its schema has had.
        pub schema_version: i32,
        /// When it was made.
        pub created_at: DateTime<Utc>,
        /// How much it has.
        pub usage: UsageOut,
        /// Its own limits; what is not in there, its plan says, or the plan `default`.
        pub limits: Value,
        /// Whether its mails wait until it is resumed: it was imported or cloned.
        pub mails_held: bool,
        /// Its plan.
        pub plan: Option<String>,
        /// The limits in force. What is not in there is not limited.
        pub effective_limits: Value,
    }
}

crate::output! {
    /// How much a tenant has. Rows and bytes are what PostgreSQL keeps of them, and a moment old.
    pub struct UsageOut {
        /// Its users.
        pub users: i64,
        /// The rows of all its tables.
        pub rows: i64,
        /// The bytes of all its tables and their indexes.
        pub bytes: i64,
    }
}

crate::input! {
    /// Who is to own a tenant.
    pub struct OwnerInvitationIn {
        /// The e-mail address. Left out, it is whose invitation is replaced.
        pub email: Option<Email>,
    }
}

crate::output! {
    /// An invitation to own a tenant.
    pub struct OwnerInvitationOut {
        /// The address the link was sent to.
        pub email: String,
        /// When the link was sent.
        pub created_at: DateTime<Utc>,
        /// When the link stops working.
        pub expires_at: DateTime<Utc>,
    }
}

impl From<OwnerInvited> for OwnerInvitationOut {
    fn from(OwnerInvited { email, created_at, expires_at }: OwnerInvited) -> Self {
        Self { email, created_at, expires_at }
    }
}

/// What a tenant is at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum)]
#[oai(rename_all = "snake_case")]
pub enum TenantStatus {
    /// In use.
    Active,
    /// Closed by an operator for now.
    Suspended,
    /// To be purged when its grace period ends.
    Deleting,
    /// What it had is being dropped: nothing brings it back.
    Purging,
}

impl From<TenantStatus> for Status {
    fn from(status: TenantStatus) -> Self {
        match status {
            TenantStatus::Active => Self::Active,
            TenantStatus::Suspended => Self::Suspended,
            TenantStatus::Deleting => Self::Deleting,
            TenantStatus::Purging => Self::Purging,
        }
    }
}

impl From<TenantSummary> for TenantSummaryOut {
    fn from(tenant: TenantSummary) -> Self {
        let TenantSummary { id, slug, name, status, schema_version, created_at } = tenant;
        Self { id, slug, name, status, schema_version, created_at }
    }
}

impl TenantDetailOut {
    /// What there is to see of a tenant.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn of(reached: &Reached) -> Result<Self, AdminError> {
        let Usage { users, rows, bytes } = reached.usage().await?;
        let TenantSummary { id, slug, name, status, schema_version, created_at } = reached.tenant().clone();
        let (usage, limits) = (UsageOut { users, rows, bytes }, reached.limits().clone());
        let mails_held = reached.holds_mails();
        let (plan, effective) = reached.plan_and_limits().await?;
        let effective_limits = effective.to_value();
        Ok(Self {
            id,
            slug,
            name,
            status,
            schema: SchemaName::of(id).to_string(),
            schema_version,
            created_at,
            usage,
            limits,
            mails_held,
            plan,
            effective_limits,
        })
    }
}

/// The list of tenants.
pub struct Tenants;

impl Listing for Tenants {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = Some("Words that slug or name have in them, all of them.");
}

/// The endpoints of this slice.
pub struct AdminApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl AdminApi {
    /// The tenants
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/tenants", method = "get", operation_id = "listTenants")]
    async fn list(
        &self,
        _operator: Reads,
        query: PageQuery<Tenants>,
        /// Only those of this status.
        status: Query<Option<TenantStatus>>,
    ) -> Result<Json<Page<TenantSummaryOut>>, Problem> {
        let search = (!query.words().is_empty()).then(|| query.words().join(" "));
        let filter = TenantFilter { status: status.0.map(Into::into), search };
        let tenancy = &self.0.tenancy;
        let window = query.window(tenancy.count(&filter).await.map_err(ServiceError::from)?)?;
        let tenants = tenancy
            .list(&filter, query.is_descending(), (window.offset, Some(window.limit)))
            .await
            .map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, tenants.into_iter().map(Into::into).collect())))
    }

    /// Make a tenant
    ///
    /// Scope `provision`. With a password its owner can sign in at once; without one he gets an invitation by mail.
    #[oai(path = "/api/admin/tenants", method = "post", operation_id = "provisionTenant")]
    async fn provision(
        &self,
        operator: Provisions,
        Body(input): Body<AdminTenantIn>,
    ) -> Result<Created<TenantDetailOut>, Problem> {
        let name = input.name.into_string();
        let slug = match input.slug {
            Some(ChosenSlug(slug)) => SlugChoice::Exactly(slug),
            None => SlugChoice::Derived(derive_slug(&name)),
        };
        let plan = input.plan.map(|ChosenPlan(plan)| plan);
        let TenantOwnerIn { email, username, password } = input.owner;
        let owner = match password {
            Some(password) => {
                let username = username.unwrap_or_else(|| Username::from_email(&email));
                Owner::Given { email, username, password }
            }
            None => Owner::Invited(email),
        };
        let tenant =
            service::provision(&self.0, NewTenant { name, slug, plan, owner }, &operator.0.actor).await?;
        let reached = service::reach(&self.0, Which::Id(tenant.id)).await?;
        Ok(Created(TenantDetailOut::of(&reached).await?))
    }

    /// A tenant
    ///
    /// Scope `read`.
    #[oai(path = "/api/admin/tenants/:id", method = "get", operation_id = "getTenantAsOperator")]
    async fn detail(
        &self,
        _operator: Reads,
        /// The tenant's id.
        id: Path<Uuid>,
    ) -> Result<Json<TenantDetailOut>, Problem> {
        let reached = service::reach(&self.0, Which::Id(id.0)).await?;
        Ok(Json(TenantDetailOut::of(&reached).await?))
    }

    /// Change a tenant
    ///
    /// Scope `provision`. Another slug counts from the next request on: the old host is not found any more.
    #[oai(path = "/api/admin/tenants/:id", method = "patch", operation_id = "updateTenantAsOperator")]
    async fn update(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
        if_match: IfMatch,
        Body(patch): Body<AdminTenantPatch>,
    ) -> Result<Json<TenantDetailOut>, Problem> {
        let mut action = service::act_on(&self.0, Which::Id(id.0), patch.name.is_some()).await?;
        if_match.check(&TenantDetailOut::of(action.reached()).await?)?;
        let slug = patch.slug.map(|ChosenSlug(slug)| slug);
        let by = &operator.0.actor;
        service::rename(&self.0, &mut action, slug.as_ref(), patch.name.as_deref(), by).await?;
        let change = limits::Change {
            limits: patch.limits.map_or_else(LimitsPatch::default, |limits| limits.patch()),
            plan: match patch.plan {
                MaybeUndefined::Undefined => None,
                MaybeUndefined::Null => Some(None),
                MaybeUndefined::Value(ChosenPlan(plan)) => Some(Some(plan)),
            },
        };
        limits::change(&self.0, &mut action, &change, by).await?;
        Ok(Json(committed(action).await?))
    }

    /// Delete a tenant
    ///
    /// Scope `destroy`. From the next request on nobody finds it. Until its grace period ends it can be restored as it was.
    #[oai(path = "/api/admin/tenants/:id", method = "delete", operation_id = "deleteTenant")]
    async fn delete(
        &self,
        operator: Destroys,
        /// The tenant's id.
        id: Path<Uuid>,
        if_match: IfMatch,
    ) -> Result<NoContent, Problem> {
        let mut action = service::act_on(&self.0, Which::Id(id.0), false).await?;
        if_match.check(&TenantDetailOut::of(action.reached()).await?)?;
        service::set_status(&self.0, &mut action, Change::Delete, &operator.0.actor).await?;
        action.commit().await.map_err(ServiceError::from)?;
        Ok(NoContent)
    }

    /// Suspend a tenant
    ///
    /// Scope `provision`. From the next request on its people are refused, on every process.
    #[oai(path = "/api/admin/tenants/:id/suspend", method = "post", operation_id = "suspendTenant")]
    async fn suspend(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
    ) -> Result<Json<TenantDetailOut>, Problem> {
        self.change(id.0, Change::Suspend, &operator.0.actor).await
    }

    /// Let the people of a suspended tenant in again
    ///
    /// Scope `provision`. Their sessions go on. The mails of one that was imported or cloned go out from now on.
    #[oai(path = "/api/admin/tenants/:id/resume", method = "post", operation_id = "resumeTenant")]
    async fn resume(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
    ) -> Result<Json<TenantDetailOut>, Problem> {
        self.change(id.0, Change::Resume, &operator.0.actor).await
    }

    /// Restore a tenant that is being deleted
    ///
    /// Scope `provision`. It is as it was: one that was suspended is so again.
    #[oai(path = "/api/admin/tenants/:id/restore", method = "post", operation_id = "restoreTenant")]
    async fn restore(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
    ) -> Result<Json<TenantDetailOut>, Problem> {
        self.change(id.0, Change::Restore, &operator.0.actor).await
    }

    /// Invite the owner of a tenant that has none yet
    ///
    /// Scope `provision`. A link goes out by mail, good for seven days; the one before stops working. Once somebody owns the
    /// tenant, that is who invites.
    #[oai(path = "/api/admin/tenants/:id/invite_owner", method = "post", operation_id = "inviteOwner")]
    async fn invite_owner(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
        OptionalBody(input): OptionalBody<OwnerInvitationIn>,
    ) -> Result<Created<OwnerInvitationOut>, Problem> {
        let email = input.and_then(|input| input.email);
        let action = service::act_on(&self.0, Which::Id(id.0), true).await?;
        let invited = super::invite_owner(&self.0, &action, email.as_ref(), &operator.0.actor).await?;
        action.commit().await.map_err(ServiceError::from)?;
        Ok(Created(invited.into()))
    }

    /// The users of a tenant
    ///
    /// Scope `read`. That an operator looked stands in the tenant's own log.
    #[oai(path = "/api/admin/tenants/:id/users", method = "get", operation_id = "listTenantUsers")]
    async fn users(
        &self,
        operator: Reads,
        /// The tenant's id.
        id: Path<Uuid>,
        query: PageQuery<Users>,
    ) -> Result<Json<Page<UserOut>>, Problem> {
        Ok(Json(service::users(&self.0, Which::Id(id.0), &query, &operator.0.actor).await?))
    }
}

impl AdminApi {
    async fn change(&self, id: Uuid, change: Change, by: &Actor) -> Result<Json<TenantDetailOut>, Problem> {
        let mut action = service::act_on(&self.0, Which::Id(id), false).await?;
        service::set_status(&self.0, &mut action, change, by).await?;
        Ok(Json(committed(action).await?))
    }
}

/// What an action leaves, once it is committed.
async fn committed(action: TenantAction) -> Result<TenantDetailOut, Problem> {
    let detail = TenantDetailOut::of(action.reached()).await?;
    action.commit().await.map_err(ServiceError::from)?;
    Ok(detail)
}
