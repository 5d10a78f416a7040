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
    /// The keyed hash of the current refresh token's secret.
    pub refresh_hash: Vec<u8>,
    /// How often the refresh token was rotated.
    pub generation: i64,
    /// When it was rotated last; or, if it never was, when the session was made.
    pub rotated_at: DateTimeUtc,
    /// From where a token was last drawn from it.
    pub ip: String,
    /// With what a token was last drawn from it; shortened.
    pub user_agent: String,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When a token was last drawn from it, by a login or a refresh: not at every request, which would make a write of
    /// every read. While somebody works it is behind by no more than an access token lasts, ten minutes.
    pub last_used_at: DateTimeUtc,
    /// When it ends by itself: with its refresh token, and never later than the absolute lifetime of a session.
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
