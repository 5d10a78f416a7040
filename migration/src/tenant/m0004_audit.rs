//! What operators and admins did to the organization; and invitations that an operator sent, which have no inviter among
//! its people.

use sea_orm_migration::{
    prelude::*,
    schema::{boolean, json_binary, text, timestamp_with_time_zone, uuid, uuid_null},
};

#[derive(DeriveMigrationName)]
pub(crate) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager
            .alter_table(
                Table::alter()
                    .table(Invitations::Table)
                    .add_column(boolean(Invitations::ByOperator).default(false))
                    .to_owned(),
            )
            .await?;
        manager.create_table(audit()).await?;
        manager
            .create_index(
                Index::create()
                    .name("audit_created_at")
                    .table(Audit::Table)
                    .col(Audit::CreatedAt)
                    .col(Audit::Id)
                    .to_owned(),
            )
            .await?;
        // Entries are added and nothing else; the tenant's role is granted no more than that either.
        manager
            .get_connection()
            .execute_unprepared(r#"REVOKE UPDATE, DELETE, TRUNCATE ON "audit" FROM CURRENT_USER"#)
            .await?;
        Ok(())
    }
}

/// Without a foreign key to the user: an entry outlives him, and then says by his key alone who it was.
fn audit() -> TableCreateStatement {
    Table::create()
        .table(Audit::Table)
        .col(uuid(Audit::Id))
        .col(boolean(Audit::ByOperator))
        .col(uuid_null(Audit::ActorPk))
        .col(text(Audit::Action))
        .col(json_binary(Audit::Detail))
        .col(timestamp_with_time_zone(Audit::CreatedAt))
        .primary_key(Index::create().name("audit_pkey").col(Audit::Id).primary())
        .check(Check::named(
            Alias::new("audit_actor_check"),
            Expr::cust("NOT by_operator OR actor_pk IS NULL"),
        ))
        .to_owned()
}

#[derive(DeriveIden)]
enum Invitations {
    Table,
    ByOperator,
}

#[derive(DeriveIden)]
enum Audit {
    Table,
    Id,
    ByOperator,
    ActorPk,
    Action,
    Detail,
    CreatedAt,
}
