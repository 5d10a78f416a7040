//! Where the rules of signing an organization up meet status codes.

use sea_orm::DbErr;
use tenants::Slug;

use crate::{
    error::ServiceError, http::Problem, password::PasswordError, throttle::ThrottleError, users::UserError,
};

/// Why an organization could not be made.
#[derive(Debug, thiserror::Error)]
pub enum SignUpError {
    /// Another organization has the slug.
    #[error("the slug {0} is taken")]
    SlugTaken(Slug),
    /// There is no such plan.
    #[error("there is no plan `{0}`")]
    NoSuchPlan(String),
    /// The owner could not be written.
    #[error(transparent)]
    Owner(#[from] UserError),
    /// The owner's password is too easily guessed.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Too many organizations were signed up from one place.
    #[error(transparent)]
    Throttled(#[from] ThrottleError),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for SignUpError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<SignUpError> for Problem {
    fn from(error: SignUpError) -> Self {
        match error {
            SignUpError::SlugTaken(slug) => {
                Self::conflict("slug_taken", format!("The slug {slug} is taken."))
            }
            SignUpError::NoSuchPlan(_) => Self::field("plan", "There is no such plan."),
            SignUpError::Owner(error) => error.into(),
            SignUpError::Password(error) => error.into(),
            SignUpError::Throttled(error) => error.into(),
            SignUpError::Service(error) => error.into(),
        }
    }
}
