//! What happened long ago is removed.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ColumnTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{LockBehavior, LockType},
};
use tenants::{
    TenantDb,
    lists::{self, List},
};
use uuid::Uuid;

use super::record::list;
use crate::{
    entity::activities::{Column, Entity},
    tenant,
};

/// Removes what happened before the time for which the organization keeps it, the oldest first and so many rows at most;
/// returns how many there were.
///
/// Rows that somebody works on are not waited for, and neither is anything behind them removed, because only the oldest
/// may go. Nobody who writes is kept waiting while rows are deleted: the lists, which he needs, are locked last.
///
/// # Errors
/// Those of the database.
pub async fn remove_old(db: &TenantDb, now: DateTime<Utc>, limit: u32) -> Result<u64, DbErr> {
    let Some(days) = tenant::activity_retention(db).await? else { return Ok(0) };
    let before = now - TimeDelta::days(days.into());
    let removed = lists::extent(db, &list(None, None)).await?.removed;
    let tx = db.begin().await?;
    // A range of numbers, or PostgreSQL would look through all of them for those that are old.
    let oldest: Vec<(i64, Option<Uuid>, String)> = Entity::find()
        .select_only()
        .columns([Column::Number, Column::ActorPk, Column::Verb])
        .filter(Column::Number.between(removed + 1, removed + i64::from(limit)))
        .filter(Column::CreatedAt.lt(before))
        .order_by_asc(Column::Number)
        .lock_with_behavior(LockType::Update, LockBehavior::SkipLocked)
        .into_tuple()
        .all(&tx)
        .await?;
    // Where one is missing, somebody has it locked; or somebody else removes them, and was faster.
    let gone: Vec<_> =
        oldest.into_iter().zip(removed + 1..).take_while(|((number, ..), next)| number == next).collect();
    let Some(((last, ..), _)) = gone.last() else { return Ok(0) };
    let these = Column::Number.between(removed + 1, *last);
    let deleted = Entity::delete_many().filter(these).exec(&tx).await?.rows_affected;
    let mut shorter: BTreeMap<List, i64> = BTreeMap::new();
    for ((_, actor, verb), _) in &gone {
        let verb = Some(verb.as_str());
        let of_all = [list(None, None), list(None, verb)];
        // Who was deleted has no lists any more.
        let of_actor = actor.map(|_| [list(*actor, None), list(*actor, verb)]);
        for list in of_all.into_iter().chain(of_actor.into_iter().flatten()) {
            *shorter.entry(list).or_default() -= 1;
        }
    }
    lists::adjust(&tx, &shorter.into_iter().collect::<Vec<_>>(), now).await?;
    tx.commit().await?;
    Ok(deleted)
}
