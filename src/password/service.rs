//! The rules of changing, forgetting and resetting a password.

use chrono::TimeDelta;
use secrecy::SecretString;
use tenants::{LeasedJob, TenantDb, TenantName, TenantTx};

use super::{
    PasswordError,
    confirmation::{Asked, checked},
};
use crate::{
    auth::{
        Caller, Device, end_sessions,
        links::{self, LinkToken},
    },
    entity::tokens::Purpose,
    error::ServiceError,
    jobs::{self, Task},
    mail::{self, Letter, Mail},
    state::App,
    tenant,
    throttle::{self, CONFIRMATIONS, ThrottleError},
    users::{
        self, Account, Login,
        identity::{Email, Password},
    },
};

/// How long a link works. The contract's.
const RESET_LIFETIME: TimeDelta = TimeDelta::hours(1);

/// Whether this is the password of somebody who is signed in, who is asked for it once more. Wrong ones are limited as
/// those of a login are: whoever found a session open shall not find out the password.
///
/// # Errors
/// [`PasswordError::Throttled`], or those of the database and the hasher.
pub async fn confirm(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    password: SecretString,
) -> Result<bool, PasswordError> {
    Ok(confirmed(app, db, caller, password).await?.is_some())
}

/// Whether [`confirm`] would look at a password at all.
pub(super) async fn may_confirm(app: &App, db: &TenantDb, caller: &Caller) -> Result<(), ThrottleError> {
    throttle::check(app, db, &[(CONFIRMATIONS, &caller.account.pk.to_string())]).await
}

/// As [`confirm`], with the hash that the password was checked against.
async fn confirmed(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    password: SecretString,
) -> Result<Option<String>, PasswordError> {
    let pk = caller.account.pk;
    let (own, account) = (pk.to_string(), throttle::of_user(pk));
    let asked = Asked { tenant: db.tenant().id, id: pk, own: &own, account: &account };
    let hash = async { Ok(users::credentials_of(db, pk).await?.map(|found| found.password_hash)) };
    checked(app, db, asked, password, hash).await
}

/// Changes the password of somebody who knows it. Every session but this one ends, and links to change it do not work
/// any more.
///
/// # Errors
/// See [`PasswordError`].
pub(super) async fn change(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    old: SecretString,
    new: &Password,
    device: &Device,
) -> Result<(), PasswordError> {
    let old_hash = confirmed(app, db, caller, old).await?.ok_or(PasswordError::WrongPassword)?;
    let hash = hash_for(app, db, &caller.account, new).await?;
    let tx = db.begin().await?;
    let account = users::lock_with_password(&tx, caller.account.pk, &old_hash).await?;
    // Changed since: what was given is not the password any more.
    let account = account.ok_or(PasswordError::WrongPassword)?;
    replace(app, &tx, &account, hash, device).await?;
    end_sessions(&tx, account.pk, Some(caller.session)).await?;
    tx.commit().await?;
    tracing::info!(tenant = %db.tenant().id, user = %account.pk, "a password was changed");
    Ok(())
}

/// Leaves the work to mail a link to whoever has this address, if anybody has: found out when nobody waits for it.
///
/// # Errors
/// Those of the database.
pub(super) async fn forget(app: &App, db: &TenantDb, email: &Email) -> Result<(), ServiceError> {
    let tx = db.begin().await?;
    jobs::leave(app, &tx, &Task::ForgottenPassword { email: email.key().to_owned() }, None).await?;
    Ok(tx.commit().await?)
}

