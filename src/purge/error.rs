//! Where the rules about purges meet status codes.

use chrono::{DateTime, Utc};
use sea_orm::DbErr;

use crate::{admin::AdminError, error::ServiceError, http::Problem, operations::OperationError};

/// Why a tenant is not purged.
#[derive(Debug, thiserror::Error)]
pub enum PurgeError {
    /// It is in use, or suspended.
    #[error("the tenant is not being deleted: delete it first")]
    NotClosed,
    /// It can be restored yet.
    #[error("the tenant can be restored until {}: it is purged then, or now if that is meant", .0.format("%Y-%m-%d %H:%M UTC"))]
    InGrace(DateTime<Utc>),
    /// There is none.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// Another operation on it is under way.
    #[error(transparent)]
    Operation(#[from] OperationError),
}

impl From<DbErr> for PurgeError {
    fn from(error: DbErr) -> Self {
        Self::Admin(ServiceError::from(error).into())
    }
}

impl From<tenants::Error> for PurgeError {
    fn from(error: tenants::Error) -> Self {
        Self::Admin(error.into())
    }
}

impl From<PurgeError> for Problem {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::NotClosed => Self::conflict(
                "tenant_not_deleting",
                "The organization is not being deleted: delete it first.",
            ),
            PurgeError::InGrace(until) => Self::conflict(
                "grace_period",
                format!("The organization can be restored until {}.", until.format("%Y-%m-%dT%H:%M:%SZ")),
            ),
            PurgeError::Admin(error) => error.into(),
            PurgeError::Operation(error) => error.into(),
        }
    }
}
