//! The rows of operators and of their API keys.

use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait};
use tenants::entity::{api_keys, operators};

pub(super) async fn insert_operator(db: &impl ConnectionTrait, row: operators::Model) -> Result<(), DbErr> {
    let row = operators::ActiveModel {
        id: Set(row.id),
        email: Set(row.email),
        email_key: Set(row.email_key),
        password_hash: Set(row.password_hash),
        created_at: Set(row.created_at),
    };
    operators::Entity::insert(row).exec_without_returning(db).await.map(|_| ())
}

pub(super) async fn insert_api_key(db: &impl ConnectionTrait, row: api_keys::Model) -> Result<(), DbErr> {
    let row = api_keys::ActiveModel {
        id: Set(row.id),
        operator_id: Set(row.operator_id),
        name: Set(row.name),
        key_hash: Set(row.key_hash),
        scopes: Set(row.scopes),
        created_at: Set(row.created_at),
        expires_at: Set(row.expires_at),
        last_used_at: Set(row.last_used_at),
    };
    api_keys::Entity::insert(row).exec_without_returning(db).await.map(|_| ())
}
