//! What is asked at every call in somebody's name, after its session was found.

use std::net::IpAddr;

use poem::http::Method;
use serde_json::json;
use tenants::Which;
use uuid::Uuid;

use super::{ImpersonationError, allows, store};
use crate::{
    admin,
    audit::{self, Action, Actor},
    error::ServiceError,
    http::Problem,
    operators,
    state::App,
    tenant,
};

/// A call in somebody's name.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    /// The tenant.
    pub(crate) tenant: Uuid,
    /// The session.
    pub(crate) session: Uuid,
    /// The method.
    pub(crate) method: &'a Method,
    /// The path of the operation, as the document has it.
    pub(crate) route: &'a str,
    /// The path itself.
    pub(crate) path: &'a str,
    /// From where.
    pub(crate) ip: IpAddr,
}

/// Lets a call pass, and records it; one that is not open to operators is recorded and refused.
pub(crate) async fn admit(app: &App, call: &Call<'_>) -> Result<(), Problem> {
    if check(app, call).await? { Ok(()) } else { Err(Problem::permission_denied()) }
}

async fn check(app: &App, call: &Call<'_>) -> Result<bool, ImpersonationError> {
    let reached = admin::reach(app, Which::Id(call.tenant)).await?;
    let found = store::find(&reached, call.session).await?.filter(|found| found.tenant_id == call.tenant);
    let session = found.ok_or(ImpersonationError::OperatorGone)?;
    let key = session.api_key_id;
    if !operators::is_there(app, session.operator_id, key).await.map_err(ServiceError::from)? {
        return Err(ImpersonationError::OperatorGone);
    }
    let open = tenant::allows_impersonation(&reached).await?
        && allows(call.method, call.route, session.is_read_only);
    let by = Actor {
        operator: session.operator_id,
        name: session.actor,
        api_key: key.zip(session.api_key_name),
        ip: Some(call.ip),
    };
    let detail = json!({
        "session": session.id,
        "user": {"pk": session.user_pk, "username": session.username},
        "method": call.method.as_str(),
        "path": call.path,
        "refused": !open,
    });
    let tenant = reached.tenant();
    let tenant = (tenant.id, tenant.slug.as_str(), tenant.schema_version);
    audit::record_of_tenant(app, &reached, tenant, &by, Action::ImpersonationCalled, detail).await?;
    reached.commit().await?;
    Ok(open)
}
