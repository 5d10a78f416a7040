//! What operators and admins did to the organization. Entries are added; nobody may change or delete one.

use sea_orm::entity::prelude::*;

/// One deed.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "audit")]
pub struct Model {
    /// UUID v7. What an operator did has the same one in the installation's log, which says who it was.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Whether an operator did it.
    pub by_operator: bool,
    /// Which user did it, though he may be gone; none of an operator.
    pub actor_pk: Option<Uuid>,
    /// What was done.
    pub action: String,
    /// More, by the action; of a change what was before and after.
    pub detail: Json,
    /// When.
    pub created_at: DateTimeUtc,
}

/// How entries relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Who did it, if he is still there.
    #[sea_orm(belongs_to = "super::users::Entity", from = "Column::ActorPk", to = "super::users::Column::Pk")]
    Users,
}

impl Related<super::users::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Users.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
