//! What migrations of the fleet did, tenant by tenant, for whoever has to go on with one that stopped.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, double_null, integer, small_integer, text, text_null, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid,
    },
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(migration_runs()).await?;
        manager.create_table(migration_items()).await?;
        manager
            .create_index(
                Index::create()
                    .name("migration_runs_started_at")
                    .table(MigrationRuns::Table)
                    .col(MigrationRuns::StartedAt)
                    .col(MigrationRuns::Id)
                    .to_owned(),
            )
            .await?;
        // An item is changed twice, when it is taken and when it is done. With room on its page and no index on what is
        // changed, neither touches an index.
        manager
            .get_connection()
            .execute_unprepared("ALTER TABLE migration_items SET (fillfactor = 50)")
            .await?;
        Ok(())
    }
}

/// The numbers are kept beside the items, so that a list of runs counts nothing.
fn migration_runs() -> TableCreateStatement {
    Table::create()
        .table(MigrationRuns::Table)
        .col(uuid(MigrationRuns::Id))
        .col(integer(MigrationRuns::Target))
        .col(text(MigrationRuns::Status))
        .col(text_null(MigrationRuns::Reason))
        .col(big_integer(MigrationRuns::Canaries).default(0))
        .col(ColumnDef::new(MigrationRuns::WaveSize).big_integer().null())
        .col(text(MigrationRuns::StopAfter))
        .col(small_integer(MigrationRuns::Parallel))
        .col(text(MigrationRuns::Actor))
        .col(big_integer(MigrationRuns::Process))
        .col(big_integer(MigrationRuns::Total).default(0))
        .col(big_integer(MigrationRuns::Done).default(0))
        .col(big_integer(MigrationRuns::Failed).default(0))
        .col(big_integer(MigrationRuns::Skipped).default(0))
        .col(timestamp_with_time_zone(MigrationRuns::StartedAt))
        .col(timestamp_with_time_zone_null(MigrationRuns::FinishedAt))
        .primary_key(Index::create().name("migration_runs_pkey").col(MigrationRuns::Id).primary())
        .check(Check::named(
            Alias::new("migration_runs_status_check"),
            Expr::cust("status IN ('running', 'succeeded', 'failed', 'stopped', 'abandoned')"),
        ))
        .to_owned()
}

/// Without a foreign key to the tenant: an item outlives it, and says by itself what it was called.
fn migration_items() -> TableCreateStatement {
    Table::create()
        .table(MigrationItems::Table)
        .col(uuid(MigrationItems::RunId))
        .col(big_integer(MigrationItems::Position))
        .col(big_integer(MigrationItems::Wave))
        .col(uuid(MigrationItems::TenantId))
        .col(text(MigrationItems::TenantSlug))
        .col(integer(MigrationItems::FromVersion))
        .col(integer(MigrationItems::ToVersion))
        .col(text(MigrationItems::Status))
        .col(integer(MigrationItems::Attempts).default(0))
        .col(integer(MigrationItems::Failures).default(0))
        .col(text_null(MigrationItems::Error))
        .col(double_null(MigrationItems::DurationMs))
        .primary_key(
            Index::create()
                .name("migration_items_pkey")
                .col(MigrationItems::RunId)
                .col(MigrationItems::Position)
                .primary(),
        )
        .foreign_key(
            ForeignKey::create()
                .name("migration_items_run_id_fkey")
                .from(MigrationItems::Table, MigrationItems::RunId)
                .to(MigrationRuns::Table, MigrationRuns::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .check(Check::named(
            Alias::new("migration_items_status_check"),
            Expr::cust("status IN ('pending', 'running', 'done', 'failed', 'skipped')"),
        ))
        .to_owned()
}

#[derive(DeriveIden)]
enum MigrationRuns {
    Table,
    Id,
    Target,
    Status,
    Reason,
    Canaries,
    WaveSize,
    StopAfter,
    Parallel,
    Actor,
    Process,
    Total,
    Done,
    Failed,
    Skipped,
    StartedAt,
    FinishedAt,
}

#[derive(DeriveIden)]
enum MigrationItems {
    Table,
    RunId,
    Position,
    Wave,
    TenantId,
    TenantSlug,
    FromVersion,
    ToVersion,
    Status,
    Attempts,
    Failures,
    Error,
    DurationMs,
}
