//! The rules of who may change and remove whom.
//!
//! An organization always has an owner who may sign in. Every way in which one can cease to be that, by his own hand too,
//! takes a [`Roster`] first and asks [`Roster::guard_last_owner`] under its locks.

use sea_orm::{ActiveEnum as _, DbErr, sea_query::LockType};
use serde_json::json;
use tenants::{DataKey, TenantTx, lists};
use uuid::Uuid;

use super::{
    Account, NewUser, UserError,
    identity::Email,
    store::{self, Changes, Standing},
};
use crate::{
    activity::{self, Entry, Verb},
    audit::{self, Action},
    auth::{self, Caller, links},
    comments,
    entity::{tokens::Purpose, users::Role},
    error::ServiceError,
    limits,
    notifications::{Event, Kind, notify},
    references::{self, Reference},
    state::App,
};

impl Role {
    /// Whether somebody in this role may give the other one, or take it away.
    #[must_use]
    pub fn may_give(self, role: Self) -> bool {
        match self {
            Self::Owner => true,
            Self::Admin => role != Self::Owner,
            Self::Member => false,
        }
    }
}

/// Some users, and every owner who may sign in, all locked until the transaction ends.
///
/// Owners are locked in one order, so that two of them who remove each other don't wait for each other; and all of them,
/// so that the second one sees what the first has done. Taken before any other lock on a user.
#[derive(Debug)]
pub struct Roster(Vec<Account>);

impl Roster {
    /// Locks them for a change of what they may do. Others may go on writing rows that refer to them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock(tx: &TenantTx, users: &[Uuid]) -> Result<Self, DbErr> {
        store::lock_with_owners(tx, users, LockType::NoKeyUpdate).await.map(Self)
    }

    /// Locks them for the removal of one of them, which waits for all who write rows that refer to them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock_to_remove(tx: &TenantTx, users: &[Uuid]) -> Result<Self, DbErr> {
        store::lock_with_owners(tx, users, LockType::Update).await.map(Self)
    }

    /// One of those who were asked for, as he is now; `None` if he is gone.
    #[must_use]
    pub fn get(&self, pk: Uuid) -> Option<&Account> {
        self.0.iter().find(|account| account.pk == pk)
    }

    /// Goes on unless this is the last owner who may sign in. For whoever is about to lose that.
    ///
    /// # Errors
    /// [`UserError::LastOwner`].
    pub fn guard_last_owner(&self, pk: Uuid) -> Result<(), UserError> {
        let (him, others): (Vec<_>, Vec<_>) =
            self.0.iter().filter(|account| is_owning(account)).partition(|account| account.pk == pk);
        if him.is_empty() || !others.is_empty() { Ok(()) } else { Err(UserError::LastOwner) }
    }
}

fn is_owning(account: &Account) -> bool {
    account.role == Role::Owner && account.is_active
}

/// What is to become of a user.
#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// Another role, or another right to sign in; `None` leaves it.
    Standing(Standing),
    /// To be gone.
    Removal,
}

impl Change {
    /// The role afterwards; `None` of somebody who is gone.
    fn role(self, account: &Account) -> Option<Role> {
        match self {
            Self::Standing(standing) => Some(standing.role.unwrap_or(account.role)),
            Self::Removal => None,
        }
    }

    fn keeps_owning(self, account: &Account) -> bool {
        match self {
            Self::Standing(standing) => {
                self.role(account) == Some(Role::Owner) && standing.is_active.unwrap_or(account.is_active)
            }
            Self::Removal => false,
        }
    }
}

/// Locks a user whom the caller is about to change, if he may. The caller is looked at again under the lock: he may have
/// lost his role since his request came in.
pub(super) async fn lock_for(
    tx: &TenantTx,
    caller: &Caller,
    pk: Uuid,
    change: Change,
) -> Result<Account, UserError> {
    let users = [caller.account.pk, pk];
    let roster = match change {
        Change::Standing(_) => Roster::lock(tx, &users).await?,
        Change::Removal => Roster::lock_to_remove(tx, &users).await?,
    };
    let by = roster.get(caller.account.pk).filter(|by| by.is_active).ok_or(UserError::CallerGone)?;
    if by.role == Role::Member {
        return Err(UserError::Denied);
    }
    let account = roster.get(pk).ok_or(UserError::NotFound)?;
    let gives = change.role(account).is_none_or(|role| by.role.may_give(role));
    if !gives || !by.role.may_give(account.role) {
        return Err(UserError::Denied);
    }
    if !change.keeps_owning(account) {
        roster.guard_last_owner(pk)?;
    }
    Ok(account.clone())
}

/// Gives a locked user another standing. Who may not sign in any more is signed out everywhere, and the links he was
/// mailed lead nowhere.
pub(super) async fn set_standing(
    app: &App,
    tx: &TenantTx,
    by: &Caller,
    before: Account,
    standing: Standing,
) -> Result<Account, UserError> {
    let now = app.clock.now();
    let account = store::set_standing(tx, before.clone(), standing, now).await?;
    if before.is_active && !account.is_active {
        auth::end_sessions(tx, account.pk, None).await?;
        let purposes = [Purpose::VerifyEmail, Purpose::ChangeEmail, Purpose::ResetPassword];
        links::void(tx, account.pk, &purposes).await?;
    }
    let entry = |verb| Entry::new(app.clock.uuid_v7(), by.account.pk, verb, Reference::user(account.pk));
    let mut entries = Vec::new();
    if before.role != account.role {
        let role = Reference::other(references::Kind::Role, None, account.role.to_value());
        entries.push(Entry { target: Some(role), ..entry(Verb::RoleChanged) });
    }
    match (before.is_active, account.is_active) {
        (true, false) => entries.push(entry(Verb::Deactivated)),
        (false, true) => entries.push(entry(Verb::Reactivated)),
        _ => {}
    }
    activity::record(tx, &entries, now).await?;
    Ok(account)
}

