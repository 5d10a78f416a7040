//! The signed-in user, as proof.

use std::sync::Arc;

use poem::{Request, RequestBody};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, registry::Registry};
use uuid::Uuid;

use crate::{
    entity::users::Role,
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

/// A caller who manages people and settings: an admin or an owner. Anybody else is refused before the endpoint looks at
/// ids in the path and at the body, if it takes this first.
#[derive(Clone, Debug)]
pub struct AdminCaller(pub Caller);

/// A caller who may do everything: an owner. Taken first, like an [`AdminCaller`].
#[derive(Clone, Debug)]
pub struct OwnerCaller(pub Caller);

/// A [`Caller`] whose role, as the database has it now, is one of these.
macro_rules! caller_with_role {
    ($name:ident: $roles:pat) => {
        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = Caller::TYPES;
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                Caller::register(registry);
            }

            fn security_schemes() -> Vec<&'static str> {
                Caller::security_schemes()
            }

            async fn from_request(
                request: &'a Request,
                body: &mut RequestBody,
                options: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let caller = Caller::from_request(request, body, options).await?;
                match caller.account.role {
                    $roles => Ok(Self(caller)),
                    _ => Err(Problem::permission_denied())?,
                }
            }
        }
    };
}

caller_with_role!(AdminCaller: Role::Admin | Role::Owner);
caller_with_role!(OwnerCaller: Role::Owner);
