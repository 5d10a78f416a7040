//! The rules of who may change and remove whom.
//!
//! An organization always has an owner who may sign in. Every way in which one can cease to be that, by his own hand too,
//! takes a [`Roster`] first and asks [`Roster::guard_last_owner`] under its locks.

use sea_orm::{ConnectionTrait, DbErr};
use serde_json::json;
use tenants::{DataKey, TenantTx};
use uuid::Uuid;

use super::{
    Account, NewUser, UserError, UserOut,
    api::Users,
    identity::Email,
    store::{self, Filter, Standing},
};
use crate::{
    audit::{self, Action},
    auth::{self, Caller, links},
    entity::{tokens::Purpose, users::Role},
    error::ServiceError,
    http::{Page, PageQuery, Problem},
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
    /// Locks them.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn lock(tx: &TenantTx, users: &[Uuid]) -> Result<Self, DbErr> {
        store::lock_with_owners(tx, users).await.map(Self)
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
    let roster = Roster::lock(tx, &[caller.account.pk, pk]).await?;
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
    tx: &TenantTx,
    account: Account,
    standing: Standing,
) -> Result<Account, UserError> {
    let was_active = account.is_active;
    let account = store::set_standing(tx, account, standing).await?;
    if was_active && !account.is_active {
        auth::end_sessions(tx, account.pk, None).await?;
        let purposes = [Purpose::VerifyEmail, Purpose::ChangeEmail, Purpose::ResetPassword];
        links::void(tx, account.pk, &purposes).await?;
    }
    Ok(account)
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

/// A page of the users of the tenant in whose schema this connection runs, for somebody who is none of them.
///
/// # Errors
/// There is no such page, or those of the database.
pub async fn listed(db: &impl ConnectionTrait, query: &PageQuery<Users>) -> Result<Page<UserOut>, Problem> {
    let filter = Filter { words: query.words(), role: None, is_active: None };
    let window = query.window(store::count(db, filter).await.map_err(ServiceError::from)?)?;
    let users = store::list(db, filter, query.order(), window.offset, window.limit)
        .await
        .map_err(ServiceError::from)?;
    Ok(query.page(&window, users.into_iter().map(Into::into).collect()))
}

/// Writes a user who joins the organization, and puts its address into the catalog's blind index.
///
/// # Errors
/// Another one has the username or the address, or those of the database.
pub async fn join(app: &App, tx: &TenantTx, user: NewUser) -> Result<Account, UserError> {
    let account = store::insert(tx, user).await?;
    tx.index_email(None, Some(&blind(app, &account.email))).await?;
    Ok(account)
}

/// Removes a user who is locked and not the last owner, with all that is his: sessions, links and devices, and his
/// organization from the list of those with his address.
///
/// # Errors
/// Those of the database.
pub async fn remove(app: &App, tx: &TenantTx, account: &Account) -> Result<(), ServiceError> {
    store::delete(tx, account.pk).await?;
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
