//! The rules of signing up.

use chrono::TimeDelta;
use sea_orm::DbErr;
use secrecy::{ExposeSecret as _, SecretString};
use tenants::{Outbox, Slug, TenantDb, TenantTx};

use super::{RegistrationError, store, tasks};
use crate::{
    auth::{
        self, Device, LoginOut,
        links::{self, LinkToken},
    },
    entity::{sign_ups, tokens::Purpose, users::Role},
    error::ServiceError,
    jobs, limits,
    mail::{self, Letter, Mail, Recipient},
    password,
    state::App,
    tenant::{SignUpRules, sign_up_rules},
    throttle::{self, LOGINS_OF_ADDRESS, LOGINS_OF_ADDRESS_TO_ACCOUNT, LOGINS_TO_ACCOUNT},
    users::{
        self, Account, NewUser, UserError,
        identity::{Email, Password, Username},
    },
};

/// How long a link that proves an address works: until tomorrow at the same time, as people read mail once a day.
pub(super) const LIFETIME: TimeDelta = TimeDelta::hours(24);

/// Somebody who wants to join.
#[derive(Debug)]
pub(super) struct SignUp {
    pub(super) username: Username,
    pub(super) email: Email,
    pub(super) password: Password,
    pub(super) first_name: String,
    pub(super) last_name: String,
}

/// Notes that somebody wants to join, and leaves it to a worker to find out whether the address is free. For one that is
/// not, all of it is done as well: neither the answer nor its time tells.
pub(super) async fn sign_up(
    app: &App,
    db: &TenantDb,
    rules: &SignUpRules,
    new: SignUp,
) -> Result<(), RegistrationError> {
    if !rules.admit(&new.email) {
        return Err(RegistrationError::Closed);
    }
    limits::room_for_rows(db.tenant()).map_err(ServiceError::from)?;
    if !users::taken_usernames(db, [&new.username]).await?.is_empty() {
        return Err(UserError::UsernameTaken.into());
    }
    let own_words = [
        new.username.as_str(),
        new.email.as_str(),
        &new.first_name,
        &new.last_name,
        &rules.organization,
        db.tenant().slug.as_str(),
    ];
    let password_hash = password::hash(app, &new.password, &own_words).await?;
    let now = app.clock.now();
    let row = sign_ups::Model {
        email_key: new.email.key().to_owned(),
        is_mailed: false,
        email: new.email.as_str().to_owned(),
        username: new.username.as_str().to_owned(),
        password_hash,
        first_name: new.first_name,
        last_name: new.last_name,
        // It gets its link when that is mailed. Until then the link of the one before goes on working.
        token_hash: LinkToken::generate().hash().to_vec(),
        created_at: now,
        expires_at: now + LIFETIME,
    };
    let tx = db.begin().await?;
    store::put(&tx, row).await?;
    jobs::leave(app, &tx, &tasks::sign_up(&new.email), None).await?;
    tx.commit().await?;
    Ok(())
}

/// Leaves it to a worker to send another link to whom there is one for.
pub(super) async fn resend(app: &App, db: &TenantDb, email: &Email) -> Result<(), RegistrationError> {
    let tx = db.begin().await?;
    jobs::leave(app, &tx, &tasks::resend(email), None).await?;
    tx.commit().await?;
    Ok(())
}

/// Somebody who comes with a link.
#[derive(Debug)]
pub(super) struct Proof {
    /// As it came.
    pub(super) token: SecretString,
    pub(super) password: SecretString,
    /// Another username than at the sign-up, because that is taken by now.
    pub(super) username: Option<Username>,
}

/// What a link belongs to.
enum Claim {
    SignUp(sign_ups::Model),
    Account(users::Credentials),
}

impl Claim {
    /// Whose password is claimed, whichever link it comes with.
    fn account(&self) -> String {
        match self {
            Self::SignUp(row) => format!("sign-up {}", row.email_key),
            Self::Account(credentials) => throttle::of_user(credentials.pk),
        }
    }

    fn password_hash(&self) -> String {
        match self {
            Self::SignUp(row) => row.password_hash.clone(),
            Self::Account(credentials) => credentials.password_hash.clone(),
        }
    }
}

/// Proves an address: of a sign-up, which becomes an account by it, or of an account. Whatever is wrong with link or
/// password, the answer is the same, and the link works as before.
///
/// What fails counts as a failed login, from this address and to this account: who reads the mails of an address would
/// else guess the password of an account as often as he likes. Without a link that works no password is hashed: who has
/// none learns nothing by the time that takes, and is not worth that work.
pub(super) async fn verify(
    app: &App,
    db: &TenantDb,
    proof: Proof,
    device: &Device,
) -> Result<LoginOut, RegistrationError> {
    let network = device.network();
    let mut limits = vec![(LOGINS_OF_ADDRESS, network)];
    let token = LinkToken::parse(proof.token.expose_secret());
    let claim = match &token {
        Some(token) => claim_of(app, db, token).await?,
        None => None,
    };
    let (Some(token), Some(claim)) = (token, claim) else {
        let _failed = throttle::admit(app, db, &limits).await?;
        return Err(RegistrationError::BadToken);
    };
    let account = claim.account();
    let pair = format!("{network} {account}");
    let _turn = app.throttles.turn(db.tenant().id, &pair, network).await;
    limits.extend([(LOGINS_OF_ADDRESS_TO_ACCOUNT, pair.as_str()), (LOGINS_TO_ACCOUNT, account.as_str())]);
    let attempt = throttle::admit(app, db, &limits).await?;
    if !app.hasher.verify(proof.password, Some(claim.password_hash())).await? {
        return Err(RegistrationError::BadToken);
    }
    attempt.withdraw(db).await?;
    let tx = db.begin().await?;
    let joins = matches!(claim, Claim::SignUp(_));
    let account = match claim {
        Claim::SignUp(_) => join(app, &tx, &token, proof.username).await?,
        Claim::Account(credentials) => confirm(app, &tx, &token, &credentials).await?,
    };
    auth::make_room(&tx, account.pk, app.clock.now()).await?;
    let tokens = auth::sign_in(app, &tx, db.tenant().id, &account, device).await?;
    if joins {
        users::record_joined(app, &tx, account.pk).await?;
    }
    tx.commit().await?;
    tracing::info!(tenant = %db.tenant().id, user = %account.pk, "an address was proven");
    Ok(tokens.answer(&account))
}

