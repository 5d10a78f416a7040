//! Where operators work in the names of users.

use sea_orm_migration::{
    prelude::*,
    schema::{boolean, text, text_null, timestamp_with_time_zone, uuid, uuid_null},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(impersonations()).await?;
        // The list of a tenant's, and the clean-up of those that are over.
        for (name, columns) in [
            (
                "impersonations_tenant_id",
                &[Impersonations::TenantId, Impersonations::CreatedAt, Impersonations::Id][..],
            ),
            ("impersonations_expires_at", &[Impersonations::ExpiresAt]),
        ] {
            let mut index = Index::create().name(name).table(Impersonations::Table).to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        Ok(())
    }
}

/// No foreign key leads to the operator or the key: whether they are still there is asked at every use.
fn impersonations() -> TableCreateStatement {
    Table::create()
        .table(Impersonations::Table)
        .col(uuid(Impersonations::Id))
        .col(uuid(Impersonations::TenantId))
        .col(uuid(Impersonations::UserPk))
        .col(text(Impersonations::Username))
        .col(uuid_null(Impersonations::OperatorId))
        .col(text(Impersonations::Actor))
        .col(uuid_null(Impersonations::ApiKeyId))
        .col(text_null(Impersonations::ApiKeyName))
        .col(text(Impersonations::Reason))
        .col(boolean(Impersonations::IsReadOnly))
        .col(timestamp_with_time_zone(Impersonations::CreatedAt))
        .col(timestamp_with_time_zone(Impersonations::ExpiresAt))
        .primary_key(Index::create().name("impersonations_pkey").col(Impersonations::Id).primary())
        .foreign_key(
            ForeignKey::create()
                .name("impersonations_tenant_id_fkey")
                .from(Impersonations::Table, Impersonations::TenantId)
                .to(Alias::new("tenants"), Alias::new("id"))
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

#[derive(DeriveIden, Clone, Copy)]
enum Impersonations {
    Table,
    Id,
    TenantId,
    UserPk,
    Username,
    OperatorId,
    Actor,
    ApiKeyId,
    ApiKeyName,
    Reason,
    IsReadOnly,
    CreatedAt,
    ExpiresAt,
}
