//! The endpoints of the tenant itself.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::OpenApi;
use tenants::TenantDb;
use uuid::Uuid;

use super::store;
use crate::{
    app::Tag,
    auth::Caller,
    entity::settings::SignUpPolicy,
    error::ServiceError,
    http::{Json, Problem},
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
        /// When the organization signed up.
        pub created_at: DateTime<Utc>,
    }
}

/// The endpoints of this slice.
pub struct TenantApi;

#[OpenApi(tag = "Tag::Tenant")]
impl TenantApi {
    /// The tenant of the signed-in user
    #[oai(path = "/api/tenant", method = "get", operation_id = "getTenant")]
    async fn get(&self, _caller: Caller, Data(db): Data<&TenantDb>) -> Result<Json<TenantOut>, Problem> {
        let settings = store::settings(db).await.map_err(ServiceError::from)?;
        let settings = settings.ok_or_else(|| Problem::internal("the tenant has no row of settings"))?;
        let tenant = db.tenant();
        Ok(Json(TenantOut {
            id: tenant.id,
            slug: tenant.slug.to_string(),
            name: settings.name,
            sign_up_policy: settings.sign_up_policy,
            allowed_email_domains: serde_json::from_value(settings.allowed_email_domains)
                .map_err(Problem::internal)?,
            allow_impersonation: settings.allow_impersonation,
            created_at: settings.created_at,
        }))
    }
}
