//! Signing in by password.
//!
//! Whatever is wrong, the answer is the same bytes after the same work: one password hash, and the same statements. How
//! often it may be wrong is limited by what the client says, whether there is such an account or not.

use data_encoding::HEXLOWER;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use tenants::{TenantDb, TenantTx};
use uuid::Uuid;

use super::{
    Device, LoginOut, TokensOut,
    devices::{self, Seen},
    service::open_session,
    sessions,
};
use crate::{
    error::ServiceError,
    http::Problem,
    mail::{self, Letter, Mail},
    notifications::{Event, Kind, notify},
    references::{self, Reference},
    state::App,
    tenant,
    throttle::{
        self, Attempt, LOGINS_OF_ADDRESS, LOGINS_OF_ADDRESS_TO_ACCOUNT, LOGINS_TO_ACCOUNT, ThrottleError,
    },
    users::{self, Account, Credentials, Login},
};

/// What somebody says of himself.
#[derive(Debug)]
pub(super) struct Claim<'a> {
    /// Who he is; `None` where that cannot be anybody's name.
    pub(super) login: Option<Login>,
    /// As it was written.
    pub(super) written: &'a str,
    /// His password.
    pub(super) password: SecretString,
}

/// Signs somebody in by password. Whatever is wrong, the answer is the same, and takes as long.
pub(super) async fn login(
    app: &App,
    db: &TenantDb,
    claim: Claim<'_>,
    device: &Device,
) -> Result<LoginOut, Problem> {
    let account = named(&claim);
    let pair = format!("{} {account}", device.network());
    let _turn = app.throttles.turn(db.tenant().id, &pair, device.network()).await;
    app.throttles.remembered(&app.throttles.failed_logins, device.of, app.clock.now())?;
    let found = find(db, &claim).await?;
    let (attempt, is_open) = admit(app, db, &claim, found.as_ref(), device, (&account, &pair)).await?;
    match verified(app, claim, found, is_open).await {
        Ok(Some(verified)) => {
            let signed_in = sign_in_again(app, db, &verified, device, &attempt).await?;
            // Gone, or with another password, since it was looked at: as wrong as before.
            let (account, tokens) = signed_in.ok_or_else(wrong_credentials)?;
            Ok(tokens.answer(&account))
        }
        Ok(None) => {
            app.throttles.failed_logins.note(device.of, app.clock.now());
            Err(wrong_credentials())
        }
        Err(error) => {
            // Nobody knows whether it was wrong. If this fails too, it counts as if it had been.
            if let Err(error) = attempt.withdraw(db).await {
                tracing::warn!(error = %error, "a login that was not decided counts as a failed one");
            }
            Err(error.into())
        }
    }
}

async fn find(db: &TenantDb, claim: &Claim<'_>) -> Result<Option<Credentials>, ServiceError> {
    match &claim.login {
        Some(login) => Ok(users::find_credentials(db, login).await?),
        // What cannot be a name at all is nobody's, like one that nobody has.
        None => Ok(None),
    }
}

/// By what the attempts at an account are counted, whether it is there or not.
fn named(claim: &Claim<'_>) -> String {
    match &claim.login {
        Some(Login::Username(username)) => format!("username {}", username.key()),
        Some(Login::Email(email)) => format!("email {}", email.key()),
        // As long as a client likes, so it is not carried about.
        None => format!("neither {}", HEXLOWER.encode(&Sha256::digest(claim.written))),
    }
}

