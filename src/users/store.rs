//! The rows of users.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, Utc};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, DerivePartialModel,
    EntityTrait, Iterable as _, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, TryInsertResult,
    sea_query::LockType,
};
use tenants::{TenantTx, lists};
use uuid::Uuid;

use super::{
    UserError,
    identity::{Email, Username},
    listing::list_of,
};
use crate::entity::users::{ActiveModel, Column, Entity, Model, Role};

/// A user without his secrets.
#[derive(Clone, Debug, PartialEq, Eq, DerivePartialModel)]
#[sea_orm(entity = "Entity")]
#[expect(missing_docs, reason = "the columns are documented where the table is")]
pub struct Account {
    pub pk: Uuid,
    pub username: String,
    pub email: String,
    pub first_name: String,
    pub last_name: String,
    pub role: Role,
    pub is_active: bool,
    pub email_verified_at: Option<DateTime<Utc>>,
    pub locale: String,
    pub timezone: String,
    pub comment_count: i32,
    pub date_joined: DateTime<Utc>,
}

impl From<Model> for Account {
    fn from(row: Model) -> Self {
        Self {
            pk: row.pk,
            username: row.username,
            email: row.email,
            first_name: row.first_name,
            last_name: row.last_name,
            role: row.role,
            is_active: row.is_active,
            email_verified_at: row.email_verified_at,
            locale: row.locale,
            timezone: row.timezone,
            comment_count: row.comment_count,
            date_joined: row.date_joined,
        }
    }
}

/// What a login is checked against.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "Entity")]
#[expect(missing_docs, reason = "the columns are documented where the table is")]
pub struct Credentials {
    pub pk: Uuid,
    pub password_hash: String,
    pub is_active: bool,
}

/// By what somebody signs in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    /// The username.
    Username(Username),
    /// The e-mail address.
    Email(Email),
}

/// A user to be written.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the columns are documented where the table is")]
pub struct NewUser {
    pub pk: Uuid,
    pub username: Username,
    pub email: Email,
    pub password_hash: String,
    pub first_name: String,
    pub last_name: String,
    pub role: Role,
    pub email_verified_at: Option<DateTime<Utc>>,
    pub date_joined: DateTime<Utc>,
}

impl NewUser {
    fn into_row(self) -> ActiveModel {
        ActiveModel {
            pk: Set(self.pk),
            username_key: Set(self.username.key()),
            username: Set(self.username.as_str().to_owned()),
            email_key: Set(self.email.key().to_owned()),
            email: Set(self.email.as_str().to_owned()),
            password_hash: Set(self.password_hash),
            first_name: Set(self.first_name),
            last_name: Set(self.last_name),
            role: Set(self.role),
            email_verified_at: Set(self.email_verified_at),
            date_joined: Set(self.date_joined),
            ..Default::default()
        }
    }
}

/// Writes a user.
///
/// # Errors
/// Another one has the username or the address, or those of the database.
pub async fn insert(db: &impl ConnectionTrait, user: NewUser) -> Result<Account, UserError> {
    let now = user.date_joined;
    let account = Account::from(Entity::insert(user.into_row()).exec_with_returning(db).await?);
    lists::adjust(db, &[(list_of(account.role, account.is_active), 1)], now).await?;
    Ok(account)
}

/// Writes many users at once, and leaves out those whose username or address is taken. Returns how many were written.
///
/// # Errors
/// Those of the database.
pub async fn insert_many(db: &impl ConnectionTrait, users: Vec<NewUser>) -> Result<u64, DbErr> {
    let Some(now) = users.first().map(|user| user.date_joined) else { return Ok(0) };
    let roles: HashMap<Uuid, Role> = users.iter().map(|user| (user.pk, user.role)).collect();
    let written = Entity::insert_many(users.into_iter().map(NewUser::into_row))
        .on_conflict_do_nothing()
        .exec_with_returning_keys(db)
        .await?;
    let TryInsertResult::Inserted(written) = written else { return Ok(0) };
    let with = |role| written.iter().filter(|pk| roles.get(*pk) == Some(&role)).count();
    let more = Role::iter().map(|role| (list_of(role, true), i64::try_from(with(role)).unwrap_or(i64::MAX)));
    lists::adjust(db, &more.collect::<Vec<_>>(), now).await?;
    Ok(u64::try_from(written.len()).unwrap_or(u64::MAX))
}

/// Those of these usernames that somebody has, as they are compared.
///
/// # Errors
/// Those of the database.
pub async fn taken_usernames(
    db: &impl ConnectionTrait,
    usernames: impl IntoIterator<Item = &Username>,
) -> Result<HashSet<String>, DbErr> {
    let keys = usernames.into_iter().map(Username::key);
    let taken =
        Entity::find().select_only().column(Column::UsernameKey).filter(Column::UsernameKey.is_in(keys));
    Ok(taken.into_tuple::<String>().all(db).await?.into_iter().collect())
}

