//! The rows of notifications.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, JoinType,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, RelationTrait, Select,
    sea_query::LockType,
};
use tenants::{
    TenantTx,
    lists::{BLOCK, Rows, Start},
};
use uuid::Uuid;

use super::preferences::Email;
use crate::{
    entity::{
        notifications::{ActiveModel, Column, Entity, Relation},
        users,
    },
    http::page,
    references,
};

/// A notification with who did it and what it is about.
#[derive(Clone, Debug, FromQueryResult)]
pub(super) struct Row {
    pub(super) id: Uuid,
    pub(super) number: Option<i64>,
    pub(super) kind: String,
    pub(super) object_type: String,
    pub(super) object_id: Option<Uuid>,
    pub(super) display: Option<String>,
    pub(super) read_at: Option<DateTime<Utc>>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) actor_pk: Option<Uuid>,
    pub(super) username: Option<String>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
}

/// All that a notification shows, in one query.
fn whole() -> Select<Entity> {
    Entity::find()
        .select_only()
        .columns([
            Column::Id,
            Column::Number,
            Column::Kind,
            Column::ObjectType,
            Column::ObjectId,
            Column::ReadAt,
            Column::CreatedAt,
            Column::ActorPk,
        ])
        .columns([users::Column::Username, users::Column::FirstName, users::Column::LastName])
        .expr_as(references::display(Column::ObjectType, Column::ObjectId, Column::ObjectText), "display")
        .join(JoinType::LeftJoin, Relation::Actor.def())
}

fn in_inbox(user: Uuid) -> Condition {
    Condition::all().add(Column::UserPk.eq(user)).add(Column::Number.is_not_null())
}

/// The rows of an inbox that are counted so; what it says is what the partial indexes say.
fn those(user: Uuid, rows: Rows) -> Condition {
    in_inbox(user).add_option(match rows {
        Rows::All => None,
        Rows::Unread => Some(Column::ReadAt.is_null()),
        Rows::Read => Some(Column::ReadAt.is_not_null()),
    })
}

/// One page of an inbox. What is passed over is passed over in an index alone: a row that is shown is joined and looked up,
/// and one that is not must not be.
pub(super) async fn list(
    db: &impl ConnectionTrait,
    user: Uuid,
    rows: Rows,
    start: Start,
    (limit, descending): (u64, bool),
) -> Result<Vec<Row>, DbErr> {
    let direction = page::direction(descending);
    let from = |number: i64| if descending { Column::Number.lte(number) } else { Column::Number.gte(number) };
    let mut number = start.number;
    if start.skip > 0 {
        let first: Option<i64> = Entity::find()
            .select_only()
            .column(Column::Number)
            .filter(those(user, rows).add(from(number)))
            .order_by(Column::Number, direction.clone())
            .offset(start.skip)
            .limit(1)
            .into_tuple()
            .one(db)
            .await?;
        // Deleted since they were counted.
        let Some(first) = first else { return Ok(Vec::new()) };
        number = first;
    }
    whole()
        .filter(those(user, rows).add(from(number)))
        .order_by(Column::Number, direction)
        .limit(limit)
        .into_model()
        .all(db)
        .await
}

/// All that is in an inbox, the newest first.
pub(super) async fn all(db: &impl ConnectionTrait, user: Uuid) -> Result<Vec<Row>, DbErr> {
    whole().filter(in_inbox(user)).order_by_desc(Column::Number).into_model().all(db).await
}

/// What is in an inbox with higher numbers than this, the lowest first.
pub(super) async fn after(
    db: &impl ConnectionTrait,
    user: Uuid,
    number: i64,
    limit: u64,
) -> Result<Vec<Row>, DbErr> {
    let newer = whole().filter(in_inbox(user).add(Column::Number.gt(number)));
    newer.order_by_asc(Column::Number).limit(limit).into_model().all(db).await
}

/// One notification of an inbox.
pub(super) async fn find(db: &impl ConnectionTrait, user: Uuid, id: Uuid) -> Result<Option<Row>, DbErr> {
    whole().filter(in_inbox(user).add(Column::Id.eq(id))).into_model().one(db).await
}

