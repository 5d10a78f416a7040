//! What becomes of an account after it was made, but for its profile.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use tenants::TenantTx;
use uuid::Uuid;

use super::{Account, UserError, identity::Email};
use crate::entity::users::{ActiveModel, Column, Entity, Role};

/// The hash of a user's password; `None` if the user is gone.
///
/// # Errors
/// Those of the database.
pub async fn password_hash(db: &impl ConnectionTrait, pk: Uuid) -> Result<Option<String>, DbErr> {
    Entity::find_by_id(pk).select_only().column(Column::PasswordHash).into_tuple().one(db).await
}

/// The user with this address, if there is one who may sign in.
///
/// # Errors
/// Those of the database.
pub async fn find_by_email(db: &impl ConnectionTrait, email: &Email) -> Result<Option<Account>, DbErr> {
    Entity::find()
        .filter(Column::EmailKey.eq(email.key()))
        .filter(Column::IsActive.eq(true))
        .into_partial_model::<Account>()
        .one(db)
        .await
}

/// Whether somebody else than this user has the address.
///
/// # Errors
/// Those of the database.
pub async fn is_email_taken(db: &impl ConnectionTrait, email: &Email, by_not: Uuid) -> Result<bool, DbErr> {
    let others = Entity::find().filter(Column::EmailKey.eq(email.key())).filter(Column::Pk.ne(by_not));
    Ok(others.count(db).await? > 0)
}

/// Gives a user that is locked another address, which has just been proven to be his.
///
/// # Errors
/// Somebody else has it, or those of the database.
pub async fn set_email(
    tx: &TenantTx,
    pk: Uuid,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<Account, UserError> {
    let row = ActiveModel {
        pk: Set(pk),
        email: Set(email.as_str().to_owned()),
        email_key: Set(email.key().to_owned()),
        email_verified_at: Set(Some(now)),
        ..Default::default()
    };
    Ok(Entity::update(row).exec(tx).await?.into())
}

/// Whether this user is the only owner who may sign in. Asked before anything else of the transaction locks a user: of two
/// owners who leave at once, one waits here for the other's commit and then is the last, because all lock all owners and
/// in the same order.
///
/// # Errors
/// Those of the database.
pub async fn is_last_owner(tx: &TenantTx, pk: Uuid) -> Result<bool, DbErr> {
    let owners: Vec<Uuid> = Entity::find()
        .select_only()
        .column(Column::Pk)
        .filter(Column::Role.eq(Role::Owner))
        .filter(Column::IsActive.eq(true))
        .order_by_asc(Column::Pk)
        .lock_exclusive()
        .into_tuple()
        .all(tx)
        .await?;
    Ok(owners == [pk])
}

/// Deletes a user, and with him by the database's own rules what belongs to nobody else: sessions, links, devices. What
/// others go on with stays without its author.
///
/// # Errors
/// Those of the database.
pub async fn delete(tx: &TenantTx, pk: Uuid) -> Result<(), DbErr> {
    Entity::delete_by_id(pk).exec(tx).await.map(|_| ())
}
