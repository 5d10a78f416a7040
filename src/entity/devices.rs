//! From where and with what users have signed in.

use sea_orm::entity::prelude::*;

/// A network and a client that a user has signed in with.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "devices")]
pub struct Model {
    /// Whose it is.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_pk: Uuid,
    /// The address it came from: an IPv4 address, or the /64 of an IPv6 one.
    #[sea_orm(primary_key, auto_increment = false)]
    pub network: String,
    /// What the client called itself; shortened.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_agent: String,
    /// When it was seen first.
    pub first_used_at: DateTimeUtc,
    /// When it was seen last.
    pub last_used_at: DateTimeUtc,
}

/// How devices relate to other tables.
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
