//! The rules of making operators.

use data_encoding::BASE64URL_NOPAD;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use tenants::entity::{api_keys, operators};
use uuid::Uuid;

use super::{OperatorError, store};
use crate::{
    password,
    state::App,
    users::identity::{Email, Password},
};

/// What every key starts with, so that a scanner for leaked secrets can tell what it found.
const KEY_PREFIX: &str = "tenantry_";
/// What the first key is called.
const FIRST_KEY: &str = "first key";

/// What an API key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Scope {
    /// Look at everything.
    Read,
    /// Make, change and move tenants.
    Provision,
    /// Delete what cannot be brought back.
    Destroy,
}

/// An operator to be made.
#[derive(Debug)]
pub struct NewOperator {
    /// The address to sign in with.
    pub email: Email,
    /// The password.
    pub password: Password,
}

/// A new operator.
#[derive(Debug)]
pub struct Operator {
    /// The operator's id.
    pub id: Uuid,
    /// The address, as it was given.
    pub email: Email,
    /// A key for programs, which may do everything. Only its hash is kept.
    pub api_key: SecretString,
}

/// Makes an operator and a first API key, in one transaction.
///
/// # Errors
/// See [`OperatorError`].
pub async fn create_operator(app: &App, new: NewOperator) -> Result<Operator, OperatorError> {
    // Before the transaction: nothing is held while hashing.
    let password_hash = password::hash(app, &new.password, &[new.email.as_str()]).await?;
    let api_key = generate_key();
    let (id, now) = (app.clock.uuid_v7(), app.clock.now());
    let operator = operators::Model {
        id,
        email: new.email.as_str().to_owned(),
        email_key: new.email.key().to_owned(),
        password_hash,
        created_at: now,
    };
    let key = api_keys::Model {
        id: app.clock.uuid_v7(),
        operator_id: id,
        name: FIRST_KEY.to_owned(),
        key_hash: Sha256::digest(api_key.expose_secret()).to_vec(),
        scopes: serde_json::json!([Scope::Read, Scope::Provision, Scope::Destroy]),
        created_at: now,
        expires_at: None,
        last_used_at: None,
    };
    let transaction = app.tenancy.catalog().begin().await?;
    store::insert_operator(&transaction, operator).await?;
    store::insert_api_key(&transaction, key).await?;
    transaction.commit().await?;
    tracing::info!(operator = %id, "an operator was made");
    Ok(Operator { id, email: new.email, api_key })
}

/// 256 random bits.
fn generate_key() -> SecretString {
    let bits: [u8; 32] = rand::random();
    format!("{KEY_PREFIX}{}", BASE64URL_NOPAD.encode(&bits)).into()
}
