//! The rules of operators and their API keys.

use chrono::{DateTime, Utc};
use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tenants::{
    CatalogTx,
    entity::{api_keys, operators},
};
use uuid::Uuid;

use super::{KeyInUse, OperatorError, Scope, Scopes, store};
use crate::{
    audit::{self, Action, Actor},
    auth::{Rotation, Start},
    error::ServiceError,
    password,
    state::App,
    users::identity::{Email, Password},
};

/// What every key starts with, so that a scanner for leaked secrets can tell what it found, and the gate a key from a token.
pub(super) const KEY_PREFIX: &str = "tenantry_";
/// What the first key is called.
const FIRST_KEY: &str = "first key";

/// An operator to be made.
#[derive(Debug)]
pub struct NewOperator {
    /// The address to sign in with.
    pub email: Email,
    /// The password.
    pub password: Password,
}

/// An API key that was just made.
#[derive(Debug)]
pub struct CreatedKey {
    /// The key, as it is kept.
    pub row: api_keys::Model,
    /// The key itself, which is kept nowhere.
    pub key: SecretString,
}

/// Makes an operator.
///
/// # Errors
/// See [`OperatorError`].
pub async fn create_operator(
    app: &App,
    new: NewOperator,
    by: &Actor,
) -> Result<operators::Model, OperatorError> {
    let operator = prepare(app, new).await?;
    let tx = app.tenancy.catalog().begin().await?;
    insert(app, &tx, &operator, by).await?;
    tx.commit().await?;
    Ok(operator)
}

/// Makes an operator and a first API key that may do everything, in one transaction: for an installation that begins.
///
/// # Errors
/// See [`OperatorError`].
pub async fn create_operator_with_key(
    app: &App,
    new: NewOperator,
    by: &Actor,
) -> Result<(operators::Model, CreatedKey), OperatorError> {
    let operator = prepare(app, new).await?;
    let key =
        NewKey { operator: operator.id, name: FIRST_KEY.to_owned(), scopes: Scopes::ALL, expires_at: None };
    let tx = app.tenancy.catalog().begin().await?;
    insert(app, &tx, &operator, by).await?;
    let key = insert_key(app, &tx, key, by).await?;
    tx.commit().await?;
    Ok((operator, key))
}

async fn prepare(app: &App, new: NewOperator) -> Result<operators::Model, OperatorError> {
    // Before the transaction: nothing is held while hashing.
    let password_hash = password::hash(app, &new.password, &[new.email.as_str()]).await?;
    Ok(operators::Model {
        id: app.clock.uuid_v7(),
        email: new.email.as_str().to_owned(),
        email_key: new.email.key().to_owned(),
        password_hash,
        created_at: app.clock.now(),
    })
}

async fn insert(
    app: &App,
    tx: &CatalogTx,
    operator: &operators::Model,
    by: &Actor,
) -> Result<(), OperatorError> {
    caller_is_there(tx, by).await?;
    store::insert_operator(tx, operator.clone()).await?;
    audit::record(app, tx, by, Action::OperatorCreated, json!({"after": shown(operator)})).await?;
    tracing::info!(operator = %operator.id, "an operator was made");
    Ok(())
}

/// An operator, as the audit log shows one.
fn shown(operator: &operators::Model) -> Value {
    json!({"id": operator.id, "email": operator.email})
}

/// Whoever acts may have been removed, or his key deleted, since the gate let him in. He stays until the transaction ends.
async fn caller_is_there(tx: &CatalogTx, by: &Actor) -> Result<(), OperatorError> {
    let Some(operator) = by.operator else { return Ok(()) };
    store::hold_operator(tx, operator).await?.ok_or(OperatorError::CallerGone)?;
    if let Some((key, _)) = by.api_key {
        store::hold_key(tx, key).await?.ok_or(OperatorError::CallerGone)?;
    }
    Ok(())
}

/// Removes an operator, with his API keys. The last one stays: nobody could make another over HTTP.
///
/// # Errors
/// See [`OperatorError`].
pub async fn delete_operator(app: &App, id: Uuid, by: &Actor) -> Result<(), OperatorError> {
    let tx = app.tenancy.catalog().begin().await?;
    let all = store::lock_operators(&tx).await?;
    if by.operator.is_some_and(|caller| all.iter().all(|operator| operator.id != caller)) {
        return Err(OperatorError::CallerGone);
    }
    let operator = all.iter().find(|operator| operator.id == id).ok_or(OperatorError::NotFound)?;
    if all.len() == 1 {
        return Err(OperatorError::LastOperator);
    }
    store::delete_operator(&tx, id).await?;
    audit::record(app, &tx, by, Action::OperatorDeleted, json!({"before": shown(operator)})).await?;
    tx.commit().await?;
    tracing::info!(operator = %id, "an operator was removed");
    Ok(())
}

/// The operator with this address.
///
/// # Errors
/// Those of the database.
pub async fn find_operator(app: &App, email: &Email) -> Result<Option<operators::Model>, ServiceError> {
    Ok(store::operator_by_email(app.tenancy.catalog(), email.key()).await?)
}

