//! Access tokens: signed with Ed25519 keys from the catalog, checked against the contract and RFC 8725.

use std::{
    collections::HashMap,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header, Validation,
    jwk::{AlgorithmParameters, Jwk, ThumbprintHash},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tenants::{CatalogDb, SecretKey, entity::signing_keys};
use uuid::Uuid;

use crate::{clock::Clock, entity::users::Role};

/// How long an access token is valid. The contract's.
const ACCESS_LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// For whom access tokens are.
const AUDIENCE: &str = "tenantry";
/// Keeps an access token from being taken for a token of another kind.
const ACCESS: &str = "access";
/// How many verified tokens are remembered.
const REMEMBERED: u64 = 100_000;
/// An unknown key leads to the catalog at most this often, whatever strangers send.
const RELOAD_INTERVAL: TimeDelta = TimeDelta::seconds(1);

/// What an access token says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The public URL of the installation.
    pub iss: String,
    /// Always `tenantry`.
    pub aud: String,
    /// The user's pk.
    pub sub: Uuid,
    /// The tenant's id.
    pub tenant: Uuid,
    /// The session's id.
    pub sid: Uuid,
    /// The user's role when the token was made. What counts is the one in the database.
    pub role: Role,
    /// Always `access`.
    pub typ: String,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// The token's own id.
    pub jti: Uuid,
}

/// Why there is no token, or no key.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The catalog could not be asked.
    #[error(transparent)]
    Database(#[from] sea_orm::DbErr),
    /// A key does not open or does not parse.
    #[error("a signing key cannot be used: {0}")]
    Key(String),
}

/// Whose token is to be made.
#[derive(Clone, Copy, Debug)]
pub struct Subject {
    /// The user's pk.
    pub user: Uuid,
    /// The tenant's id.
    pub tenant: Uuid,
    /// The session's id.
    pub session: Uuid,
    /// The user's role.
    pub role: Role,
}

/// A token that was verified before: its key and what it says.
#[derive(Debug)]
struct Verified {
    kid: String,
    claims: Claims,
}

/// The public half of a signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The key's id: its thumbprint (RFC 7638), in base64url.
    pub kid: String,
    /// The 32 bytes of the key.
    pub bytes: Vec<u8>,
}

struct Keyring {
    signing: (Header, EncodingKey),
    verifying: HashMap<String, (DecodingKey, PublicKey)>,
    loaded_at: DateTime<Utc>,
}

/// Makes and checks access tokens.
pub struct Tokens {
    catalog: CatalogDb,
    wrapping: SecretKey,
    clock: Clock,
    issuer: String,
    validation: Validation,
    keyring: RwLock<Arc<Keyring>>,
    /// By the SHA-256 of a token, so that the memory of the process holds no token.
    verified: moka::sync::Cache<[u8; 32], Arc<Verified>>,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Loads the signing keys, and makes the first one of an installation.
    ///
    /// # Errors
    /// The catalog could not be asked, or a key does not open.
    pub async fn load(
        catalog: CatalogDb,
        wrapping: SecretKey,
        clock: Clock,
        issuer: String,
    ) -> Result<Self, TokenError> {
        let now = clock.now();
        let keyring = if let Some(keyring) = Keyring::load(&catalog, &wrapping, now).await? {
            keyring
        } else {
            // Two processes may both do this: then there are two keys, which is as good.
            create_key(&catalog, &wrapping, now).await?;
            Keyring::load(&catalog, &wrapping, now)
                .await?
                .ok_or_else(|| TokenError::Key("it is gone right after it was made".into()))?
        };
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.set_issuer(&[&issuer]);
        validation.set_audience(&[AUDIENCE]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Checked here, by our own clock.
        validation.validate_exp = false;
        let verified = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(ACCESS_LIFETIME.to_std().unwrap_or(Duration::from_mins(10)))
            .build();
        Ok(Self {
            catalog,
            wrapping,
            clock,
            issuer,
            validation,
            keyring: RwLock::new(Arc::new(keyring)),
            verified,
        })
    }

    /// A new access token, and when it ends.
    ///
    /// # Errors
    /// The token cannot be signed.
    pub fn issue(&self, subject: &Subject) -> Result<(String, DateTime<Utc>), TokenError> {
        let now = self.clock.now();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.into(),
            sub: subject.user,
            tenant: subject.tenant,
            sid: subject.session,
            role: subject.role,
            typ: ACCESS.into(),
            iat: now.timestamp(),
            exp: (now + ACCESS_LIFETIME).timestamp(),
            jti: self.clock.uuid_v7(),
        };
        let keyring = self.keyring();
        let (header, key) = &keyring.signing;
        let token =
            jsonwebtoken::encode(header, &claims, key).map_err(|error| TokenError::Key(error.to_string()))?;
        let expiration = DateTime::from_timestamp(claims.exp, 0).unwrap_or(now);
        Ok((token, expiration))
    }

