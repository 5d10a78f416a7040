//! The rows of operations, but for their leases.

use chrono::{DateTime, Utc};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, IntoActiveModel as _, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect,
};
use tenants::entity::operations::{Column, Entity};
use uuid::Uuid;

use super::Operation;
use crate::{cleanup, http::page::direction};

/// Which operations a list shows.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// Only those of this status.
    pub status: Option<String>,
    /// Only those of this tenant.
    pub tenant: Option<Uuid>,
}

impl Filter {
    fn condition(&self) -> Condition {
        Condition::all()
            .add_option(self.status.as_deref().map(|status| Column::Status.eq(status)))
            .add_option(self.tenant.map(|tenant| Column::TenantId.eq(tenant)))
    }
}

pub(super) async fn insert(db: &impl ConnectionTrait, row: &Operation) -> Result<(), DbErr> {
    let row = row.clone().into_active_model();
    Entity::insert(row).exec_without_returning(db).await.map(|_| ())
}

/// Deletes what ended before this time, so many rows at most; how many there were.
///
/// # Errors
/// Those of the database.
pub async fn forget(db: &impl ConnectionTrait, before: DateTime<Utc>, limit: u32) -> Result<u64, DbErr> {
    // Of one that goes on it is null.
    cleanup::delete::<Entity>(db, &[Column::Id], Column::FinishedAt.lt(before), limit).await
}

/// The operation of this id.
///
/// # Errors
/// Those of the database.
pub async fn find(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<Operation>, DbErr> {
    Entity::find_by_id(id).one(db).await
}

/// How many there are.
///
/// # Errors
/// Those of the database.
pub async fn count(db: &impl ConnectionTrait, filter: &Filter) -> Result<u64, DbErr> {
    Entity::find().filter(filter.condition()).count(db).await
}

/// Some of them, by the time they were left.
///
/// # Errors
/// Those of the database.
pub async fn list(
    db: &impl ConnectionTrait,
    filter: &Filter,
    newest_first: bool,
    (offset, limit): (u64, u64),
) -> Result<Vec<Operation>, DbErr> {
    Entity::find()
        .filter(filter.condition())
        .order_by(Column::CreatedAt, direction(newest_first))
        .order_by(Column::Id, direction(newest_first))
        .offset(offset)
        .limit(limit)
        .all(db)
        .await
}
