//! The catalog's rows of who works in whose name.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, QueryFilter, QueryOrder,
};
use tenants::entity::impersonations::{Column, Entity, Model};
use uuid::Uuid;

pub(super) async fn insert(db: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(|_| ())
}

pub(super) async fn find(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// Those of a tenant that have not ended by themselves, the newest first.
pub(super) async fn of_tenant(
    db: &impl ConnectionTrait,
    tenant: Uuid,
    now: DateTime<Utc>,
) -> Result<Vec<Model>, DbErr> {
    Entity::find()
        .filter(Column::TenantId.eq(tenant))
        .filter(Column::ExpiresAt.gt(now))
        .order_by_desc(Column::CreatedAt)
        .order_by_desc(Column::Id)
        .all(db)
        .await
}

pub(super) async fn delete(db: &impl ConnectionTrait, id: Uuid) -> Result<(), DbErr> {
    Entity::delete_by_id(id).exec(db).await.map(|_| ())
}

/// Deletes what an operator has begun who was signed in.
pub(super) async fn delete_of_operator(db: &impl ConnectionTrait, operator: Uuid) -> Result<(), DbErr> {
    let of_tokens =
        Entity::delete_many().filter(Column::OperatorId.eq(operator)).filter(Column::ApiKeyId.is_null());
    of_tokens.exec(db).await.map(|_| ())
}

/// Deletes those that have ended by themselves.
pub(super) async fn delete_over(db: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::ExpiresAt.lte(now)).exec(db).await.map(|_| ())
}
