//! Plans, which tenant has which, how much each tenant used a day, and how much it has.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, date, json_binary, text, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid,
    },
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [plans(), tenant_usage(), tenant_sizes()] {
            manager.create_table(table).await?;
        }
        // The list of a day.
        manager
            .create_index(
                Index::create()
                    .name("tenant_usage_day")
                    .table(TenantUsage::Table)
                    .col(TenantUsage::Day)
                    .to_owned(),
            )
            .await?;
        manager
            .get_connection()
            .execute_unprepared(
                "ALTER TABLE tenants ADD COLUMN plan text; \
                 ALTER TABLE tenants ADD CONSTRAINT tenants_plan_fkey FOREIGN KEY (plan) REFERENCES plans (name); \
                 CREATE INDEX tenants_plan ON tenants (plan) WHERE plan IS NOT NULL; \
                 INSERT INTO tenant_sizes (tenant_id, written_at) SELECT id, created_at FROM tenants",
            )
            .await?;
        Ok(())
    }
}

/// What many tenants have in common; of the plan `default`, all of them have what nothing else says.
fn plans() -> TableCreateStatement {
    Table::create()
        .table(Plans::Table)
        .col(text(Plans::Name))
        .col(json_binary(Plans::Limits).default(Expr::cust("'{}'::jsonb")))
        .col(timestamp_with_time_zone(Plans::CreatedAt))
        .primary_key(Index::create().name("plans_pkey").col(Plans::Name).primary())
        .to_owned()
}

fn tenant_usage() -> TableCreateStatement {
    Table::create()
        .table(TenantUsage::Table)
        .col(uuid(TenantUsage::TenantId))
        .col(date(TenantUsage::Day))
        .col(big_integer(TenantUsage::Requests).default(0))
        .col(big_integer(TenantUsage::Errors).default(0))
        .col(big_integer(TenantUsage::Throttled).default(0))
        .col(big_integer(TenantUsage::DatabaseMicros).default(0))
        .col(big_integer(TenantUsage::Mails).default(0))
        .primary_key(
            Index::create()
                .name("tenant_usage_pkey")
                .col(TenantUsage::TenantId)
                .col(TenantUsage::Day)
                .primary(),
        )
        .foreign_key(&mut of_tenant("tenant_usage_tenant_id_fkey", TenantUsage::Table, TenantUsage::TenantId))
        .to_owned()
}

fn tenant_sizes() -> TableCreateStatement {
    Table::create()
        .table(TenantSizes::Table)
        .col(uuid(TenantSizes::TenantId))
        .col(timestamp_with_time_zone(TenantSizes::WrittenAt))
        .col(timestamp_with_time_zone_null(TenantSizes::MeasuredAt))
        .col(big_integer_null(TenantSizes::Users))
        .col(big_integer_null(TenantSizes::Rows))
        .col(big_integer_null(TenantSizes::Bytes))
        .primary_key(Index::create().name("tenant_sizes_pkey").col(TenantSizes::TenantId).primary())
        .foreign_key(&mut of_tenant("tenant_sizes_tenant_id_fkey", TenantSizes::Table, TenantSizes::TenantId))
        .to_owned()
}

fn of_tenant(name: &str, table: impl IntoTableRef, column: impl IntoIden) -> ForeignKeyCreateStatement {
    ForeignKey::create()
        .name(name)
        .from(table, column)
        .to(Tenants::Table, Tenants::Id)
        .on_delete(ForeignKeyAction::Cascade)
        .to_owned()
}

#[derive(DeriveIden)]
enum Plans {
    Table,
    Name,
    Limits,
    CreatedAt,
}

#[derive(DeriveIden)]
enum TenantUsage {
    Table,
    TenantId,
    Day,
    Requests,
    Errors,
    Throttled,
    DatabaseMicros,
    Mails,
}

#[derive(DeriveIden)]
enum TenantSizes {
    Table,
    TenantId,
    WrittenAt,
    MeasuredAt,
    Users,
    Rows,
    Bytes,
}

#[derive(DeriveIden)]
enum Tenants {
    Table,
    Id,
}
