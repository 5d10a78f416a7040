//! When a job that failed is tried again.

use std::time::Duration;

use chrono::TimeDelta;
use rand::RngExt as _;
use tenants::{LeasedJob, Outcome};

use crate::state::App;

/// The first pause is up to this long: long enough for a restart, and for greylisting to let the third attempt in.
const FIRST: Duration = Duration::from_secs(30);
/// No pause is longer: when a server is back after a night, its mails are out within this.
const LONGEST: Duration = Duration::from_hours(3);
/// RFC 5321 asks for four to five days, of mails between people. Nobody waits so long for a link.
const FOR: TimeDelta = TimeDelta::days(2);

/// What becomes of a job that may go well another time: it is tried again, unless it has been for long enough.
pub(super) fn later(app: &App, job: &LeasedJob, error: String) -> Outcome {
    let now = app.clock.now();
    if now - job.due_since >= FOR {
        return Outcome::Park { error: format!("given up after {} days: {error}", FOR.num_days()) };
    }
    let pause = rand::rng().random_range(Duration::ZERO..=longest_pause(job.attempts));
    // One attempt more right before the end is worth more than a pause beyond it.
    let at = (now + pause).min(job.due_since + FOR);
    Outcome::Retry { at, error }
}

/// After this attempt: twice as long as after the one before. The pause itself is anything up to it, so that mails which
/// failed together do not come back together.
fn longest_pause(attempt: i32) -> Duration {
    let doublings = u32::try_from(attempt - 1).unwrap_or(0);
    2_u32.checked_pow(doublings).map_or(LONGEST, |factor| FIRST.saturating_mul(factor).min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses = [1, 2, 3, 9, 10, 11, 40, i32::MAX].map(|attempt| longest_pause(attempt).as_secs());
        assert_eq!(pauses, [30, 60, 120, 7_680, 10_800, 10_800, 10_800, 10_800]);
        assert_eq!(longest_pause(0), FIRST);
    }
}
