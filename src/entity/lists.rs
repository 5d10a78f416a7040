//! The numbered lists, and how long they are.

use sea_orm::entity::prelude::*;

/// A list. One that never had a row has none here either.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "lists")]
pub struct Model {
    /// What it is a list of.
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    /// Whose it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner: Uuid,
    /// The last number that was given; the first is 1.
    pub numbered: i64,
    /// How many of the rows with a number are gone.
    pub removed: i64,
    /// The time that was given with the last number: each row's is later than those of the rows before.
    pub numbered_at: DateTimeUtc,
}

/// Lists relate to nothing: what they are lists of differs.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
