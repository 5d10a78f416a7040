//! The endpoint that purges a tenant.

use poem_openapi::{OpenApi, param::Path};
use tenants::Which;
use uuid::Uuid;

use super::service::{self, request};
use crate::{
    app::Tag,
    http::{Accepted, OptionalBody, Problem},
    operations::OperationOut,
    operators::Destroys,
    state::App,
};

crate::input! {
    /// When to purge a tenant.
    pub struct PurgeIn {
        /// At once, without waiting for the end of its grace period. Left out, no.
        pub now: Option<bool>,
    }
}

/// The endpoint of this slice.
pub struct PurgeApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl PurgeApi {
    /// Purge a tenant that is being deleted
    ///
    /// Scope `destroy`. Everything it has is dropped, and nothing brings it back. Only when its grace period is over, unless
    /// `now` says otherwise. The operation's `result` is the certificate that stands in the audit log, too.
    #[oai(path = "/api/admin/tenants/:id/purge", method = "post", operation_id = "purgeTenant")]
    async fn purge(
        &self,
        operator: Destroys,
        /// The tenant's id.
        id: Path<Uuid>,
        OptionalBody(input): OptionalBody<PurgeIn>,
    ) -> Result<Accepted<OperationOut>, Problem> {
        let now = input.and_then(|input| input.now).unwrap_or(false);
        let wanted = service::Wanted { now, is_taken: false };
        let operation = request(&self.0, Which::Id(id.0), wanted, &operator.0.actor).await?;
        Ok(Accepted(operation.into()))
    }
}
