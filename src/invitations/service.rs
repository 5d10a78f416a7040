//! The rules of inviting and joining.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{ActiveEnum as _, ConnectionTrait, DbErr};
use secrecy::{ExposeSecret as _, SecretString};
use tenants::{Outbox, Slug, TenantDb, TenantTx, lists};
use uuid::Uuid;

use super::{InvitationError, store};
use crate::{
    activity::{self, Entry, Verb},
    auth::{self, Caller, Device, LoginOut, links::LinkToken},
    entity::{invitations::Model, users::Role},
    error::ServiceError,
    http::IdempotencyKey,
    idempotency, limits,
    mail::{self, Letter, Mail, Recipient},
    notifications::{Event, Kind, notify},
    password,
    references::{self, Reference},
    registration,
    state::App,
    tenant,
    throttle::{self, MAILS},
    users::{
        self, Account, NewUser, PersonOut, UserError,
        identity::{Email, Password, Username},
    },
};

/// How long an invitation can be accepted.
const LIFETIME: TimeDelta = TimeDelta::days(7);
/// How many invitations are sent for an organization, in all, before one of its owners has proven an address: a team, but
/// not a mailing list.
pub(super) const UNVERIFIED_LIMIT: i32 = 20;

/// Invites somebody, or invites him anew: the link before stops working.
pub(super) async fn invite(
    app: &App,
    db: &TenantDb,
    inviter: &Caller,
    email: &Email,
    role: Role,
    key: &IdempotencyKey,
) -> Result<Model, InvitationError> {
    let inviter = &inviter.account;
    if !inviter.role.may_give(role) {
        return Err(InvitationError::Denied);
    }
    let (token, now) = (LinkToken::generate(), app.clock.now());
    // Asked before it counts as one more mail, and once more where it decides.
    if let Some(made) = idempotency::made(db, key, inviter.pk, now).await? {
        return store::find_by_id(db, made).await?.ok_or(InvitationError::Gone);
    }
    let row = Model {
        id: app.clock.uuid_v7(),
        email: email.as_str().to_owned(),
        email_key: email.key().to_owned(),
        role,
        invited_by: Some(inviter.pk),
        token_hash: token.hash().to_vec(),
        created_at: now,
        expires_at: now + LIFETIME,
        by_operator: false,
    };
    let tx = db.begin().await?;
    let answer = write(app, &tx, inviter, email, row, &token, key).await;
    idempotency::settle(tx, answer).await
}

async fn write(
    app: &App,
    tx: &TenantTx,
    inviter: &Account,
    email: &Email,
    row: Model,
    token: &LinkToken,
    key: &IdempotencyKey,
) -> Result<Model, InvitationError> {
    if users::hold(tx, &[inviter.pk], []).await?.is_empty() {
        return Err(UserError::CallerGone.into());
    }
    if let Some(made) = idempotency::claim(tx, key, inviter.pk, row.created_at).await? {
        return store::find_by_id(tx, made).await?.ok_or(InvitationError::Gone);
    }
    // Nobody's mailbox is filled by somebody else's organization. What is refused further on mails nothing, and is rolled
    // back with what it counts.
    let _sent = throttle::admit(app, tx, &[(MAILS, &format!("invitation {}", email.key()))]).await?;
    // From here on whoever else invites waits, so that nobody passes the limit and no address has two invitations.
    let sent = tenant::count_invitation(tx).await?;
    if sent > UNVERIFIED_LIMIT && !users::has_verified_owner(tx).await? {
        return Err(InvitationError::EmailNotVerified);
    }
    // First, because it waits for somebody who is about to accept it: then he is seen as the member he has become.
    let replaced = store::delete_by_email(tx, email).await?;
    // What only an owner could give, only an owner takes away.
    if replaced.as_ref().is_some_and(|replaced| !inviter.role.may_give(replaced.role)) {
        return Err(InvitationError::Denied);
    }
    if users::find_by_email(tx, email).await?.is_some() {
        return Err(InvitationError::AlreadyMember);
    }
    limits::room_for_rows(tx.tenant()).map_err(ServiceError::from)?;
    store::insert(tx, row.clone()).await?;
    idempotency::keep(tx, key, inviter.pk, row.id, row.created_at).await?;
    post(app, tx, inviter, &row, token).await?;
    lists::adjust(tx, &[(store::all(), i64::from(replaced.is_none()))], row.created_at).await?;
    let invitation = Reference::other(references::Kind::Invitation, Some(row.id), row.role.to_value());
    let entry = Entry::new(app.clock.uuid_v7(), inviter.pk, Verb::Invited, invitation);
    activity::record(tx, &[entry], row.created_at).await?;
    Ok(row)
}

