//! Where limits and plans meet status codes.

use sea_orm::DbErr;

use crate::{error::ServiceError, http::Problem};

/// A tenant has all it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitReached {
    /// So many users.
    #[error("This organization has reached its limit of {0} users.")]
    Users(u64),
    /// So many bytes.
    #[error("This organization has reached its storage limit of {0} bytes. What is deleted makes room.")]
    Storage(u64),
}

impl From<LimitReached> for Problem {
    fn from(reached: LimitReached) -> Self {
        Self::forbidden("limit_reached", reached.to_string())
    }
}

/// Why something could not be done with a plan.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    /// There is no such plan.
    #[error("there is no such plan")]
    NotFound,
    /// There is one of that name.
    #[error("there is a plan of that name")]
    Taken,
    /// Tenants have it.
    #[error("tenants have the plan: give them another one first")]
    InUse,
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for PlanError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<tenants::Error> for PlanError {
    fn from(error: tenants::Error) -> Self {
        match error {
            tenants::Error::NoSuchPlan(_) => Self::NotFound,
            tenants::Error::PlanTaken => Self::Taken,
            tenants::Error::PlanInUse => Self::InUse,
            error => Self::Service(error.into()),
        }
    }
}

impl From<PlanError> for Problem {
    fn from(error: PlanError) -> Self {
        match error {
            PlanError::NotFound => Self::not_found(),
            PlanError::Taken => Self::conflict("plan_taken", "A plan of this name exists already."),
            PlanError::InUse => {
                Self::conflict("plan_in_use", "Organizations have this plan: give them another one first.")
            }
            PlanError::Service(error) => error.into(),
        }
    }
}
