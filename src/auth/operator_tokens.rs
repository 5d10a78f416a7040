//! Operators' tokens: signed with the same keys as users' access tokens, and told apart from them twice, by their audience
//! and by their type. There is nothing to refresh: whoever works longer signs in again, and programs have API keys.

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    TokenError, Tokens, jwt,
    tokens::{LONGEST_LIFETIME, no_key},
};

/// How long an operator's token is valid. It is asked of the catalog at every request whether it still is, so this bounds
/// only for how long a token that was stolen unnoticed is of use.
const LIFETIME: TimeDelta = TimeDelta::minutes(15);
const _: () =
    assert!(LIFETIME.num_seconds() <= LONGEST_LIFETIME.num_seconds(), "its key would be gone before it");
/// For whom operators' tokens are.
const AUDIENCE: &str = "tenantry-admin";
/// Keeps an operator's token from being taken for a token of another kind.
const OPERATOR: &str = "operator";

/// What an operator's token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorClaims {
    /// The public URL of the installation.
    pub iss: String,
    /// Always `tenantry-admin`.
    pub aud: String,
    /// The operator's id.
    pub sub: Uuid,
    /// Always `operator`.
    pub typ: String,
    /// Which password the operator signed in with; says nothing about it.
    pub pwd: String,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// The token's own id.
    pub jti: Uuid,
}

impl Tokens {
    /// A new token of an operator who signed in with the password of this mark, and when it ends.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub async fn issue_to_operator(
        &self,
        operator: Uuid,
        password: String,
    ) -> Result<(String, DateTime<Utc>), TokenError> {
        let now = self.clock.now();
        let claims = OperatorClaims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.into(),
            sub: operator,
            typ: OPERATOR.into(),
            pwd: password,
            iat: now.timestamp(),
            exp: (now + LIFETIME).timestamp(),
            jti: self.clock.uuid_v7(),
        };
        let keyring = self.keyring().await?;
        let key = keyring.signing(now).ok_or_else(no_key)?;
        let token = jsonwebtoken::encode(&key.header, &claims, &key.encoding)?;
        Ok((token, DateTime::from_timestamp(claims.exp, 0).unwrap_or(now)))
    }

    /// What a valid token of an operator says; `None` for any other. Not remembered: operators are few.
    ///
    /// # Errors
    /// As [`verify`](Self::verify).
    pub async fn verify_operator(&self, token: &str) -> Result<Option<OperatorClaims>, TokenError> {
        let Some(kid) = jwt::key_id(token) else { return Ok(None) };
        let keyring = self.keyring_with(&kid).await?;
        let now = self.clock.now();
        let Some(key) = keyring.verifying(&kid, now) else { return Ok(None) };
        let claims: Option<OperatorClaims> =
            jwt::read(token, &key.decoding, &jwt::validation(&self.issuer, AUDIENCE));
        Ok(claims.filter(|claims| claims.typ == OPERATOR && claims.exp > now.timestamp()))
    }
}
