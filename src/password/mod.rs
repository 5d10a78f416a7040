//! Passwords: which are good enough, how they are hashed and checked, changed, forgotten and reset.

pub mod api;
mod confirmation;
mod error;
mod hasher;
mod policy;
mod service;
mod stored;

pub use api::PasswordApi;
pub(crate) use confirmation::{Asked, checked};
pub use error::PasswordError;
pub use hasher::{Hasher, HasherError, HasherFigures};
pub use policy::judge;
pub use service::confirm;
pub(crate) use service::send_link;
pub use stored::StoredHash;

use crate::{state::App, users::identity::Password};

/// Whether somebody may choose this password, who or whose organization has these words for a name: the username, the
/// address, the names, the organization's name and slug.
///
/// # Errors
/// [`PasswordError::Refused`], and those of the hasher, beside whose work this is done.
pub async fn check(app: &App, password: &Password, own_words: &[&str]) -> Result<(), PasswordError> {
    app.hasher.judge(password, own_words).await?.map_err(PasswordError::Refused)
}

/// The hash of a password somebody chose, if it is good enough: [`check`] and the hash in one.
///
/// # Errors
/// As those of [`check`].
pub async fn hash(app: &App, password: &Password, own_words: &[&str]) -> Result<String, PasswordError> {
    check(app, password, own_words).await?;
    Ok(app.hasher.hash(password.secret().clone()).await?)
}
