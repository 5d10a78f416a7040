//! The rules of an inbox: what is shown, what is read, and what that does to its counts.

use chrono::{DateTime, Utc};
use sea_orm::ConnectionTrait;
use tenants::{
    TenantDb, TenantTx,
    lists::{self, Rows},
};
use uuid::Uuid;

use super::{
    Kind, NotificationOut,
    notify::inbox,
    store::{self, Row},
    text::sentence,
};
use crate::{error::ServiceError, references::ReferenceOut, state::App, users::PersonOut};

impl Row {
    /// What kind it is, who did it, and what it is about.
    pub(super) fn read(&self) -> Result<(Kind, Option<PersonOut>, ReferenceOut), ServiceError> {
        let damaged = || ServiceError::from(tenants::Error::Damaged(format!("notification {}", self.id)));
        let kind = Kind::from_name(&self.kind).ok_or_else(damaged)?;
        let actor = PersonOut::joined(
            self.actor_pk,
            self.username.clone(),
            self.first_name.clone(),
            self.last_name.clone(),
        );
        let object = ReferenceOut::read(Some(&self.object_type), self.object_id, self.display.clone());
        Ok((kind, actor, object.ok_or_else(damaged)?))
    }
}

impl TryFrom<&Row> for NotificationOut {
    type Error = ServiceError;

    fn try_from(row: &Row) -> Result<Self, ServiceError> {
        let (kind, actor, object) = row.read()?;
        let name = actor.as_ref().map(PersonOut::full_name);
        Ok(Self {
            id: row.id,
            kind,
            text: sentence(kind, name.as_deref(), &object.display),
            actor,
            object,
            read_at: row.read_at,
            created_at: row.created_at,
        })
    }
}

/// Of these rows, which are shown to the client.
pub(super) fn outputs(rows: &[Row]) -> Result<Vec<NotificationOut>, ServiceError> {
    rows.iter().map(TryInto::try_into).collect()
}

/// All that this user was told and has not deleted, the newest first.
///
/// # Errors
/// Those of the database.
pub async fn all_of(db: &impl ConnectionTrait, user: Uuid) -> Result<Vec<NotificationOut>, ServiceError> {
    outputs(&store::all(db, user).await?)
}

/// What is in an inbox with higher numbers than this, the lowest first, with its numbers.
pub(super) async fn shown(
    db: &impl ConnectionTrait,
    user: Uuid,
    after: i64,
    limit: u64,
) -> Result<Vec<(i64, NotificationOut)>, ServiceError> {
    let rows = store::after(db, user, after, limit).await?;
    // Whatever has no number is in no inbox.
    rows.iter()
        .filter_map(|row| {
            row.number.map(|number| NotificationOut::try_from(row).map(|shown| (number, shown)))
        })
        .collect()
}

/// A notification in one's own inbox, locked together with the inbox.
pub(super) async fn lock(tx: &TenantTx, user: Uuid, id: Uuid) -> Result<Option<Row>, ServiceError> {
    lists::lock(tx, &inbox(user)).await?;
    Ok(store::lock(tx, user, id).await?)
}

/// Makes a locked notification read, or unread again. One that is read already stays read since then.
pub(super) async fn set_read(
    app: &App,
    tx: &TenantTx,
    user: Uuid,
    row: &mut Row,
    read: bool,
) -> Result<(), ServiceError> {
    if row.read_at.is_some() == read {
        return Ok(());
    }
    row.read_at = read.then(|| app.clock.now());
    store::set_read(tx, row.id, row.read_at).await?;
    let by = if read { -1 } else { 1 };
    Ok(lists::adjust_unread(tx, &inbox(user), row.number.unwrap_or_default(), by).await?)
}

/// Deletes a locked notification.
pub(super) async fn delete(tx: &TenantTx, user: Uuid, row: &Row) -> Result<(), ServiceError> {
    store::delete(tx, row.id).await?;
    let rows = if row.read_at.is_some() { Rows::Read } else { Rows::Unread };
    Ok(lists::leave(tx, &inbox(user), row.number.unwrap_or_default(), rows).await?)
}

/// Makes all read that is in the inbox when the request comes in and is not from after `before`, and returns how many that
/// were. What was there is told by its number: what comes meanwhile has a higher one, whatever the clocks of other
/// processes say, and so has all there is after a `before` in the future.
pub(super) async fn mark_all_read(
    app: &App,
    db: &TenantDb,
    user: Uuid,
    before: Option<DateTime<Utc>>,
) -> Result<u64, ServiceError> {
    let inbox = inbox(user);
    let there = lists::extent(db, &inbox).await?.numbered;
    let tx = db.begin().await?;
    lists::lock(&tx, &inbox).await?;
    let Some(last) = store::last_unread(&tx, user, there, before).await? else { return Ok(0) };
    let updated = store::read_up_to(&tx, user, last, app.clock.now()).await?;
    let left = store::unread_in_block(&tx, user, last).await?;
    lists::read_up_to(&tx, &inbox, last, i32::try_from(left).unwrap_or(i32::MAX)).await?;
    tx.commit().await?;
    Ok(updated)
}