    /// What a valid token says; `None` for any other.
    ///
    /// # Errors
    /// The token's key is unknown here and the catalog could not be asked for it.
    pub async fn verify(&self, token: &str) -> Result<Option<Claims>, TokenError> {
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        if let Some(verified) = self.verified.get(&digest)
            && self.keyring().verifying.contains_key(&verified.kid)
        {
            return Ok(self.in_time(&verified.claims).then(|| verified.claims.clone()));
        }
        // What is critical must be understood (RFC 7515, 4.1.11), and jsonwebtoken does not look at it.
        let Ok(Header { kid: Some(kid), alg: Algorithm::EdDSA, crit: None, .. }) =
            jsonwebtoken::decode_header(token)
        else {
            return Ok(None);
        };
        let Some(keyring) = self.keyring_with(&kid).await? else { return Ok(None) };
        let Some((key, _)) = keyring.verifying.get(&kid) else { return Ok(None) };
        let Ok(data) = jsonwebtoken::decode::<Claims>(token, key, &self.validation) else { return Ok(None) };
        if data.claims.typ != ACCESS || !self.in_time(&data.claims) {
            return Ok(None);
        }
        self.verified.insert(digest, Arc::new(Verified { kid, claims: data.claims.clone() }));
        Ok(Some(data.claims))
    }

    /// The public keys that verify, ordered by their ids.
    #[must_use]
    pub fn public_keys(&self) -> Vec<PublicKey> {
        let keyring = self.keyring();
        let mut keys: Vec<_> = keyring.verifying.values().map(|(_, key)| key.clone()).collect();
        keys.sort_by(|one, other| one.kid.cmp(&other.kid));
        keys
    }

    fn in_time(&self, claims: &Claims) -> bool {
        claims.exp > self.clock.now().timestamp()
    }

    fn keyring(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The keyring, loaded anew where this key is not in it: another process may have made it.
    async fn keyring_with(&self, kid: &str) -> Result<Option<Arc<Keyring>>, TokenError> {
        let keyring = self.keyring();
        let now = self.clock.now();
        if keyring.verifying.contains_key(kid) || now - keyring.loaded_at < RELOAD_INTERVAL {
            return Ok(Some(keyring));
        }
        let Some(fresh) = Keyring::load(&self.catalog, &self.wrapping, now).await? else { return Ok(None) };
        let fresh = Arc::new(fresh);
        *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&fresh);
        Ok(Some(fresh))
    }
}

impl Keyring {
    async fn load(
        catalog: &CatalogDb,
        wrapping: &SecretKey,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, TokenError> {
        let rows = signing_keys::Entity::find()
            .filter(signing_keys::Column::RetiredAt.is_null())
            .order_by_desc(signing_keys::Column::CreatedAt)
            .order_by_desc(signing_keys::Column::Kid)
            .all(catalog)
            .await?;
        let mut signing = None;
        let mut verifying = HashMap::new();
        for row in rows {
            let seed = wrapping
                .open(&row.kid, &row.wrapped_seed)
                .map_err(|error| TokenError::Key(error.to_string()))?;
            let (key, public) = key_pair(&seed)?;
            if public.kid != row.kid {
                return Err(TokenError::Key(format!("{} is another key than its id says", row.kid)));
            }
            if signing.is_none() {
                let header = Header { kid: Some(row.kid.clone()), ..Header::new(Algorithm::EdDSA) };
                signing = Some((header, key));
            }
            verifying.insert(row.kid, (DecodingKey::from_ed_der(&public.bytes), public));
        }
        Ok(signing.map(|signing| Self { signing, verifying, loaded_at: now }))
    }
}

async fn create_key(catalog: &CatalogDb, wrapping: &SecretKey, now: DateTime<Utc>) -> Result<(), TokenError> {
    let seed: [u8; 32] = rand::random();
    let (_, PublicKey { kid, bytes }) = key_pair(&seed)?;
    let wrapped_seed = wrapping.seal(&kid, &seed).map_err(|error| TokenError::Key(error.to_string()))?;
    let row = signing_keys::ActiveModel {
        kid: Set(kid),
        public_key: Set(bytes),
        wrapped_seed: Set(wrapped_seed),
        created_at: Set(now),
        retired_at: Set(None),
    };
    row.insert(catalog).await?;
    Ok(())
}

/// The key pair of a seed (RFC 8032).
fn key_pair(seed: &[u8]) -> Result<(EncodingKey, PublicKey), TokenError> {
    /// What stands before the seed in PKCS #8: version 0, the algorithm 1.3.101.112, and two octet strings (RFC 8410).
    const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let key = EncodingKey::from_ed_der(&[&PKCS8[..], seed].concat());
    let failed = |error: &dyn std::fmt::Display| TokenError::Key(error.to_string());
    let jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(|error| failed(&error))?;
    let AlgorithmParameters::OctetKeyPair(parameters) = &jwk.algorithm else {
        return Err(failed(&"not an octet key pair"));
    };
    let bytes = BASE64URL_NOPAD.decode(parameters.x.as_bytes()).map_err(|error| failed(&error))?;
    let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|error| failed(&error))?;
    Ok((key, PublicKey { kid, bytes }))
}