/// As [`find`], which nobody else changes before the end of this transaction.
pub(super) async fn lock(tx: &TenantTx, user: Uuid, id: Uuid) -> Result<Option<Row>, DbErr> {
    let mut select = whole().filter(in_inbox(user).add(Column::Id.eq(id)));
    // Not the actor, whom the join may not find.
    QueryTrait::query(&mut select).lock_with_tables(LockType::Update, [Entity]);
    select.into_model().one(tx).await
}

/// Notes when a locked notification was read; `None` if it is unread again.
pub(super) async fn set_read(tx: &TenantTx, id: Uuid, at: Option<DateTime<Utc>>) -> Result<(), DbErr> {
    let change = ActiveModel { read_at: Set(at), ..Default::default() };
    Entity::update_many().set(change).filter(Column::Id.eq(id)).exec(tx).await.map(|_| ())
}

/// Takes a notification out of its inbox. That its user was told stays known for a while: the same event is not told again.
pub(super) async fn delete(tx: &TenantTx, id: Uuid) -> Result<(), DbErr> {
    let change = ActiveModel { number: Set(None), mail: Set(None), ..Default::default() };
    Entity::update_many().set(change).filter(Column::Id.eq(id)).exec(tx).await.map(|_| ())
}

/// The highest number that is unread, up to this one and, if there is such a time, from before it. Times are in the order of
/// numbers.
pub(super) async fn last_unread(
    tx: &TenantTx,
    user: Uuid,
    up_to: i64,
    before: Option<DateTime<Utc>>,
) -> Result<Option<i64>, DbErr> {
    let old = those(user, Rows::Unread)
        .add(Column::Number.lte(up_to))
        .add_option(before.map(|before| Column::CreatedAt.lte(before)));
    let last = Entity::find().select_only().column(Column::Number).filter(old);
    last.order_by_desc(Column::Number).limit(1).into_tuple().one(tx).await
}

/// Notes that all up to this number were read, and returns how many those were.
pub(super) async fn read_up_to(
    tx: &TenantTx,
    user: Uuid,
    number: i64,
    at: DateTime<Utc>,
) -> Result<u64, DbErr> {
    let change = ActiveModel { read_at: Set(Some(at)), ..Default::default() };
    let unread = those(user, Rows::Unread).add(Column::Number.lte(number));
    Ok(Entity::update_many().set(change).filter(unread).exec(tx).await?.rows_affected)
}

/// How many of the block that has this number are unread.
pub(super) async fn unread_in_block(tx: &TenantTx, user: Uuid, number: i64) -> Result<u64, DbErr> {
    let first = number / BLOCK * BLOCK;
    let block = those(user, Rows::Unread).add(Column::Number.between(first, first + BLOCK - 1));
    Entity::find().filter(block).count(tx).await
}

/// What waits for a mail and is worth it: of these kinds, and not read since.
fn waiting(user: Uuid, mail: Email, kinds: &[&str]) -> Condition {
    to_be_mailed(user, mail).add(Column::ReadAt.is_null()).add(Column::Kind.is_in(kinds.iter().copied()))
}

fn to_be_mailed(user: Uuid, mail: Email) -> Condition {
    Condition::all().add(Column::UserPk.eq(user)).add(Column::Mail.eq(mail.as_str()))
}

/// What waits for a mail, the oldest first: up to so many, and how many there are in all.
pub(super) async fn take_waiting(
    tx: &TenantTx,
    user: Uuid,
    mail: Email,
    kinds: &[&str],
    limit: u64,
) -> Result<(Vec<Row>, u64), DbErr> {
    let count = Entity::find().filter(waiting(user, mail, kinds)).count(tx).await?;
    let rows = whole()
        .filter(waiting(user, mail, kinds))
        .order_by_asc(Column::CreatedAt)
        .order_by_asc(Column::Id)
        .limit(limit)
        .into_model()
        .all(tx)
        .await?;
    Ok((rows, count))
}

/// Nothing waits for this mail any more.
pub(super) async fn forget_waiting(tx: &TenantTx, user: Uuid, mail: Email) -> Result<(), DbErr> {
    let change = ActiveModel { mail: Set(None), ..Default::default() };
    Entity::update_many().set(change).filter(to_be_mailed(user, mail)).exec(tx).await.map(|_| ())
}
