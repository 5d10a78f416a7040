//! The rows of sessions.

use chrono::{DateTime, TimeDelta, Utc};
use poem::{FromRequest, Request, RequestBody, http::header::USER_AGENT};
use sea_orm::{
    ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, JoinType, QueryFilter, QuerySelect,
    RelationTrait,
};
use uuid::Uuid;

use crate::{
    entity::{sessions, users},
    http::ClientAddr,
    users::Account,
};

/// How long a refresh token is valid, and a session that nobody uses. The contract's.
pub(crate) const REFRESH_LIFETIME: TimeDelta = TimeDelta::days(30);
/// How much is kept of what a client says of itself, in characters.
const USER_AGENT_LEN: usize = 200;

/// From where somebody signs in.
#[derive(Clone, Debug)]
pub struct Device {
    ip: String,
    user_agent: String,
}

impl<'a> FromRequest<'a> for Device {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        let user_agent = request.headers().get(USER_AGENT).and_then(|value| value.to_str().ok());
        Ok(Self {
            ip: ClientAddr::of(request).0.to_string(),
            user_agent: user_agent.unwrap_or_default().chars().take(USER_AGENT_LEN).collect(),
        })
    }
}

/// A session to be made.
#[derive(Debug)]
pub(crate) struct NewSession<'a> {
    pub(crate) id: Uuid,
    pub(crate) user: Uuid,
    pub(crate) refresh_hash: [u8; 32],
    pub(crate) device: &'a Device,
    pub(crate) now: DateTime<Utc>,
}

pub(crate) async fn create(db: &impl ConnectionTrait, new: NewSession<'_>) -> Result<(), DbErr> {
    let row = sessions::ActiveModel {
        id: Set(new.id),
        user_pk: Set(new.user),
        refresh_hash: Set(new.refresh_hash.to_vec()),
        ip: Set(new.device.ip.clone()),
        user_agent: Set(new.device.user_agent.clone()),
        created_at: Set(new.now),
        last_used_at: Set(new.now),
        expires_at: Set(new.now + REFRESH_LIFETIME),
    };
    sessions::Entity::insert(row).exec_without_returning(db).await.map(|_| ())
}

/// The user of a session that has not ended: one indexed query.
pub(crate) async fn account_of(
    db: &impl ConnectionTrait,
    session: Uuid,
    user: Uuid,
    now: DateTime<Utc>,
) -> Result<Option<Account>, DbErr> {
    users::Entity::find()
        .join(JoinType::InnerJoin, users::Relation::Sessions.def())
        .filter(sessions::Column::Id.eq(session))
        .filter(sessions::Column::ExpiresAt.gt(now))
        .filter(users::Column::Pk.eq(user))
        .filter(users::Column::IsActive.eq(true))
        .into_partial_model::<Account>()
        .one(db)
        .await
}

pub(crate) async fn end(db: &impl ConnectionTrait, session: Uuid) -> Result<(), DbErr> {
    sessions::Entity::delete_by_id(session).exec(db).await.map(|_| ())
}

pub(crate) async fn end_all(db: &impl ConnectionTrait, user: Uuid) -> Result<(), DbErr> {
    sessions::Entity::delete_many().filter(sessions::Column::UserPk.eq(user)).exec(db).await.map(|_| ())
}
