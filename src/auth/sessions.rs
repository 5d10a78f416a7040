//! The rows of sessions.

use std::collections::HashSet;

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use poem::{FromRequest, Request, RequestBody, http::header::USER_AGENT};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, DerivePartialModel, EntityTrait,
    JoinType, PaginatorTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait, RelationTrait, Select,
    sea_query::LockType,
};
use tenants::{TenantTx, Wake};
use uuid::Uuid;

use crate::{
    entity::{sessions, users},
    http::{
        ClientAddr,
        page::{self, Window},
    },
    users::Account,
};

/// How long a refresh token is valid, and a session that nobody uses. The contract's.
pub(super) const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(30);
/// How long a session lasts however much it is used: then the password is asked for again. OWASP ASVS 5.0 (7.3.2) wants
/// such an end and leaves its length to the risk; a quarter of a year is three times what an unused session lasts.
const SESSION_LIFETIME: TimeDelta = TimeDelta::days(90);
/// How many sessions a user has at once: more devices than anybody has, few enough that their rows weigh nothing.
const MAX_SESSIONS: u64 = 100;
/// How much is kept of what a client says of itself, in characters.
pub(crate) const USER_AGENT_LEN: usize = 200;

/// From where somebody signs in.
#[derive(Clone, Debug)]
pub struct Device {
    /// The network it is in, which limits go by.
    pub(super) of: IpNet,
    network: String,
    ip: String,
    user_agent: String,
}

impl Device {
    /// Its address.
    #[must_use]
    pub fn ip(&self) -> &str {
        &self.ip
    }

    /// The network it is in, as devices are told apart by it: an IPv4 address, or the /64 of an IPv6 one.
    #[must_use]
    pub fn network(&self) -> &str {
        &self.network
    }

    /// What the client calls itself; shortened.
    #[must_use]
    pub fn user_agent(&self) -> &str {
        &self.user_agent
    }
}

impl<'a> FromRequest<'a> for Device {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        let address = ClientAddr::of(request);
        Ok(Self {
            network: address.network_text(),
            of: address.network(),
            ip: address.0.to_string(),
            user_agent: user_agent.unwrap_or_default().chars().take(USER_AGENT_LEN).collect(),
        })
    }
}

/// A session to be made.
#[derive(Debug)]
pub(super) struct NewSession<'a> {
    pub(super) id: Uuid,
    pub(super) user: Uuid,
    pub(super) refresh_hash: [u8; 32],
    pub(super) ip: &'a str,
    pub(super) user_agent: &'a str,
    pub(super) now: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
}

/// Writes a session.
pub(super) async fn create(db: &impl ConnectionTrait, new: NewSession<'_>) -> Result<(), DbErr> {
    let row = sessions::ActiveModel {
        id: Set(new.id),
        user_pk: Set(new.user),
        refresh_hash: Set(new.refresh_hash.to_vec()),
        generation: Set(0),
        rotated_at: Set(new.now),
        ip: Set(new.ip.to_owned()),
        user_agent: Set(new.user_agent.to_owned()),
        created_at: Set(new.now),
        last_used_at: Set(new.now),
        expires_at: Set(new.expires_at),
    };
    sessions::Entity::insert(row).exec_without_returning(db).await.map(|_| ())
}

