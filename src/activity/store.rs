//! The rows of what happened.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, JoinType, QueryFilter,
    QueryOrder, QuerySelect, RelationTrait as _,
};
use tenants::lists::List;
use uuid::Uuid;

use super::{
    Verb,
    record::list,
    service::{Numbers, Scope},
};
use crate::{
    entity::{
        activities::{Column, Entity, Relation},
        users,
    },
    http::page::{self, Window},
    references::display,
};

impl Scope {
    /// The numbered list that this is.
    pub(super) fn list(self) -> List {
        list(self.actor, self.verb.map(Verb::as_str))
    }

    /// Where the numbers of that list are.
    fn number(self) -> Column {
        match (self.actor, self.verb) {
            (None, None) => Column::Number,
            (None, Some(_)) => Column::VerbNumber,
            (Some(_), None) => Column::ActorNumber,
            (Some(_), Some(_)) => Column::ActorVerbNumber,
        }
    }

    fn condition(self) -> Condition {
        Condition::all()
            .add_option(self.actor.map(|actor| Column::ActorPk.eq(actor)))
            .add_option(self.verb.map(|verb| Column::Verb.eq(verb.as_str())))
    }
}

/// When what has these numbers happened; of those that are gone, nothing.
pub(super) async fn times(
    db: &impl ConnectionTrait,
    scope: Scope,
    numbers: Vec<i64>,
) -> Result<Vec<(i64, DateTime<Utc>)>, DbErr> {
    Entity::find()
        .select_only()
        .columns([scope.number(), Column::CreatedAt])
        .filter(scope.condition().add(scope.number().is_in(numbers)))
        .into_tuple()
        .all(db)
        .await
}

/// Something that happened, with all that is shown of it.
#[derive(Debug, FromQueryResult)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) verb: String,
    pub(super) object_type: String,
    pub(super) object_id: Option<Uuid>,
    pub(super) object_display: Option<String>,
    pub(super) target_type: Option<String>,
    pub(super) target_id: Option<Uuid>,
    pub(super) target_display: Option<String>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) actor: Option<Uuid>,
    pub(super) username: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
}

/// A page of these numbers.
pub(super) async fn page(
    db: &impl ConnectionTrait,
    scope: Scope,
    numbers: Numbers,
    window: &Window,
    descending: bool,
) -> Result<Vec<Row>, DbErr> {
    let direction = page::direction(descending);
    let Numbers { first, end } = numbers.of_page(window.offset, window.limit, descending);
    if first == end {
        return Ok(Vec::new());
    }
    Entity::find()
        .select_only()
        .columns([
            Column::Id,
            Column::Verb,
            Column::ObjectType,
            Column::ObjectId,
            Column::TargetType,
            Column::TargetId,
            Column::CreatedAt,
        ])
        .expr_as(display(Column::ObjectType, Column::ObjectId, Column::ObjectText), "object_display")
        .expr_as(display(Column::TargetType, Column::TargetId, Column::TargetText), "target_display")
        .column_as(users::Column::Pk, "actor")
        .columns([users::Column::Username, users::Column::FirstName, users::Column::LastName])
        .join(JoinType::LeftJoin, Relation::Actor.def())
        .filter(scope.condition().add(scope.number().between(first, end - 1)))
        .order_by(scope.number(), direction)
        // No more than there are; but the planner knows that only if it is told.
        .limit(window.limit)
        .into_model::<Row>()
        .all(db)
        .await
}
