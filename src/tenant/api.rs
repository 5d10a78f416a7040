//! The endpoints of the tenant itself.

use std::collections::HashSet;

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::OpenApi;
use serde_json::Value;
use tenants::{Tenant, TenantDb};
use uuid::Uuid;

use super::{
    email_domain::EmailDomain,
    service,
    store::{self, Changes},
};
use crate::{
    app::Tag,
    auth::{AdminCaller, Caller, OwnerCaller},
    entity::settings::{Model, SignUpPolicy},
    error::ServiceError,
    http::{
        Body, IfMatch, Json, Name, NoContent, Problem,
        input::{Field, List, Wrong, choice},
    },
    password,
    state::App,
    users::identity::Credential,
};

crate::output! {
    /// The tenant and its settings.
    pub struct TenantOut {
        /// The tenant's id.
        pub id: Uuid,
        /// Its name in hosts and headers.
        pub slug: String,
        /// The organization's name.
        pub name: String,
        /// Who may sign up: `invite_only` or `open`.
        pub sign_up_policy: SignUpPolicy,
        /// Whoever has an address in one of these domains may sign up too.
        pub allowed_email_domains: Vec<String>,
        /// Whether operators may act as a user, to help.
        pub allow_impersonation: bool,
        /// When the organization was made: signed up, imported or cloned.
        pub created_at: DateTime<Utc>,
    }
}

/// Each is a look-up when somebody signs up; a company has a handful.
pub(crate) const MAX_DOMAINS: usize = 100;

crate::input! {
    /// What to change of the tenant. What is left out stays.
    pub struct TenantPatch {
        /// Another name for the organization.
        pub name: Option<Name<1, 100>>,
        /// Who may sign up from now on.
        pub sign_up_policy: Option<SignUpPolicy>,
        /// The domains whose people may sign up from now on, all of them.
        pub allowed_email_domains: Option<List<EmailDomain, MAX_DOMAINS>>,
        /// Whether operators may act as a user, to help.
        pub allow_impersonation: Option<bool>,
    }
}

crate::input! {
    /// Who closes the organization.
    pub struct TenantCloseIn {
        /// The password of the signed-in owner.
        pub password: Credential,
    }
}

impl Field for SignUpPolicy {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        choice(value)
    }
}

impl TenantOut {
    fn new(tenant: &Tenant, settings: Option<Model>) -> Result<Self, Problem> {
        let settings = settings.ok_or_else(|| Problem::internal("the tenant has no row of settings"))?;
        Ok(Self {
            id: tenant.id,
            slug: tenant.slug.to_string(),
            name: settings.name,
            sign_up_policy: settings.sign_up_policy,
            allowed_email_domains: serde_json::from_value(settings.allowed_email_domains)
                .map_err(Problem::internal)?,
            allow_impersonation: settings.allow_impersonation,
            created_at: settings.created_at,
        })
    }
}

/// The endpoints of this slice.
pub struct TenantApi(pub App);

#[OpenApi(tag = "Tag::Tenant")]
impl TenantApi {
    /// The tenant of the signed-in user
    #[oai(path = "/api/tenant", method = "get", operation_id = "getTenant")]
    async fn get(&self, _caller: Caller, Data(db): Data<&TenantDb>) -> Result<Json<TenantOut>, Problem> {
        let settings = store::settings(db).await.map_err(ServiceError::from)?;
        Ok(Json(TenantOut::new(db.tenant(), settings)?))
    }

    /// Change the tenant's settings
    ///
    /// For admins and owners.
    #[oai(path = "/api/tenant", method = "patch", operation_id = "updateTenant")]
    async fn update(
        &self,
        admin: AdminCaller,
        Data(db): Data<&TenantDb>,
        if_match: IfMatch,
        Body(patch): Body<TenantPatch>,
    ) -> Result<Json<TenantOut>, Problem> {
        let changes = Changes {
            name: patch.name.map(Name::into_string),
            sign_up_policy: patch.sign_up_policy,
            allowed_email_domains: patch.allowed_email_domains.map(|domains| once_each(domains.0)),
            allow_impersonation: patch.allow_impersonation,
        };
        let tx = db.begin().await.map_err(ServiceError::from)?;
        let current = service::lock_for(&tx, &admin.0).await?;
        if_match.check(&TenantOut::new(db.tenant(), current.clone())?)?;
        let current = current.ok_or_else(|| Problem::internal("the tenant has no row of settings"))?;
        let settings = service::update(&self.0, &tx, &admin.0, &current, changes).await?;
        tx.commit().await.map_err(ServiceError::from)?;
        Ok(Json(TenantOut::new(db.tenant(), settings)?))
    }

    /// Close the organization
    ///
    /// For owners. From the next request on it is not found any more, and nobody is signed in. Its slug stays taken. Until it
    /// is purged, an operator can restore it as it was.
    #[oai(path = "/api/tenant", method = "delete", operation_id = "closeTenant")]
    async fn close(
        &self,
        owner: OwnerCaller,
        Data(db): Data<&TenantDb>,
        if_match: IfMatch,
        Body(input): Body<TenantCloseIn>,
    ) -> Result<NoContent, Problem> {
        if !password::confirm(&self.0, db, &owner.0, input.password.secret().clone()).await? {
            return Err(Problem::field("password", "Invalid password."));
        }
        let tx = db.begin().await.map_err(ServiceError::from)?;
        let current = store::lock(&tx).await.map_err(ServiceError::from)?;
        if_match.check(&TenantOut::new(db.tenant(), current)?)?;
        service::close(&self.0, tx, &owner.0).await?;
        Ok(NoContent)
    }
}

/// The domains in the order in which they were given.
fn once_each(domains: Vec<EmailDomain>) -> Vec<String> {
    let mut known = HashSet::new();
    let fresh = domains.into_iter().filter(|domain| known.insert(domain.clone()));
    fresh.map(EmailDomain::into_string).collect()
}
