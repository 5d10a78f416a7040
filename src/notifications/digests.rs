//! Mails that tell of several things at once. The first notification that is to go out with one makes its row, and leaves
//! the job that sends it; what comes until then waits beside it.
//!
//! Who adds to a mail locks its row, and so does the job, which takes it away: so nothing is added to a mail that is being
//! sent, and nothing is left waiting for one that was.

use chrono::{DateTime, Days, NaiveDateTime, NaiveTime, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, QueryFilter,
    sea_query::{Alias, CaseStatement, Expr, ExprTrait as _, OnConflict},
};
use tenants::{TenantDb, TenantTx, lists};
use uuid::Uuid;

use super::{
    notify::inbox,
    preferences::{self, Email},
    store::{self, Row},
};
use crate::{
    entity::digests::{ActiveModel, Column, Entity},
    error::ServiceError,
    jobs::{self, Task},
    mail::{self, Happening, Letter, Mail},
    state::App,
    tenant,
    users::{self, PersonOut},
};

/// How long a mail waits for what else happens. The contract's.
const WAIT: TimeDelta = TimeDelta::seconds(60);
/// When the mails of a day go out: early enough to be read before work.
const MORNING: NaiveTime = NaiveTime::MIN.overflowing_add_signed(TimeDelta::hours(8)).0;
/// Somebody who has more to read opens the application.
const MAX_HAPPENINGS: u64 = 50;
/// A job is given up after two days. A mail that is overdue for longer has none any more: it stayed behind, with an archive,
/// say, and another one takes its place.
const OVERDUE: TimeDelta = TimeDelta::days(3);

/// Somebody who is to be told by mail.
#[derive(Clone, Debug)]
pub(super) struct Addressee {
    pub(super) user: Uuid,
    pub(super) mail: Email,
    /// A name of the IANA time zone database.
    pub(super) timezone: String,
}

