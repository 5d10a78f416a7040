//! Rotating the signing keys without a restart.
//!
//! | | made | signs | verifies and is published |
//! | --- | --- | --- | --- |
//! | new key | now | once everybody has had the time to fetch it, or at once if that is asked for | from now on |
//! | old key | | until then | until the last token it has signed has expired |
//!
//! The document with the published keys may be kept by others for [`JWKS_MAX_AGE`]. A key that signed as soon as it is
//! made would be unknown to them for so long, and every token refused: so it is published first. Processes of ours hear
//! of it at once, or load it when they meet it. What was over when a rotation begins is removed by it.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder, sea_query::Expr,
};
use serde::Serialize;
use tenants::{CatalogDb, CatalogTx, SecretKey, entity::signing_keys};

use super::{
    KeyError, Tokens,
    keyring::{self, JWKS_MAX_AGE, SLACK},
    tokens::LONGEST_LIFETIME,
};
use crate::clock::Clock;

/// When a new key begins to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// When nobody can have an older copy of the published keys any more.
    WhenPublished,
    /// At once. Those who check tokens by the published keys refuse the new ones until they fetch the keys again.
    Now,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KeyState {
    /// Published, to sign later.
    Next,
    /// Signs and verifies.
    Signing,
    /// Verifies what it has signed.
    Verifying,
    /// Nothing any more.
    Expired,
}

impl KeyState {
    /// Its name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Next => "next",
            Self::Signing => "signing",
            Self::Verifying => "verifying",
            Self::Expired => "expired",
        }
    }
}

/// A signing key, without its secret.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct KeySummary {
    /// Its id: its thumbprint (RFC 7638), in base64url.
    pub kid: String,
    /// What it does.
    pub state: KeyState,
    /// When it was made, and published.
    pub created_at: DateTime<Utc>,
    /// From when on it signs.
    pub signs_from: DateTime<Utc>,
    /// Until when it verifies; none as long as no other follows it.
    pub verifies_until: Option<DateTime<Utc>>,
}

/// What a rotation did.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rotation {
    /// The key that signs next, or now.
    pub key: KeySummary,
    /// Whether it was made by this rotation, and not by one before that is still under way.
    pub is_new: bool,
}

impl Tokens {
    /// Makes a new signing key and lets the present one run out. While a rotation is under way, another one changes
    /// nothing; unless it is to count at once, which replaces the key that was to be next: it has signed nothing yet.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn rotate(&self, start: Start) -> Result<Rotation, KeyError> {
        let transaction = self.catalog.begin().await?;
        let rotation = self.rotate_in(&transaction, start).await?;
        transaction.commit().await?;
        Ok(rotation)
    }

    /// As [`rotate`](Self::rotate), in a transaction in which more is written.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn rotate_in(&self, transaction: &CatalogTx, start: Start) -> Result<Rotation, KeyError> {
        transaction.change_signing_keys().await?;
        // Told after the lock, for which it may have waited.
        let now = self.clock.now();
        remove(transaction, signing_keys::Column::RetiredAt.lte(now)).await?;
        if start == Start::Now {
            remove(transaction, signing_keys::Column::SignsFrom.gt(now)).await?;
        }
        let next = signing_keys::Entity::find()
            .filter(signing_keys::Column::SignsFrom.gt(now))
            .one(transaction)
            .await?;
        let is_new = next.is_none();
        let key = match next {
            Some(next) => next,
            None => self.add_key(transaction, start, now).await?,
        };
        tracing::info!(kid = key.kid, signs_from = %key.signs_from, is_new, "the signing keys were rotated");
        let state = if key.signs_from <= now { KeyState::Signing } else { KeyState::Next };
        Ok(Rotation { key: summary(key, state), is_new })
    }

    /// Puts a new key into the catalog, and an end to the others.
    async fn add_key(
        &self,
        db: &impl ConnectionTrait,
        start: Start,
        now: DateTime<Utc>,
    ) -> Result<signing_keys::Model, KeyError> {
        let signs_from = match start {
            Start::Now => now,
            Start::WhenPublished => now + JWKS_MAX_AGE + SLACK,
        };
        let over = signs_from + LONGEST_LIFETIME + SLACK;
        let later = Condition::any()
            .add(signing_keys::Column::RetiredAt.is_null())
            .add(signing_keys::Column::RetiredAt.gt(over));
        signing_keys::Entity::update_many()
            .col_expr(signing_keys::Column::RetiredAt, Expr::value(over))
            .filter(later)
            .exec(db)
            .await?;
        keyring::insert_new(db, &self.wrapping, now, signs_from).await
    }

    /// All signing keys, the latest first.
    ///
    /// # Errors
    /// Those of the catalog.
    pub async fn keys(&self) -> Result<Vec<KeySummary>, KeyError> {
        let rows = signing_keys::Entity::find()
            .order_by_desc(signing_keys::Column::SignsFrom)
            // Of two of the same time, the one that no other follows: PostgreSQL has NULL for the greatest.
            .order_by_desc(signing_keys::Column::RetiredAt)
            .all(&self.catalog)
            .await?;
        let now = self.clock.now();
        let mut signs = true;
        let state = |row: signing_keys::Model| {
            let state = if row.retired_at.is_some_and(|retired_at| retired_at <= now) {
                KeyState::Expired
            } else if row.signs_from > now {
                KeyState::Next
            } else if std::mem::take(&mut signs) {
                KeyState::Signing
            } else {
                KeyState::Verifying
            };
            summary(row, state)
        };
        Ok(rows.into_iter().map(state).collect())
    }
}

fn summary(row: signing_keys::Model, state: KeyState) -> KeySummary {
    let signing_keys::Model { kid, created_at, signs_from, retired_at, .. } = row;
    KeySummary { kid, state, created_at, signs_from, verifies_until: retired_at }
}

async fn remove(
    db: &impl ConnectionTrait,
    which: impl sea_orm::sea_query::IntoCondition,
) -> Result<(), KeyError> {
    signing_keys::Entity::delete_many().filter(which).exec(db).await?;
    Ok(())
}

/// Makes the first key of an installation, which signs at once. Of two processes that both come here, one does.
pub(super) async fn make_first(
    catalog: &CatalogDb,
    wrapping: &SecretKey,
    clock: &Clock,
) -> Result<(), KeyError> {
    let transaction = catalog.begin().await?;
    transaction.change_signing_keys().await?;
    if signing_keys::Entity::find().one(&transaction).await?.is_none() {
        let now = clock.now();
        keyring::insert_new(&transaction, wrapping, now, now).await?;
    }
    Ok(transaction.commit().await?)
}
