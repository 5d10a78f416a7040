//! From where and with what users have signed in.

use std::net::IpAddr;

use chrono::{DateTime, TimeDelta, Utc};
use ipnet::IpNet;
use sea_orm::{
    ActiveValue::Set, ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, JoinType, QueryFilter,
    QueryOrder, QuerySelect, RelationTrait,
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
    /// The user has signed in with this client before, and from near where he is now.
    Before,
    /// The user signs in for the first time.
    NothingYet,
    /// The user has signed in before, but never with this client, or from nowhere near.
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
    let seen: Vec<(String, String)> = Entity::find()
        .select_only()
        .column(Column::Network)
        .column(Column::UserAgent)
        .filter(Column::UserPk.eq(user))
        .into_tuple()
        .all(db)
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
    let client = seen.iter().any(|(_, user_agent)| user_agent == device.user_agent());
    let region = seen.iter().any(|(network, _)| region(network) == region(device.network()));
    Ok(if seen.is_empty() {
        Seen::NothingYet
    } else if client && region {
        Seen::Before
    } else {
        Seen::Others
    })
}

/// What stands for the provider, as far as the address by itself tells: the /16 of an IPv4 address, the /32 of an IPv6 one,
/// for that is what registries hand out to one. A phone changes its address all day and stays within a few of them, each of
/// which is told of once; who has found out a password and how its owner's client calls itself is likely to come from another.
fn region(network: &str) -> Option<IpNet> {
    let network: IpNet = network.parse().or_else(|_| network.parse::<IpAddr>().map(IpNet::from)).ok()?;
    let prefix = if network.addr().is_ipv6() { 32 } else { 16 };
    IpNet::new(network.addr(), prefix).ok().map(|region| region.trunc())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_near_each_other_that_have_one_provider() {
        for (one, other, near) in [
            ("198.51.100.7", "198.51.7.100", true),
            ("198.51.100.7", "198.52.100.7", false),
            ("2001:db8::/64", "2001:db8:ffff:1::/64", true),
            ("2001:db8::/64", "2001:db9::/64", false),
            ("198.51.100.7", "2001:db8::/64", false),
        ] {
            assert_eq!(region(one) == region(other), near, "{one} {other}");
        }
    }
}