/// Sees to it that these mails go out, in the transaction that writes what they tell of. Each user is there once at most, and
/// they are in the order of their keys: in that their mails are locked.
pub(super) async fn schedule(
    app: &App,
    tx: &TenantTx,
    addressees: &[Addressee],
    now: DateTime<Utc>,
) -> Result<(), ServiceError> {
    let rows: Vec<_> = addressees
        .iter()
        .map(|to| ActiveModel {
            user_pk: Set(to.user),
            mail: Set(to.mail.as_str().to_owned()),
            id: Set(app.clock.uuid_v7()),
            due_at: Set(if to.mail == Email::Daily { next_morning(now, &to.timezone) } else { now + WAIT }),
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    let ours: Vec<Uuid> = rows.iter().filter_map(|row| row.id.try_as_ref().copied()).collect();
    // An update that changes nothing, for its lock: a row that is merely passed over may be taken away.
    let renewed = |column: Column| {
        let overdue = Expr::col((Entity, Column::DueAt)).lt(now - OVERDUE);
        let new = Expr::col((Alias::new("excluded"), column));
        CaseStatement::new().case(overdue, new).finally(Expr::col((Entity, column)))
    };
    let locked = OnConflict::columns([Column::UserPk, Column::Mail])
        .value(Column::Id, renewed(Column::Id))
        .value(Column::DueAt, renewed(Column::DueAt))
        .to_owned();
    let digests = Entity::insert_many(rows).on_conflict(locked).exec_with_returning(tx).await?;
    for digest in digests.into_iter().filter(|digest| ours.contains(&digest.id)) {
        let task = Task::Digest { user: digest.user_pk, digest: digest.id };
        jobs::leave_until(app, tx, &task, Some(format!("digest {}", digest.id)), digest.due_at).await?;
    }
    Ok(())
}

/// Sends a mail of what waits for it, unless it was sent before, or nobody wants it any more.
///
/// # Errors
/// Those of the database.
pub async fn send(app: &App, db: &TenantDb, user: Uuid, digest: Uuid) -> Result<(), ServiceError> {
    let tx = db.begin().await?;
    let Some(account) = users::hold(&tx, &[user], []).await?.pop() else { return Ok(()) };
    lists::lock(&tx, &inbox(user)).await?;
    let this = Entity::delete_many().filter(Column::UserPk.eq(user)).filter(Column::Id.eq(digest));
    let Some(digest) = this.exec_with_returning(&tx).await?.pop() else { return Ok(()) };
    let mail = Email::from_name(&digest.mail).unwrap_or(Email::Off);
    let kinds = preferences::chosen(&tx, user).await?.mailed();
    let (waiting, count) = store::take_waiting(&tx, user, mail, &kinds, MAX_HAPPENINGS).await?;
    if !waiting.is_empty() && account.is_active && account.email_verified_at.is_some() {
        let organization = tenant::name(&tx).await?;
        let happenings = waiting.iter().map(happening).collect::<Result<Vec<_>, _>>()?;
        let more = count.saturating_sub(MAX_HAPPENINGS);
        let url = app.site.home(&tx.tenant().slug);
        let mail = if mail == Email::Daily {
            Mail::DailyDigest { organization, happenings, more, url }
        } else {
            Mail::Notifications { organization, happenings, more, url }
        };
        mail::post(app, &tx, Letter { to: (&account).into(), mail, expires_at: None }).await?;
    }
    store::forget_waiting(&tx, user, mail).await?;
    Ok(tx.commit().await?)
}

fn happening(row: &Row) -> Result<Happening, ServiceError> {
    let (kind, actor, object) = row.read()?;
    Ok(Happening { kind, actor: actor.as_ref().map(PersonOut::full_name), about: object.display })
}

/// The next time it is morning in this zone; in UTC where the zone is not known.
fn next_morning(now: DateTime<Utc>, zone: &str) -> DateTime<Utc> {
    let zone: Tz = zone.parse().unwrap_or(Tz::UTC);
    let today = now.with_timezone(&zone).date_naive();
    // A zone that moved across the date line has left a day out: the third morning comes at the latest.
    let mornings = (0..3).filter_map(|days| today.checked_add_days(Days::new(days)));
    mornings
        .map(|day| moment(day.and_time(MORNING), zone))
        .find(|morning| *morning > now)
        .unwrap_or(now + TimeDelta::days(1))
}

/// When clocks show this: the first time, where they show it twice; and where they pass over it, when they go on.
fn moment(local: NaiveDateTime, zone: Tz) -> DateTime<Utc> {
    // Clocks are put forward by a day at most, and to a full quarter of an hour.
    let mut quarters = (0..=96).map(|quarter| local + TimeDelta::minutes(15 * quarter));
    let found = quarters.find_map(|local| zone.from_local_datetime(&local).earliest());
    found.map_or_else(|| local.and_utc(), |at| at.to_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn assert_next(zone: &str, now: &str, next: &str) {
        assert_eq!(
            next_morning(now.parse().unwrap(), zone),
            next.parse::<DateTime<Utc>>().unwrap(),
            "{zone}"
        );
    }

    #[test]
    fn the_next_morning_is_that_of_the_zone() {
        assert_next("UTC", "2026-01-02T07:59:59.999999Z", "2026-01-02T08:00:00Z");
        assert_next("UTC", "2026-01-02T08:00:00Z", "2026-01-03T08:00:00Z");
        assert_next("Europe/Berlin", "2026-01-02T06:59:00Z", "2026-01-02T07:00:00Z");
        assert_next("Europe/Berlin", "2026-01-02T07:00:00Z", "2026-01-03T07:00:00Z");
        assert_next("America/Los_Angeles", "2026-01-02T03:04:05Z", "2026-01-02T16:00:00Z");
        assert_next("Pacific/Auckland", "2026-01-02T20:00:00Z", "2026-01-03T19:00:00Z");
        assert_next("Asia/Kathmandu", "2026-01-02T00:00:00Z", "2026-01-02T02:15:00Z");
        assert_next("Mars/Olympus", "2026-01-02T00:00:00Z", "2026-01-02T08:00:00Z");
    }

    #[test]
    fn a_day_is_longer_or_shorter_when_clocks_are_changed() {
        assert_next("Europe/Berlin", "2026-03-28T08:00:00Z", "2026-03-29T06:00:00Z");
        assert_next("Europe/Berlin", "2026-10-24T07:00:00Z", "2026-10-25T07:00:00Z");
        // The 30th of December 2011 was left out in Samoa: its morning is the beginning of the 31st, whose own comes next.
        assert_next("Pacific/Apia", "2011-12-29T18:00:00Z", "2011-12-30T10:00:00Z");
        assert_next("Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-30T18:00:00Z");
    }

    #[test]
    fn a_time_that_is_left_out_or_comes_twice_is_found() {
        let at = |text: &str, zone: Tz| moment(text.parse().unwrap(), zone).to_rfc3339();
        assert_eq!(at("2026-03-29T02:30:00", Tz::Europe__Berlin), "2026-03-29T01:00:00+00:00");
        assert_eq!(at("2026-10-25T02:30:00", Tz::Europe__Berlin), "2026-10-25T00:30:00+00:00");
        assert_eq!(at("2026-10-04T02:10:00", Tz::Australia__Lord_Howe), "2026-10-03T15:40:00+00:00");
    }
}
