//! The rows of sign-ups that wait.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, QueryFilter,
    QuerySelect, sea_query::OnConflict,
};
use tenants::TenantTx;

use crate::{
    auth::links::LinkToken,
    entity::sign_ups::{ActiveModel, Column, Entity, Model},
    users::identity::Email,
};

/// Writes a sign-up, in the place of the one that waits with this address.
pub(super) async fn put(tx: &TenantTx, row: Model) -> Result<(), DbErr> {
    let replaced = OnConflict::column(Column::EmailKey)
        .update_columns([
            Column::Email,
            Column::Username,
            Column::PasswordHash,
            Column::FirstName,
            Column::LastName,
            Column::TokenHash,
            Column::CreatedAt,
            Column::ExpiresAt,
        ])
        .to_owned();
    Entity::insert(row.into_active_model()).on_conflict(replaced).exec_without_returning(tx).await.map(|_| ())
}

/// The sign-up this link belongs to, if it works.
pub(super) async fn find(
    db: &impl ConnectionTrait,
    token: &LinkToken,
    now: DateTime<Utc>,
) -> Result<Option<Model>, DbErr> {
    let by_token = Entity::find().filter(Column::TokenHash.eq(token.hash().to_vec()));
    by_token.filter(Column::ExpiresAt.gt(now)).one(db).await
}

/// Takes the sign-up away this link belongs to, if it works. Of two at once, one waits for the other's commit and finds
/// nothing.
pub(super) async fn take(
    tx: &TenantTx,
    token: &LinkToken,
    now: DateTime<Utc>,
) -> Result<Option<Model>, DbErr> {
    let by_token = Entity::delete_many().filter(Column::TokenHash.eq(token.hash().to_vec()));
    Ok(by_token.filter(Column::ExpiresAt.gt(now)).exec_with_returning(tx).await?.pop())
}

/// The sign-up that waits with this address, which nobody else changes before the end of this transaction.
pub(super) async fn lock(tx: &TenantTx, email: &Email, now: DateTime<Utc>) -> Result<Option<Model>, DbErr> {
    let by_email = Entity::find_by_id(email.key()).filter(Column::ExpiresAt.gt(now));
    by_email.lock_exclusive().one(tx).await
}

/// Gives a sign-up another link. The one before stops working.
pub(super) async fn renew(
    tx: &TenantTx,
    email: &Email,
    token: &LinkToken,
    expires_at: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        token_hash: Set(token.hash().to_vec()),
        expires_at: Set(expires_at),
        ..Default::default()
    };
    let this = Column::EmailKey.eq(email.key());
    Entity::update_many().set(row).filter(this).exec(tx).await.map(|_| ())
}

/// Deletes the sign-up that waits with this address.
pub(super) async fn delete(tx: &TenantTx, email: &Email) -> Result<(), DbErr> {
    Entity::delete_by_id(email.key()).exec(tx).await.map(|_| ())
}
