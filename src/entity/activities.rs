//! What happened.

use sea_orm::entity::prelude::*;

/// Something that happened. It is in the list of all, in that of its verb, in that of its actor, and in that of both.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "activities")]
pub struct Model {
    /// Its number among all.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    /// UUID v7; what clients know it by.
    pub id: Uuid,
    /// Who did it; null once that user is deleted.
    pub actor_pk: Option<Uuid>,
    /// Its number among what the actor did.
    pub actor_number: Option<i64>,
    /// What was done; see [`Verb`](crate::activity::Verb).
    pub verb: String,
    /// Its number among all with this verb.
    pub verb_number: i64,
    /// Its number among what the actor did with this verb.
    pub actor_verb_number: Option<i64>,
    /// What kind of thing it was done to; see [`Kind`](crate::references::Kind).
    pub object_type: String,
    /// Which one.
    pub object_id: Option<Uuid>,
    /// Its text, where it is not read where the thing is.
    pub object_text: Option<String>,
    /// What kind of thing it was about, too.
    pub target_type: Option<String>,
    /// Which one.
    pub target_id: Option<Uuid>,
    /// Its text, where it is not read where the thing is.
    pub target_text: Option<String>,
    /// When it happened; later than all before it.
    pub created_at: DateTimeUtc,
}

/// How activities relate to other tables.
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
