//! What people do with each other: comments, what happened, and who is told of it.
//!
//! Long lists are numbered, so that neither how many rows there are nor where a page begins needs a look at the rows: see
//! `lists` and `list_blocks`.

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, binary, boolean, integer, json_binary, text, text_null,
        timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
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
                    .add_column(integer(Settings::ActivityRetentionDays).default(365))
                    .to_owned(),
            )
            .await?;
        let tables = [
            lists(),
            list_blocks(),
            comments(),
            activities(),
            notifications(),
            notification_preferences(),
            digests(),
            idempotency_keys(),
        ];
        for table in tables {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        for statement in SIGN_UPS_THAT_WAIT.into_iter().chain([COUNT_USERS, COUNT_INVITATIONS]) {
            manager.get_connection().execute_unprepared(statement).await?;
        }
        Ok(())
    }
}

/// Of an address there are two at most: the one whose link was mailed, and the one whose mail has yet to go out.
const SIGN_UPS_THAT_WAIT: [&str; 3] = [
    "ALTER TABLE sign_ups ADD COLUMN is_mailed boolean NOT NULL DEFAULT true",
    "ALTER TABLE sign_ups DROP CONSTRAINT sign_ups_pkey",
    "ALTER TABLE sign_ups ADD CONSTRAINT sign_ups_pkey PRIMARY KEY (email_key, is_mailed)",
];
/// What is only counted has no numbers, and needs no time either. From here on whoever writes a user counts him.
const COUNT_USERS: &str = "INSERT INTO lists (kind, owner, numbered, numbered_at) \
     SELECT 'users ' || role || ' ' || is_active::text, '00000000-0000-0000-0000-000000000000', count(*), to_timestamp(0) \
     FROM users GROUP BY role, is_active";
const COUNT_INVITATIONS: &str = "INSERT INTO lists (kind, owner, numbered, numbered_at) \
     SELECT 'invitations', '00000000-0000-0000-0000-000000000000', count(*), to_timestamp(0) \
     FROM invitations HAVING count(*) > 0";

fn primary_key<C: IntoIndexColumn>(name: &str, columns: impl IntoIterator<Item = C>) -> IndexCreateStatement {
    let mut index = Index::create().name(name).primary().to_owned();
    for column in columns {
        index.col(column);
    }
    index
}

fn one_of(name: &str, column: impl IntoColumnRef, values: &[&str]) -> Check {
    Check::named(Alias::new(name), Expr::col(column).is_in(values.iter().copied()))
}

fn user_key(name: &str, table: impl IntoTableRef + Copy, column: impl IntoIden) -> ForeignKeyCreateStatement {
    ForeignKey::create().name(name).from(table, column).to(Users::Table, Users::Pk).to_owned()
}

/// The numbered lists, by what they are lists of and whose they are: which numbers were given, and how many rows there are.
fn lists() -> TableCreateStatement {
    Table::create()
        .table(Lists::Table)
        .col(text(Lists::Kind))
        .col(uuid(Lists::Owner))
        .col(big_integer(Lists::Numbered))
        .col(big_integer(Lists::Removed).default(0))
        .col(timestamp_with_time_zone(Lists::NumberedAt))
        // By owner first: with an owner all his lists go.
        .primary_key(&mut primary_key("lists_pkey", [Lists::Owner, Lists::Kind]))
        .check(Check::named(
            Alias::new("lists_removed_check"),
            Expr::col(Lists::Removed).between(0_i64, Expr::col(Lists::Numbered)),
        ))
        .to_owned()
}

/// How many rows of a list have their number in each block of numbers: for lists that lose rows in the middle.
fn list_blocks() -> TableCreateStatement {
    Table::create()
        .table(ListBlocks::Table)
        .col(text(ListBlocks::Kind))
        .col(uuid(ListBlocks::Owner))
        .col(big_integer(ListBlocks::Block))
        .col(integer(ListBlocks::Total))
        .col(integer(ListBlocks::Unread).default(0))
        .primary_key(&mut primary_key(
            "list_blocks_pkey",
            [ListBlocks::Owner, ListBlocks::Kind, ListBlocks::Block],
        ))
        .check(Check::named(
            Alias::new("list_blocks_unread_check"),
            Expr::col(ListBlocks::Unread).between(0, Expr::col(ListBlocks::Total)),
        ))
        .to_owned()
}