/// Changes the profile of a user who is locked, by his own hand.
pub(super) async fn update_profile(
    app: &App,
    tx: &TenantTx,
    before: Account,
    changes: Changes,
) -> Result<Account, UserError> {
    let account = store::update(tx, before.clone(), changes).await?;
    if account != before {
        record_profile_update(app, tx, account.pk).await?;
    }
    Ok(account)
}

/// Records that a user, who is locked, changed something of himself.
///
/// # Errors
/// Those of the database.
pub async fn record_profile_update(app: &App, tx: &TenantTx, pk: Uuid) -> Result<(), DbErr> {
    let entry = Entry::new(app.clock.uuid_v7(), pk, Verb::ProfileUpdated, Reference::user(pk));
    activity::record(tx, &[entry], app.clock.now()).await
}

/// Records that a user, who was written in this transaction, joined the organization. As late in it as may be: from here
/// on nobody else records anything.
///
/// # Errors
/// Those of the database.
pub async fn record_joined(app: &App, tx: &TenantTx, pk: Uuid) -> Result<(), DbErr> {
    let organization = Reference::organization(tx.tenant().id);
    let entry = Entry::new(app.clock.uuid_v7(), pk, Verb::Joined, organization);
    activity::record(tx, &[entry], app.clock.now()).await
}

/// Tells a locked user of a role that he has not had before.
pub(super) async fn tell_of_role(
    app: &App,
    tx: &TenantTx,
    by: &Caller,
    account: &Account,
    before: Role,
) -> Result<(), ServiceError> {
    if account.role == before {
        return Ok(());
    }
    let event = Event {
        id: app.clock.uuid_v7(),
        actor: Some(by.account.pk),
        object: Reference::other(references::Kind::Role, None, account.role.to_value()),
    };
    notify(app, tx, &event, &[(account.pk, Kind::RoleChanged)]).await
}

/// Removes a user who is locked and not the last owner, by the hand of an admin. Who removes himself leaves no trace.
pub(super) async fn remove_by(
    app: &App,
    tx: &TenantTx,
    by: &Caller,
    account: &Account,
) -> Result<(), ServiceError> {
    remove(app, tx, account).await?;
    if by.account.pk == account.pk {
        return Ok(());
    }
    let user = Reference::user(account.pk);
    let entry = Entry::new(app.clock.uuid_v7(), by.account.pk, Verb::Removed, user);
    Ok(activity::record(tx, &[entry], app.clock.now()).await?)
}

/// Notes in the organization's log what an admin made of a user.
pub(super) async fn note_standing(
    app: &App,
    tx: &TenantTx,
    by: &Caller,
    before: &Account,
    after: &Account,
) -> Result<(), UserError> {
    let user = json!({"pk": after.pk, "username": after.username});
    if before.role != after.role {
        let detail = json!({"user": user, "before": {"role": before.role}, "after": {"role": after.role}});
        audit::note(app, tx, by, Action::UserRoleChanged, detail).await?;
    }
    if before.is_active != after.is_active {
        let action = if after.is_active { Action::UserActivated } else { Action::UserDeactivated };
        audit::note(app, tx, by, action, json!({"user": user})).await?;
    }
    Ok(())
}

/// Notes in the organization's log that an admin removed a user. The name stays there: else nobody could say who it was.
pub(super) async fn note_removal(
    app: &App,
    tx: &TenantTx,
    by: &Caller,
    removed: &Account,
) -> Result<(), UserError> {
    let detail = json!({"user": {"pk": removed.pk, "username": removed.username, "role": removed.role}});
    Ok(audit::note(app, tx, by, Action::UserRemoved, detail).await?)
}

/// Writes a user who joins the organization, and puts its address into the catalog's blind index. That he joined is
/// recorded apart, at the end of the transaction: [`record_joined`].
///
/// # Errors
/// Another one has the username or the address, or those of the database.
pub async fn join(app: &App, tx: &TenantTx, user: NewUser) -> Result<Account, UserError> {
    limits::room_for_users(tx, 1).await?;
    let account = store::insert(tx, user).await?;
    tx.index_email(None, Some(&blind(app, &account.email))).await?;
    Ok(account)
}

/// Removes a user who is locked and not the last owner, with all that is his: sessions, links and devices, and his
/// organization from the list of those with his address; and his page with all that stands on it. What he wrote on the
/// pages of others stays there, without his name.
///
/// # Errors
/// Those of the database.
pub async fn remove(app: &App, tx: &TenantTx, account: &Account) -> Result<(), ServiceError> {
    comments::forget_page(tx, account.pk).await?;
    // Before his rows: who works in his inbox has locked its list first.
    lists::forget(tx, &[account.pk]).await?;
    store::delete(tx, account, app.clock.now()).await?;
    tx.wake(account.pk);
    tx.index_email(Some(&blind(app, &account.email)), None).await?;
    tracing::info!(tenant = %tx.tenant().id, user = %account.pk, "a user was removed");
    Ok(())
}

/// An address as the catalog's blind index has it.
#[must_use]
pub fn blind(app: &App, email: &str) -> [u8; 32] {
    // What is stored was read by `Email` once, and is read by it again.
    let key = Email::parse(email).map_or_else(|_| email.to_lowercase(), |email| email.key().to_owned());
    app.tenancy.key(DataKey::BlindIndex).mac(key.as_bytes())
}
