//! People who run the installation.

use sea_orm::entity::prelude::*;

/// An operator.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "operators")]
pub struct Model {
    /// UUID v7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// As it was given.
    pub email: String,
    /// The e-mail as it is compared.
    pub email_key: String,
    /// In the PHC string format.
    pub password_hash: String,
    /// When the account was made.
    pub created_at: DateTimeUtc,
}

/// None that queries follow.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