/// All operators, the first one first.
///
/// # Errors
/// Those of the database.
pub async fn all_operators(app: &App) -> Result<Vec<operators::Model>, ServiceError> {
    Ok(store::all_operators(app.tenancy.catalog()).await?)
}

/// An API key to be made.
#[derive(Clone, Debug)]
pub struct NewKey {
    /// Whose it is.
    pub operator: Uuid,
    /// What it is called.
    pub name: String,
    /// What it may be used for.
    pub scopes: Scopes,
    /// From when on it is refused.
    pub expires_at: Option<DateTime<Utc>>,
}

/// Makes an API key. One that is made with another key can do no more than that, nor for longer.
///
/// # Errors
/// See [`OperatorError`].
pub async fn create_key(
    app: &App,
    new: NewKey,
    by: &Actor,
    with: Option<&KeyInUse>,
) -> Result<CreatedKey, OperatorError> {
    if new.expires_at.is_some_and(|end| end <= app.clock.now()) {
        return Err(OperatorError::AlreadyExpired);
    }
    if let Some(with) = with {
        let outlives = with.expires_at.is_some_and(|own| new.expires_at.is_none_or(|end| end > own));
        if outlives || !with.scopes.include(new.scopes) {
            return Err(OperatorError::Denied);
        }
    }
    let tx = app.tenancy.catalog().begin().await?;
    caller_is_there(&tx, by).await?;
    let created = insert_key(app, &tx, new, by).await?;
    tx.commit().await?;
    Ok(created)
}

async fn insert_key(app: &App, tx: &CatalogTx, new: NewKey, by: &Actor) -> Result<CreatedKey, OperatorError> {
    let key = generate_key();
    let row = api_keys::Model {
        id: app.clock.uuid_v7(),
        operator_id: new.operator,
        name: new.name,
        key_hash: key_hash(key.expose_secret()).to_vec(),
        scopes: json!(new.scopes.list()),
        created_at: app.clock.now(),
        expires_at: new.expires_at,
        last_used_at: None,
    };
    store::insert_api_key(tx, row.clone()).await?;
    audit::record(app, tx, by, Action::ApiKeyCreated, json!({"after": shown_key(&row)})).await?;
    tracing::info!(key = %row.id, operator = %row.operator_id, "an API key was made");
    Ok(CreatedKey { row, key })
}

/// An API key, as the audit log shows one.
fn shown_key(key: &api_keys::Model) -> Value {
    json!({
        "id": key.id, "operator": key.operator_id, "name": key.name, "scopes": key.scopes, "expires_at": key.expires_at,
    })
}

/// Deletes an API key: from the next request on it is refused. With another key, only one that may do no more than that:
/// who found a weak key shall not take the strong ones away.
///
/// # Errors
/// See [`OperatorError`].
pub async fn delete_key(
    app: &App,
    id: Uuid,
    by: &Actor,
    with: Option<&KeyInUse>,
) -> Result<(), OperatorError> {
    let tx = app.tenancy.catalog().begin().await?;
    let key = store::lock_key(&tx, id).await?.ok_or(OperatorError::NotFound)?;
    if let Some(with) = with
        && !with.scopes.include(scopes_of(&key.scopes)?)
    {
        return Err(OperatorError::Denied);
    }
    store::delete_key(&tx, id).await?;
    audit::record(app, &tx, by, Action::ApiKeyDeleted, json!({"before": shown_key(&key)})).await?;
    tx.commit().await?;
    tracing::info!(key = %id, "an API key was deleted");
    Ok(())
}

/// All API keys and whose they are, the oldest first.
///
/// # Errors
/// Those of the database.
pub async fn all_keys(app: &App) -> Result<Vec<(api_keys::Model, operators::Model)>, ServiceError> {
    Ok(store::keys(app.tenancy.catalog(), false, None).await?)
}

/// Rotates the signing keys.
///
/// # Errors
/// Those of the catalog.
pub async fn rotate_keys(app: &App, start: Start, by: &Actor) -> Result<Rotation, ServiceError> {
    let tx = app.tenancy.catalog().begin().await?;
    let rotation = app.tokens.rotate_in(&tx, start).await.map_err(crate::auth::TokenError::from)?;
    let detail = json!({
        "key": rotation.key.kid, "signs_from": rotation.key.signs_from, "is_new": rotation.is_new,
    });
    audit::record(app, &tx, by, Action::KeysRotated, detail).await?;
    tx.commit().await?;
    Ok(rotation)
}

/// What a key's row says it may be used for.
///
/// # Errors
/// The row makes no sense.
pub fn scopes_of(scopes: &Value) -> Result<Scopes, ServiceError> {
    let list: Vec<Scope> = serde_json::from_value(scopes.clone())
        .map_err(|error| tenants::Error::Damaged(format!("the scopes of an API key: {error}")))?;
    Ok(list.into_iter().collect())
}

/// It has 256 random bits, so it needs neither salt nor work factor.
pub(super) fn key_hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// 256 random bits.
fn generate_key() -> SecretString {
    let bits: [u8; 32] = rand::random();
    format!("{KEY_PREFIX}{}", BASE64URL_NOPAD.encode(&bits)).into()
}