/// Counts the attempt, and refuses it where there were too many: by this name, which is told, or at this account by
/// whichever name, which is not. Whether the account is open for it is what is returned.
///
/// An account has two names, a username and an address, and who guesses by both in turn shall not have twice as many
/// guesses. But if failures by one name were told to who uses the other, anybody would learn which names belong together,
/// and that they are somebody's. So an account that is closed for now takes no password and says that it is wrong, after
/// the same work, and that counts as a failure by this name. A name that nobody has is counted as often, for an account
/// of its own.
async fn admit(
    app: &App,
    db: &TenantDb,
    claim: &Claim<'_>,
    found: Option<&Credentials>,
    device: &Device,
    (name, pair): (&str, &str),
) -> Result<(Attempt, bool), ThrottleError> {
    let now = app.clock.now();
    // As those are counted that prove an address or confirm a password.
    let account = found.map_or_else(|| format!("nobody {name}"), |found| throttle::of_user(found.pk));
    let pair_of_account = format!("{} {account}", device.network());
    let limits = [
        (LOGINS_OF_ADDRESS, device.network()),
        (LOGINS_OF_ADDRESS_TO_ACCOUNT, pair),
        (LOGINS_TO_ACCOUNT, name),
        (LOGINS_OF_ADDRESS_TO_ACCOUNT, pair_of_account.as_str()),
        (LOGINS_TO_ACCOUNT, account.as_str()),
    ];
    let mut attempt = throttle::count(app, db, &limits).await?;
    let everywhere = [attempt.wait(2), attempt.wait(4)];
    // Nobody is locked out of his own desk by what others do elsewhere.
    let [by_name, of_account] = match &claim.login {
        Some(login) if everywhere.iter().any(Option::is_some) => {
            let own = devices::is_own_network(db, login, device.network(), now).await?;
            everywhere.map(|wait| wait.filter(|_| !own))
        }
        _ => everywhere,
    };
    if let Some(wait) = attempt.wait(0).max(attempt.wait(1)).max(by_name) {
        attempt.withdraw(db).await?;
        return Err(ThrottleError::Throttled(throttle::seconds(wait)));
    }
    let is_open = attempt.wait(3).max(of_account).is_none();
    if !is_open {
        // It does not keep the account closed for longer.
        attempt.withdraw_from(db, 3).await?;
    }
    Ok((attempt, is_open))
}

/// Somebody whose password was right.
struct Verified {
    credentials: Credentials,
    /// Today's hash of it, where the one that is kept was made in another way.
    rehashed: Option<String>,
}

async fn verified(
    app: &App,
    claim: Claim<'_>,
    found: Option<Credentials>,
    is_open: bool,
) -> Result<Option<Verified>, ServiceError> {
    let hash = found.as_ref().map(|found| found.password_hash.clone());
    let matches = app.hasher.verify(claim.password.clone(), hash).await? && is_open;
    let Some(credentials) = found.filter(|found| matches && found.is_active) else { return Ok(None) };
    let rehashed = if app.hasher.is_outdated(&credentials.password_hash) {
        Some(app.hasher.hash(claim.password).await?)
    } else {
        None
    };
    Ok(Some(Verified { credentials, rehashed }))
}

/// Makes one more session for a user who may have many. `None` if the user is gone, may not sign in, or has another
/// password by now.
async fn sign_in_again(
    app: &App,
    db: &TenantDb,
    verified: &Verified,
    device: &Device,
    attempt: &Attempt,
) -> Result<Option<(Account, TokensOut)>, ServiceError> {
    let Credentials { pk, password_hash, .. } = &verified.credentials;
    let tx = db.begin().await?;
    // Locked, so that no session is made by a password that is being changed: the change would not end it.
    let account = users::lock_with_password(&tx, *pk, password_hash).await?;
    let Some(account) = account.filter(|account| account.is_active) else { return Ok(None) };
    if let Some(rehashed) = &verified.rehashed {
        users::set_password(&tx, *pk, rehashed.clone()).await?;
    }
    let now = app.clock.now();
    sessions::make_room(&tx, *pk, now).await?;
    let (session, tokens) = open_session(app, &tx, tx.tenant().id, &account, device).await?;
    if devices::note(&tx, *pk, device, now).await? == Seen::Others {
        tell_of_new_device(app, &tx, &account, device, session).await?;
    }
    // Last: the row of an address is shared by all who come from there.
    attempt.withdraw(&tx).await?;
    tx.commit().await?;
    Ok(Some((account, tokens)))
}

async fn tell_of_new_device(
    app: &App,
    tx: &TenantTx,
    account: &Account,
    device: &Device,
    session: Uuid,
) -> Result<(), ServiceError> {
    let mail = Mail::NewDevice {
        organization: tenant::name(tx).await?,
        at: app.clock.now(),
        ip: device.ip().to_owned(),
        user_agent: device.user_agent().to_owned(),
        url: app.site.tenant_url(&tx.tenant().slug),
    };
    mail::post(app, tx, Letter { to: account.into(), mail, expires_at: None }).await?;
    let object = Reference::other(references::Kind::Session, Some(session), device.user_agent());
    let event = Event { id: session, actor: None, object };
    notify(app, tx, &event, &[(account.pk, Kind::NewDevice)]).await
}

fn wrong_credentials() -> Problem {
    Problem::non_field("Unable to log in with provided credentials.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_a_name_is_told_apart_and_not_carried_about() {
        let name = |written: &str| {
            named(&Claim { login: None, written, password: SecretString::from("a password") })
        };
        let long = "x".repeat(1 << 20);
        assert_eq!(name(&long).len(), "neither ".len() + 64);
        assert_ne!(name(&long), name(&long[1..]));
    }
}
