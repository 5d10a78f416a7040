//! The one row of settings.

use chrono::{DateTime, Utc};
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait};

use crate::entity::settings::{ActiveModel, Entity, Model};

const SINGLETON: i16 = 1;

/// Writes the settings of a new tenant.
///
/// # Errors
/// Those of the database.
pub async fn create_settings(
    db: &impl ConnectionTrait,
    name: String,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = ActiveModel {
        singleton: Set(SINGLETON),
        name: Set(name),
        created_at: Set(now),
        ..Default::default()
    };
    Entity::insert(row).exec_without_returning(db).await.map(|_| ())
}

pub(super) async fn settings(db: &impl ConnectionTrait) -> Result<Option<Model>, DbErr> {
    Entity::find_by_id(SINGLETON).one(db).await
}
