//! Access tokens: signed with Ed25519 keys from the catalog, checked against the contract and RFC 8725.

use std::{
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::Validation;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tenants::{CatalogDb, DataKey, SecretKey, Signals, Tenancy};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{
    jwt,
    keyring::{KeyError, Keyring, PublicKey},
    rotation,
};
use crate::{clock::Clock, entity::users::Role, http::bearer::MAX_TOKEN};

/// How long an access token is valid. The contract's.
pub(super) const ACCESS_LIFETIME: TimeDelta = TimeDelta::minutes(10);
/// No token of any kind is valid for longer: for so long a key is kept after the last token it has signed.
pub(super) const LONGEST_LIFETIME: TimeDelta = TimeDelta::minutes(15);
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
    /// Who acts in the user's name (RFC 8693, 4.1); of the user's own tokens nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
    /// Always `access`.
    pub typ: String,
    /// When it was made, in seconds since 1970.
    pub iat: i64,
    /// When it ends, in seconds since 1970.
    pub exp: i64,
    /// The token's own id.
    pub jti: Uuid,
}

/// Who acts in somebody else's name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Act {
    /// The operator's id, or what else it is.
    pub sub: String,
}

/// Why there is no token, or no key.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The keys cannot be had.
    #[error(transparent)]
    Keys(#[from] KeyError),
    /// The token cannot be signed.
    #[error("a token cannot be signed: {0}")]
    Signing(#[from] jsonwebtoken::errors::Error),
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

/// What was done with access tokens since the process began, and what is held now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenFigures {
    /// Tokens taken from memory.
    pub hits: u64,
    /// Signatures checked.
    pub checked: u64,
    /// Times the keys were asked for in the catalog.
    pub loads: u64,
    /// Tokens remembered.
    pub remembered: u64,
}

/// Makes and checks access tokens.
pub struct Tokens {
    pub(super) catalog: CatalogDb,
    pub(super) wrapping: SecretKey,
    pub(super) clock: Clock,
    signals: Signals,
    pub(super) issuer: String,
    validation: Validation,
    keyring: RwLock<Arc<Keyring>>,
    /// Held while the keys are loaded: by one at a time. In it, when and why that failed last.
    loading: Mutex<Option<(Instant, KeyError)>>,
    /// By the SHA-256 of a token, so that the memory of the process holds no token. Only valid ones come in here.
    verified: moka::sync::Cache<[u8; 32], Arc<Verified>>,
    hits: AtomicU64,
    checked: AtomicU64,
    loads: AtomicU64,
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
    pub async fn load(tenancy: &Tenancy, clock: Clock, issuer: String) -> Result<Self, TokenError> {
        let (catalog, signals) = (tenancy.catalog().clone(), tenancy.signals().clone());
        let wrapping = tenancy.key(DataKey::Signing).clone();
        let load = async || Keyring::load(&catalog, &wrapping, signals.signing_keys(), clock.now()).await;
        let keyring = if let Some(keyring) = load().await? {
            keyring
        } else {
            rotation::make_first(&catalog, &wrapping, &clock).await?;
            load().await?.ok_or_else(no_key)?
        };
        let validation = jwt::validation(&issuer, AUDIENCE);
        let verified = moka::sync::Cache::builder()
            .max_capacity(REMEMBERED)
            .time_to_live(ACCESS_LIFETIME.to_std().unwrap_or(Duration::from_mins(10)))
            .build();
        Ok(Self {
            catalog,
            wrapping,
            clock,
            signals,
            issuer,
            validation,
            keyring: RwLock::new(Arc::new(keyring)),
            loading: Mutex::default(),
            verified,
            hits: AtomicU64::new(0),
            checked: AtomicU64::new(0),
            loads: AtomicU64::new(0),
        })
    }

    /// A new access token, and when it ends.
    ///
    /// # Errors
    /// The keys may have changed and the catalog could not be asked for them, or the token cannot be signed.
    pub async fn issue(&self, subject: &Subject) -> Result<(String, DateTime<Utc>), TokenError> {
        self.issue_for(subject, None, ACCESS_LIFETIME).await
    }

    /// A new access token for somebody who acts in a user's name, and when it ends. It is good for as long as that may go
    /// on: nothing draws another one.
    ///
    /// # Errors
    /// As [`issue`](Self::issue).
    pub async fn issue_to_impersonator(
        &self,
        subject: &Subject,
        act: Act,
    ) -> Result<(String, DateTime<Utc>), TokenError> {
        self.issue_for(subject, Some(act), LONGEST_LIFETIME).await
    }

    async fn issue_for(
        &self,
        subject: &Subject,
        act: Option<Act>,
        lifetime: TimeDelta,
    ) -> Result<(String, DateTime<Utc>), TokenError> {
        let now = self.clock.now();
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: AUDIENCE.into(),
            sub: subject.user,
            tenant: subject.tenant,
            sid: subject.session,
            role: subject.role,
            act,
            typ: ACCESS.into(),
            iat: now.timestamp(),
            exp: (now + lifetime).timestamp(),
            jti: self.clock.uuid_v7(),
        };
        let keyring = self.keyring().await?;
        let key = keyring.signing(now).ok_or_else(no_key)?;
        let token = jsonwebtoken::encode(&key.header, &claims, &key.encoding)?;
        let expiration = DateTime::from_timestamp(claims.exp, 0).unwrap_or(now);
        Ok((token, expiration))
    }

    /// What a valid token says; `None` for any other.
    ///
    /// # Errors
    /// The token's key is unknown here, or the keys may have changed, and the catalog could not be asked.
    pub async fn verify(&self, token: &str) -> Result<Option<Claims>, TokenError> {
        if token.len() > MAX_TOKEN {
            return Ok(None);
        }
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = self.clock.now();
        if let Some(verified) = self.verified.get(&digest)
            && self.keyring().await?.verifying(&verified.kid, now).is_some()
        {
            self.hits.fetch_add(1, Ordering::Relaxed);
            return Ok(self.in_time(&verified.claims).then(|| verified.claims.clone()));
        }
        let Some(kid) = jwt::key_id(token) else { return Ok(None) };
        let keyring = self.keyring_with(&kid).await?;
        let Some(key) = keyring.verifying(&kid, now) else { return Ok(None) };
        self.checked.fetch_add(1, Ordering::Relaxed);
        let claims: Option<Claims> = jwt::read(token, &key.decoding, &self.validation);
        let Some(claims) = claims.filter(|claims| claims.typ == ACCESS && self.in_time(claims)) else {
            return Ok(None);
        };
        self.verified.insert(digest, Arc::new(Verified { kid, claims: claims.clone() }));
        Ok(Some(claims))
    }

    /// The public keys to publish, ordered by their ids.
    ///
    /// # Errors
    /// The keys may have changed and the catalog could not be asked for them.
    pub async fn public_keys(&self) -> Result<Vec<PublicKey>, TokenError> {
        Ok(self.keyring().await?.public_keys(self.clock.now()))
    }

    /// What was done and is held.
    #[must_use]
    pub fn figures(&self) -> TokenFigures {
        // What is counted as held is else behind by what moka has yet to do.
        self.verified.run_pending_tasks();
        TokenFigures {
            hits: self.hits.load(Ordering::Relaxed),
            checked: self.checked.load(Ordering::Relaxed),
            loads: self.loads.load(Ordering::Relaxed),
            remembered: self.verified.entry_count(),
        }
    }

    fn in_time(&self, claims: &Claims) -> bool {
        claims.exp > self.clock.now().timestamp()
    }

    fn held(&self) -> Arc<Keyring> {
        Arc::clone(&self.keyring.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it was loaded just now. A clock that was set back makes nothing young.
    fn is_young(&self, keyring: &Keyring) -> bool {
        (self.clock.now() - keyring.loaded_at).abs() < RELOAD_INTERVAL
    }

    /// The keys, as far as they can be believed: loaded anew after an announcement, and every second while none would
    /// be heard.
    pub(super) async fn keyring(&self) -> Result<Arc<Keyring>, KeyError> {
        let is_current = |keyring: &Keyring| {
            keyring.revision == self.signals.signing_keys()
                && (self.signals.is_listening() || self.is_young(keyring))
        };
        let held = self.held();
        if is_current(&held) { Ok(held) } else { self.reload(is_current).await }
    }

    /// The keys, loaded anew where this one is not among them: another process may have made it.
    pub(super) async fn keyring_with(&self, kid: &str) -> Result<Arc<Keyring>, KeyError> {
        let is_enough =
            |keyring: &Keyring| keyring.verifying(kid, self.clock.now()).is_some() || self.is_young(keyring);
        let held = self.keyring().await?;
        if is_enough(&held) { Ok(held) } else { self.reload(is_enough).await }
    }

    /// Loads the keys, unless another has done so while this one waited for its turn. A failure is told to all who come
    /// within the interval, so that a catalog that is away is not asked by everybody in turn.
    async fn reload(&self, is_enough: impl Fn(&Keyring) -> bool) -> Result<Arc<Keyring>, KeyError> {
        let mut failed = self.loading.lock().await;
        let held = self.held();
        if is_enough(&held) {
            return Ok(held);
        }
        if let Some((at, error)) = &*failed
            && TimeDelta::from_std(at.elapsed()).is_ok_and(|age| age < RELOAD_INTERVAL)
        {
            return Err(error.clone());
        }
        self.loads.fetch_add(1, Ordering::Relaxed);
        // Looked at first: what is announced during the load may not be in it.
        let revision = self.signals.signing_keys();
        let loaded = Keyring::load(&self.catalog, &self.wrapping, revision, self.clock.now()).await;
        match loaded.and_then(|keyring| keyring.ok_or_else(no_key)) {
            Ok(keyring) => {
                *failed = None;
                let keyring = Arc::new(keyring);
                *self.keyring.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&keyring);
                Ok(keyring)
            }
            Err(error) => {
                *failed = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }
}

pub(super) fn no_key() -> KeyError {
    KeyError::Unusable("there is none".into())
}
