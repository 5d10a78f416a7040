//! What is over in a tenant. Each function deletes so many rows at most and says how many there were.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, PaginatorTrait, QueryFilter, QuerySelect,
    QueryTrait,
    sea_query::{Expr, ExprTrait as _, LockBehavior, LockType, SimpleExpr},
};
use tenants::TenantTx;
use uuid::Uuid;

use crate::entity::{devices, idempotency_keys, notifications, sessions, settings, sign_ups, tokens, users};

pub(super) async fn sessions(
    db: &impl ConnectionTrait,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbErr> {
    use sessions::{Column, Entity};
    delete::<Entity>(db, &[Column::Id], Column::ExpiresAt.lte(now), limit).await
}

pub(super) async fn links(db: &impl ConnectionTrait, now: DateTime<Utc>, limit: u32) -> Result<u64, DbErr> {
    use tokens::{Column, Entity};
    delete::<Entity>(db, &[Column::Hash], Column::ExpiresAt.lte(now), limit).await
}

pub(super) async fn sign_ups(
    db: &impl ConnectionTrait,
    now: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbErr> {
    use sign_ups::{Column, Entity};
    delete::<Entity>(db, &[Column::EmailKey, Column::IsMailed], Column::ExpiresAt.lte(now), limit).await
}

pub(super) async fn devices(
    db: &impl ConnectionTrait,
    before: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbErr> {
    use devices::{Column, Entity};
    let key = [Column::UserPk, Column::Network, Column::UserAgent];
    delete::<Entity>(db, &key, Column::LastUsedAt.lt(before), limit).await
}

pub(super) async fn idempotency_keys(
    db: &impl ConnectionTrait,
    until: DateTime<Utc>,
    limit: u32,
) -> Result<u64, DbErr> {
    use idempotency_keys::{Column, Entity};
    delete::<Entity>(db, &[Column::UserPk, Column::Request], Column::CreatedAt.lte(until), limit).await
}

/// What somebody has deleted of what he was told, or was only mailed.
pub(super) async fn told(db: &impl ConnectionTrait, before: DateTime<Utc>, limit: u32) -> Result<u64, DbErr> {
    use notifications::{Column, Entity};
    let gone = Column::Number.is_null().and(Column::Mail.is_null());
    delete::<Entity>(db, &[Column::Id], gone.and(Column::CreatedAt.lt(before)), limit).await
}

/// Deletes up to `limit` rows that are over and that nobody else has locked. They are looked at again once they are
/// locked, so one that was renewed meanwhile stays.
///
/// # Errors
/// Those of the database.
pub async fn delete<E: EntityTrait>(
    db: &impl ConnectionTrait,
    key: &[E::Column],
    over: SimpleExpr,
    limit: u32,
) -> Result<u64, DbErr> {
    let columns = key.iter().map(|column| Expr::col(*column));
    let mut these = E::find().select_only().columns(key.iter().copied()).filter(over).limit(u64::from(limit));
    QueryTrait::query(&mut these).lock_with_behavior(LockType::Update, LockBehavior::SkipLocked);
    let these = Expr::tuple(columns).in_subquery(these.into_query());
    E::delete_many().filter(these).exec(db).await.map(|deleted| deleted.rows_affected)
}

/// Whether the organization was made before this time, and all the people in it are one who has never proven an address.
pub(super) async fn is_abandoned(db: &impl ConnectionTrait, before: DateTime<Utc>) -> Result<bool, DbErr> {
    let old = settings::Entity::find().filter(settings::Column::CreatedAt.lt(before)).count(db).await? > 0;
    if !old {
        return Ok(false);
    }
    let proven = Condition::all().add(users::Column::EmailVerifiedAt.is_not_null());
    let proven = users::Entity::find().filter(proven).count(db).await? > 0;
    Ok(!proven && users::Entity::find().count(db).await? == 1)
}

/// Locks the user of an organization that has one only; else there is nothing to do.
pub(super) async fn lock_only_user(tx: &TenantTx) -> Result<bool, DbErr> {
    let users: Vec<Uuid> = users::Entity::find()
        .select_only()
        .column(users::Column::Pk)
        .limit(2)
        .lock_exclusive()
        .into_tuple()
        .all(tx)
        .await?;
    Ok(users.len() == 1)
}
