//! Where the people of a tenant are signed in.

use sea_orm::entity::prelude::*;

/// A session: made by a login, gone with a logout.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "sessions")]
pub struct Model {
    /// UUID v7; the `sid` of access tokens.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whose it is.
    pub user_pk: Uuid,
    /// The keyed hash of the refresh token.
    pub refresh_hash: Vec<u8>,
    /// From where it was made.
    pub ip: String,
    /// With what it was made; shortened.
    pub user_agent: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When a token was last drawn from it.
    pub last_used_at: DateTimeUtc,
    /// When it ends by itself: with its refresh token.
    pub expires_at: DateTimeUtc,
}

/// How sessions relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Whose it is.
    #[sea_orm(belongs_to = "super::users::Entity", from = "Column::UserPk", to = "super::users::Column::Pk")]
    Users,
}

impl Related<super::users::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Users.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
