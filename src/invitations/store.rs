//! The rows of invitations.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, Order as Direction,
    PaginatorTrait, QueryFilter, QueryOrder, QuerySelect,
};
use tenants::TenantTx;
use uuid::Uuid;

use crate::{
    auth::links::LinkToken,
    entity::invitations::{Column, Entity, Model},
    http::page::{Order, Window},
    users::identity::Email,
};

/// Deletes the invitation of this address.
pub(super) async fn delete_by_email(tx: &TenantTx, email: &Email) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::EmailKey.eq(email.key())).exec(tx).await.map(|_| ())
}

pub(super) async fn insert(tx: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    Entity::insert(row.into_active_model()).exec_without_returning(tx).await.map(|_| ())
}

/// Whether there was one.
pub(super) async fn delete(db: &impl ConnectionTrait, id: Uuid) -> Result<bool, DbErr> {
    Entity::delete_by_id(id).exec(db).await.map(|deleted| deleted.rows_affected > 0)
}

pub(super) async fn count(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    Entity::find().count(db).await
}

pub(super) async fn list(
    db: &impl ConnectionTrait,
    order: &[Order],
    window: &Window,
) -> Result<Vec<Model>, DbErr> {
    // The one field there is to order by; ties, as everywhere, in its direction.
    let descending = order.first().is_some_and(|order| order.descending);
    let direction = if descending { Direction::Desc } else { Direction::Asc };
    Entity::find()
        .order_by(Column::CreatedAt, direction.clone())
        .order_by(Column::Id, direction)
        .offset(window.offset)
        .limit(window.limit)
        .all(db)
        .await
}

/// The invitation this link belongs to, if it works.
pub(super) async fn find(
    db: &impl ConnectionTrait,
    token: &LinkToken,
    now: DateTime<Utc>,
) -> Result<Option<Model>, DbErr> {
    let by_token = Entity::find().filter(Column::TokenHash.eq(token.hash().to_vec()));
    by_token.filter(Column::ExpiresAt.gt(now)).one(db).await
}

/// Takes the invitation away this link belongs to, if it works. Of two at once, one waits for the other's commit and finds
/// nothing.
pub(super) async fn take(
    tx: &TenantTx,
    token: &LinkToken,
    now: DateTime<Utc>,
) -> Result<Option<Model>, DbErr> {
    let by_token = Entity::delete_many().filter(Column::TokenHash.eq(token.hash().to_vec()));
    Ok(by_token.filter(Column::ExpiresAt.gt(now)).exec_with_returning(tx).await?.pop())
}
