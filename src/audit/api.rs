//! The endpoints of both logs.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::{OpenApi, param::Query};
use serde_json::Value;
use tenants::{TenantDb, entity::audit as installation};
use uuid::Uuid;

use super::store::{self, About};
use crate::{
    app::Tag,
    auth::AdminCaller,
    entity::{audit, users},
    error::ServiceError,
    http::{Json, Listing, Page, PageQuery, Problem},
    operators::Reads,
    state::App,
    users::PersonOut,
};

crate::output! {
    /// What was done to the organization as a whole, or to its people by its admins.
    pub struct TenantAuditOut {
        /// The entry's id.
        pub id: Uuid,
        /// Whether somebody did it who runs the service, and no user.
        pub by_operator: bool,
        /// The user who did it; null once that user is deleted, and of an operator.
        pub actor: Option<PersonOut>,
        /// What was done.
        pub action: String,
        /// More, by the action; of a change what was before and after.
        pub detail: Value,
        /// When.
        pub created_at: DateTime<Utc>,
    }
}

crate::output! {
    /// What an operator did.
    pub struct AuditOut {
        /// The entry's id.
        pub id: Uuid,
        /// Who did it.
        pub actor: ActorOut,
        /// What was done.
        pub action: String,
        /// To which tenant; null for what concerns none.
        pub tenant: Option<AuditTenantOut>,
        /// More, by the action; of a change what was before and after.
        pub detail: Value,
        /// From which address; null from the command line.
        pub ip: Option<String>,
        /// When.
        pub created_at: DateTime<Utc>,
    }
}

crate::output! {
    /// Who did something to the installation; the operator and the key may be gone.
    pub struct ActorOut {
        /// The operator's id; null for what no operator did.
        pub operator: Option<Uuid>,
        /// The operator's e-mail address, `command line`, or `nobody` who failed to sign in.
        pub name: String,
        /// The API key it was done with, if it was.
        pub api_key: Option<ActorKeyOut>,
    }
}

crate::output! {
    /// The API key that something was done with.
    pub struct ActorKeyOut {
        /// The key's id.
        pub id: Uuid,
        /// What it was called.
        pub name: String,
    }
}

crate::output! {
    /// The tenant that something was done to; it may be gone.
    pub struct AuditTenantOut {
        /// The tenant's id.
        pub id: Uuid,
        /// Its slug when it was done.
        pub slug: String,
    }
}

/// An entry of the installation's log, as operators see it.
#[must_use]
pub fn entry_out(row: installation::Model) -> AuditOut {
    let api_key = row.api_key_id.zip(row.api_key_name).map(|(id, name)| ActorKeyOut { id, name });
    AuditOut {
        id: row.id,
        actor: ActorOut { operator: row.operator_id, name: row.actor, api_key },
        action: row.action,
        tenant: row.tenant_id.zip(row.tenant_slug).map(|(id, slug)| AuditTenantOut { id, slug }),
        detail: row.detail,
        ip: row.ip,
        created_at: row.created_at,
    }
}

fn own_entry((row, user): (audit::Model, Option<users::Model>)) -> TenantAuditOut {
    let actor = user.map(PersonOut::from);
    TenantAuditOut {
        id: row.id,
        by_operator: row.by_operator,
        actor,
        action: row.action,
        detail: row.detail,
        created_at: row.created_at,
    }
}

/// A log.
pub struct Log;

impl Listing for Log {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoint of a tenant's own log.
pub struct TenantAuditApi;

#[OpenApi(tag = "Tag::Tenant")]
impl TenantAuditApi {
    /// What operators and admins did to the organization
    ///
    /// For admins and owners.
    #[oai(path = "/api/tenant/audit", method = "get", operation_id = "listTenantAudit")]
    async fn list(
        &self,
        _admin: AdminCaller,
        Data(db): Data<&TenantDb>,
        query: PageQuery<Log>,
    ) -> Result<Json<Page<TenantAuditOut>>, Problem> {
        let window = query.window(store::count_own(db).await.map_err(ServiceError::from)?)?;
        let rows = store::list_own(db, query.is_descending(), &window).await.map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, rows.into_iter().map(own_entry).collect())))
    }
}

/// The endpoint of the installation's log.
pub struct AuditApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl AuditApi {
    /// What operators did
    ///
    /// Scope `read`. Nobody can change or delete an entry.
    #[oai(path = "/api/admin/audit", method = "get", operation_id = "listAudit")]
    async fn list(
        &self,
        _operator: Reads,
        query: PageQuery<Log>,
        /// Only what was done to one tenant: its id, or a slug that it has or had, purged or not.
        tenant: Query<Option<String>>,
    ) -> Result<Json<Page<AuditOut>>, Problem> {
        let about = tenant.0.map(|name| name.parse::<About>()).transpose();
        let about =
            about.map_err(|_| Problem::field("tenant", "Enter the id or the slug of an organization."))?;
        let catalog = self.0.tenancy.catalog();
        let tenants = match about {
            Some(about) => Some(about.tenants(catalog).await.map_err(ServiceError::from)?),
            None => None,
        };
        let count = store::count(catalog, tenants.as_deref()).await.map_err(ServiceError::from)?;
        let window = query.window(count)?;
        let rows = store::list(catalog, tenants.as_deref(), query.is_descending(), &window)
            .await
            .map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, rows.into_iter().map(entry_out).collect())))
    }
}
