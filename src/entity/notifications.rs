//! Who is told of what.

use sea_orm::entity::prelude::*;

/// What one person is told of one event.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "notifications")]
pub struct Model {
    /// UUID v7.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    /// Who is told.
    pub user_pk: Uuid,
    /// Its number among all the person was told; null if it is not shown, and waits only to be mailed.
    pub number: Option<i64>,
    /// What it tells of: a person is told of one event once.
    pub event: Uuid,
    /// What it is to the person; see [`Kind`](crate::notifications::Kind).
    pub kind: String,
    /// Who did it; null if nobody did, and once that user is deleted.
    pub actor_pk: Option<Uuid>,
    /// What kind of thing it is about; see [`Kind`](crate::references::Kind).
    pub object_type: String,
    /// Which one.
    pub object_id: Option<Uuid>,
    /// Its text, where it is not read where the thing is.
    pub object_text: Option<String>,
    /// With which mail it is to go out, `instant` or `daily`; null once it has, or if it is not to.
    pub mail: Option<String>,
    /// When it was read.
    pub read_at: Option<DateTimeUtc>,
    /// When it happened; later than all the person was told before.
    pub created_at: DateTimeUtc,
}

/// How notifications relate to other tables.
#[derive(Clone, Copy, Debug, EnumIter, DeriveRelation)]
pub enum Relation {
    /// Who did it.
    #[sea_orm(belongs_to = "super::users::Entity", from = "Column::ActorPk", to = "super::users::Column::Pk")]
    Actor,
}

impl Related<super::users::Entity> for Entity {
    fn to() -> RelationDef {
        Relation::Actor.def()
    }
}

impl ActiveModelBehavior for ActiveModel {}
