//! Somebody who is signed in is asked for the password once more: a user of a tenant, or an operator.

use sea_orm::ConnectionTrait;
use secrecy::SecretString;
use uuid::Uuid;

use super::PasswordError;
use crate::{
    state::App,
    throttle::{self, CONFIRMATIONS, LOGINS_TO_ACCOUNT, ThrottleError},
};

/// Who is asked.
pub(crate) struct Asked<'a> {
    /// The tenant's id; nil for operators.
    pub(crate) tenant: Uuid,
    /// The user's or the operator's.
    pub(crate) id: Uuid,
    /// Under which name wrong answers are counted.
    pub(crate) own: &'a str,
    /// Under which name those of logins are.
    pub(crate) account: &'a str,
}

/// Checks the password of somebody who is signed in, against the hash that is read when it is his turn: gives that hash back
/// if it is the right one. Wrong ones are limited as those of a login are: whoever found a session or a desk open shall not
/// find out the password.
///
/// # Errors
/// [`PasswordError::Throttled`], or those of the database and the hasher.
pub(crate) async fn checked(
    app: &App,
    db: &impl ConnectionTrait,
    Asked { tenant, id, own, account }: Asked<'_>,
    password: SecretString,
    hash: impl Future<Output = Result<Option<String>, PasswordError>>,
) -> Result<Option<String>, PasswordError> {
    // One after another: those that come together with this one are no wrong ones before they are looked at.
    let _turn = app.throttles.confirmation(tenant, id).await;
    // It counts against the account, too, whose limit is for those who are not signed in: they must not keep this one from it.
    let limits = [(CONFIRMATIONS, own), (LOGINS_TO_ACCOUNT, account)];
    let attempt = throttle::count(app, db, &limits).await?;
    if let Some(wait) = attempt.wait(0) {
        attempt.withdraw(db).await?;
        return Err(ThrottleError::Throttled(throttle::seconds(wait)).into());
    }
    let hash = hash.await?;
    let matches = app.hasher.verify(password, hash.clone()).await;
    if let Ok(false) = matches {
        return Ok(None);
    }
    // What was not decided does not count, like what was right.
    attempt.withdraw(db).await?;
    matches?;
    Ok(hash)
}
