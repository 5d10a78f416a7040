//! What people write on each other's pages.

use sea_orm::entity::prelude::*;

/// A comment, a reply to one, or the place where one was that has replies.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "comments")]
pub struct Model {
    /// UUID v7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// On whose page it stands.
    pub user_pk: Uuid,
    /// Who wrote it; null once that user or the comment is deleted.
    pub author_pk: Option<Uuid>,
    /// The comment it replies to, which is no reply itself.
    pub parent: Option<Uuid>,
    /// Its number in the list of the page, or of the replies to its parent.
    pub number: i64,
    /// As it was written; empty once it is deleted.
    pub body: String,
    /// The users it mentions, a list of their ids, in the order of their first mention.
    #[sea_orm(column_type = "JsonBinary")]
    pub mentions: Json,
    /// How many replies it has.
    pub reply_count: i32,
    /// Whether only its place is left.
    pub is_deleted: bool,
    /// When it was written; later than what stands before it in its list.
    pub created_at: DateTimeUtc,
    /// When its author last changed it.
    pub edited_at: Option<DateTimeUtc>,
}

/// How comments relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Who wrote it.
    #[sea_orm(
        belongs_to = "super::users::Entity",
        from = "Column::AuthorPk",
        to = "super::users::Column::Pk"
    )]
    Author,
}

impl Related<super::users::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Author.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
