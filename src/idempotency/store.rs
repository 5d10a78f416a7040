//! The rows of keys.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, QueryFilter,
    sea_query::OnConflict,
};
use tenants::TenantTx;
use uuid::Uuid;

use crate::{
    entity::idempotency_keys::{Column, Entity, Model},
    http::idempotency::Fingerprint,
};

/// What is kept of a request of this user that came after this time.
pub(super) async fn find(
    db: &impl ConnectionTrait,
    user: Uuid,
    request: &[u8; 32],
    after: DateTime<Utc>,
) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id((user, request.to_vec())).filter(Column::CreatedAt.gt(after)).one(db).await
}

/// Keeps it, in the place of one that is too old to count.
pub(super) async fn keep(
    tx: &TenantTx,
    user: Uuid,
    fingerprint: &Fingerprint,
    made: Uuid,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = Model {
        user_pk: user,
        request: fingerprint.request.to_vec(),
        body_hash: fingerprint.body.to_vec(),
        created: made,
        created_at: now,
    };
    let replaced = OnConflict::columns([Column::UserPk, Column::Request])
        .update_columns([Column::BodyHash, Column::Created, Column::CreatedAt])
        .to_owned();
    Entity::insert(row.into_active_model()).on_conflict(replaced).exec_without_returning(tx).await.map(|_| ())
}
