//! How often which tenant is exported, and whose turn it is.

use chrono::{DateTime, Utc};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, FromQueryResult, Statement};
use uuid::Uuid;

use crate::db::CatalogTx;

/// How often a tenant is exported, or all that have no schedule of their own.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, FromQueryResult)]
pub struct ExportSchedule {
    /// Its id.
    pub id: Uuid,
    /// The tenant's id; `None` for all that have no schedule of their own.
    pub tenant: Option<Uuid>,
    /// The tenant's slug.
    pub slug: Option<String>,
    /// Every so many hours; 0 means never.
    pub every_hours: i32,
    /// How many archives of a tenant are kept.
    pub keep: i32,
    /// When it was set first.
    pub created_at: DateTime<Utc>,
}

/// A schedule to be set.
#[derive(Clone, Copy, Debug)]
pub struct NewSchedule {
    /// The id that it gets if there is none yet.
    pub id: Uuid,
    /// The tenant's id; `None` for all that have no schedule of their own.
    pub tenant: Option<Uuid>,
    /// Every so many hours; 0 means never.
    pub every_hours: i32,
    /// How many archives of a tenant are kept.
    pub keep: i32,
    /// The time.
    pub now: DateTime<Utc>,
}

/// A tenant that is to be exported now.
#[derive(Clone, Debug, PartialEq, Eq, FromQueryResult)]
pub struct Turn {
    /// The tenant's id.
    pub tenant: Uuid,
    /// Its slug.
    pub slug: String,
    /// How many of its archives are kept.
    pub keep: i32,
}

const SHOWN: &str = "s.id, s.tenant_id AS tenant, \
     (SELECT slug FROM tenantry.tenants t WHERE t.id = s.tenant_id) AS slug, s.every_hours, s.keep, s.created_at";

/// All schedules, the one for all tenants first.
///
/// # Errors
/// Those of the database.
pub async fn schedules(db: &impl ConnectionTrait) -> Result<Vec<ExportSchedule>, DbErr> {
    let sql = format!("SELECT {SHOWN} FROM tenantry.export_schedules s ORDER BY s.tenant_id NULLS FIRST");
    ExportSchedule::find_by_statement(Statement::from_string(DbBackend::Postgres, sql)).all(db).await
}

/// Sets a schedule, in place of the one before.
///
/// # Errors
/// Those of the database; a foreign key's, where there is no such tenant.
pub async fn set_schedule(tx: &CatalogTx, new: NewSchedule) -> Result<ExportSchedule, DbErr> {
    let NewSchedule { id, tenant, every_hours, keep, now } = new;
    // No tenant is like no other to a unique constraint: whoever sets the one for all takes the table for a moment.
    tx.batch("LOCK TABLE tenantry.export_schedules IN SHARE ROW EXCLUSIVE MODE").await?;
    let update = format!(
        "UPDATE tenantry.export_schedules s SET every_hours = $2, keep = $3 \
         WHERE s.tenant_id IS NOT DISTINCT FROM $1::uuid RETURNING {SHOWN}"
    );
    let values = [tenant.into(), every_hours.into(), keep.into()];
    let update = Statement::from_sql_and_values(DbBackend::Postgres, update, values);
    if let Some(set) = ExportSchedule::find_by_statement(update).one(tx).await? {
        return Ok(set);
    }
    let insert = format!(
        "INSERT INTO tenantry.export_schedules AS s (id, tenant_id, every_hours, keep, created_at) \
         VALUES ($1, $2, $3, $4, $5) RETURNING {SHOWN}"
    );
    let values = [id.into(), tenant.into(), every_hours.into(), keep.into(), now.into()];
    let insert = Statement::from_sql_and_values(DbBackend::Postgres, insert, values);
    let set = ExportSchedule::find_by_statement(insert).one(tx).await?;
    set.ok_or_else(|| DbErr::RecordNotInserted)
}

/// Removes a schedule. `None` if there is none of this id.
///
/// # Errors
/// Those of the database.
pub async fn remove_schedule(db: &impl ConnectionTrait, id: Uuid) -> Result<Option<ExportSchedule>, DbErr> {
    let sql = format!("DELETE FROM tenantry.export_schedules s WHERE s.id = $1 RETURNING {SHOWN}");
    let statement = Statement::from_sql_and_values(DbBackend::Postgres, sql, [id.into()]);
    ExportSchedule::find_by_statement(statement).one(db).await
}

/// Takes the tenants whose turn it is, the one that waits for longest first, and notes that they have had it: as many as
/// are missing to `at_once` operations of this kind. In the transaction that leaves the operations.
///
/// # Errors
/// Those of the database.
pub async fn take_due(
    tx: &CatalogTx,
    kind: &str,
    now: DateTime<Utc>,
    at_once: u32,
) -> Result<Vec<Turn>, DbErr> {
    let statement = Statement::from_sql_and_values(
        DbBackend::Postgres,
        "WITH due AS ( \
             SELECT t.id, coalesce(own.keep, everybody.keep) AS keep FROM tenantry.tenants t \
             LEFT JOIN tenantry.export_schedules own ON own.tenant_id = t.id \
             LEFT JOIN tenantry.export_schedules everybody ON everybody.tenant_id IS NULL \
             WHERE t.status IN ('active', 'suspended') AND coalesce(own.every_hours, everybody.every_hours) > 0 \
             AND (t.export_taken_at IS NULL OR t.export_taken_at \
                 + make_interval(hours => coalesce(own.every_hours, everybody.every_hours)) <= $1) \
             ORDER BY t.export_taken_at NULLS FIRST, t.id \
             LIMIT greatest(0, $2 - (SELECT count(*) FROM tenantry.operations o \
                 WHERE o.kind = $3 AND o.status IN ('queued', 'running'))) \
             FOR NO KEY UPDATE OF t SKIP LOCKED) \
         UPDATE tenantry.tenants t SET export_taken_at = $1 FROM due WHERE t.id = due.id \
         RETURNING t.id AS tenant, t.slug, due.keep",
        [now.into(), i64::from(at_once).into(), kind.into()],
    );
    Turn::find_by_statement(statement).all(tx).await
}
