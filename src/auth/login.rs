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
    let attempt = admit(app, db, &claim, device, (&account, &pair)).await?;
    match verified(app, db, claim).await {
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

/// By what the attempts at an account are counted, whether it is there or not.
fn named(claim: &Claim<'_>) -> String {
    match &claim.login {
        Some(Login::Username(username)) => format!("username {}", username.key()),
        Some(Login::Email(email)) => format!("email {}", email.key()),
        // As long as a client likes, so it is not carried about.
        None => format!("neither {}", HEXLOWER.encode(&Sha256::digest(claim.written))),
    }
}

/// Counts the attempt, and refuses it where there were too many.
async fn admit(
    app: &App,
    db: &TenantDb,
    claim: &Claim<'_>,
    device: &Device,
    (account, pair): (&str, &str),
) -> Result<Attempt, ThrottleError> {
    let now = app.clock.now();
    if app.throttles.are_on()
        && let Some(wait) = app.throttles.failed_logins.wait(device.of, now)
    {
        return Err(ThrottleError::Throttled(throttle::seconds(wait)));
    }
    let limits = [
        (LOGINS_OF_ADDRESS, device.network()),
        (LOGINS_OF_ADDRESS_TO_ACCOUNT, pair),
        (LOGINS_TO_ACCOUNT, account),
    ];
    let attempt = throttle::count(app, db, &limits).await?;
    let mut wait = attempt.wait(0).max(attempt.wait(1));
    if let Some(everywhere) = attempt.wait(2) {
        let own = match &claim.login {
            Some(login) => devices::is_own_network(db, login, device.network(), now).await?,
            None => false,
        };
        // Nobody is locked out of his own desk by what others do elsewhere.
        if !own {
            wait = wait.max(Some(everywhere));
        }
    }
    match wait {
        None => Ok(attempt),
        Some(wait) => {
            attempt.withdraw(db).await?;
            Err(ThrottleError::Throttled(throttle::seconds(wait)))
        }
    }
}

/// Somebody whose password was right.
struct Verified {
    credentials: Credentials,
    /// Today's hash of it, where the one that is kept was made in another way.
    rehashed: Option<String>,
}

async fn verified(app: &App, db: &TenantDb, claim: Claim<'_>) -> Result<Option<Verified>, ServiceError> {
    // What cannot be a name at all is nobody's, like one that nobody has.
    let found = match &claim.login {
        Some(login) => users::find_credentials(db, login).await?,
        None => None,
    };
    let hash = found.as_ref().map(|found| found.password_hash.clone());
    let matches = app.hasher.verify(claim.password.clone(), hash).await?;
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
