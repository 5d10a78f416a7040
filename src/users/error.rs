//! Where the rules about users meet status codes.

use sea_orm::DbErr;
use tenants::{Fault, fault};

use crate::{error::ServiceError, http::Problem};

/// Why a user could not be written.
#[derive(Debug, thiserror::Error)]
pub enum UserError {
    /// Somebody else has the username.
    #[error("the username is taken")]
    UsernameTaken,
    /// Somebody else has the address.
    #[error("the e-mail address is taken")]
    EmailTaken,
    /// There is no such user.
    #[error("there is no such user")]
    NotFound,
    /// The caller may not do this to this user.
    #[error("the caller may not do this")]
    Denied,
    /// The caller was removed or deactivated since his token was checked.
    #[error("the caller is gone")]
    CallerGone,
    /// Nobody would be left who owns the organization.
    #[error("this is the last owner")]
    LastOwner,
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for UserError {
    fn from(error: DbErr) -> Self {
        match fault(&error) {
            Fault::Unique(name) if name == "users_username_key" => Self::UsernameTaken,
            Fault::Unique(name) if name == "users_email_key" => Self::EmailTaken,
            _ => Self::Service(error.into()),
        }
    }
}

impl From<UserError> for Problem {
    fn from(error: UserError) -> Self {
        match error {
            UserError::UsernameTaken => Self::field("username", "A user with that username already exists."),
            UserError::EmailTaken => {
                Self::field("email", "A user is already registered with this e-mail address.")
            }
            UserError::NotFound => Self::not_found(),
            UserError::Denied => Self::permission_denied(),
            UserError::CallerGone => Self::token_not_valid(),
            UserError::LastOwner => {
                Self::conflict("last_owner", "An organization needs an owner: make somebody else one first.")
            }
            UserError::Service(error) => error.into(),
        }
    }
}
