//! What is kept of a person beside the account, for the export.

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder};
use uuid::Uuid;

use crate::entity::{comments, devices, invitations, tokens};

pub(super) async fn devices(db: &impl ConnectionTrait, user: Uuid) -> Result<Vec<devices::Model>, DbErr> {
    devices::Entity::find()
        .filter(devices::Column::UserPk.eq(user))
        .order_by_desc(devices::Column::LastUsedAt)
        .all(db)
        .await
}

pub(super) async fn invitations(
    db: &impl ConnectionTrait,
    user: Uuid,
) -> Result<Vec<invitations::Model>, DbErr> {
    invitations::Entity::find()
        .filter(invitations::Column::InvitedBy.eq(user))
        .order_by_desc(invitations::Column::CreatedAt)
        .order_by_desc(invitations::Column::Id)
        .all(db)
        .await
}

pub(super) async fn links(db: &impl ConnectionTrait, user: Uuid) -> Result<Vec<tokens::Model>, DbErr> {
    tokens::Entity::find()
        .filter(tokens::Column::UserPk.eq(user))
        .order_by_desc(tokens::Column::CreatedAt)
        .all(db)
        .await
}

pub(super) async fn comments(db: &impl ConnectionTrait, user: Uuid) -> Result<Vec<comments::Model>, DbErr> {
    comments::Entity::find()
        .filter(comments::Column::AuthorPk.eq(user))
        .order_by_desc(comments::Column::CreatedAt)
        .order_by_desc(comments::Column::Id)
        .all(db)
        .await
}
