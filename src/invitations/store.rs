//! The rows of invitations.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, QueryFilter, QueryOrder,
    QuerySelect, sea_query::ExprTrait as _,
};
use tenants::{
    TenantTx,
    lists::{self, List},
};
use uuid::Uuid;

use crate::{
    auth::links::LinkToken,
    cleanup,
    entity::invitations::{Column, Entity, Model},
    http::page::{self, Window},
    users::identity::Email,
};

/// What invitations are counted by.
pub(super) fn all() -> List {
    List::the("invitations")
}

/// Deletes the invitation of this address; it is the one that is returned.
pub(super) async fn delete_by_email(tx: &TenantTx, email: &Email) -> Result<Option<Model>, DbErr> {
    let of_address = Entity::delete_many().filter(Column::EmailKey.eq(email.key()));
    Ok(of_address.exec_with_returning(tx).await?.pop())
}

/// Deletes the invitation by which an operator has asked the owner in, if nobody has followed it; whose address it was for.
pub(super) async fn delete_by_operator(db: &impl ConnectionTrait) -> Result<Option<String>, DbErr> {
    let deleted = Entity::delete_many().filter(Column::ByOperator.eq(true)).exec_with_returning(db).await?;
    Ok(deleted.into_iter().next().map(|deleted| deleted.email))
}

/// Deletes those that are over and that nobody else has locked. But for an operator's: nobody is in that organization to
/// invite its owner again, and whoever does has to know whom.
pub(super) async fn delete_expired(tx: &TenantTx, now: DateTime<Utc>, limit: u32) -> Result<u64, DbErr> {
    let over = Column::ExpiresAt.lte(now).and(Column::ByOperator.eq(false));
    cleanup::delete::<Entity>(tx, &[Column::Id], over, limit).await
}

pub(super) async fn insert(tx: &impl ConnectionTrait, row: Model) -> Result<(), DbErr> {
    Entity::insert(row.into_active_model()).exec_without_returning(tx).await.map(|_| ())
}

pub(super) async fn find_by_id(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// Deletes an invitation; it is the one that is returned.
pub(super) async fn delete(tx: &TenantTx, id: Uuid) -> Result<Option<Model>, DbErr> {
    Entity::delete_by_id(id).exec_with_returning(tx).await
}

pub(super) async fn count(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    lists::count(db, &[all()]).await
}

pub(super) async fn list(
    db: &impl ConnectionTrait,
    descending: bool,
    window: &Window,
) -> Result<Vec<Model>, DbErr> {
    let direction = page::direction(descending);
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
