//! The rows of both logs.

use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use tenants::entity::audit as installation;
use uuid::Uuid;

use crate::{
    entity::{audit, users},
    http::page::{Window, direction},
};

pub(super) async fn insert(db: &impl ConnectionTrait, row: installation::Model) -> Result<(), DbErr> {
    installation::Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(|_| ())
}

pub(super) async fn insert_own(db: &impl ConnectionTrait, row: audit::Model) -> Result<(), DbErr> {
    audit::Entity::insert(row.into_active_model()).exec_without_returning(db).await.map(|_| ())
}

fn of_tenant(tenant: Option<Uuid>) -> Condition {
    Condition::all().add_option(tenant.map(|tenant| installation::Column::TenantId.eq(tenant)))
}

pub(super) async fn count(db: &impl ConnectionTrait, tenant: Option<Uuid>) -> Result<u64, DbErr> {
    installation::Entity::find().filter(of_tenant(tenant)).count(db).await
}

pub(super) async fn list(
    db: &impl ConnectionTrait,
    tenant: Option<Uuid>,
    descending: bool,
    window: &Window,
) -> Result<Vec<installation::Model>, DbErr> {
    installation::Entity::find()
        .filter(of_tenant(tenant))
        .order_by(installation::Column::CreatedAt, direction(descending))
        .order_by(installation::Column::Id, direction(descending))
        .offset(window.offset)
        .limit(window.limit)
        .all(db)
        .await
}

/// The latest entries of the installation's log, or of what it says of one tenant; the newest first.
///
/// # Errors
/// Those of the database.
pub async fn latest(
    db: &impl ConnectionTrait,
    tenant: Option<Uuid>,
    limit: u64,
) -> Result<Vec<installation::Model>, DbErr> {
    installation::Entity::find()
        .filter(of_tenant(tenant))
        .order_by_desc(installation::Column::CreatedAt)
        .order_by_desc(installation::Column::Id)
        .limit(limit)
        .all(db)
        .await
}

/// The last entry that tells of this action, of a tenant of this id or slug.
///
/// # Errors
/// Those of the database.
pub async fn last_of(
    db: &impl ConnectionTrait,
    action: super::Action,
    id: Option<Uuid>,
    slug: Option<&str>,
) -> Result<Option<installation::Model>, DbErr> {
    installation::Entity::find()
        .filter(of_tenant(id))
        .filter(Condition::all().add_option(slug.map(|slug| installation::Column::TenantSlug.eq(slug))))
        .filter(installation::Column::Action.eq(action.as_str()))
        .order_by_desc(installation::Column::CreatedAt)
        .order_by_desc(installation::Column::Id)
        .one(db)
        .await
}

pub(super) async fn count_own(db: &impl ConnectionTrait) -> Result<u64, DbErr> {
    audit::Entity::find().count(db).await
}

/// Entries of the tenant's own log, and who did what they tell of.
pub(super) async fn list_own(
    db: &impl ConnectionTrait,
    descending: bool,
    window: &Window,
) -> Result<Vec<(audit::Model, Option<users::Model>)>, DbErr> {
    audit::Entity::find()
        .find_also_related(users::Entity)
        .order_by(audit::Column::CreatedAt, direction(descending))
        .order_by(audit::Column::Id, direction(descending))
        .offset(window.offset)
        .limit(window.limit)
        .all(db)
        .await
}
