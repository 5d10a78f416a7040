//! Mails that tell of several things at once.

use sea_orm::entity::prelude::*;

/// A mail that is to come. It tells of what has happened until then.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "digests")]
pub struct Model {
    /// Who gets it.
    #[sea_orm(primary_key, auto_increment = false)]
    pub user_pk: Uuid,
    /// Which one: `instant` or `daily`.
    #[sea_orm(primary_key, auto_increment = false)]
    pub mail: String,
    /// Which job sends it: UUID v7. One that was left for an earlier mail does not send this one.
    pub id: Uuid,
    /// When it is to go out.
    pub due_at: DateTimeUtc,
}

/// How digests relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
