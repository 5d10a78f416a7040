//! The rules of inviting and joining.

use chrono::TimeDelta;
use tenants::{Provisioning, TenantDb, TenantTx};

use super::{InvitationError, store};
use crate::{
    auth::{self, Caller, Device, LoginOut, links::LinkToken},
    entity::{invitations::Model, users::Role},
    error::ServiceError,
    mail::{self, Letter, Mail, Recipient},
    password, registration,
    state::App,
    tenant,
    throttle::{self, MAILS},
    users::{
        self, Account, NewUser,
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
) -> Result<Model, InvitationError> {
    let inviter = &inviter.account;
    if !inviter.role.may_give(role) {
        return Err(InvitationError::Denied);
    }
    let (token, now) = (LinkToken::generate(), app.clock.now());
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
    // Nobody's mailbox is filled by somebody else's organization.
    let _sent = throttle::admit(app, db, &[(MAILS, &format!("invitation {}", email.key()))]).await?;
    let tx = db.begin().await?;
    // From here on whoever else invites waits, so that nobody passes the limit and no address has two invitations.
    let sent = tenant::count_invitation(&tx).await?;
    if sent > UNVERIFIED_LIMIT && !users::has_verified_owner(&tx).await? {
        return Err(InvitationError::EmailNotVerified);
    }
    // First, because it waits for somebody who is about to accept it: then he is seen as the member he has become.
    store::delete_by_email(&tx, email).await?;
    if users::find_by_email(&tx, email).await?.is_some() {
        return Err(InvitationError::AlreadyMember);
    }
    store::insert(&tx, row.clone()).await?;
    post(app, &tx, inviter, &row, &token).await?;
    tx.commit().await?;
    Ok(row)
}

/// Invites the owner of an organization that an operator is about to make: there is nobody in it yet.
///
/// # Errors
/// Those of the database.
pub async fn invite_owner(
    app: &App,
    tenant: &Provisioning,
    organization: &str,
    email: &Email,
) -> Result<(), ServiceError> {
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
        link: app.site.account_link(tenant.slug(), "accept", &token.encode()),
    };
    let letter = Letter { to: Recipient::stranger(&row.email), mail, expires_at: Some(row.expires_at) };
    store::insert(tenant, row).await?;
    mail::post(app, tenant, letter).await
}

async fn post(
    app: &App,
    tx: &TenantTx,
    inviter: &Account,
    row: &Model,
    token: &LinkToken,
) -> Result<(), ServiceError> {
    let name = format!("{} {}", inviter.first_name, inviter.last_name);
    let mail = Mail::Invitation {
        organization: tenant::name(tx).await?,
        inviter: if name.trim().is_empty() { inviter.username.clone() } else { name.trim().to_owned() },
        role: row.role,
        link: app.site.account_link(&tx.tenant().slug, "accept", &token.encode()),
    };
    let letter = Letter { to: Recipient::stranger(&row.email), mail, expires_at: Some(row.expires_at) };
    mail::post(app, tx, letter).await
}

/// Somebody who accepts an invitation.
#[derive(Debug)]
pub(super) struct Acceptance {
    /// As it came.
    pub(super) token: String,
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
    let token = LinkToken::parse(&accepted.token).ok_or(InvitationError::BadToken)?;
    // Asked before the password is hashed: strangers without a link are not worth that work.
    let found = store::find(db, &token, app.clock.now()).await?.ok_or(InvitationError::BadToken)?;
    let password_hash = hash(app, db, &accepted, &found.email).await?;
    let tx = db.begin().await?;
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
    let account = users::join(app, &tx, user).await?;
    registration::void(&tx, &email).await?;
    let tokens = auth::sign_in(app, &tx, db.tenant().id, &account, device).await?;
    tx.commit().await?;
    tracing::info!(tenant = %db.tenant().id, user = %account.pk, "an invitation was accepted");
    Ok(tokens.answer(&account))
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
