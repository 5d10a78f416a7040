//! The installation, its tenants and their hosts, its operators, its keys, and the jobs that tenants leave for it.

use sea_orm_migration::{
    prelude::*,
    schema::{
        array, binary, integer, json_binary, small_integer, text, text_null, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid, uuid_null,
    },
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            installation(),
            tenants(),
            domains(),
            data_keys(),
            signing_keys(),
            operators(),
            api_keys(),
            jobs(),
            email_index(),
            throttles(),
        ] {
            manager.create_table(table).await?;
        }
        // Workers take the oldest job that is due; what is done, or waits for an operator, is not in their way.
        manager
            .create_index(
                Index::create()
                    .name("jobs_due")
                    .table(Jobs::Table)
                    .col(Jobs::RunAt)
                    .and_where(Expr::col(Jobs::Status).is_in(["queued", "running"]))
                    .to_owned(),
            )
            .await?;
        // Operators look for what is parked, and the clean-up for what is done.
        manager
            .create_index(
                Index::create()
                    .name("jobs_finished")
                    .table(Jobs::Table)
                    .col(Jobs::Status)
                    .col(Jobs::FinishedAt)
                    .and_where(Expr::col(Jobs::FinishedAt).is_not_null())
                    .to_owned(),
            )
            .await?;
        // Who is behind, by schema version: the question a deploy asks first.
        manager
            .create_index(
                Index::create()
                    .name("tenants_schema_version")
                    .table(Tenants::Table)
                    .col(Tenants::SchemaVersion)
                    .to_owned(),
            )
            .await
    }
}

fn primary_key(name: &str, column: impl IntoIndexColumn) -> IndexCreateStatement {
    Index::create().name(name).col(column).primary().to_owned()
}

fn unique(name: &str, column: impl IntoIndexColumn) -> IndexCreateStatement {
    Index::create().name(name).col(column).unique().to_owned()
}

fn one_of(name: &str, column: impl IntoColumnRef, values: &[&str]) -> Check {
    Check::named(Alias::new(name), Expr::col(column).is_in(values.iter().copied()))
}

fn installation() -> TableCreateStatement {
    Table::create()
        .table(Installation::Table)
        .col(small_integer(Installation::Singleton).default(1))
        .col(text(Installation::Id))
        .col(binary(Installation::MasterKeyCheck))
        .col(small_integer(Installation::Lanes))
        .col(timestamp_with_time_zone(Installation::CreatedAt))
        .primary_key(&mut primary_key("installation_pkey", Installation::Singleton))
        .check(Check::named(
            Alias::new("installation_singleton_check"),
            Expr::col(Installation::Singleton).eq(1),
        ))
        .to_owned()
}

fn tenants() -> TableCreateStatement {
    Table::create()
        .table(Tenants::Table)
        .col(uuid(Tenants::Id))
        .col(text(Tenants::Slug))
        .col(text(Tenants::Name))
        .col(text(Tenants::SchemaName))
        .col(small_integer(Tenants::Lane))
        .col(text(Tenants::Status).default("active"))
        .col(integer(Tenants::SchemaVersion))
        .col(json_binary(Tenants::Limits).default(Expr::cust("'{}'::jsonb")))
        .col(text(Tenants::Database).default("main"))
        .col(timestamp_with_time_zone(Tenants::CreatedAt))
        .col(timestamp_with_time_zone_null(Tenants::ClosedAt))
        .col(timestamp_with_time_zone_null(Tenants::CleanedAt))
        .primary_key(&mut primary_key("tenants_pkey", Tenants::Id))
        .index(&mut unique("tenants_slug_key", Tenants::Slug))
        .index(&mut unique("tenants_schema_name_key", Tenants::SchemaName))
        .check(one_of("tenants_status_check", Tenants::Status, &["active", "suspended", "deleting"]))
        .to_owned()
}

