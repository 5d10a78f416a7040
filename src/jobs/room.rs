//! Mails that anybody can ask for: no more of them to one address than it can bear, and none lost.

use chrono::TimeDelta;
use data_encoding::HEXLOWER;
use sea_orm::ConnectionTrait;
use tenants::{DataKey, Outbox};

use super::{Task, leave_until};
use crate::{
    error::ServiceError,
    state::App,
    throttle::{self, MAILS},
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
