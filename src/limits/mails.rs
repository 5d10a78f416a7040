//! How many mails a tenant sends in a day. They are counted where they are sent, in the catalog: for all processes together,
//! and exactly. What is too much is not lost, it goes out on another day.

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta, Utc};
use tenants::{Outcome, Tenant};

use crate::{error::ServiceError, mail::Mail, state::App};

/// How many mails more there may be of those without which somebody does not get in, or does not learn that somebody else
/// did. An organization of some hundred people needs a few a day, and this is as many as its people can ask for in a bad
/// hour; and a flood of sign-ups of addresses that are not theirs ends here.
pub(crate) const SURPLUS: u64 = 100;
/// Over how long the mails of yesterday are spread: what a tenant has too many of is looked at a few times a second, beside
/// the mails of others, and not all in one go.
const SPREAD_SECONDS: i64 = 3_600;
/// What is said of a mail that waits for another day. Once the limit is another one, those are looked at again of which it
/// is said.
pub(super) const PUT_OFF: &str = "put off: the organization has sent all the mails it may send in a day";

/// A mail that was counted.
#[derive(Debug)]
#[must_use]
pub(crate) struct Counted {
    day: NaiveDate,
}

/// Whether somebody waits for this mail at a closed door, or has to hear of it at once.
fn opens_a_door(mail: &Mail) -> bool {
    match mail {
        Mail::VerifyEmail { .. }
        | Mail::AccountExists { .. }
        | Mail::ResetPassword { .. }
        | Mail::PasswordChanged { .. }
        | Mail::ConfirmEmail { .. }
        | Mail::EmailChanged { .. }
        | Mail::Organizations { .. }
        | Mail::NewDevice { .. } => true,
        Mail::Invitation { .. } | Mail::Notifications { .. } | Mail::DailyDigest { .. } => false,
    }
}

/// Counts one more mail of a tenant, or says what becomes of it instead.
///
/// # Errors
/// Those of the database.
pub(crate) async fn count(
    app: &App,
    tenant: &Tenant,
    mail: &Mail,
) -> Result<Result<Counted, Outcome>, ServiceError> {
    let (now, first) = (app.clock.now(), opens_a_door(mail));
    let most = tenant.limits.mails_per_day;
    let most = if first { most.map(|most| most.saturating_add(SURPLUS)) } else { most };
    let day = now.date_naive();
    if app.tenancy.count_mail(tenant.id, day, most).await? {
        return Ok(Ok(Counted { day }));
    }
    let spread = if first { 0 } else { rand::random_range(1..=SPREAD_SECONDS) };
    let at = tomorrow(now) + TimeDelta::seconds(spread);
    Ok(Err(Outcome::PutOff { at, reason: PUT_OFF.to_owned() }))
}

/// Takes it back: it did not go out.
pub(crate) async fn withdraw(app: &App, tenant: &Tenant, Counted { day }: Counted) {
    if let Err(error) = app.tenancy.withdraw_mail(tenant.id, day).await {
        tracing::warn!(%error, "a mail that did not go out counts as one that did");
    }
}

fn tomorrow(now: DateTime<Utc>) -> DateTime<Utc> {
    now.date_naive().succ_opt().map_or(now, |day| day.and_time(NaiveTime::MIN).and_utc())
}