/// Those of these sessions that are there.
///
/// # Errors
/// Those of the database.
pub async fn sessions_among(
    db: &impl ConnectionTrait,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<HashSet<Uuid>, DbErr> {
    let there = sessions::Entity::find().select_only().column(sessions::Column::Id);
    let there = there.filter(sessions::Column::Id.is_in(ids)).into_tuple::<Uuid>();
    Ok(there.all(db).await?.into_iter().collect())
}

/// Deletes the user's sessions that have ended by themselves and, so that one more is not too many, those that were not
/// used for the longest time.
pub(crate) async fn make_room(
    db: &(impl ConnectionTrait + Wake),
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let stay = of_user(user, now)
        .select_only()
        .column(sessions::Column::Id)
        .order_by_desc(sessions::Column::LastUsedAt)
        .order_by_desc(sessions::Column::Id)
        .limit(MAX_SESSIONS - 1);
    let deleted = sessions::Entity::delete_many()
        .filter(sessions::Column::UserPk.eq(user))
        .filter(sessions::Column::Id.not_in_subquery(stay.into_query()))
        .exec(db)
        .await?;
    // Most logins end nothing.
    if deleted.rows_affected > 0 {
        db.wake(user);
    }
    Ok(())
}

/// A session as a refresh has to know it.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "sessions::Entity")]
pub(super) struct Locked {
    pub(super) id: Uuid,
    pub(super) user_pk: Uuid,
    pub(super) refresh_hash: Vec<u8>,
    pub(super) generation: i64,
    pub(super) rotated_at: DateTime<Utc>,
    pub(super) created_at: DateTime<Utc>,
    pub(super) expires_at: DateTime<Utc>,
    /// What its user may do.
    #[sea_orm(from_expr = "users::Column::Role")]
    pub(super) role: users::Role,
}

/// A session that has not ended, of a user who may sign in; nobody else changes it before this transaction ends.
pub(super) async fn lock(tx: &TenantTx, session: Uuid, now: DateTime<Utc>) -> Result<Option<Locked>, DbErr> {
    let mut select = sessions::Entity::find_by_id(session)
        .join(JoinType::InnerJoin, sessions::Relation::Users.def())
        .filter(sessions::Column::ExpiresAt.gt(now))
        .filter(users::Column::IsActive.eq(true));
    // Not the user's row, which the refreshes of all his devices would wait for.
    QueryTrait::query(&mut select).lock_with_tables(LockType::Update, [sessions::Entity]);
    select.into_partial_model::<Locked>().one(tx).await
}

/// Notes that a refresh token was used and which hash its successor has. Says when that one ends.
pub(super) async fn rotate(
    tx: &TenantTx,
    session: &Locked,
    refresh_hash: [u8; 32],
    device: &Device,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, DbErr> {
    let expires_at = (now + REFRESH_LIFETIME).min(session.created_at + SESSION_LIFETIME);
    let row = sessions::ActiveModel {
        refresh_hash: Set(refresh_hash.to_vec()),
        generation: Set(session.generation + 1),
        rotated_at: Set(now),
        ip: Set(device.ip.clone()),
        user_agent: Set(device.user_agent.clone()),
        last_used_at: Set(now),
        expires_at: Set(expires_at),
        ..Default::default()
    };
    let this = sessions::Column::Id.eq(session.id);
    sessions::Entity::update_many().set(row).filter(this).exec(tx).await?;
    Ok(expires_at)
}

/// The sessions of a user that have not ended.
fn of_user(user: Uuid, now: DateTime<Utc>) -> Select<sessions::Entity> {
    sessions::Entity::find()
        .filter(sessions::Column::UserPk.eq(user))
        .filter(sessions::Column::ExpiresAt.gt(now))
}

/// A session as its user sees it.
#[derive(Clone, Debug, DerivePartialModel)]
#[sea_orm(entity = "sessions::Entity")]
pub(super) struct Shown {
    pub(super) id: Uuid,
    pub(super) ip: String,
    pub(super) user_agent: String,
    pub(super) created_at: DateTime<Utc>,
    pub(super) last_used_at: DateTime<Utc>,
}

pub(super) async fn count(db: &impl ConnectionTrait, user: Uuid, now: DateTime<Utc>) -> Result<u64, DbErr> {
    of_user(user, now).count(db).await
}

pub(super) async fn list(
    db: &impl ConnectionTrait,
    user: Uuid,
    now: DateTime<Utc>,
    descending: bool,
    window: &Window,
) -> Result<Vec<Shown>, DbErr> {
    let direction = page::direction(descending);
    of_user(user, now)
        .order_by(sessions::Column::CreatedAt, direction.clone())
        .order_by(sessions::Column::Id, direction)
        .offset(window.offset)
        .limit(window.limit)
        .into_partial_model::<Shown>()
        .all(db)
        .await
}

/// All sessions of a user that have not ended, the newest first. There are [`MAX_SESSIONS`] at most.
pub(super) async fn all(
    db: &impl ConnectionTrait,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<Vec<Shown>, DbErr> {
    of_user(user, now)
        .order_by_desc(sessions::Column::CreatedAt)
        .order_by_desc(sessions::Column::Id)
        .into_partial_model::<Shown>()
        .all(db)
        .await
}

/// Whether a session has not ended and its user may sign in.
pub(super) async fn goes_on(
    db: &impl ConnectionTrait,
    session: Uuid,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let found = of_session(session, user, now).select_only().column(users::Column::Pk);
    Ok(found.into_tuple::<Uuid>().one(db).await?.is_some())
}

/// The user of a session that has not ended: one indexed query.
pub(super) async fn account_of(
    db: &impl ConnectionTrait,
    session: Uuid,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Account>, DbErr> {
    of_session(session, user, now).into_partial_model::<Account>().one(db).await
}

/// The user of a session that has not ended, if he may sign in.
fn of_session(session: Uuid, user: Uuid, now: DateTime<Utc>) -> Select<users::Entity> {
    users::Entity::find()
        .join(JoinType::InnerJoin, users::Relation::Sessions.def())
        .filter(sessions::Column::Id.eq(session))
        .filter(sessions::Column::ExpiresAt.gt(now))
        .filter(users::Column::Pk.eq(user))
        .filter(users::Column::IsActive.eq(true))
}

/// Ends a session of this user. Whether there was one.
///
/// # Errors
/// Those of the database.
pub async fn end_own(
    db: &(impl ConnectionTrait + Wake),
    session: Uuid,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let deleted = sessions::Entity::delete_by_id(session)
        .filter(sessions::Column::UserPk.eq(user))
        .filter(sessions::Column::ExpiresAt.gt(now))
        .exec(db)
        .await?;
    db.wake(user);
    Ok(deleted.rows_affected > 0)
}

/// Ends a session of this user.
pub(super) async fn end(db: &(impl ConnectionTrait + Wake), session: Uuid, user: Uuid) -> Result<(), DbErr> {
    sessions::Entity::delete_by_id(session).exec(db).await?;
    db.wake(user);
    Ok(())
}

/// Ends the sessions of a user, but for one he goes on with.
///
/// # Errors
/// Those of the database.
pub async fn end_sessions(
    db: &(impl ConnectionTrait + Wake),
    user: Uuid,
    except: Option<Uuid>,
) -> Result<(), DbErr> {
    sessions::Entity::delete_many()
        .filter(sessions::Column::UserPk.eq(user))
        .filter(Condition::all().add_option(except.map(|session| sessions::Column::Id.ne(session))))
        .exec(db)
        .await?;
    db.wake(user);
    Ok(())
}
