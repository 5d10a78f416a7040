//! Where the rules about one's own account meet status codes.

use sea_orm::DbErr;

use crate::{
    error::ServiceError, http::Problem, password::PasswordError, throttle::ThrottleError, users::UserError,
};

/// Why something was not done to an account.
#[derive(Debug, thiserror::Error)]
pub enum AccountError {
    /// The password that was asked for is another.
    #[error("the password is wrong")]
    WrongPassword,
    /// The link is none, was used, has expired, or a newer one has taken its place.
    #[error("the link does not work")]
    InvalidToken,
    /// The password was not checked.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// There were too many mails.
    #[error(transparent)]
    Throttle(#[from] ThrottleError),
    /// The account was deleted since the access token was checked.
    #[error("the account is gone")]
    Gone,
    /// The account cannot be written so.
    #[error(transparent)]
    User(#[from] UserError),
    /// `If-Match` names another version.
    #[error(transparent)]
    Problem(#[from] Problem),
    /// Anything else.
    #[error(transparent)]
    Service(#[from] ServiceError),
}

impl From<DbErr> for AccountError {
    fn from(error: DbErr) -> Self {
        Self::Service(error.into())
    }
}

impl From<AccountError> for Problem {
    fn from(error: AccountError) -> Self {
        match error {
            AccountError::WrongPassword => Self::field("password", "Invalid password."),
            AccountError::InvalidToken => Self::field("token", "Invalid value."),
            AccountError::Gone => Self::token_not_valid(),
            AccountError::User(error) => error.into(),
            AccountError::Throttle(error) => error.into(),
            AccountError::Password(error) => error.into(),
            AccountError::Problem(problem) => problem,
            AccountError::Service(error) => error.into(),
        }
    }
}
