//! What is refused because it happened too often.
//!
//! Attempts are kept in PostgreSQL, so that limits outlast a restart and hold for all processes together: those at
//! accounts, and of addresses at tenants, in the tenant's own table, those that name no tenant in the catalog's.
//! [`admit`] counts an attempt and refuses what is too much; an attempt that turns out not to count is taken back.

mod error;
mod limit;
mod memory;
mod requests;

use std::{hash::Hash, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use sea_orm::ConnectionTrait;
use tenants::{Counted, DataKey, ThrottleKey};
use tokio::sync::OwnedSemaphorePermit;
use uuid::Uuid;

pub use self::{
    error::ThrottleError,
    limit::{Limit, Rule},
    memory::{Memory, Turns},
    requests::MailRequest,
};
use crate::{error::ServiceError, state::App};

/// Failed logins from one address. The contract's.
pub const LOGINS_OF_ADDRESS: Limit =
    Limit { name: "logins of an address", rule: Rule::AtMost { count: 10, within: TimeDelta::minutes(1) } };
/// Failed logins to one account from one address: five in five minutes, then fewer and fewer. The contract's; the first
/// delay is one that a person who mistypes can bear, the longest lets through four guesses an hour.
pub const LOGINS_OF_ADDRESS_TO_ACCOUNT: Limit = Limit {
    name: "logins of an address to an account",
    rule: Rule::Slower {
        after: 5,
        within: TimeDelta::minutes(5),
        first: TimeDelta::seconds(15),
        longest: TimeDelta::minutes(15),
    },
};
/// Failed logins to one account from anywhere. The contract's.
pub const LOGINS_TO_ACCOUNT: Limit =
    Limit { name: "logins to an account", rule: Rule::AtMost { count: 100, within: TimeDelta::hours(1) } };
/// Wrong passwords of somebody signed in, who is asked for his password once more.
pub const CONFIRMATIONS: Limit =
    Limit { name: "confirmations by password", rule: LOGINS_OF_ADDRESS_TO_ACCOUNT.rule };
/// Organizations signed up from one address. The contract's.
pub const TENANT_SIGN_UPS: Limit =
    Limit { name: "sign-ups of tenants", rule: Rule::AtMost { count: 20, within: TimeDelta::hours(1) } };
/// Requests from one address that send a mail to whatever address they name. As many as sign-ups: an office asks less
/// often.
pub const MAIL_REQUESTS: Limit =
    Limit { name: "mail requests", rule: Rule::AtMost { count: 20, within: TimeDelta::hours(1) } };
/// Mails of one kind to one address that anybody can ask for: nobody needs more, and nobody's mailbox is filled by it.
pub const MAILS: Limit =
    Limit { name: "mails", rule: Rule::AtMost { count: 5, within: TimeDelta::hours(1) } };
/// Mails to one mailbox from organizations that it need not know, from all of them together: who is asked into a few is asked
/// once each, and nobody's mailbox is filled by whoever signs organizations up to do that.
pub const UNSOLICITED_MAILS: Limit =
    Limit { name: "unsolicited mails", rule: Rule::AtMost { count: 10, within: TimeDelta::hours(1) } };

/// Comments of one user. People write a few; what writes more is a program, and tells fifty people with each.
pub const COMMENTS: Limit =
    Limit { name: "comments", rule: Rule::AtMost { count: 120, within: TimeDelta::minutes(1) } };

/// How many logins from one network are undecided at once: half of those that may fail in a minute.
const UNDECIDED: usize = 5;

/// Somebody's turn to have his password looked at: one at an account, and some from a network.
pub(crate) type Turn = [Option<OwnedSemaphorePermit>; 2];

/// Whether anything is refused, and what this process remembers by itself.
#[derive(Debug)]
pub struct Throttles {
    on: bool,
    /// Failed logins by address, whatever the tenant. No more than a bound: what counts is in the database. But no
    /// tenant's table knows of the other tenants, and this refuses a storm before it costs a statement.
    pub(crate) failed_logins: Memory<IpNet>,
    /// Comments by tenant and user, on this process: nobody writes faster than people read, and a table would cost each
    /// comment a statement more.
    pub(crate) comments: Memory<(Uuid, Uuid)>,
    /// Logins from one network that are not decided yet, and those of them to one account. Until they are decided they count
    /// as failed, so those that come together go one after another, or the right ones among them would be refused.
    logins: Turns,
    logins_to_account: Turns,
}

impl Throttles {
    /// Limits that hold, or do not.
    #[must_use]
    pub fn new(on: bool) -> Self {
        Self {
            on,
            failed_logins: Memory::new(LOGINS_OF_ADDRESS),
            comments: Memory::new(COMMENTS),
            logins: Turns::new(UNDECIDED),
            logins_to_account: Turns::new(1),
        }
    }

    /// Whether anything is refused.
    #[must_use]
    pub fn are_on(&self) -> bool {
        self.on
    }

    /// Waits until a password can be looked at without those that are looked at already being taken for wrong ones. The
    /// turn is over when what is returned is dropped. Operators are in the tenant whose id is nil.
    pub(crate) async fn turn(&self, tenant: Uuid, account: &str, network: &str) -> Option<Turn> {
        if !self.on {
            return None;
        }
        let of_account = self.logins_to_account.wait(&format!("{tenant} {account}")).await;
        Some([of_account, self.logins.wait(network).await])
    }

    /// Refuses who, as far as this process remembers, did it too often.
    ///
    /// # Errors
    /// [`ThrottleError::Throttled`].
    pub(crate) fn remembered<K: Copy + Eq + Hash + Send + Sync + 'static>(
        &self,
        memory: &Memory<K>,
        whose: K,
        now: DateTime<Utc>,
    ) -> Result<(), ThrottleError> {
        let wait = if self.on { memory.wait(whose, now) } else { None };
        wait.map_or(Ok(()), |wait| Err(ThrottleError::Throttled(seconds(wait))))
    }

    /// As [`turn`](Self::turn), of somebody who is signed in, wherever he is.
    pub(crate) async fn confirmation(&self, tenant: Uuid, user: Uuid) -> Option<OwnedSemaphorePermit> {
        if !self.on {
            return None;
        }
        self.logins_to_account.wait(&format!("{tenant} confirmation {user}")).await
    }
}

