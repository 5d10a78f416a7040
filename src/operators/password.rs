//! Changing an operator's password.

use secrecy::SecretString;
use serde_json::json;
use tenants::{CatalogTx, entity::operators};
use uuid::Uuid;

use super::{OperatorCaller, OperatorError, gate, login::SignedIn, store};
use crate::{
    audit::{self, Action, Actor},
    error::ServiceError,
    impersonation,
    password::{self, Asked, PasswordError},
    state::App,
    users::identity::Password,
};

/// Changes the password of an operator who is signed in and knows it. All tokens made by the one before end, this one's too:
/// the answer has another.
pub(super) async fn change(
    app: &App,
    caller: &OperatorCaller,
    old: SecretString,
    new: &Password,
) -> Result<SignedIn, OperatorError> {
    let catalog = app.tenancy.catalog();
    let operator = store::operator(catalog, caller.operator).await?.ok_or(OperatorError::CallerGone)?;
    confirm(app, &operator, old).await?;
    let hash = password::hash(app, new, &[&operator.email]).await?;
    let mark = gate::password_mark(app, &hash);
    let (token, token_expiration) =
        app.tokens.issue_to_operator(operator.id, mark).await.map_err(ServiceError::from)?;
    let tx = catalog.begin().await?;
    // Changed since: what was given is not the password any more.
    write(app, &tx, &operator, hash, &caller.actor).await?.ok_or(PasswordError::WrongPassword)?;
    tx.commit().await?;
    tracing::info!(operator = %operator.id, "an operator's password was changed");
    Ok(SignedIn { id: operator.id, email: operator.email, token: token.into(), token_expiration })
}

/// Gives an operator another password, whoever knows the one before. All tokens end that were made by that.
///
/// # Errors
/// See [`OperatorError`].
pub async fn set_password(
    app: &App,
    operator: operators::Model,
    new: &Password,
    by: &Actor,
) -> Result<(), OperatorError> {
    let hash = password::hash(app, new, &[&operator.email]).await?;
    let tx = app.tenancy.catalog().begin().await?;
    // Removed or changed meanwhile: who wanted this looks again.
    write(app, &tx, &operator, hash, by).await?.ok_or(OperatorError::NotFound)?;
    tx.commit().await?;
    tracing::info!(operator = %operator.id, "an operator's password was set");
    Ok(())
}

/// `None` if the password is not the one any more that it was.
async fn write(
    app: &App,
    tx: &CatalogTx,
    operator: &operators::Model,
    hash: String,
    by: &Actor,
) -> Result<Option<()>, OperatorError> {
    if !store::set_password(tx, operator, hash).await? {
        return Ok(None);
    }
    impersonation::end_those_of(tx, operator.id).await?;
    let detail = json!({"id": operator.id, "email": operator.email});
    audit::record(app, tx, by, Action::OperatorPasswordChanged, detail).await?;
    Ok(Some(()))
}

/// Refuses what is not the password of an operator who is signed in.
async fn confirm(app: &App, operator: &operators::Model, old: SecretString) -> Result<(), OperatorError> {
    let (own, account) = (format!("operator {}", operator.id), format!("operator {}", operator.email_key));
    let asked = Asked { tenant: Uuid::nil(), id: operator.id, own: &own, account: &account };
    let hash = std::future::ready(Ok(Some(operator.password_hash.clone())));
    let right = password::checked(app, app.tenancy.catalog(), asked, old, hash).await?;
    right.map(|_| ()).ok_or_else(|| PasswordError::WrongPassword.into())
}
