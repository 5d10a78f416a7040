//! Tenants whose mails are held back, whose place which tenant took, and how often which tenant is exported.

use sea_orm_migration::{
    prelude::*,
    schema::{integer, timestamp_with_time_zone, uuid, uuid_null},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(export_schedules()).await?;
        manager.create_table(predecessors()).await?;
        manager
            .get_connection()
            .execute_unprepared(
                "ALTER TABLE tenants ADD COLUMN mails_held boolean NOT NULL DEFAULT false; \
                 ALTER TABLE tenants ADD COLUMN export_taken_at timestamptz",
            )
            .await?;
        Ok(())
    }
}

/// One for all tenants, which has none, and one for each that has another. Every 0 hours means never.
fn export_schedules() -> TableCreateStatement {
    Table::create()
        .table(ExportSchedules::Table)
        .col(uuid(ExportSchedules::Id))
        .col(uuid_null(ExportSchedules::TenantId))
        .col(integer(ExportSchedules::EveryHours))
        .col(integer(ExportSchedules::Keep))
        .col(timestamp_with_time_zone(ExportSchedules::CreatedAt))
        .primary_key(Index::create().name("export_schedules_pkey").col(ExportSchedules::Id).primary())
        .index(Index::create().name("export_schedules_tenant_key").col(ExportSchedules::TenantId).unique())
        .check(Check::named(
            Alias::new("export_schedules_every_check"),
            Expr::col(ExportSchedules::EveryHours).gte(0),
        ))
        .check(Check::named(
            Alias::new("export_schedules_keep_check"),
            Expr::col(ExportSchedules::Keep).gt(0),
        ))
        .foreign_key(
            ForeignKey::create()
                .name("export_schedules_tenant_id_fkey")
                .from(ExportSchedules::Table, ExportSchedules::TenantId)
                .to(Tenants::Table, Tenants::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// All tenants whose place a tenant took, one after the other, in restores. They may be gone by now: their archives are not.
fn predecessors() -> TableCreateStatement {
    Table::create()
        .table(Predecessors::Table)
        .col(uuid(Predecessors::TenantId))
        .col(uuid(Predecessors::Predecessor))
        .primary_key(
            Index::create()
                .name("predecessors_pkey")
                .col(Predecessors::TenantId)
                .col(Predecessors::Predecessor)
                .primary(),
        )
        .foreign_key(
            ForeignKey::create()
                .name("predecessors_tenant_id_fkey")
                .from(Predecessors::Table, Predecessors::TenantId)
                .to(Tenants::Table, Tenants::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

#[derive(DeriveIden)]
enum Tenants {
    Table,
    Id,
}

#[derive(DeriveIden)]
enum ExportSchedules {
    Table,
    Id,
    TenantId,
    EveryHours,
    Keep,
    CreatedAt,
}

#[derive(DeriveIden)]
enum Predecessors {
    Table,
    TenantId,
    Predecessor,
}