/// An attempt that was counted.
#[derive(Debug)]
#[must_use]
pub struct Attempt {
    keys: Vec<ThrottleKey>,
    at: DateTime<Utc>,
    waits: Vec<Option<TimeDelta>>,
}

impl Attempt {
    /// How long the one who is refused by this limit has to wait; `None` if it is not exceeded. Limits are numbered in
    /// the order in which they were given.
    #[must_use]
    pub fn wait(&self, limit: usize) -> Option<TimeDelta> {
        self.waits.get(limit).copied().flatten()
    }

    /// Takes it back: it does not count.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn withdraw(&self, db: &impl ConnectionTrait) -> Result<(), ServiceError> {
        if self.keys.is_empty() {
            return Ok(());
        }
        Ok(tenants::withdraw_attempt(db, &self.keys, self.at).await?)
    }

    /// As [`withdraw`](Self::withdraw), from the limits from this one on: against those before it, it counts.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn withdraw_from(
        &mut self,
        db: &impl ConnectionTrait,
        limit: usize,
    ) -> Result<(), ServiceError> {
        let keys = self.keys.split_off(limit.min(self.keys.len()));
        Self { keys, at: self.at, waits: Vec::new() }.withdraw(db).await
    }
}

/// Counts an attempt against each of these limits, by what it is counted: an address, an account. The database is the
/// tenant's, or the catalog for what has no tenant. It is not part of a transaction that may be rolled back.
///
/// # Errors
/// Those of the database.
pub async fn count(
    app: &App,
    db: &impl ConnectionTrait,
    limits: &[(Limit, &str)],
) -> Result<Attempt, ServiceError> {
    let at = app.clock.now();
    if !app.throttles.on {
        return Ok(Attempt { keys: Vec::new(), at, waits: Vec::new() });
    }
    let counted = counted(app, limits);
    let hits = tenants::record_attempt(db, &counted, at).await?;
    let waits = limits.iter().zip(&hits).map(|((limit, _), hits)| limit.rule.wait(hits, at)).collect();
    Ok(Attempt { keys: counted.iter().map(|one| one.key).collect(), at, waits })
}

/// As [`count`], and refuses what is too much. What was refused does not count.
///
/// # Errors
/// [`ThrottleError::Throttled`], or those of the database.
pub async fn admit(
    app: &App,
    db: &impl ConnectionTrait,
    limits: &[(Limit, &str)],
) -> Result<Attempt, ThrottleError> {
    let attempt = count(app, db, limits).await?;
    match attempt.waits.iter().flatten().max() {
        None => Ok(attempt),
        Some(wait) => {
            attempt.withdraw(db).await?;
            Err(ThrottleError::Throttled(seconds(*wait)))
        }
    }
}

/// Whether [`admit`] would refuse, without counting anything: for what is to be told before it is known whether the
/// request makes an attempt at all.
///
/// # Errors
/// As those of [`admit`].
pub async fn check(
    app: &App,
    db: &impl ConnectionTrait,
    limits: &[(Limit, &str)],
) -> Result<(), ThrottleError> {
    if !app.throttles.on {
        return Ok(());
    }
    let now = app.clock.now();
    let hits = tenants::attempts(db, &counted(app, limits), now).await?;
    let waits = limits.iter().zip(hits).filter_map(|((limit, _), mut hits)| {
        hits.push(now);
        limit.rule.wait(&hits, now)
    });
    waits.max().map_or(Ok(()), |wait| Err(ThrottleError::Throttled(seconds(wait))))
}

/// Who can read the table learns no address and no name from it.
fn counted(app: &App, limits: &[(Limit, &str)]) -> Vec<Counted> {
    let key = app.tenancy.key(DataKey::BlindIndex);
    let counted = limits.iter().map(|(limit, by)| Counted {
        // No address has a NUL in it, so this is no entry of the blind index.
        key: key.mac(format!("throttle\0{}\0{by}", limit.name).as_bytes()),
        memory: limit.rule.memory(),
    });
    counted.collect()
}

/// By what the attempts at a user's account are counted, however they are made.
pub(crate) fn of_user(pk: Uuid) -> String {
    format!("user {pk}")
}

/// What a client is told: whole seconds, and at least one.
pub(crate) fn seconds(wait: TimeDelta) -> Duration {
    wait.to_std().unwrap_or_default().max(Duration::from_secs(1))
}
