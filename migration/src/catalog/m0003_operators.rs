//! What operators do, for ever; slugs that were given up and are not to be had yet; and what a tenant was before it was
//! deleted, which is what it is again when it is restored.

use sea_orm_migration::{
    prelude::*,
    schema::{json_binary, text, text_null, timestamp_with_time_zone, uuid, uuid_null},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [audit(), released_slugs()] {
            manager.create_table(table).await?;
        }
        // The list, and the list of one tenant, in both directions; total, because ties are broken by the key.
        for (name, columns) in [
            ("audit_created_at", &[Audit::CreatedAt, Audit::Id][..]),
            ("audit_tenant_id", &[Audit::TenantId, Audit::CreatedAt, Audit::Id]),
            // Which tenants had a slug: one that was purged is found by the name people know.
            ("audit_tenant_slug", &[Audit::TenantSlug, Audit::TenantId]),
        ] {
            let mut index = Index::create().name(name).table(Audit::Table).to_owned();
            for column in columns {
                index.col(*column);
            }
            manager.create_index(index).await?;
        }
        manager
            .get_connection()
            .execute_unprepared(
                "ALTER TABLE tenants ADD COLUMN status_before text; \
                 ALTER TABLE tenants ADD CONSTRAINT tenants_status_before_check \
                     CHECK (status_before IN ('active', 'suspended'))",
            )
            .await?;
        Ok(())
    }
}

/// No foreign key leads out of it: an entry outlives its operator, its API key and its tenant, and says by itself who
/// and what they were.
fn audit() -> TableCreateStatement {
    Table::create()
        .table(Audit::Table)
        .col(uuid(Audit::Id))
        .col(uuid_null(Audit::OperatorId))
        .col(text(Audit::Actor))
        .col(uuid_null(Audit::ApiKeyId))
        .col(text_null(Audit::ApiKeyName))
        .col(text(Audit::Action))
        .col(uuid_null(Audit::TenantId))
        .col(text_null(Audit::TenantSlug))
        .col(json_binary(Audit::Detail))
        .col(text_null(Audit::Ip))
        .col(timestamp_with_time_zone(Audit::CreatedAt))
        .primary_key(Index::create().name("audit_pkey").col(Audit::Id).primary())
        .to_owned()
}

/// Without a foreign key: a slug stays taken when its tenant is gone, too.
fn released_slugs() -> TableCreateStatement {
    Table::create()
        .table(ReleasedSlugs::Table)
        .col(text(ReleasedSlugs::Slug))
        .col(uuid(ReleasedSlugs::TenantId))
        .col(timestamp_with_time_zone(ReleasedSlugs::ReleasedAt))
        .col(timestamp_with_time_zone(ReleasedSlugs::FreeFrom))
        .primary_key(Index::create().name("released_slugs_pkey").col(ReleasedSlugs::Slug).primary())
        .to_owned()
}

#[derive(DeriveIden, Clone, Copy)]
enum Audit {
    Table,
    Id,
    OperatorId,
    Actor,
    ApiKeyId,
    ApiKeyName,
    Action,
    TenantId,
    TenantSlug,
    Detail,
    Ip,
    CreatedAt,
}

#[derive(DeriveIden)]
enum ReleasedSlugs {
    Table,
    Slug,
    TenantId,
    ReleasedAt,
    FreeFrom,
}
