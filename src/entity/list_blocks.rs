//! How many rows of a list have their number in each block of numbers.

use sea_orm::entity::prelude::*;

/// A block of a list. One that never had a row has none here either.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "list_blocks")]
pub struct Model {
    /// What it is a list of.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    /// Whose it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner: Uuid,
    /// The numbers of the block, divided by the size of a block.
    #[sea_orm(primary_key, auto_increment = false)]
    pub block: i64,
    /// How many rows have one of these numbers.
    pub total: i32,
    /// How many of them are unread; 0 where nothing is read.
    pub unread: i32,
}

/// Blocks relate to nothing: what they are parts of differs.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