/// Withdraws an invitation: who could have given it.
pub(super) async fn withdraw(
    app: &App,
    db: &TenantDb,
    caller: &Caller,
    id: Uuid,
) -> Result<(), InvitationError> {
    let tx = db.begin().await?;
    // What is not withdrawn after all is there again when the transaction ends without a commit.
    let withdrawn = store::delete(&tx, id).await?.ok_or(InvitationError::Gone)?;
    if !caller.account.role.may_give(withdrawn.role) {
        return Err(InvitationError::Denied);
    }
    lists::adjust(&tx, &[(store::all(), -1)], app.clock.now()).await?;
    Ok(tx.commit().await?)
}

/// Deletes invitations that are over, so many at most; how many there were.
///
/// # Errors
/// Those of the database.
pub async fn remove_expired(db: &TenantDb, now: DateTime<Utc>, limit: u32) -> Result<u64, DbErr> {
    let tx = db.begin().await?;
    let deleted = store::delete_expired(&tx, now, limit).await?;
    let fewer = i64::try_from(deleted).unwrap_or(i64::MAX);
    lists::adjust(&tx, &[(store::all(), -fewer)], now).await?;
    tx.commit().await?;
    Ok(deleted)
}

/// Invites the owner of an organization that an operator has made, or is about to: there is nobody in it yet. The invitation
/// before, if there is one, has to be [taken back](take_back_owner) first.
///
/// # Errors
/// Those of the database.
pub async fn invite_owner(
    app: &App,
    tenant: &impl Outbox,
    (slug, organization): (&Slug, &str),
    email: &Email,
) -> Result<OwnerInvited, ServiceError> {
    let (token, now) = (LinkToken::generate(), app.clock.now());
    let row = Model {
        id: app.clock.uuid_v7(),
        email: email.as_str().to_owned(),
        email_key: email.key().to_owned(),
        role: Role::Owner,
        invited_by: None,
        token_hash: token.hash().to_vec(),
        created_at: now,
        expires_at: now + LIFETIME,
        by_operator: true,
    };
    let mail = Mail::Invitation {
        organization: organization.to_owned(),
        // Whoever gets it knows no operator by name; where the organization is to be, he can tell.
        inviter: app.site.base_domain.clone(),
        role: row.role,
        link: app.site.account_link(slug, "accept", &token.encode()),
    };
    let letter = Letter { to: Recipient::stranger(&row.email), mail, expires_at: Some(row.expires_at) };
    let invited =
        OwnerInvited { email: row.email.clone(), created_at: row.created_at, expires_at: row.expires_at };
    store::insert(tenant, row).await?;
    mail::post(app, tenant, letter).await?;
    lists::adjust(tenant, &[(store::all(), 1)], now).await?;
    Ok(invited)
}

/// An owner to be, who has a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnerInvited {
    /// The address it was sent to.
    pub email: String,
    /// When.
    pub created_at: DateTime<Utc>,
    /// When it stops working.
    pub expires_at: DateTime<Utc>,
}

/// Takes the invitation back by which an operator has asked the owner in: its link does not work any more. Whose address it
/// was for; `None` if there is none. Waits for who is about to accept it.
///
/// # Errors
/// Those of the database.
pub async fn take_back_owner(
    db: &impl ConnectionTrait,
    now: DateTime<Utc>,
) -> Result<Option<String>, ServiceError> {
    let email = store::delete_by_operator(db).await?;
    if email.is_some() {
        lists::adjust(db, &[(store::all(), -1)], now).await?;
    }
    Ok(email)
}

async fn post(
    app: &App,
    tx: &TenantTx,
    inviter: &Account,
    row: &Model,
    token: &LinkToken,
) -> Result<(), ServiceError> {
    let mail = Mail::Invitation {
        organization: tenant::name(tx).await?,
        inviter: PersonOut::from(inviter).full_name(),
        role: row.role,
        link: app.site.account_link(&tx.tenant().slug, "accept", &token.encode()),
    };
    let letter = Letter { to: Recipient::stranger(&row.email), mail, expires_at: Some(row.expires_at) };
    mail::post_unsolicited(app, tx, letter).await
}

