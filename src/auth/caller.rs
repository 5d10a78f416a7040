//! The signed-in user, as proof.

use std::sync::Arc;

use poem::{Request, RequestBody};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, registry::Registry};
use uuid::Uuid;

use crate::{
    http::{
        Problem,
        docs::{BEARER, register_bearer},
    },
    users::Account,
};

/// The user whose token came with the request, as the database has him now. An operation that takes one can be called
/// by signed-in users of the tenant only.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The user.
    pub account: Arc<Account>,
    /// The session that the token belongs to.
    pub session: Uuid,
}

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        register_bearer(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![BEARER]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        // The gate has put it there, or has refused the request.
        Ok(request.extensions().get::<Self>().cloned().ok_or_else(Problem::not_authenticated)?)
    }
}
