//! The keys that sign access tokens.

use sea_orm::entity::prelude::*;

/// An Ed25519 key pair.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "signing_keys")]
pub struct Model {
    /// The key's id: its thumbprint by RFC 7638, in base64url.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kid: String,
    /// The 32 bytes of the public key.
    pub public_key: Vec<u8>,
    /// The 32 bytes of the seed, sealed by the data key for signing.
    pub wrapped_seed: Vec<u8>,
    /// When it was made, and published.
    pub created_at: DateTimeUtc,
    /// From when on it signs, until another does.
    pub signs_from: DateTimeUtc,
    /// From when on it verifies no more.
    pub retired_at: Option<DateTimeUtc>,
}

/// None that queries follow.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
