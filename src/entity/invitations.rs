//! Those who were asked to join.

use sea_orm::entity::prelude::*;

use super::users::Role;

/// An invitation that waits for an answer. One per address, the latest.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "invitations")]
pub struct Model {
    /// UUID v7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// The address as it was written.
    pub email: String,
    /// What two spellings of the address share.
    pub email_key: String,
    /// What the invited will be.
    pub role: Role,
    /// Who asked; null once that user is deleted, and the invitation is void.
    pub invited_by: Option<Uuid>,
    /// The hash of the token in the link.
    pub token_hash: Vec<u8>,
    /// When it was made.
    pub created_at: DateTimeUtc,
    /// When the link stops working.
    pub expires_at: DateTimeUtc,
    /// Whether an operator asked, who is none of the organization's people.
    pub by_operator: bool,
}

/// How invitations relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Who asked.
    #[sea_orm(
        belongs_to = "super::users::Entity",
        from = "Column::InvitedBy",
        to = "super::users::Column::Pk"
    )]
    Users,
}

impl Related<super::users::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Users.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
