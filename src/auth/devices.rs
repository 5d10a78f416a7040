//! From where and with what users have signed in.

use chrono::{DateTime, TimeDelta, Utc};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, JoinType, Order as Direction, QueryFilter,
    QueryOrder, QuerySelect, RelationTrait,
    sea_query::{Expr, ExprTrait as _},
};
use uuid::Uuid;

use super::Device;
use crate::{
    entity::{
        devices::{ActiveModel, Column, Entity, Relation},
        users,
    },
    users::Login,
};

/// How long a network counts as the user's own. The contract's.
const OWN_NETWORK: TimeDelta = TimeDelta::days(30);
/// How many devices are remembered of a user: those of a phone that changes its network all day, for some weeks.
const MAX_DEVICES: u64 = 200;

/// What was known of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seen {
    /// The user has signed in with this client before.
    Before,
    /// The user signs in for the first time.
    NothingYet,
    /// The user has signed in before, but never with this client.
    Others,
}

/// Notes that a user signs in with this device. Where that matters, the user is locked: of two at once, one sees the
/// other.
pub(super) async fn note(
    db: &impl ConnectionTrait,
    user: Uuid,
    device: &Device,
    now: DateTime<Utc>,
) -> Result<Seen, DbErr> {
    let this = Condition::all()
        .add(Column::UserPk.eq(user))
        .add(Column::Network.eq(device.network()))
        .add(Column::UserAgent.eq(device.user_agent()));
    let known = Entity::update_many()
        .set(ActiveModel { last_used_at: Set(now), ..Default::default() })
        .filter(this)
        .exec(db)
        .await?;
    if known.rows_affected > 0 {
        return Ok(Seen::Before);
    }
    // One with the same client, if there is one.
    let like_this: Option<String> = Entity::find()
        .select_only()
        .column(Column::UserAgent)
        .filter(Column::UserPk.eq(user))
        .order_by(Expr::col(Column::UserAgent).eq(device.user_agent()), Direction::Desc)
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    make_room(db, user).await?;
    let row = ActiveModel {
        user_pk: Set(user),
        network: Set(device.network().to_owned()),
        user_agent: Set(device.user_agent().to_owned()),
        first_used_at: Set(now),
        last_used_at: Set(now),
    };
    Entity::insert(row).on_conflict_do_nothing().exec_without_returning(db).await?;
    Ok(match like_this {
        None => Seen::NothingYet,
        Some(user_agent) if user_agent == device.user_agent() => Seen::Before,
        Some(_) => Seen::Others,
    })
}

/// Forgets what was not used for the longest time, so that one more is not too many.
async fn make_room(db: &impl ConnectionTrait, user: Uuid) -> Result<(), DbErr> {
    let too_many: Option<DateTime<Utc>> = Entity::find()
        .select_only()
        .column(Column::LastUsedAt)
        .filter(Column::UserPk.eq(user))
        .order_by_desc(Column::LastUsedAt)
        .offset(MAX_DEVICES - 1)
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    let Some(last) = too_many else { return Ok(()) };
    let old = Condition::all().add(Column::UserPk.eq(user)).add(Column::LastUsedAt.lte(last));
    Entity::delete_many().filter(old).exec(db).await.map(|_| ())
}

/// Whether whoever has this name signed in from this network lately. For a name that nobody has, the same is asked.
pub(super) async fn is_own_network(
    db: &impl ConnectionTrait,
    login: &Login,
    network: &str,
    now: DateTime<Utc>,
) -> Result<bool, DbErr> {
    let named = match login {
        Login::Username(username) => users::Column::UsernameKey.eq(username.key()),
        Login::Email(email) => users::Column::EmailKey.eq(email.key()),
    };
    let found: Option<Uuid> = Entity::find()
        .select_only()
        .column(Column::UserPk)
        .join(JoinType::InnerJoin, Relation::Users.def())
        .filter(named)
        .filter(Column::Network.eq(network))
        .filter(Column::LastUsedAt.gt(now - OWN_NETWORK))
        .limit(1)
        .into_tuple()
        .one(db)
        .await?;
    Ok(found.is_some())
}