fn domains() -> TableCreateStatement {
    Table::create()
        .table(Domains::Table)
        .col(text(Domains::Name))
        .col(uuid(Domains::TenantId))
        .col(timestamp_with_time_zone_null(Domains::VerifiedAt))
        .primary_key(&mut primary_key("domains_pkey", Domains::Name))
        .foreign_key(
            ForeignKey::create()
                .name("domains_tenant_id_fkey")
                .from(Domains::Table, Domains::TenantId)
                .to(Tenants::Table, Tenants::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn data_keys() -> TableCreateStatement {
    Table::create()
        .table(DataKeys::Table)
        .col(text(DataKeys::Name))
        .col(binary(DataKeys::Wrapped))
        .col(timestamp_with_time_zone(DataKeys::CreatedAt))
        .primary_key(&mut primary_key("data_keys_pkey", DataKeys::Name))
        .to_owned()
}

fn signing_keys() -> TableCreateStatement {
    Table::create()
        .table(SigningKeys::Table)
        .col(text(SigningKeys::Kid))
        .col(binary(SigningKeys::PublicKey))
        .col(binary(SigningKeys::WrappedSeed))
        .col(timestamp_with_time_zone(SigningKeys::CreatedAt))
        .col(timestamp_with_time_zone(SigningKeys::SignsFrom))
        .col(timestamp_with_time_zone_null(SigningKeys::RetiredAt))
        .primary_key(&mut primary_key("signing_keys_pkey", SigningKeys::Kid))
        .to_owned()
}

fn operators() -> TableCreateStatement {
    Table::create()
        .table(Operators::Table)
        .col(uuid(Operators::Id))
        .col(text(Operators::Email))
        .col(text(Operators::EmailKey))
        .col(text(Operators::PasswordHash))
        .col(timestamp_with_time_zone(Operators::CreatedAt))
        .primary_key(&mut primary_key("operators_pkey", Operators::Id))
        .index(&mut unique("operators_email_key", Operators::EmailKey))
        .to_owned()
}

fn api_keys() -> TableCreateStatement {
    Table::create()
        .table(ApiKeys::Table)
        .col(uuid(ApiKeys::Id))
        .col(uuid(ApiKeys::OperatorId))
        .col(text(ApiKeys::Name))
        .col(binary(ApiKeys::KeyHash))
        .col(json_binary(ApiKeys::Scopes))
        .col(timestamp_with_time_zone(ApiKeys::CreatedAt))
        .col(timestamp_with_time_zone_null(ApiKeys::ExpiresAt))
        .col(timestamp_with_time_zone_null(ApiKeys::LastUsedAt))
        .primary_key(&mut primary_key("api_keys_pkey", ApiKeys::Id))
        .index(&mut unique("api_keys_key_hash_key", ApiKeys::KeyHash))
        .foreign_key(
            ForeignKey::create()
                .name("api_keys_operator_id_fkey")
                .from(ApiKeys::Table, ApiKeys::OperatorId)
                .to(Operators::Table, Operators::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn jobs() -> TableCreateStatement {
    Table::create()
        .table(Jobs::Table)
        .col(uuid(Jobs::Id).default(Expr::cust("gen_random_uuid()")))
        .col(uuid_null(Jobs::TenantId))
        .col(text(Jobs::Kind))
        .col(json_binary(Jobs::Payload))
        .col(text_null(Jobs::DedupeKey))
        .col(text(Jobs::Status).default("queued"))
        .col(timestamp_with_time_zone(Jobs::RunAt))
        .col(timestamp_with_time_zone(Jobs::DueSince))
        .col(integer(Jobs::Attempts).default(0))
        .col(timestamp_with_time_zone_null(Jobs::LeasedUntil))
        .col(text_null(Jobs::Error))
        .col(timestamp_with_time_zone(Jobs::CreatedAt).default(Expr::current_timestamp()))
        .col(timestamp_with_time_zone_null(Jobs::FinishedAt))
        .primary_key(&mut primary_key("jobs_pkey", Jobs::Id))
        .index(Index::create().name("jobs_dedupe_key").col(Jobs::TenantId).col(Jobs::DedupeKey).unique())
        .check(one_of("jobs_status_check", Jobs::Status, &["queued", "running", "done", "parked"]))
        .foreign_key(
            ForeignKey::create()
                .name("jobs_tenant_id_fkey")
                .from(Jobs::Table, Jobs::TenantId)
                .to(Tenants::Table, Tenants::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn email_index() -> TableCreateStatement {
    Table::create()
        .table(EmailIndex::Table)
        .col(binary(EmailIndex::EmailHash))
        .col(uuid(EmailIndex::TenantId))
        .primary_key(
            Index::create()
                .name("email_index_pkey")
                .col(EmailIndex::EmailHash)
                .col(EmailIndex::TenantId)
                .primary(),
        )
        .foreign_key(
            ForeignKey::create()
                .name("email_index_tenant_id_fkey")
                .from(EmailIndex::Table, EmailIndex::TenantId)
                .to(Tenants::Table, Tenants::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// What must not happen too often, by a keyed hash of what it is, and when it happened last.
fn throttles() -> TableCreateStatement {
    Table::create()
        .table(Throttles::Table)
        .col(binary(Throttles::Key))
        .col(array(Throttles::Hits, ColumnType::TimestampWithTimeZone))
        .primary_key(&mut primary_key("throttles_pkey", Throttles::Key))
        .to_owned()
}

#[derive(DeriveIden)]
enum Throttles {
    Table,
    Key,
    Hits,
}

#[derive(DeriveIden)]
enum Installation {
    Table,
    Singleton,
    Id,
    MasterKeyCheck,
    Lanes,
    CreatedAt,
}

#[derive(DeriveIden)]
enum Tenants {
    Table,
    Id,
    Slug,
    Name,
    SchemaName,
    Lane,
    Status,
    SchemaVersion,
    Limits,
    Database,
    CreatedAt,
    ClosedAt,
    CleanedAt,
}

#[derive(DeriveIden)]
enum Domains {
    Table,
    Name,
    TenantId,
    VerifiedAt,
}

#[derive(DeriveIden)]
enum DataKeys {
    Table,
    Name,
    Wrapped,
    CreatedAt,
}

#[derive(DeriveIden)]
enum SigningKeys {
    Table,
    Kid,
    PublicKey,
    WrappedSeed,
    CreatedAt,
    SignsFrom,
    RetiredAt,
}

#[derive(DeriveIden)]
enum Operators {
    Table,
    Id,
    Email,
    EmailKey,
    PasswordHash,
    CreatedAt,
}

#[derive(DeriveIden)]
enum ApiKeys {
    Table,
    Id,
    OperatorId,
    Name,
    KeyHash,
    Scopes,
    CreatedAt,
    ExpiresAt,
    LastUsedAt,
}

#[derive(DeriveIden)]
enum Jobs {
    Table,
    Id,
    TenantId,
    Kind,
    Payload,
    DedupeKey,
    Status,
    RunAt,
    DueSince,
    Attempts,
    LeasedUntil,
    Error,
    CreatedAt,
    FinishedAt,
}

#[derive(DeriveIden)]
enum EmailIndex {
    Table,
    EmailHash,
    TenantId,
}
