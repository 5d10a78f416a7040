//! Who was told already.

use std::collections::HashSet;

use sea_orm::{ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QuerySelect};
use uuid::Uuid;

use crate::entity::notifications::{Column, Entity};

/// Those of these users who have been told of an event and have not deleted that. Who tells of one event again, because it
/// has come to concern others, asks this under the lock of what the event is about.
///
/// # Errors
/// Those of the database.
pub async fn told(
    db: &impl ConnectionTrait,
    event: Uuid,
    users: impl IntoIterator<Item = Uuid>,
) -> Result<HashSet<Uuid>, DbErr> {
    let theirs = Entity::find().select_only().column(Column::UserPk).filter(Column::UserPk.is_in(users));
    let told = theirs.filter(Column::Event.eq(event)).into_tuple::<Uuid>().all(db).await?;
    Ok(told.into_iter().collect())
}
