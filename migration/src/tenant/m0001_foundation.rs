//! What every tenant has from its first second: its settings, its users and their sessions.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, binary, boolean, integer, json_binary, small_integer, text, timestamp_with_time_zone,
        timestamp_with_time_zone_null, uuid,
    },
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(settings()).await?;
        manager.create_table(users()).await?;
        manager.create_table(sessions()).await?;
        // The default order of the list of users, total because ties are broken by the key.
        manager
            .create_index(
                Index::create()
                    .name("users_date_joined")
                    .table(Users::Table)
                    .col(Users::DateJoined)
                    .col(Users::Pk)
                    .to_owned(),
            )
            .await?;
        manager
            .create_index(
                Index::create()
                    .name("sessions_user_pk")
                    .table(Sessions::Table)
                    .col(Sessions::UserPk)
                    .to_owned(),
            )
            .await
    }
}

fn settings() -> TableCreateStatement {
    Table::create()
        .table(Settings::Table)
        .col(small_integer(Settings::Singleton).default(1))
        .col(text(Settings::Name))
        .col(text(Settings::SignUpPolicy).default("invite_only"))
        .col(json_binary(Settings::AllowedEmailDomains).default(Expr::cust("'[]'::jsonb")))
        .col(boolean(Settings::AllowImpersonation).default(true))
        .col(timestamp_with_time_zone(Settings::CreatedAt))
        .primary_key(Index::create().name("settings_pkey").col(Settings::Singleton).primary())
        .check(Check::named(Alias::new("settings_singleton_check"), Expr::col(Settings::Singleton).eq(1)))
        .check(Check::named(
            Alias::new("settings_sign_up_policy_check"),
            Expr::col(Settings::SignUpPolicy).is_in(["invite_only", "open"]),
        ))
        .to_owned()
}

fn users() -> TableCreateStatement {
    Table::create()
        .table(Users::Table)
        .col(uuid(Users::Pk))
        .col(text(Users::Username))
        .col(text(Users::UsernameKey))
        .col(text(Users::Email))
        .col(text(Users::EmailKey))
        .col(text(Users::PasswordHash))
        .col(text(Users::FirstName).default(""))
        .col(text(Users::LastName).default(""))
        .col(text(Users::Role))
        .col(boolean(Users::IsActive).default(true))
        .col(timestamp_with_time_zone_null(Users::EmailVerifiedAt))
        .col(text(Users::Locale).default("en"))
        .col(text(Users::Timezone).default("UTC"))
        .col(integer(Users::CommentCount).default(0))
        .col(timestamp_with_time_zone(Users::DateJoined))
        .primary_key(Index::create().name("users_pkey").col(Users::Pk).primary())
        .index(Index::create().name("users_username_key").col(Users::UsernameKey).unique())
        .index(Index::create().name("users_email_key").col(Users::EmailKey).unique())
        .check(Check::named(
            Alias::new("users_role_check"),
            Expr::col(Users::Role).is_in(["owner", "admin", "member"]),
        ))
        .check(Check::named(Alias::new("users_comment_count_check"), Expr::col(Users::CommentCount).gte(0)))
        .to_owned()
}

/// A session is looked up by its id, which is in the token, and never by the hash of its secret. So what a rotation changes
/// is in no index, and PostgreSQL writes none (a HOT update).
fn sessions() -> TableCreateStatement {
    Table::create()
        .table(Sessions::Table)
        .col(uuid(Sessions::Id))
        .col(uuid(Sessions::UserPk))
        .col(binary(Sessions::RefreshHash))
        .col(big_integer(Sessions::Generation))
        .col(timestamp_with_time_zone(Sessions::RotatedAt))
        .col(text(Sessions::Ip))
        .col(text(Sessions::UserAgent))
        .col(timestamp_with_time_zone(Sessions::CreatedAt))
        .col(timestamp_with_time_zone(Sessions::LastUsedAt))
        .col(timestamp_with_time_zone(Sessions::ExpiresAt))
        .primary_key(Index::create().name("sessions_pkey").col(Sessions::Id).primary())
        .check(Check::named(
            Alias::new("sessions_refresh_hash_check"),
            Expr::cust("octet_length(refresh_hash)").eq(32),
        ))
        // 32 unsigned bits in the token.
        .check(Check::named(
            Alias::new("sessions_generation_check"),
            Expr::col(Sessions::Generation).between(0_i64, i64::from(u32::MAX)),
        ))
        .foreign_key(
            ForeignKey::create()
                .name("sessions_user_pk_fkey")
                .from(Sessions::Table, Sessions::UserPk)
                .to(Users::Table, Users::Pk)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

#[derive(DeriveIden)]
enum Settings {
    Table,
    Singleton,
    Name,
    SignUpPolicy,
    AllowedEmailDomains,
    AllowImpersonation,
    CreatedAt,
}

#[derive(DeriveIden)]
enum Users {
    Table,
    Pk,
    Username,
    UsernameKey,
    Email,
    EmailKey,
    PasswordHash,
    FirstName,
    LastName,
    Role,
    IsActive,
    EmailVerifiedAt,
    Locale,
    Timezone,
    CommentCount,
    DateJoined,
}

#[derive(DeriveIden)]
enum Sessions {
    Table,
    Id,
    UserPk,
    RefreshHash,
    Generation,
    RotatedAt,
    Ip,
    UserAgent,
    CreatedAt,
    LastUsedAt,
    ExpiresAt,
}
