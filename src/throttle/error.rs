//! Where limits meet status codes.

use std::time::Duration;

use sea_orm::DbErr;

use crate::{error::ServiceError, http::Problem};

/// Why an attempt was not let through.
#[derive(Debug, thiserror::Error)]
pub enum ThrottleError {
    /// There were too many: again after this time.
    #[error("too many attempts, the next after {} s", .0.as_secs())]
    Throttled(Duration),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for ThrottleError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<ThrottleError> for Problem {
    fn from(error: ThrottleError) -> Self {
        match error {
            ThrottleError::Throttled(after) => Self::throttled(after),
            ThrottleError::Service(error) => error.into(),
        }
    }
}
