//! The rows of operators and of their API keys.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use tenants::{
    CatalogTx,
    entity::{api_keys, operators},
};
use uuid::Uuid;

use crate::http::page::{Window, direction};

pub(super) async fn insert_operator(db: &impl ConnectionTrait, row: operators::Model) -> Result<(), DbErr> {
    operators::Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(|_| ())
}

pub(super) async fn insert_api_key(db: &impl ConnectionTrait, row: api_keys::Model) -> Result<(), DbErr> {
    api_keys::Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(|_| ())
}

pub(super) async fn operator(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<operators::Model>, DbErr> {
    operators::Entity::find_by_id(id).one(db).await
}

pub(super) async fn api_key(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<api_keys::Model>, DbErr> {
    api_keys::Entity::find_by_id(id).one(db).await
}

/// By the address as it is compared.
pub(super) async fn operator_by_email(
    db: &impl ConnectionTrait,
    email_key: &str,
) -> Result<Option<operators::Model>, DbErr> {
    operators::Entity::find().filter(operators::Column::EmailKey.eq(email_key)).one(db).await
}

/// An operator who is not removed before this transaction ends.
pub(super) async fn hold_operator(tx: &CatalogTx, id: Uuid) -> Result<Option<operators::Model>, DbErr> {
    operators::Entity::find_by_id(id).lock_shared().one(tx).await
}

/// All operators, none of whom is removed by anybody else before this transaction ends. In the order of their ids, so that
/// two who remove each other don't wait for each other.
pub(super) async fn lock_operators(tx: &CatalogTx) -> Result<Vec<operators::Model>, DbErr> {
    operators::Entity::find().order_by_asc(operators::Column::Id).lock_exclusive().all(tx).await
}

/// Removes an operator; the API keys go along.
pub(super) async fn delete_operator(tx: &CatalogTx, id: Uuid) -> Result<(), DbErr> {
    operators::Entity::delete_by_id(id).exec(tx).await.map(|_| ())
}

/// Keeps another hash, of the same password or of another, unless that was changed meanwhile; whether it did.
pub(super) async fn set_password(
    tx: &CatalogTx,
    operator: &operators::Model,
    password_hash: String,
) -> Result<bool, DbErr> {
    let change = operators::ActiveModel { password_hash: Set(password_hash), ..Default::default() };
    let changed = operators::Entity::update_many()
        .set(change)
        .filter(operators::Column::Id.eq(operator.id))
        .filter(operators::Column::PasswordHash.eq(&operator.password_hash))
        .exec(tx)
        .await?;
    Ok(changed.rows_affected > 0)
}

pub(super) async fn count_operators(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    operators::Entity::find().count(db).await
}

pub(super) async fn operators(
    db: &impl ConnectionTrait,
    descending: bool,
    window: &Window,
) -> Result<Vec<operators::Model>, DbErr> {
    operators::Entity::find()
        .order_by(operators::Column::CreatedAt, direction(descending))
        .order_by(operators::Column::Id, direction(descending))
        .offset(window.offset)
        .limit(window.limit)
        .all(db)
        .await
}

/// All operators, the first one first.
pub(super) async fn all_operators(db: &impl ConnectionTrait) -> Result<Vec<operators::Model>, DbErr> {
    operators::Entity::find()
        .order_by_asc(operators::Column::CreatedAt)
        .order_by_asc(operators::Column::Id)
        .all(db)
        .await
}

/// An API key and whose it is.
pub(super) type KeyRow = (api_keys::Model, operators::Model);

fn with_operator(rows: Vec<(api_keys::Model, Option<operators::Model>)>) -> Vec<KeyRow> {
    // A key without its operator is on its way out.
    rows.into_iter().filter_map(|(key, operator)| Some((key, operator?))).collect()
}

pub(super) async fn key_with_operator(
    db: &impl ConnectionTrait,
    hash: &[u8],
) -> Result<Option<KeyRow>, DbErr> {
    let rows = api_keys::Entity::find()
        .find_also_related(operators::Entity)
        .filter(api_keys::Column::KeyHash.eq(hash.to_vec()))
        .all(db)
        .await?;
    Ok(with_operator(rows).pop())
}

/// Notes that a key was seen now, unless somebody has noted so since `since`.
pub(super) async fn note_use(
    db: &impl ConnectionTrait,
    id: Uuid,
    now: DateTime<Utc>,
    since: DateTime<Utc>,
) -> Result<(), DbErr> {
    let stale = Condition::any()
        .add(api_keys::Column::LastUsedAt.is_null())
        .add(api_keys::Column::LastUsedAt.lte(since));
    let change = api_keys::ActiveModel { last_used_at: Set(Some(now)), ..Default::default() };
    api_keys::Entity::update_many()
        .set(change)
        .filter(api_keys::Column::Id.eq(id))
        .filter(stale)
        .exec(db)
        .await
        .map(|_| ())
}

pub(super) async fn count_keys(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    api_keys::Entity::find().count(db).await
}

pub(super) async fn keys(
    db: &impl ConnectionTrait,
    descending: bool,
    window: Option<&Window>,
) -> Result<Vec<KeyRow>, DbErr> {
    let rows = api_keys::Entity::find()
        .find_also_related(operators::Entity)
        .order_by(api_keys::Column::CreatedAt, direction(descending))
        .order_by(api_keys::Column::Id, direction(descending))
        .offset(window.map(|window| window.offset))
        .limit(window.map(|window| window.limit))
        .all(db)
        .await?;
    Ok(with_operator(rows))
}

/// A key that nobody deletes before this transaction ends.
pub(super) async fn hold_key(tx: &CatalogTx, id: Uuid) -> Result<Option<api_keys::Model>, DbErr> {
    api_keys::Entity::find_by_id(id).lock_shared().one(tx).await
}

/// A key that nobody else deletes before this transaction ends.
pub(super) async fn lock_key(tx: &CatalogTx, id: Uuid) -> Result<Option<api_keys::Model>, DbErr> {
    api_keys::Entity::find_by_id(id).lock_exclusive().one(tx).await
}

pub(super) async fn delete_key(tx: &CatalogTx, id: Uuid) -> Result<(), DbErr> {
    api_keys::Entity::delete_by_id(id).exec(tx).await.map(|_| ())
}