/// A user.
///
/// # Errors
/// Those of the database.
pub async fn find(db: &impl ConnectionTrait, pk: Uuid) -> Result<Option<Account>, DbErr> {
    Entity::find_by_id(pk).into_partial_model::<Account>().one(db).await
}

/// What the login of this name is checked against.
///
/// # Errors
/// Those of the database.
pub async fn find_credentials(
    db: &impl ConnectionTrait,
    login: &Login,
) -> Result<Option<Credentials>, DbErr> {
    let named = match login {
        Login::Username(username) => Column::UsernameKey.eq(username.key()),
        Login::Email(email) => Column::EmailKey.eq(email.key()),
    };
    Entity::find().filter(named).into_partial_model::<Credentials>().one(db).await
}

/// What the password of this user is checked against.
///
/// # Errors
/// Those of the database.
pub async fn credentials_of(db: &impl ConnectionTrait, pk: Uuid) -> Result<Option<Credentials>, DbErr> {
    Entity::find_by_id(pk).into_partial_model::<Credentials>().one(db).await
}

/// The user with this address.
///
/// # Errors
/// Those of the database.
pub async fn find_by_email(db: &impl ConnectionTrait, email: &Email) -> Result<Option<Account>, DbErr> {
    Entity::find().filter(Column::EmailKey.eq(email.key())).into_partial_model::<Account>().one(db).await
}

/// Whether there is an owner.
///
/// # Errors
/// Those of the database.
pub async fn has_owner(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    Entity::find().filter(Column::Role.eq(Role::Owner)).count(db).await.map(|count| count > 0)
}

/// Whether there is an owner whose address is proven to be his.
///
/// # Errors
/// Those of the database.
pub async fn has_verified_owner(db: &impl ConnectionTrait) -> Result<bool, DbErr> {
    let owners = Entity::find().filter(Column::Role.eq(Role::Owner));
    owners.filter(Column::EmailVerifiedAt.is_not_null()).count(db).await.map(|count| count > 0)
}

/// A user whose password is still the one of this hash, and whom nobody else changes before the end of this transaction.
///
/// # Errors
/// Those of the database.
pub async fn lock_with_password(
    tx: &TenantTx,
    pk: Uuid,
    password_hash: &str,
) -> Result<Option<Account>, DbErr> {
    Entity::find_by_id(pk)
        .filter(Column::PasswordHash.eq(password_hash))
        .lock(LockType::NoKeyUpdate)
        .into_partial_model::<Account>()
        .one(tx)
        .await
}

/// Gives a user who is locked another password.
///
/// # Errors
/// Those of the database.
pub async fn set_password(tx: &TenantTx, pk: Uuid, password_hash: String) -> Result<(), DbErr> {
    let change = ActiveModel { password_hash: Set(password_hash), ..Default::default() };
    Entity::update_many().set(change).filter(Column::Pk.eq(pk)).exec(tx).await.map(|_| ())
}

/// Notes when the address of a user who is locked was proven to be his.
///
/// # Errors
/// Those of the database.
pub async fn set_email_verified(tx: &TenantTx, pk: Uuid, at: DateTime<Utc>) -> Result<(), DbErr> {
    let change = ActiveModel { email_verified_at: Set(Some(at)), ..Default::default() };
    Entity::update_many().set(change).filter(Column::Pk.eq(pk)).exec(tx).await.map(|_| ())
}

/// What of a profile is to change.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) username: Option<Username>,
    pub(super) first_name: Option<String>,
    pub(super) last_name: Option<String>,
    pub(super) locale: Option<String>,
    pub(super) timezone: Option<String>,
}

/// A user, whom nobody else changes before the end of this transaction. Others may go on writing rows that refer to him:
/// waiting for those who [`hold`] him could take for ever, because they don't wait for each other. Where the username, the
/// address or the user himself is to go, [`lock_whole`] is needed.
///
/// # Errors
/// Those of the database.
pub async fn lock(tx: &TenantTx, pk: Uuid) -> Result<Option<Account>, DbErr> {
    Entity::find_by_id(pk).lock(LockType::NoKeyUpdate).into_partial_model::<Account>().one(tx).await
}

/// As [`lock`], for whoever is about to change what is unique of a user: PostgreSQL takes this lock at the latest then, and
/// who has had the lesser one before may be waited for by those he has to wait for.
///
/// # Errors
/// Those of the database.
pub async fn lock_whole(tx: &TenantTx, pk: Uuid) -> Result<Option<Account>, DbErr> {
    Entity::find_by_id(pk).lock(LockType::Update).into_partial_model::<Account>().one(tx).await
}

