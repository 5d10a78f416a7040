//! Mails that anybody can ask for: no more of them to one address than it can bear, and none lost.

use chrono::TimeDelta;
use data_encoding::HEXLOWER;
use sea_orm::ConnectionTrait;
use tenants::{DataKey, LeasedJob, Outbox, Outcome};

use super::{Task, leave_until, mail, retry};
use crate::{
    error::ServiceError,
    mail::Letter,
    state::App,
    throttle::{self, MAILS, ThrottleError, UNSOLICITED_MAILS},
    users::identity::Email,
};

/// Counts one more mail to this address, in the transaction that leaves it: what does not go out does not count, so nobody
/// uses up what others may get by asking for what is not there. How long it has to wait where there were too many.
///
/// # Errors
/// Those of the database.
pub async fn mail_room(
    app: &App,
    tx: &impl ConnectionTrait,
    address: &str,
) -> Result<Option<TimeDelta>, ServiceError> {
    Ok(throttle::count(app, tx, &[(MAILS, address)]).await?.wait(0))
}

/// Leaves a task for when there is room for its mail. One that waits for the same mail is enough: who asks a hundred times
/// is mailed no more for it.
///
/// # Errors
/// Those of the database.
pub async fn put_off(
    app: &App,
    outbox: &impl Outbox,
    task: &Task,
    mail: &str,
    wait: TimeDelta,
) -> Result<(), ServiceError> {
    let run_at = app.clock.now() + wait;
    // Where the hour begins and ends is the same for all that are put off within it. No address stands in a key in clear.
    let once = format!("put off\0{mail}\0{}", run_at.timestamp_micros());
    let once = app.tenancy.key(DataKey::BlindIndex).mac(once.as_bytes());
    let once = format!("put off {}", HEXLOWER.encode(&once));
    leave_until(app, outbox, task, Some(once), run_at).await.map(|_| ())
}

/// Sends a mail that nobody has asked for, once there is room for one more in its mailbox. It is counted in the catalog,
/// which no endpoint of a tenant reads: how many other organizations write to somebody is not for any of them to know.
pub(super) async fn unsolicited(app: &App, job: &LeasedJob, letter: Letter) -> Outcome {
    let catalog = app.tenancy.catalog();
    let mailbox = Email::parse(&letter.to.email).map(|email| email.mailbox());
    let mailbox = mailbox.unwrap_or_else(|_| letter.to.email.clone());
    let counted = match throttle::admit(app, catalog, &[(UNSOLICITED_MAILS, &mailbox)]).await {
        Ok(counted) => counted,
        Err(ThrottleError::Throttled(wait)) => {
            let error = "put off: that address got many mails lately that it need not have asked for";
            return Outcome::Retry { at: app.clock.now() + wait, error: error.to_owned() };
        }
        Err(ThrottleError::Service(error)) => return retry::later(app, job, error.to_string()),
    };
    let outcome = mail(app, job, letter).await;
    if outcome != Outcome::Done
        && let Err(error) = counted.withdraw(catalog).await
    {
        tracing::warn!(%error, "a mail that did not go out counts as one that did");
    }
    outcome
}