/// Somebody who accepts an invitation.
#[derive(Debug)]
pub(super) struct Acceptance {
    /// As it came.
    pub(super) token: SecretString,
    pub(super) username: Username,
    pub(super) password: Password,
    pub(super) first_name: String,
    pub(super) last_name: String,
}

/// Makes who was invited a user, whose address is proven by the link. Whatever is wrong but the link, it works as before.
pub(super) async fn accept(
    app: &App,
    db: &TenantDb,
    accepted: Acceptance,
    device: &Device,
) -> Result<LoginOut, InvitationError> {
    let token = LinkToken::parse(accepted.token.expose_secret()).ok_or(InvitationError::BadToken)?;
    // Asked before the password is hashed: strangers without a link are not worth that work.
    let found = store::find(db, &token, app.clock.now()).await?.ok_or(InvitationError::BadToken)?;
    let password_hash = hash(app, db, &accepted, &found.email).await?;
    let tx = db.begin().await?;
    // Who deletes him takes the invitation from him, and must not wait for who waits for him.
    users::hold(&tx, found.invited_by.as_slice(), []).await?;
    let now = app.clock.now();
    let invitation = store::take(&tx, &token, now).await?.ok_or(InvitationError::BadToken)?;
    if !is_backed(&tx, &invitation).await? {
        return Err(InvitationError::BadToken);
    }
    let damaged = |_| ServiceError::from(tenants::Error::Damaged("an invitation's address".into()));
    let email = Email::parse(&invitation.email).map_err(damaged)?;
    // Asked first, because a member who comes by the link once more is likely to give his own username again.
    if users::find_by_email(&tx, &email).await?.is_some() {
        return Err(InvitationError::AlreadyMember);
    }
    let user = NewUser {
        pk: app.clock.uuid_v7(),
        username: accepted.username,
        email: email.clone(),
        password_hash,
        first_name: accepted.first_name,
        last_name: accepted.last_name,
        role: invitation.role,
        email_verified_at: Some(now),
        date_joined: now,
    };
    // Before the user is written, as by whoever follows the link of that sign-up: two who do it in different orders wait for
    // each other.
    registration::void(app, &tx, &email).await?;
    let account = users::join(app, &tx, user).await?;
    let tokens = auth::sign_in(app, &tx, db.tenant().id, &account, device).await?;
    lists::adjust(&tx, &[(store::all(), -1)], now).await?;
    users::record_joined(app, &tx, account.pk).await?;
    tell_inviter(app, &tx, &invitation, &account).await?;
    tx.commit().await?;
    tracing::info!(tenant = %db.tenant().id, user = %account.pk, "an invitation was accepted");
    Ok(tokens.answer(&account))
}

async fn tell_inviter(
    app: &App,
    tx: &TenantTx,
    invitation: &Model,
    joined: &Account,
) -> Result<(), ServiceError> {
    let Some(inviter) = invitation.invited_by else { return Ok(()) };
    let event = Event {
        id: invitation.id,
        actor: Some(joined.pk),
        object: Reference::other(
            references::Kind::Invitation,
            Some(invitation.id),
            invitation.role.to_value(),
        ),
    };
    notify(app, tx, &event, &[(inviter, Kind::InvitationAccepted)]).await
}

async fn hash(
    app: &App,
    db: &TenantDb,
    accepted: &Acceptance,
    email: &str,
) -> Result<String, InvitationError> {
    let organization = tenant::name(db).await?;
    let own_words = [
        accepted.username.as_str(),
        email,
        &accepted.first_name,
        &accepted.last_name,
        &organization,
        db.tenant().slug.as_str(),
    ];
    Ok(password::hash(app, &accepted.password, &own_words).await?)
}

/// Whether who gave the invitation is still there and may give that role now.
async fn is_backed(tx: &TenantTx, invitation: &Model) -> Result<bool, ServiceError> {
    // An operator is none of its people, and may have one invited who owns it.
    let Some(inviter) = invitation.invited_by else { return Ok(invitation.by_operator) };
    let inviter = users::find(tx, inviter).await?.filter(|inviter| inviter.is_active);
    Ok(inviter.is_some_and(|inviter| inviter.role.may_give(invitation.role)))
}
