//! The rules about one's own account.

use chrono::TimeDelta;
use secrecy::SecretString;
use tenants::TenantDb;

use super::error::AccountError;
use crate::{
    auth::{
        Caller,
        links::{self, LinkToken},
    },
    entity::tokens::Purpose,
    http::IfMatch,
    mail::{self, Letter, Mail, Recipient},
    password,
    state::App,
    tenant,
    throttle::{self, MAILS},
    users::{self, CurrentUserOut, Roster, UserError, identity::Email},
};

/// How long the link to a new address works: until the evening of the next day for who reads mail once a day.
const CONFIRMATION_LIFETIME: TimeDelta = TimeDelta::hours(24);

async fn confirm(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    password: SecretString,
) -> Result<(), AccountError> {
    if password::confirm(app, db, caller, password).await? {
        Ok(())
    } else {
        Err(AccountError::WrongPassword)
    }
}

/// Sends a link to the new address. The account keeps the old one until that is followed.
pub(super) async fn ask_for_email(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    email: &Email,
    password: SecretString,
) -> Result<(), AccountError> {
    confirm(app, db, caller, password).await?;
    let user = caller.account.pk;
    // The address may be anybody's, who did not ask for these mails.
    let _counted = throttle::admit(app, db, &[(MAILS, &format!("change email {user}"))]).await?;
    let now = app.clock.now();
    let tx = db.begin().await?;
    let account = users::lock(&tx, user).await?.ok_or(AccountError::Gone)?;
    // Colleagues see each other's addresses in the list of users: saying so gives nothing away.
    if users::is_email_taken(&tx, email, user).await? {
        return Err(UserError::EmailTaken.into());
    }
    let address = Some(email.as_str().to_owned());
    let token = links::issue(&tx, user, Purpose::ChangeEmail, address, CONFIRMATION_LIFETIME, now).await?;
    let letter = Letter {
        to: Recipient { email: email.as_str().to_owned(), ..Recipient::from(&account) },
        mail: Mail::ConfirmEmail {
            organization: tenant::name(&tx).await?,
            link: app.site.account_link(&db.tenant().slug, "email", &token.encode()),
        },
        expires_at: Some(now + CONFIRMATION_LIFETIME),
    };
    mail::post(app, &tx, letter).await?;
    Ok(tx.commit().await?)
}

/// Gives the account the address that its link was sent to. Sessions go on: who asked for it had the password.
pub(super) async fn prove_email(app: &App, db: &TenantDb, token: &str) -> Result<(), AccountError> {
    let token = LinkToken::parse(token).ok_or(AccountError::InvalidToken)?;
    let now = app.clock.now();
    let tx = db.begin().await?;
    // The user is locked before the link, as where links are made: two who lock in different orders wait for ever.
    let link =
        links::find(&tx, &token, Purpose::ChangeEmail, now).await?.ok_or(AccountError::InvalidToken)?;
    let before = users::lock_whole(&tx, link.user_pk).await?.filter(|account| account.is_active);
    let before = before.ok_or(AccountError::InvalidToken)?;
    let link = links::redeem(&tx, &token, Purpose::ChangeEmail, now).await?;
    let email = link.and_then(|link| Email::parse(&link.email?).ok()).ok_or(AccountError::InvalidToken)?;
    users::set_email(&tx, before.pk, &email, now).await?;
    let [old, new] = [before.email.as_str(), email.as_str()].map(|email| users::blind(app, email));
    tx.index_email(Some(&old), Some(&new)).await?;
    // Who reads the old address only must not get in by what was sent there.
    links::void(&tx, before.pk, &[Purpose::ResetPassword, Purpose::VerifyEmail]).await?;
    let letter = Letter {
        to: (&before).into(),
        mail: Mail::EmailChanged {
            organization: tenant::name(&tx).await?,
            email: email.as_str().to_owned(),
            at: now,
        },
        expires_at: None,
    };
    mail::post(app, &tx, letter).await?;
    if before.email != email.as_str() {
        users::record_profile_update(app, &tx, before.pk).await?;
    }
    tx.commit().await?;
    tracing::info!(tenant = %db.tenant().id, user = %before.pk, "an e-mail address was changed");
    Ok(())
}

/// Deletes the account. What belongs to the person goes with it, at once.
pub(super) async fn delete(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    password: SecretString,
    if_match: &IfMatch,
) -> Result<(), AccountError> {
    confirm(app, db, caller, password).await?;
    let user = caller.account.pk;
    let tx = db.begin().await?;
    let roster = Roster::lock_to_remove(&tx, &[user]).await?;
    let account = roster.get(user).ok_or(AccountError::Gone)?;
    if_match.check(&CurrentUserOut::from(account))?;
    roster.guard_last_owner(user)?;
    users::remove(app, &tx, account).await?;
    Ok(tx.commit().await?)
}
