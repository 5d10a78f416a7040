//! Tokens in the links of mails: 256 random bits, kept as a hash, used once.

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::BASE64URL_NOPAD;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use secrecy::zeroize::Zeroizing;
use sha2::{Digest as _, Sha256};
use tenants::TenantTx;
use uuid::Uuid;

use crate::entity::tokens::{ActiveModel, Column, Entity, Model, Purpose};

const LEN: usize = 32;

/// The token of a link. Who has it is taken for the reader of the mail. Its `Debug` does not tell it; wiped when dropped.
#[derive(Clone, PartialEq, Eq)]
pub struct LinkToken(Zeroizing<[u8; LEN]>);

impl LinkToken {
    /// A new one.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(rand::random()))
    }

    /// Reads what a client sent; `None` for what cannot be a token.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // Asked first: what is far too long is not decoded to find that out.
        if text.len() != BASE64URL_NOPAD.encode_len(LEN) {
            return None;
        }
        BASE64URL_NOPAD.decode(text.as_bytes()).ok()?.try_into().ok().map(|bytes| Self(Zeroizing::new(bytes)))
    }

    /// As it stands in the link: letters, digits, `-` and `_`.
    #[must_use]
    pub fn encode(&self) -> String {
        BASE64URL_NOPAD.encode(&*self.0)
    }

    /// As it is kept. Of 256 random bits no salt and no slow hash is needed.
    #[must_use]
    pub fn hash(&self) -> [u8; 32] {
        Sha256::digest(*self.0).into()
    }
}

impl std::fmt::Debug for LinkToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LinkToken(…)")
    }
}

/// A link for a user. Those he has for the same purpose stop working.
///
/// # Errors
/// Those of the database.
pub async fn issue(
    tx: &impl ConnectionTrait,
    user: Uuid,
    purpose: Purpose,
    email: Option<String>,
    lifetime: TimeDelta,
    now: DateTime<Utc>,
) -> Result<LinkToken, DbErr> {
    void(tx, user, &[purpose]).await?;
    let token = LinkToken::generate();
    let row = ActiveModel {
        hash: Set(token.hash().to_vec()),
        user_pk: Set(user),
        purpose: Set(purpose),
        email: Set(email),
        created_at: Set(now),
        expires_at: Set(now + lifetime),
    };
    Entity::insert(row).exec_without_returning(tx).await?;
    Ok(token)
}

/// Uses a link up, in this transaction; `None` if it does not work. Of two at once, one waits for the other's commit and
/// finds nothing.
///
/// # Errors
/// Those of the database.
pub async fn redeem(
    tx: &TenantTx,
    token: &LinkToken,
    purpose: Purpose,
    now: DateTime<Utc>,
) -> Result<Option<Model>, DbErr> {
    let row = Entity::delete_by_id(token.hash().to_vec())
        .filter(Column::Purpose.eq(purpose))
        .filter(Column::ExpiresAt.gt(now))
        .exec_with_returning(tx)
        .await?;
    Ok(row)
}

/// Whose link this is, if it works, without using it up.
///
/// # Errors
/// Those of the database.
pub async fn find(
    db: &impl ConnectionTrait,
    token: &LinkToken,
    purpose: Purpose,
    now: DateTime<Utc>,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(token.hash().to_vec())
        .filter(Column::Purpose.eq(purpose))
        .filter(Column::ExpiresAt.gt(now))
        .one(db)
        .await
}

/// Makes the links stop working that a user has for these purposes.
///
/// # Errors
/// Those of the database.
pub async fn void(tx: &impl ConnectionTrait, user: Uuid, purposes: &[Purpose]) -> Result<(), DbErr> {
    Entity::delete_many()
        .filter(Column::UserPk.eq(user))
        .filter(Column::Purpose.is_in(purposes.iter().copied()))
        .exec(tx)
        .await
        .map(|_| ())
}