async fn claim_of(app: &App, db: &TenantDb, token: &LinkToken) -> Result<Option<Claim>, DbErr> {
    let now = app.clock.now();
    if let Some(row) = store::find(db, token, now).await? {
        return Ok(Some(Claim::SignUp(row)));
    }
    let Some(link) = links::find(db, token, Purpose::VerifyEmail, now).await? else { return Ok(None) };
    Ok(users::credentials_of(db, link.user_pk).await?.map(Claim::Account))
}

/// Makes a sign-up a user.
async fn join(
    app: &App,
    tx: &TenantTx,
    token: &LinkToken,
    username: Option<Username>,
) -> Result<Account, RegistrationError> {
    let (rules, now) = (sign_up_rules(tx).await?, app.clock.now());
    // Somebody else used it since it was found, or signed up anew.
    let row = store::take(tx, token, now).await?.ok_or(RegistrationError::BadToken)?;
    // The organization may have decided otherwise since.
    let email = Email::parse(&row.email);
    if !email.as_ref().is_ok_and(|email| rules.admit(email)) {
        return Err(RegistrationError::Closed);
    }
    let damaged = |_| ServiceError::from(tenants::Error::Damaged("a sign-up does not parse".into()));
    if let Ok(email) = &email {
        // Another one of this address, whose mail was put off, has nothing to wait for any more.
        store::delete(tx, email, now).await?;
    }
    let user = NewUser {
        pk: app.clock.uuid_v7(),
        username: username.map_or_else(|| Username::parse(&row.username), Ok).map_err(damaged)?,
        email: email.map_err(damaged)?,
        password_hash: row.password_hash,
        first_name: row.first_name,
        last_name: row.last_name,
        role: Role::Member,
        email_verified_at: Some(now),
        date_joined: now,
    };
    match users::join(app, tx, user).await {
        // By an invitation in the meantime: there is nothing left to prove.
        Err(UserError::EmailTaken) => Err(RegistrationError::BadToken),
        joined => Ok(joined?),
    }
}

/// Notes that the address of an account is its owner's.
async fn confirm(
    app: &App,
    tx: &TenantTx,
    token: &LinkToken,
    credentials: &users::Credentials,
) -> Result<Account, RegistrationError> {
    let now = app.clock.now();
    // The user before the link, as everybody locks them; and with the password that was checked.
    let account = users::lock_with_password(tx, credentials.pk, &credentials.password_hash).await?;
    let account = account.filter(|account| account.is_active).ok_or(RegistrationError::BadToken)?;
    let link = links::redeem(tx, token, Purpose::VerifyEmail, now).await?;
    link.filter(|link| link.user_pk == account.pk).ok_or(RegistrationError::BadToken)?;
    users::set_email_verified(tx, account.pk, now).await?;
    Ok(account)
}

/// Mails the link to the owner of a new organization by which he proves his address, which may be anybody's.
///
/// # Errors
/// Those of the database.
pub async fn mail_link(
    app: &App,
    outbox: &impl Outbox,
    slug: &Slug,
    organization: &str,
    account: &Account,
) -> Result<(), ServiceError> {
    let letter = link_for(app, outbox, slug, organization, account).await?;
    mail::post_unsolicited(app, outbox, letter).await
}

/// The letter of [`mail_link`]. The link before stops working.
pub(super) async fn link_for(
    app: &App,
    outbox: &impl Outbox,
    slug: &Slug,
    organization: &str,
    account: &Account,
) -> Result<Letter, ServiceError> {
    let now = app.clock.now();
    let token = links::issue(outbox, account.pk, Purpose::VerifyEmail, None, LIFETIME, now).await?;
    Ok(letter(app, slug, organization, account.into(), &token))
}

/// The letter with a link that proves an address.
pub(super) fn letter(app: &App, slug: &Slug, organization: &str, to: Recipient, token: &LinkToken) -> Letter {
    let link = app.site.account_link(slug, "verify", &token.encode());
    Letter {
        to,
        mail: Mail::VerifyEmail { organization: organization.to_owned(), link },
        expires_at: Some(app.clock.now() + LIFETIME),
    }
}

/// Forgets the sign-ups that wait with this address, because it has an account now.
///
/// # Errors
/// Those of the database.
pub async fn void(app: &App, tx: &TenantTx, email: &Email) -> Result<(), DbErr> {
    store::delete(tx, email, app.clock.now()).await
}