fn comments() -> TableCreateStatement {
    Table::create()
        .table(Comments::Table)
        .col(uuid(Comments::Id))
        .col(uuid(Comments::UserPk))
        .col(uuid_null(Comments::AuthorPk))
        .col(uuid_null(Comments::Parent))
        .col(big_integer(Comments::Number))
        .col(text(Comments::Body))
        .col(json_binary(Comments::Mentions).default(Expr::cust("'[]'::jsonb")))
        .col(integer(Comments::ReplyCount).default(0))
        .col(boolean(Comments::IsDeleted).default(false))
        .col(timestamp_with_time_zone(Comments::CreatedAt))
        .col(timestamp_with_time_zone_null(Comments::EditedAt))
        .primary_key(&mut primary_key("comments_pkey", [Comments::Id]))
        .check(Check::named(Alias::new("comments_reply_count_check"), Expr::col(Comments::ReplyCount).gte(0)))
        // What is deleted is gone; only its place is kept.
        .check(Check::named(
            Alias::new("comments_is_deleted_check"),
            Expr::cust("NOT is_deleted OR (body = '' AND author_pk IS NULL AND mentions = '[]')"),
        ))
        .foreign_key(
            user_key("comments_user_pk_fkey", Comments::Table, Comments::UserPk)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .foreign_key(
            user_key("comments_author_pk_fkey", Comments::Table, Comments::AuthorPk)
                .on_delete(ForeignKeyAction::SetNull),
        )
        .foreign_key(
            ForeignKey::create()
                .name("comments_parent_fkey")
                .from(Comments::Table, Comments::Parent)
                .to(Comments::Table, Comments::Id)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// What happened. A row is in up to four lists, and has a number in each: of all, of its verb, of its actor, and of both.
fn activities() -> TableCreateStatement {
    Table::create()
        .table(Activities::Table)
        .col(big_integer(Activities::Number))
        .col(uuid(Activities::Id))
        .col(uuid_null(Activities::ActorPk))
        .col(big_integer_null(Activities::ActorNumber))
        .col(text(Activities::Verb))
        .col(big_integer(Activities::VerbNumber))
        .col(big_integer_null(Activities::ActorVerbNumber))
        .col(text(Activities::ObjectType))
        .col(uuid_null(Activities::ObjectId))
        .col(text_null(Activities::ObjectText))
        .col(text_null(Activities::TargetType))
        .col(uuid_null(Activities::TargetId))
        .col(text_null(Activities::TargetText))
        .col(timestamp_with_time_zone(Activities::CreatedAt))
        .primary_key(&mut primary_key("activities_pkey", [Activities::Number]))
        .foreign_key(
            user_key("activities_actor_pk_fkey", Activities::Table, Activities::ActorPk)
                .on_delete(ForeignKeyAction::SetNull),
        )
        .to_owned()
}

/// Who is told of what. Without a number it is not shown, and waits only to be mailed.
fn notifications() -> TableCreateStatement {
    Table::create()
        .table(Notifications::Table)
        .col(uuid(Notifications::Id))
        .col(uuid(Notifications::UserPk))
        .col(big_integer_null(Notifications::Number))
        .col(uuid(Notifications::Event))
        .col(text(Notifications::Kind))
        .col(uuid_null(Notifications::ActorPk))
        .col(text(Notifications::ObjectType))
        .col(uuid_null(Notifications::ObjectId))
        .col(text_null(Notifications::ObjectText))
        .col(text_null(Notifications::Mail))
        .col(timestamp_with_time_zone_null(Notifications::ReadAt))
        .col(timestamp_with_time_zone(Notifications::CreatedAt))
        .primary_key(&mut primary_key("notifications_pkey", [Notifications::Id]))
        // One per event, whatever it is to the person.
        .index(
            Index::create()
                .name("notifications_event_key")
                .col(Notifications::UserPk)
                .col(Notifications::Event)
                .unique(),
        )
        .check(one_of("notifications_mail_check", Notifications::Mail, &["instant", "daily"]))
        .foreign_key(
            user_key("notifications_user_pk_fkey", Notifications::Table, Notifications::UserPk)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .foreign_key(
            user_key("notifications_actor_pk_fkey", Notifications::Table, Notifications::ActorPk)
                .on_delete(ForeignKeyAction::SetNull),
        )
        .to_owned()
}

/// How somebody wants to be told of one kind of thing, where that is not the default.
fn notification_preferences() -> TableCreateStatement {
    Table::create()
        .table(NotificationPreferences::Table)
        .col(uuid(NotificationPreferences::UserPk))
        .col(text(NotificationPreferences::Kind))
        .col(text(NotificationPreferences::InApp))
        .col(text(NotificationPreferences::Email))
        .primary_key(&mut primary_key(
            "notification_preferences_pkey",
            [NotificationPreferences::UserPk, NotificationPreferences::Kind],
        ))
        .check(one_of(
            "notification_preferences_in_app_check",
            NotificationPreferences::InApp,
            &["instant", "off"],
        ))
        .check(one_of(
            "notification_preferences_email_check",
            NotificationPreferences::Email,
            &["instant", "daily", "off"],
        ))
        .foreign_key(
            user_key(
                "notification_preferences_user_pk_fkey",
                NotificationPreferences::Table,
                NotificationPreferences::UserPk,
            )
            .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// The mails that are to come: what happens until then goes into the same one.
fn digests() -> TableCreateStatement {
    Table::create()
        .table(Digests::Table)
        .col(uuid(Digests::UserPk))
        .col(text(Digests::Mail))
        .col(uuid(Digests::Id))
        .col(timestamp_with_time_zone(Digests::DueAt))
        .primary_key(&mut primary_key("digests_pkey", [Digests::UserPk, Digests::Mail]))
        .check(one_of("digests_mail_check", Digests::Mail, &["instant", "daily"]))
        .foreign_key(
            user_key("digests_user_pk_fkey", Digests::Table, Digests::UserPk)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

/// What requests that must not count twice have made: by the hash of method, path and key.
fn idempotency_keys() -> TableCreateStatement {
    Table::create()
        .table(IdempotencyKeys::Table)
        .col(uuid(IdempotencyKeys::UserPk))
        .col(binary(IdempotencyKeys::Request))
        .col(binary(IdempotencyKeys::BodyHash))
        .col(uuid(IdempotencyKeys::Created))
        .col(timestamp_with_time_zone(IdempotencyKeys::CreatedAt))
        .primary_key(&mut primary_key(
            "idempotency_keys_pkey",
            [IdempotencyKeys::UserPk, IdempotencyKeys::Request],
        ))
        .check(Check::named(
            Alias::new("idempotency_keys_request_check"),
            Expr::cust("octet_length(request)").eq(32),
        ))
        .check(Check::named(
            Alias::new("idempotency_keys_body_hash_check"),
            Expr::cust("octet_length(body_hash)").eq(32),
        ))
        .foreign_key(
            user_key("idempotency_keys_user_pk_fkey", IdempotencyKeys::Table, IdempotencyKeys::UserPk)
                .on_delete(ForeignKeyAction::Cascade),
        )
        .to_owned()
}

fn index<C: IntoIndexColumn>(
    name: &str,
    table: impl IntoTableRef,
    columns: impl IntoIterator<Item = C>,
) -> IndexCreateStatement {
    let mut index = Index::create().name(name).table(table).to_owned();
    for column in columns {
        index.col(column);
    }
    index
}

fn indexes() -> Vec<IndexCreateStatement> {
    let is_some = |column| Expr::col(column).is_not_null();
    vec![
        // Every order of the list of users, total because ties are broken by the key.
        index("users_first_name", Users::Table, [Users::FirstName, Users::Pk]),
        index("users_last_name", Users::Table, [Users::LastName, Users::Pk]),
        index("users_comment_count", Users::Table, [Users::CommentCount, Users::Pk]),
        index("users_role", Users::Table, [Users::Role, Users::DateJoined, Users::Pk]),
        // They are few, and the others too many to be passed over in search of them.
        index("users_inactive", Users::Table, [Users::DateJoined, Users::Pk])
            .and_where(Expr::col(Users::IsActive).not())
            .to_owned(),
        index("comments_page", Comments::Table, [Comments::UserPk, Comments::Number])
            .unique()
            .and_where(Expr::col(Comments::Parent).is_null())
            .to_owned(),
        index("comments_replies", Comments::Table, [Comments::Parent, Comments::Number])
            .unique()
            .and_where(is_some(Comments::Parent.into_iden()))
            .to_owned(),
        // All that stands on somebody's page, replies too, goes with him: what a foreign key looks for has no condition that
        // a partial index would answer.
        index("comments_user_pk", Comments::Table, [Comments::UserPk]),
        index("comments_author_pk", Comments::Table, [Comments::AuthorPk])
            .and_where(is_some(Comments::AuthorPk.into_iden()))
            .to_owned(),
        index("activities_actor", Activities::Table, [Activities::ActorPk, Activities::ActorNumber]),
        index("activities_verb", Activities::Table, [Activities::Verb, Activities::VerbNumber]),
        index(
            "activities_actor_verb",
            Activities::Table,
            [Activities::ActorPk, Activities::Verb, Activities::ActorVerbNumber],
        ),
        index("notifications_list", Notifications::Table, [Notifications::UserPk, Notifications::Number])
            .unique()
            .and_where(is_some(Notifications::Number.into_iden()))
            .to_owned(),
        index("notifications_unread", Notifications::Table, [Notifications::UserPk, Notifications::Number])
            .and_where(
                Expr::col(Notifications::ReadAt).is_null().and(is_some(Notifications::Number.into_iden())),
            )
            .to_owned(),
        index("notifications_read", Notifications::Table, [Notifications::UserPk, Notifications::Number])
            .and_where(
                Expr::col(Notifications::ReadAt)
                    .is_not_null()
                    .and(is_some(Notifications::Number.into_iden())),
            )
            .to_owned(),
        index("notifications_mail", Notifications::Table, [Notifications::UserPk, Notifications::Mail])
            .and_where(is_some(Notifications::Mail.into_iden()))
            .to_owned(),
        // What is in no inbox: few rows, most of them old.
        index("notifications_told", Notifications::Table, [Notifications::CreatedAt])
            .and_where(Expr::col(Notifications::Number).is_null())
            .to_owned(),
        index("notifications_actor_pk", Notifications::Table, [Notifications::ActorPk])
            .and_where(is_some(Notifications::ActorPk.into_iden()))
            .to_owned(),
        index("idempotency_keys_created_at", IdempotencyKeys::Table, [IdempotencyKeys::CreatedAt]),
    ]
}

#[derive(DeriveIden)]
enum Settings {
    Table,
    ActivityRetentionDays,
}

#[derive(DeriveIden)]
enum Users {
    Table,
    Pk,
    FirstName,
    LastName,
    Role,
    IsActive,
    DateJoined,
    CommentCount,
}

#[derive(DeriveIden)]
enum Lists {
    Table,
    Kind,
    Owner,
    Numbered,
    Removed,
    NumberedAt,
}

#[derive(DeriveIden)]
enum ListBlocks {
    Table,
    Kind,
    Owner,
    Block,
    Total,
    Unread,
}

#[derive(DeriveIden, Clone, Copy)]
enum Comments {
    Table,
    Id,
    UserPk,
    AuthorPk,
    Parent,
    Number,
    Body,
    Mentions,
    ReplyCount,
    IsDeleted,
    CreatedAt,
    EditedAt,
}

#[derive(DeriveIden, Clone, Copy)]
enum Activities {
    Table,
    Number,
    Id,
    ActorPk,
    ActorNumber,
    Verb,
    VerbNumber,
    ActorVerbNumber,
    ObjectType,
    ObjectId,
    ObjectText,
    TargetType,
    TargetId,
    TargetText,
    CreatedAt,
}

#[derive(DeriveIden, Clone, Copy)]
enum Notifications {
    Table,
    Id,
    UserPk,
    Number,
    Event,
    Kind,
    ActorPk,
    ObjectType,
    ObjectId,
    ObjectText,
    Mail,
    ReadAt,
    CreatedAt,
}

#[derive(DeriveIden, Clone, Copy)]
enum NotificationPreferences {
    Table,
    UserPk,
    Kind,
    InApp,
    Email,
}

#[derive(DeriveIden, Clone, Copy)]
enum Digests {
    Table,
    UserPk,
    Mail,
    Id,
    DueAt,
}

#[derive(DeriveIden, Clone, Copy)]
enum IdempotencyKeys {
    Table,
    UserPk,
    Request,
    BodyHash,
    Created,
    CreatedAt,
}
