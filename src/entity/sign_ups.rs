//! Those who signed themselves up and have not proven their address: no users yet.

use sea_orm::entity::prelude::*;

/// A sign-up that waits for its address to be proven. Two per address at most: the latest whose link was mailed, and the
/// latest of those whose mail has yet to go out.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sign_ups")]
pub struct Model {
    /// What two spellings of the address share.
    #[sea_orm(primary_key, auto_increment = false)]
    pub email_key: String,
    /// Whether its link was mailed.
    #[sea_orm(primary_key, auto_increment = false)]
    pub is_mailed: bool,
    /// The address as it was written.
    pub email: String,
    /// The username that was asked for; somebody may have it by the time the address is proven.
    pub username: String,
    /// The PHC string of the password that was chosen.
    pub password_hash: String,
    /// May be empty.
    pub first_name: String,
    /// May be empty.
    pub last_name: String,
    /// The hash of the token in the link; of a token that nobody has, before it is mailed.
    pub token_hash: Vec<u8>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When the link stops working.
    pub expires_at: DateTimeUtc,
}

/// It relates to nothing.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
