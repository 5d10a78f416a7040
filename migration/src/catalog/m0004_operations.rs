//! What outlasts a request: operations, with how far they are and what came of them; and of a tenant that is being purged,
//! what of it is gone already.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, boolean, integer, json_binary, json_binary_null, text, text_null,
        timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(operations()).await?;
        // The list, and the list of one tenant; total, because ties are broken by the key.
        for (name, columns) in [
            ("operations_created_at", &[Operations::CreatedAt, Operations::Id][..]),
            ("operations_tenant_id", &[Operations::TenantId, Operations::CreatedAt, Operations::Id]),
        ] {
            let mut index = Index::create().name(name).table(Operations::Table).to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        let under_way = || Expr::col(Operations::Status).is_in(["queued", "running"]);
        manager
            .create_index(
                Index::create()
                    .name("operations_under_way")
                    .table(Operations::Table)
                    .col(Operations::CreatedAt)
                    .and_where(under_way())
                    .to_owned(),
            )
            .await?;
        // The clean-up looks for those that ended long ago.
        manager
            .create_index(
                Index::create()
                    .name("operations_finished_at")
                    .table(Operations::Table)
                    .col(Operations::FinishedAt)
                    .and_where(Expr::col(Operations::FinishedAt).is_not_null())
                    .to_owned(),
            )
            .await?;
        // Two that change the same tenant as a whole would each undo what the other does.
        manager
            .create_index(
                Index::create()
                    .name("operations_exclusive_key")
                    .table(Operations::Table)
                    .col(Operations::TenantId)
                    .unique()
                    .and_where(under_way().and(Expr::col(Operations::IsExclusive)))
                    .to_owned(),
            )
            .await?;
        for statement in [
            "ALTER TABLE tenants DROP CONSTRAINT tenants_status_check",
            "ALTER TABLE tenants ADD CONSTRAINT tenants_status_check \
             CHECK (status IN ('active', 'suspended', 'deleting', 'purging'))",
            "ALTER TABLE tenants ADD COLUMN purged jsonb",
        ] {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

/// No foreign key leads out of it: what was done to a tenant can be looked up when the tenant is gone.
fn operations() -> TableCreateStatement {
    Table::create()
        .table(Operations::Table)
        .col(uuid(Operations::Id))
        .col(text(Operations::Kind))
        .col(uuid_null(Operations::TenantId))
        .col(text_null(Operations::TenantSlug))
        .col(boolean(Operations::IsExclusive))
        .col(json_binary(Operations::Params))
        .col(text(Operations::Status))
        .col(big_integer(Operations::Done).default(0))
        .col(big_integer_null(Operations::Total))
        .col(json_binary_null(Operations::Result))
        .col(text_null(Operations::Error))
        .col(uuid_null(Operations::OperatorId))
        .col(text(Operations::Actor))
        .col(uuid_null(Operations::ApiKeyId))
        .col(text_null(Operations::ApiKeyName))
        .col(text_null(Operations::Ip))
        .col(integer(Operations::Attempts).default(0))
        .col(timestamp_with_time_zone_null(Operations::LeasedUntil))
        .col(timestamp_with_time_zone(Operations::CreatedAt))
        .col(timestamp_with_time_zone_null(Operations::StartedAt))
        .col(timestamp_with_time_zone_null(Operations::FinishedAt))
        .primary_key(Index::create().name("operations_pkey").col(Operations::Id).primary())
        .check(Check::named(
            Alias::new("operations_status_check"),
            Expr::col(Operations::Status).is_in(["queued", "running", "succeeded", "failed"]),
        ))
        .to_owned()
}

#[derive(DeriveIden, Clone, Copy)]
enum Operations {
    Table,
    Id,
    Kind,
    TenantId,
    TenantSlug,
    IsExclusive,
    Params,
    Status,
    Done,
    Total,
    Result,
    Error,
    OperatorId,
    Actor,
    ApiKeyId,
    ApiKeyName,
    Ip,
    Attempts,
    LeasedUntil,
    CreatedAt,
    StartedAt,
    FinishedAt,
}
