//! Why an operation is not left, and why one is not done.

use sea_orm::DbErr;
use tenants::{Fault, fault};

use crate::{error::ServiceError, http::Problem};

/// Why an operation could not be left, or taken up again.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// Another one that changes the same tenant as a whole is under way.
    #[error("another operation on this tenant is under way")]
    InProgress,
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<OperationError> for Problem {
    fn from(error: OperationError) -> Self {
        match error {
            OperationError::InProgress => Self::conflict(
                "operation_in_progress",
                "Another operation on this organization is under way: wait until it has ended.",
            ),
            OperationError::Service(error) => error.into(),
        }
    }
}

/// Why an attempt at an operation failed. Both texts are for operators, so nothing secret.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// It may go well another time: it is begun anew, a few times at most.
    Retry(String),
    /// It cannot be done.
    GiveUp(String),
}

impl From<ServiceError> for Failure {
    fn from(error: ServiceError) -> Self {
        let database = match &error {
            ServiceError::Database(error) | ServiceError::Tenancy(tenants::Error::Database(error)) => {
                Some(fault(error))
            }
            _ => None,
        };
        match database {
            Some(Fault::Busy | Fault::Unavailable | Fault::TimedOut | Fault::Retry) => {
                Self::Retry(error.to_string())
            }
            _ => Self::GiveUp(error.to_string()),
        }
    }
}

impl From<tenants::Error> for Failure {
    fn from(error: tenants::Error) -> Self {
        ServiceError::from(error).into()
    }
}

impl From<DbErr> for Failure {
    fn from(error: DbErr) -> Self {
        // Of a bare database error only this type makes a sentence that is for people.
        tenants::Error::from(error).into()
    }
}
