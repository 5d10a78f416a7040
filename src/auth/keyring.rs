//! The signing keys as this process holds them: which one signs, and which ones verify.

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE64URL_NOPAD;
use jsonwebtoken::{
    Algorithm, DecodingKey, EncodingKey, Header,
    jwk::{AlgorithmParameters, Jwk, ThumbprintHash},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use secrecy::zeroize::Zeroizing;
use tenants::{SecretKey, entity::signing_keys};

/// How long others may keep the published keys before they ask again.
pub(super) const JWKS_MAX_AGE: TimeDelta = TimeDelta::minutes(5);
/// How far apart processes may be, in their clocks and in what they have heard.
pub(super) const SLACK: TimeDelta = TimeDelta::minutes(1);

/// Why keys cannot be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum KeyError {
    /// The catalog could not be asked.
    #[error(transparent)]
    Database(#[from] DbErr),
    /// One does not open or does not parse.
    #[error("a signing key cannot be used: {0}")]
    Unusable(String),
}

impl KeyError {
    pub(super) fn unusable(error: &dyn std::fmt::Display) -> Self {
        Self::Unusable(error.to_string())
    }
}

/// The public half of a signing key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublicKey {
    /// The key's id: its thumbprint (RFC 7638), in base64url.
    pub kid: String,
    /// The 32 bytes of the key.
    pub bytes: Vec<u8>,
}

/// A signing key, ready for use.
pub(super) struct Key {
    pub(super) public: PublicKey,
    pub(super) header: Header,
    pub(super) encoding: EncodingKey,
    pub(super) decoding: DecodingKey,
    signs_from: DateTime<Utc>,
    retired_at: Option<DateTime<Utc>>,
}

/// All keys that verify or will. Which of them do what is a question of the time alone, so a rotation takes place at
/// its time without anything being loaded.
pub(super) struct Keyring {
    keys: Vec<Key>,
    /// What [`tenants::Signals::signing_keys`] was before it was loaded.
    pub(super) revision: u64,
    pub(super) loaded_at: DateTime<Utc>,
}

impl Keyring {
    /// What is in the catalog; `None` where there is no key yet.
    pub(super) async fn load(
        catalog: &impl ConnectionTrait,
        wrapping: &SecretKey,
        revision: u64,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, KeyError> {
        let in_use = Condition::any()
            .add(signing_keys::Column::RetiredAt.is_null())
            .add(signing_keys::Column::RetiredAt.gt(now));
        let rows = signing_keys::Entity::find().filter(in_use).all(catalog).await?;
        let mut keys = rows.into_iter().map(|row| Key::open(row, wrapping)).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by(|one, other| one.public.kid.cmp(&other.public.kid));
        Ok((!keys.is_empty()).then_some(Self { keys, revision, loaded_at: now }))
    }

    /// The key that signs now: of those whose time has come, the last. Where two came at the same time, it is the one
    /// that no other follows.
    pub(super) fn signing(&self, now: DateTime<Utc>) -> Option<&Key> {
        let due = self.keys.iter().filter(|key| key.signs_from <= now && key.verifies(now));
        // The very first key may come from a process whose clock is ahead.
        due.max_by_key(|key| (key.signs_from, key.retired_at.is_none()))
            .or_else(|| self.keys.iter().filter(|key| key.verifies(now)).min_by_key(|key| key.signs_from))
    }

    /// The key of this id, if it verifies.
    pub(super) fn verifying(&self, kid: &str, now: DateTime<Utc>) -> Option<&Key> {
        self.keys.iter().find(|key| key.public.kid == kid).filter(|key| key.verifies(now))
    }

    /// The keys to publish, ordered by their ids: those that verify, and the one that will sign next.
    pub(super) fn public_keys(&self, now: DateTime<Utc>) -> Vec<PublicKey> {
        self.keys.iter().filter(|key| key.verifies(now)).map(|key| key.public.clone()).collect()
    }
}

impl Key {
    fn open(row: signing_keys::Model, wrapping: &SecretKey) -> Result<Self, KeyError> {
        let seed = wrapping.open(&row.kid, &row.wrapped_seed).map_err(|error| KeyError::unusable(&error))?;
        let (encoding, public) = key_pair(&seed)?;
        if public.kid != row.kid {
            return Err(KeyError::Unusable(format!("{} is another key than its id says", row.kid)));
        }
        Ok(Self {
            header: Header { kid: Some(row.kid), ..Header::new(Algorithm::EdDSA) },
            encoding,
            decoding: DecodingKey::from_ed_der(&public.bytes),
            public,
            signs_from: row.signs_from,
            retired_at: row.retired_at,
        })
    }

    fn verifies(&self, now: DateTime<Utc>) -> bool {
        self.retired_at.is_none_or(|retired_at| retired_at > now)
    }
}

/// Makes a key and puts it into the catalog.
pub(super) async fn insert_new(
    db: &impl ConnectionTrait,
    wrapping: &SecretKey,
    created_at: DateTime<Utc>,
    signs_from: DateTime<Utc>,
) -> Result<signing_keys::Model, KeyError> {
    let seed = Zeroizing::new(rand::random::<[u8; 32]>());
    let (_, PublicKey { kid, bytes }) = key_pair(&*seed)?;
    let wrapped_seed = wrapping.seal(&kid, &*seed).map_err(|error| KeyError::unusable(&error))?;
    let row = signing_keys::Model {
        kid,
        public_key: bytes,
        wrapped_seed,
        created_at,
        signs_from,
        retired_at: None,
    };
    let values = signing_keys::ActiveModel {
        kid: Set(row.kid.clone()),
        public_key: Set(row.public_key.clone()),
        wrapped_seed: Set(row.wrapped_seed.clone()),
        created_at: Set(row.created_at),
        signs_from: Set(row.signs_from),
        retired_at: Set(row.retired_at),
    };
    signing_keys::Entity::insert(values).exec_without_returning(db).await?;
    Ok(row)
}

/// The key pair of a seed (RFC 8032).
fn key_pair(seed: &[u8]) -> Result<(EncodingKey, PublicKey), KeyError> {
    /// What stands before the seed in PKCS #8: version 0, the algorithm 1.3.101.112, and two octet strings (RFC 8410).
    const PKCS8: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
    let key = EncodingKey::from_ed_der(&Zeroizing::new([&PKCS8[..], seed].concat()));
    let jwk = Jwk::from_encoding_key(&key, Algorithm::EdDSA).map_err(|error| KeyError::unusable(&error))?;
    let AlgorithmParameters::OctetKeyPair(parameters) = &jwk.algorithm else {
        return Err(KeyError::unusable(&"not an octet key pair"));
    };
    let bytes =
        BASE64URL_NOPAD.decode(parameters.x.as_bytes()).map_err(|error| KeyError::unusable(&error))?;
    let kid = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|error| KeyError::unusable(&error))?;
    Ok((key, PublicKey { kid, bytes }))
}
