//! What requests that must not count twice have made.

use sea_orm::entity::prelude::*;

/// A request that came with a key, and what it made.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "idempotency_keys")]
pub struct Model {
    /// Who sent it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_pk: Uuid,
    /// The hash of its method, path and key.
    #[sea_orm(primary_key, auto_increment = false)]
    pub request: Vec<u8>,
    /// The hash of its body.
    pub body_hash: Vec<u8>,
    /// The id of what it made.
    pub created: Uuid,
    /// When it came.
    pub created_at: DateTimeUtc,
}

/// How keys relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
