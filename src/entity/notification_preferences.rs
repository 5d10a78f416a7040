//! How people want to be told of things.

use sea_orm::entity::prelude::*;

/// How somebody wants to be told of one kind of thing, where that is not the default.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notification_preferences")]
pub struct Model {
    /// Who.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_pk: Uuid,
    /// Of what; see [`Kind`](crate::notifications::Kind).
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: String,
    /// `instant` or `off`.
    pub in_app: String,
    /// `instant`, `daily` or `off`.
    pub email: String,
}

/// How preferences relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