/// Users by their keys or usernames, none of whom is deleted before the end of this transaction. Whoever writes rows that
/// refer to users takes all of them by one call, before any other lock: they are locked in the order of their keys, as
/// [`Roster`](super::Roster) does, so that no two wait for each other.
///
/// # Errors
/// Those of the database.
pub async fn hold(
    tx: &TenantTx,
    pks: &[Uuid],
    usernames: impl IntoIterator<Item = &Username>,
) -> Result<Vec<Account>, DbErr> {
    let named = usernames.into_iter().map(Username::key);
    Entity::find()
        .filter(
            Condition::any().add(Column::Pk.is_in(pks.iter().copied())).add(Column::UsernameKey.is_in(named)),
        )
        .order_by_asc(Column::Pk)
        .lock(LockType::KeyShare)
        .into_partial_model::<Account>()
        .all(tx)
        .await
}

/// The usernames of those of these users who are there.
///
/// # Errors
/// Those of the database.
pub async fn usernames(
    db: &impl ConnectionTrait,
    pks: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, String>, DbErr> {
    let named = Entity::find().select_only().columns([Column::Pk, Column::Username]);
    let named = named.filter(Column::Pk.is_in(pks)).into_tuple::<(Uuid, String)>();
    Ok(named.all(db).await?.into_iter().collect())
}

/// Whether somebody else than this user has the address.
///
/// # Errors
/// Those of the database.
pub async fn is_email_taken(db: &impl ConnectionTrait, email: &Email, by_not: Uuid) -> Result<bool, DbErr> {
    let others = Entity::find().filter(Column::EmailKey.eq(email.key())).filter(Column::Pk.ne(by_not));
    Ok(others.count(db).await? > 0)
}

/// Gives a user that is locked another address, which has just been proven to be his.
///
/// # Errors
/// Somebody else has it, or those of the database.
pub async fn set_email(
    tx: &TenantTx,
    pk: Uuid,
    email: &Email,
    now: DateTime<Utc>,
) -> Result<Account, UserError> {
    let row = ActiveModel {
        pk: Set(pk),
        email: Set(email.as_str().to_owned()),
        email_key: Set(email.key().to_owned()),
        email_verified_at: Set(Some(now)),
        ..Default::default()
    };
    Ok(Entity::update(row).exec(tx).await?.into())
}

/// Users by their keys, and every owner who may sign in, in the order of their keys and locked in it.
pub(super) async fn lock_with_owners(
    tx: &TenantTx,
    pks: &[Uuid],
    lock: LockType,
) -> Result<Vec<Account>, DbErr> {
    let owns = Condition::all().add(Column::Role.eq(Role::Owner)).add(Column::IsActive.eq(true));
    Entity::find()
        .filter(Condition::any().add(Column::Pk.is_in(pks.iter().copied())).add(owns))
        .order_by_asc(Column::Pk)
        .lock(lock)
        .into_partial_model::<Account>()
        .all(tx)
        .await
}

/// What others decide about a user. What is left out stays.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    pub(super) role: Option<Role>,
    pub(super) is_active: Option<bool>,
}

/// Changes the standing of a user that is locked, and returns what became of it.
pub(super) async fn set_standing(
    tx: &TenantTx,
    current: Account,
    standing: Standing,
    now: DateTime<Utc>,
) -> Result<Account, DbErr> {
    let Standing { role, is_active } = standing;
    let row = ActiveModel {
        role: role.map_or(sea_orm::ActiveValue::NotSet, Set),
        is_active: is_active.map_or(sea_orm::ActiveValue::NotSet, Set),
        ..Default::default()
    };
    if !row.is_changed() {
        return Ok(current);
    }
    let account = Account::from(Entity::update(ActiveModel { pk: Set(current.pk), ..row }).exec(tx).await?);
    let [from, to] = [&current, &account].map(|account| list_of(account.role, account.is_active));
    if from != to {
        lists::adjust(tx, &[(from, -1), (to, 1)], now).await?;
    }
    Ok(account)
}

/// Deletes a user who is locked. What is his goes with him.
pub(super) async fn delete(tx: &TenantTx, account: &Account, now: DateTime<Utc>) -> Result<(), DbErr> {
    Entity::delete_by_id(account.pk).exec(tx).await?;
    lists::adjust(tx, &[(list_of(account.role, account.is_active), -1)], now).await
}

/// Changes the profile of a user that is locked, and returns what became of it.
pub(super) async fn update(tx: &TenantTx, current: Account, changes: Changes) -> Result<Account, UserError> {
    let set = |value: Option<String>| value.map_or(sea_orm::ActiveValue::NotSet, Set);
    let row = ActiveModel {
        username_key: set(changes.username.as_ref().map(Username::key)),
        username: set(changes.username.map(|username| username.as_str().to_owned())),
        first_name: set(changes.first_name),
        last_name: set(changes.last_name),
        locale: set(changes.locale),
        timezone: set(changes.timezone),
        ..Default::default()
    };
    if !row.is_changed() {
        return Ok(current);
    }
    let row = ActiveModel { pk: Set(current.pk), ..row };
    Ok(Entity::update(row).exec(tx).await?.into())
}
