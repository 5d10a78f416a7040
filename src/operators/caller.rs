//! The operator who calls, as proof.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use poem::{Request, RequestBody};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, registry::Registry};
use uuid::Uuid;

use super::{Scope, Scopes};
use crate::{
    audit::Actor,
    http::{
        ClientAddr, Problem,
        docs::{OPERATOR, register_operator},
    },
};

/// Whose credentials came with the request, as the catalog has them now. The gate finds out.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The operator's id.
    pub operator: Uuid,
    /// The operator's address.
    pub email: String,
    /// The API key, if it is one.
    pub key: Option<Arc<KeyInUse>>,
}

/// An API key that came with a request.
#[derive(Clone, Debug)]
pub struct KeyInUse {
    /// Its id.
    pub id: Uuid,
    /// What it is called.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// When it ends.
    pub expires_at: Option<DateTime<Utc>>,
}

/// An operator, by token or by API key.
#[derive(Clone, Debug)]
pub struct OperatorCaller {
    /// The operator's id.
    pub operator: Uuid,
    /// The API key, if it is one.
    pub key: Option<Arc<KeyInUse>>,
    /// Who it is for the audit log.
    pub actor: Actor,
}

impl OperatorCaller {
    /// What this caller may do: a person who signed in, everything.
    #[must_use]
    pub fn scopes(&self) -> Scopes {
        self.key.as_ref().map_or(Scopes::ALL, |key| key.scopes)
    }
}

/// Proof of an operator who may look at everything. Taken before anything else: who may not is told so before ids in the
/// path and the body are looked at.
#[derive(Clone, Debug)]
pub struct Reads(pub OperatorCaller);

/// Proof of an operator who may make and change things. Taken first, like [`Reads`].
#[derive(Clone, Debug)]
pub struct Provisions(pub OperatorCaller);

/// Proof of an operator who may delete things. Taken first, like [`Reads`].
#[derive(Clone, Debug)]
pub struct Destroys(pub OperatorCaller);

/// Proof of an operator who has signed in: no API key stands for a person. Taken first, like [`Reads`].
#[derive(Clone, Debug)]
pub struct InPerson(pub OperatorCaller);

/// Proof of an operator who may do everything. Taken first, like [`Reads`].
#[derive(Clone, Debug)]
pub struct DoesEverything(pub OperatorCaller);

fn caller(request: &Request, scopes: &[Scope]) -> Result<OperatorCaller, Problem> {
    // The gate has put it there, or has refused the request.
    let identity = request.extensions().get::<Identity>().ok_or_else(Problem::not_authenticated)?;
    let Identity { operator, email, key } = identity.clone();
    let actor = Actor {
        operator: Some(operator),
        name: email,
        api_key: key.as_ref().map(|key| (key.id, key.name.clone())),
        ip: Some(ClientAddr::of(request).0),
    };
    let caller = OperatorCaller { operator, key, actor };
    if scopes.iter().all(|scope| caller.scopes().has(*scope)) {
        Ok(caller)
    } else {
        Err(Problem::permission_denied())
    }
}

fn in_person(request: &Request) -> Result<OperatorCaller, Problem> {
    let caller = caller(request, &[])?;
    if caller.key.is_some() { Err(Problem::permission_denied()) } else { Ok(caller) }
}

macro_rules! operator_with_scopes {
    ($name:ident: $($scope:ident),+) => {
        operator_proof!($name, |request| caller(request, &[$(Scope::$scope),+]));
    };
}

macro_rules! operator_proof {
    ($name:ident, $prove:expr) => {
        impl<'a> ApiExtractor<'a> for $name {
            const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
            type ParamType = ();
            type ParamRawType = ();

            fn register(registry: &mut Registry) {
                register_operator(registry);
            }

            fn security_schemes() -> Vec<&'static str> {
                vec![OPERATOR]
            }

            async fn from_request(
                request: &'a Request,
                _: &mut RequestBody,
                _: ExtractParamOptions<()>,
            ) -> poem::Result<Self> {
                let prove: fn(&Request) -> Result<OperatorCaller, Problem> = $prove;
                Ok(Self(prove(request)?))
            }
        }
    };
}

operator_with_scopes!(Reads: Read);
operator_with_scopes!(Provisions: Provision);
operator_with_scopes!(Destroys: Destroy);
operator_with_scopes!(DoesEverything: Read, Provision, Destroy);
operator_proof!(InPerson, in_person);

#[cfg(test)]
mod tests {
    use super::*;

    fn request_with(scopes: Option<&[Scope]>) -> Request {
        let key = scopes.map(|scopes| {
            let scopes = scopes.iter().copied().collect();
            Arc::new(KeyInUse { id: Uuid::nil(), name: "ci".into(), scopes, expires_at: None })
        });
        let mut request = Request::default();
        let identity = Identity { operator: Uuid::nil(), email: "ops@example.com".into(), key };
        request.extensions_mut().insert(identity);
        request
    }

    #[test]
    fn a_key_may_do_what_its_scopes_say_and_a_person_everything() {
        let all = [Scope::Read, Scope::Provision, Scope::Destroy];
        assert!(caller(&request_with(None), &all).is_ok() && caller(&request_with(Some(&all)), &all).is_ok());
        assert!(caller(&request_with(Some(&all[..2])), &all).is_err());
        for scope in all {
            for of_key in all {
                let caller = caller(&request_with(Some(&[of_key])), &[scope]);
                let status = caller.map_err(|problem| problem.status().as_u16()).err();
                assert_eq!(status, (of_key != scope).then_some(403), "{of_key:?} for {scope:?}");
            }
        }
    }

    #[test]
    fn nobody_is_not_signed_in_rather_than_not_allowed() {
        let refused =
            caller(&Request::default(), &[Scope::Read]).map_err(|problem| problem.status().as_u16());
        assert_eq!(refused.err(), Some(401));
    }
}
