//! Where the rules about impersonation meet status codes.

use sea_orm::DbErr;

use crate::{admin::AdminError, error::ServiceError, http::Problem};

/// Why an operator cannot work in somebody's name.
#[derive(Debug, thiserror::Error)]
pub enum ImpersonationError {
    /// There is no such user, or he may not sign in.
    #[error("there is no such user who may sign in")]
    NoSuchUser,
    /// There is no such session, or it has ended.
    #[error("there is no such session, or it has ended")]
    Over,
    /// The organization wants none of it.
    #[error("the organization does not allow it")]
    Forbidden,
    /// Nobody gets in at all.
    #[error("the tenant is not active, so nobody gets in")]
    NotActive,
    /// The operator is gone, or his key.
    #[error("the operator is gone")]
    OperatorGone,
    /// Something about the tenant.
    #[error(transparent)]
    Tenant(#[from] AdminError),
}

impl From<DbErr> for ImpersonationError {
    fn from(error: DbErr) -> Self {
        Self::Tenant(error.into())
    }
}

impl From<tenants::Error> for ImpersonationError {
    fn from(error: tenants::Error) -> Self {
        Self::Tenant(error.into())
    }
}

impl From<ServiceError> for ImpersonationError {
    fn from(error: ServiceError) -> Self {
        Self::Tenant(error.into())
    }
}

impl From<ImpersonationError> for Problem {
    fn from(error: ImpersonationError) -> Self {
        match error {
            ImpersonationError::NoSuchUser => Self::field("user", "There is no such user who may sign in."),
            ImpersonationError::Over => Self::not_found(),
            ImpersonationError::Forbidden => Self::permission_denied(),
            ImpersonationError::NotActive => {
                Self::conflict("tenant_not_active", "Nobody gets in: the organization is not active.")
            }
            ImpersonationError::OperatorGone => Self::token_not_valid(),
            ImpersonationError::Tenant(error) => error.into(),
        }
    }
}
