//! From the bearer of a request to an operator. Asked of the catalog at every request, so that what ended is ended: an
//! operator who was removed, a password that was changed, a key that was deleted.

use std::sync::Arc;

use chrono::TimeDelta;
use data_encoding::BASE64URL_NOPAD;
use sea_orm::DbErr;
use tenants::DataKey;
use uuid::Uuid;

use super::{Identity, KeyInUse, OperatorCaller, service, store};
use crate::{
    error::ServiceError,
    http::{Problem, bearer::Bearer},
    state::App,
};

/// How exactly a key's last use is known: a key that is used all the time is not written at every request.
const SEEN: TimeDelta = TimeDelta::minutes(1);

/// Who calls.
///
/// # Errors
/// 401, or those of the catalog.
pub async fn identify(app: &App, bearer: &Bearer) -> Result<Identity, Problem> {
    let token = match bearer {
        Bearer::Absent => return Err(Problem::not_authenticated()),
        Bearer::Malformed => return Err(Problem::token_not_valid()),
        Bearer::Token(token) => token,
    };
    let found = if token.starts_with(service::KEY_PREFIX) {
        by_key(app, token).await?
    } else {
        by_token(app, token).await?
    };
    found.ok_or_else(Problem::token_not_valid)
}

/// Whether who was let in would be let in still, by what the catalog has: for answers that go on. That a password was changed
/// ends the tokens that were made before at the next request, and an answer after 15 minutes.
///
/// # Errors
/// Those of the catalog.
pub(super) async fn goes_on(app: &App, caller: &OperatorCaller) -> Result<bool, ServiceError> {
    Ok(is_there(app, Some(caller.operator), caller.key.as_ref().map(|key| key.id)).await?)
}

async fn by_token(app: &App, token: &str) -> Result<Option<Identity>, ServiceError> {
    let Some(claims) = app.tokens.verify_operator(token).await? else { return Ok(None) };
    let Some(operator) = store::operator(app.tenancy.catalog(), claims.sub).await? else { return Ok(None) };
    let same = password_mark(app, &operator.password_hash) == claims.pwd;
    Ok(same.then_some(Identity { operator: operator.id, email: operator.email, key: None }))
}

async fn by_key(app: &App, key: &str) -> Result<Option<Identity>, ServiceError> {
    let (catalog, now) = (app.tenancy.catalog(), app.clock.now());
    // Looked up by its hash: what the comparison takes tells nothing of the key.
    let Some((key, operator)) = store::key_with_operator(catalog, &service::key_hash(key)).await? else {
        return Ok(None);
    };
    if key.expires_at.is_some_and(|end| end <= now) {
        return Ok(None);
    }
    if key.last_used_at.is_none_or(|at| at <= now - SEEN) {
        store::note_use(catalog, key.id, now, now - SEEN).await?;
    }
    let in_use = KeyInUse {
        id: key.id,
        name: key.name,
        scopes: service::scopes_of(&key.scopes)?,
        expires_at: key.expires_at,
    };
    Ok(Some(Identity { operator: operator.id, email: operator.email, key: Some(Arc::new(in_use)) }))
}

/// Whether an operator is still there, and the API key he used, if he used one. Who types commands has neither.
///
/// # Errors
/// Those of the catalog.
pub async fn is_there(app: &App, operator: Option<Uuid>, key: Option<Uuid>) -> Result<bool, DbErr> {
    let catalog = app.tenancy.catalog();
    let Some(operator) = operator else { return Ok(true) };
    let Some(key) = key else { return Ok(store::operator(catalog, operator).await?.is_some()) };
    let now = app.clock.now();
    let found = store::api_key(catalog, key).await?;
    Ok(found.is_some_and(|found| found.expires_at.is_none_or(|end| end > now)))
}

/// What a token says of the password it was made for: it ends with that, and tells nothing of it.
pub(super) fn password_mark(app: &App, password_hash: &str) -> String {
    let mac =
        app.tenancy.key(DataKey::BlindIndex).mac(format!("operator password\0{password_hash}").as_bytes());
    BASE64URL_NOPAD.encode(&mac[..16])
}
