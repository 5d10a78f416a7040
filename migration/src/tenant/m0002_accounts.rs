//! What stands between a person and an account: links in mails, sign-ups and invitations that wait for an answer, the
//! devices people sign in from, and what must not happen too often.

use sea_orm_migration::{
    prelude::*,
    schema::{array, binary, integer, text, text_null, timestamp_with_time_zone, uuid, uuid_null},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table(Settings::Table)
                    .add_column(integer(Settings::InvitationsSent).default(0))
                    .to_owned(),
            )
            .await?;
        for table in [tokens(), sign_ups(), invitations(), devices(), throttles()] {
            manager.create_table(table).await?;
        }
        manager
            .create_index(
                Index::create().name("tokens_user_pk").table(Tokens::Table).col(Tokens::UserPk).to_owned(),
            )
            .await?;
        // The default order of the list, total because ties are broken by the key.
        manager
            .create_index(
                Index::create()
                    .name("invitations_created_at")
                    .table(Invitations::Table)
                    .col(Invitations::CreatedAt)
                    .col(Invitations::Id)
                    .to_owned(),
            )
            .await
    }
}

fn hash_of_32_bytes(name: &str, column: &str) -> Check {
    Check::named(Alias::new(name), Expr::cust(format!("octet_length({column})")).eq(32))
}

/// Links that were mailed to users: each works once.
fn tokens() -> TableCreateStatement {
    Table::create()
        .table(Tokens::Table)
        .col(binary(Tokens::Hash))
        .col(uuid(Tokens::UserPk))
        .col(text(Tokens::Purpose))
        .col(text_null(Tokens::Email))
        .col(timestamp_with_time_zone(Tokens::CreatedAt))
        .col(timestamp_with_time_zone(Tokens::ExpiresAt))
        .primary_key(Index::create().name("tokens_pkey").col(Tokens::Hash).primary())
        .check(hash_of_32_bytes("tokens_hash_check", "hash"))
        .check(Check::named(
            Alias::new("tokens_purpose_check"),
            Expr::col(Tokens::Purpose).is_in(["verify_email", "change_email", "reset_password"]),
        ))
        .check(Check::named(
            Alias::new("tokens_email_check"),
            Expr::col(Tokens::Email).is_not_null().or(Expr::col(Tokens::Purpose).ne("change_email")),
        ))
        .foreign_key(
            ForeignKey::create()
                .name("tokens_user_pk_fkey")
                .from(Tokens::Table, Tokens::UserPk)
                .to(Users::Table, Users::Pk)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// Those who signed themselves up and have not proven their address: no users yet. One per address, the latest.
fn sign_ups() -> TableCreateStatement {
    Table::create()
        .table(SignUps::Table)
        .col(text(SignUps::EmailKey))
        .col(text(SignUps::Email))
        .col(text(SignUps::Username))
        .col(text(SignUps::PasswordHash))
        .col(text(SignUps::FirstName))
        .col(text(SignUps::LastName))
        .col(binary(SignUps::TokenHash))
        .col(timestamp_with_time_zone(SignUps::CreatedAt))
        .col(timestamp_with_time_zone(SignUps::ExpiresAt))
        .primary_key(Index::create().name("sign_ups_pkey").col(SignUps::EmailKey).primary())
        .index(Index::create().name("sign_ups_token_key").col(SignUps::TokenHash).unique())
        .check(hash_of_32_bytes("sign_ups_token_hash_check", "token_hash"))
        .to_owned()
}

/// Those who were asked to join. One per address, the latest.
fn invitations() -> TableCreateStatement {
    Table::create()
        .table(Invitations::Table)
        .col(uuid(Invitations::Id))
        .col(text(Invitations::Email))
        .col(text(Invitations::EmailKey))
        .col(text(Invitations::Role))
        .col(uuid_null(Invitations::InvitedBy))
        .col(binary(Invitations::TokenHash))
        .col(timestamp_with_time_zone(Invitations::CreatedAt))
        .col(timestamp_with_time_zone(Invitations::ExpiresAt))
        .primary_key(Index::create().name("invitations_pkey").col(Invitations::Id).primary())
        .index(Index::create().name("invitations_email_key").col(Invitations::EmailKey).unique())
        .index(Index::create().name("invitations_token_key").col(Invitations::TokenHash).unique())
        .check(hash_of_32_bytes("invitations_token_hash_check", "token_hash"))
        .check(Check::named(
            Alias::new("invitations_role_check"),
            Expr::col(Invitations::Role).is_in(["owner", "admin", "member"]),
        ))
        .foreign_key(
            ForeignKey::create()
                .name("invitations_invited_by_fkey")
                .from(Invitations::Table, Invitations::InvitedBy)
                .to(Users::Table, Users::Pk)
                .on_delete(ForeignKeyAction::SetNull),
        )
        .to_owned()
}

/// From where and with what a user has signed in.
fn devices() -> TableCreateStatement {
    Table::create()
        .table(Devices::Table)
        .col(uuid(Devices::UserPk))
        .col(text(Devices::Network))
        .col(text(Devices::UserAgent))
        .col(timestamp_with_time_zone(Devices::FirstUsedAt))
        .col(timestamp_with_time_zone(Devices::LastUsedAt))
        .primary_key(
            Index::create()
                .name("devices_pkey")
                .col(Devices::UserPk)
                .col(Devices::Network)
                .col(Devices::UserAgent)
                .primary(),
        )
        .foreign_key(
            ForeignKey::create()
                .name("devices_user_pk_fkey")
                .from(Devices::Table, Devices::UserPk)
                .to(Users::Table, Users::Pk)
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
        .primary_key(Index::create().name("throttles_pkey").col(Throttles::Key).primary())
        .to_owned()
}

#[derive(DeriveIden)]
enum Settings {
    Table,
    InvitationsSent,
}

#[derive(DeriveIden)]
enum Users {
    Table,
    Pk,
}

#[derive(DeriveIden)]
enum Tokens {
    Table,
    Hash,
    UserPk,
    Purpose,
    Email,
    CreatedAt,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum SignUps {
    Table,
    EmailKey,
    Email,
    Username,
    PasswordHash,
    FirstName,
    LastName,
    TokenHash,
    CreatedAt,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum Invitations {
    Table,
    Id,
    Email,
    EmailKey,
    Role,
    InvitedBy,
    TokenHash,
    CreatedAt,
    ExpiresAt,
}

#[derive(DeriveIden)]
enum Devices {
    Table,
    UserPk,
    Network,
    UserAgent,
    FirstUsedAt,
    LastUsedAt,
}

#[derive(DeriveIden)]
enum Throttles {
    Table,
    Key,
    Hits,
}
