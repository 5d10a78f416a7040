//! From what went wrong inside to what a client is told. Rules with an answer of their own are in the slices.

use std::time::Duration;

use sea_orm::DbErr;
use tenants::{Fault, fault};

use crate::{
    auth::{KeyError, TokenError},
    http::Problem,
    limits::LimitReached,
    password::HasherError,
};

/// How long a client should wait before it tries again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What can go wrong below an endpoint without being the client's doing.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The database, or what the tenant may do there.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// A password was not hashed or checked.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// A token was not made or checked.
    #[error(transparent)]
    Token(#[from] TokenError),
    /// The tenant has all it may have.
    #[error(transparent)]
    LimitReached(#[from] LimitReached),
    /// The tenancy.
    #[error(transparent)]
    Tenancy(#[from] tenants::Error),
}

impl From<ServiceError> for Problem {
    fn from(error: ServiceError) -> Self {
        if let ServiceError::LimitReached(reached) = error {
            return reached.into();
        }
        let database = match &error {
            ServiceError::Database(error)
            | ServiceError::Token(TokenError::Keys(KeyError::Database(error)))
            | ServiceError::Tenancy(tenants::Error::Database(error)) => Some(fault(error)),
            ServiceError::Hasher(HasherError::Busy) => Some(Fault::Busy),
            _ => None,
        };
        match database {
            Some(Fault::TenantChanged) => Self::tenant_changed(error),
            Some(Fault::Busy | Fault::Unavailable | Fault::TimedOut | Fault::Retry) => {
                Self::unavailable(RETRY_AFTER).source(error)
            }
            Some(Fault::Unique(_) | Fault::ForeignKey(_) | Fault::Check(_) | Fault::Other) | None => {
                Self::internal(error)
            }
        }
    }
}