/// Mails the link of [`forget`], to the address as it is stored: now, or once there is room for one more mail to it. Done again, it does nothing: the link that was mailed
/// first goes on working.
///
/// # Errors
/// Those of the database.
pub(crate) async fn send_link(app: &App, job: &LeasedJob, email: &str) -> Result<(), ServiceError> {
    let Some(tenant) = job.tenant_id else { return Ok(()) };
    let Some(tenant) = app.tenancy.resolver().resolve(TenantName::Id(tenant)).await? else { return Ok(()) };
    let db = app.tenancy.database_of(tenant);
    let Ok(email) = Email::parse(email) else { return Ok(()) };
    let Some(found) = users::find_credentials(&db, &Login::Email(email)).await? else { return Ok(()) };
    let tx = db.begin().await?;
    let account = users::lock(&tx, found.pk).await?.filter(|account| account.is_active);
    let Some(account) = account else { return Ok(()) };
    let (now, counted) = (app.clock.now(), format!("reset {}", account.pk));
    if let Some(wait) = jobs::mail_room(app, &tx, &counted).await? {
        tx.rollback().await;
        let tx = db.begin().await?;
        let task = Task::ForgottenPassword { email: account.email.clone() };
        jobs::put_off(app, &tx, &task, &counted, wait).await?;
        return Ok(tx.commit().await?);
    }
    let address = Some(account.email.clone());
    let token = links::issue(&tx, account.pk, Purpose::ResetPassword, address, RESET_LIFETIME, now).await?;
    let link = app.site.account_link(&tx.tenant().slug, "reset", &token.encode());
    let mail = Mail::ResetPassword { organization: tenant::name(&tx).await?, link };
    let letter = Letter { to: (&account).into(), mail, expires_at: Some(now + RESET_LIFETIME) };
    let once = format!("reset password {}", job.id);
    if jobs::leave(app, &tx, &Task::Mail(letter), Some(once)).await? {
        tx.commit().await?;
    }
    Ok(())
}

/// Chooses another password by the link of a mail. A password that is refused leaves the link as it is; of two uses at
/// once, one finds it used.
///
/// # Errors
/// See [`PasswordError`].
pub(super) async fn reset(
    app: &App,
    db: &TenantDb,
    token: &str,
    new: &Password,
    device: &Device,
) -> Result<(), PasswordError> {
    const PURPOSE: Purpose = Purpose::ResetPassword;
    let token = LinkToken::parse(token).ok_or(PasswordError::InvalidToken)?;
    let link = links::find(db, &token, PURPOSE, app.clock.now()).await?;
    let link = link.ok_or(PasswordError::InvalidToken)?;
    let account = users::find(db, link.user_pk).await?.filter(|account| account.is_active);
    let hash = hash_for(app, db, &account.ok_or(PasswordError::InvalidToken)?, new).await?;

    let tx = db.begin().await?;
    let now = app.clock.now();
    // The user before the link, as everybody locks them.
    let account = users::lock(&tx, link.user_pk).await?.filter(|account| account.is_active);
    let account = account.ok_or(PasswordError::InvalidToken)?;
    let link = links::redeem(&tx, &token, PURPOSE, now).await?.ok_or(PasswordError::InvalidToken)?;
    // Who read the mail has the address it went to.
    if account.email_verified_at.is_none() && link.email.as_deref() == Some(account.email.as_str()) {
        users::set_email_verified(&tx, account.pk, now).await?;
    }
    replace(app, &tx, &account, hash, device).await?;
    end_sessions(&tx, account.pk, None).await?;
    tx.commit().await?;
    tracing::info!(tenant = %db.tenant().id, user = %account.pk, "a password was reset");
    Ok(())
}

/// The hash of a new password, if this person may have it.
async fn hash_for(
    app: &App,
    db: &TenantDb,
    account: &Account,
    new: &Password,
) -> Result<String, PasswordError> {
    let organization = tenant::name(db).await?;
    let own_words = [
        account.username.as_str(),
        &account.email,
        &account.first_name,
        &account.last_name,
        &organization,
        db.tenant().slug.as_str(),
    ];
    super::hash(app, new, &own_words).await
}

/// Writes the new password of a user who is locked, and tells him.
async fn replace(
    app: &App,
    tx: &TenantTx,
    account: &Account,
    hash: String,
    device: &Device,
) -> Result<(), ServiceError> {
    users::set_password(tx, account.pk, hash).await?;
    links::void(tx, account.pk, &[Purpose::ResetPassword, Purpose::ChangeEmail]).await?;
    let mail = Mail::PasswordChanged {
        organization: tenant::name(tx).await?,
        at: app.clock.now(),
        ip: device.ip().to_owned(),
        url: app.site.tenant_url(&tx.tenant().slug),
    };
    mail::post(app, tx, Letter { to: account.into(), mail, expires_at: None }).await
}
