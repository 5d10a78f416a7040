//! The rows of sign-ups that wait.

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, QueryFilter,
    QueryOrder, QuerySelect, sea_query::OnConflict,
};
use tenants::TenantTx;

use crate::{
    auth::links::LinkToken,
    entity::sign_ups::{ActiveModel, Column, Entity, Model},
    users::identity::Email,
};

/// Writes a sign-up whose mail has yet to go out, in the place of another such one of this address.
pub(super) async fn put(tx: &TenantTx, row: Model) -> Result<(), DbErr> {
    let replaced = OnConflict::columns([Column::EmailKey, Column::IsMailed])
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

/// The sign-ups that wait with this address, which nobody else changes before the end of this transaction: first the one
/// whose link was mailed. Who locks both locks them in this order.
pub(super) async fn lock(tx: &TenantTx, email: &Email, now: DateTime<Utc>) -> Result<Vec<Model>, DbErr> {
    let by_email = Entity::find().filter(Column::EmailKey.eq(email.key())).filter(Column::ExpiresAt.gt(now));
    by_email.order_by_desc(Column::IsMailed).lock_exclusive().all(tx).await
}

/// Gives a sign-up that is locked the link that is mailed for it. The one before stops working, with the sign-up that it
/// belongs to.
pub(super) async fn give_link(
    tx: &TenantTx,
    row: &Model,
    token: &LinkToken,
    expires_at: DateTime<Utc>,
) -> Result<(), DbErr> {
    let this = Column::EmailKey.eq(row.email_key.as_str());
    if !row.is_mailed {
        Entity::delete_many().filter(this.clone()).filter(Column::IsMailed.eq(true)).exec(tx).await?;
    }
    let linked = ActiveModel {
        is_mailed: Set(true),
        token_hash: Set(token.hash().to_vec()),
        expires_at: Set(expires_at),
        ..Default::default()
    };
    let this = Entity::update_many().set(linked).filter(this).filter(Column::IsMailed.eq(row.is_mailed));
    this.exec(tx).await.map(|_| ())
}

/// Deletes the sign-ups that wait with this address.
pub(super) async fn delete(tx: &TenantTx, email: &Email, now: DateTime<Utc>) -> Result<(), DbErr> {
    lock(tx, email, now).await?;
    Entity::delete_many().filter(Column::EmailKey.eq(email.key())).exec(tx).await.map(|_| ())
}
