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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;

    async fn asks<'a, T: ApiExtractor<'a, ParamType = ()>>(request: &'a Request) -> Result<(), u16> {
        let options = ExtractParamOptions {
            name: "",
            default_value: None,
            example_value: None,
            explode: false,
            style: None,
            ignore_case: false,
        };
        let proof = T::from_request(request, &mut RequestBody::default(), options).await;
        proof.map(|_| ()).map_err(|error| error.status().as_u16())
    }

    fn request_by(role: Role) -> Request {
        let account = Account {
            pk: Uuid::from_u128(1),
            username: "ann".into(),
            email: "ann@example.com".into(),
            first_name: String::new(),
            last_name: String::new(),
            role,
            is_active: true,
            email_verified_at: None,
            locale: "en".into(),
            timezone: "UTC".into(),
            comment_count: 0,
            date_joined: DateTime::UNIX_EPOCH,
        };
        let mut request = Request::default();
        request.extensions_mut().insert(Caller { account: Arc::new(account), session: Uuid::from_u128(2) });
        request
    }

    #[tokio::test]
    async fn each_role_is_let_in_where_it_belongs() {
        for (role, admin, owner) in [
            (Role::Member, Err(403), Err(403)),
            (Role::Admin, Ok(()), Err(403)),
            (Role::Owner, Ok(()), Ok(())),
        ] {
            let request = request_by(role);
            assert_eq!(asks::<Caller>(&request).await, Ok(()), "{role:?}");
            assert_eq!(asks::<AdminCaller>(&request).await, admin, "{role:?} as admin");
            assert_eq!(asks::<OwnerCaller>(&request).await, owner, "{role:?} as owner");
        }
    }

    #[tokio::test]
    async fn nobody_is_not_signed_in_rather_than_not_allowed() {
        let request = Request::default();
        assert_eq!(asks::<AdminCaller>(&request).await, Err(401));
        assert_eq!(asks::<OwnerCaller>(&request).await, Err(401));
    }
}
