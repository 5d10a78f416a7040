//! Telling people.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use poem_openapi::Enum;
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, EntityTrait, FromQueryResult, JoinType, QueryFilter, QuerySelect,
    sea_query::{Expr, ExprTrait as _, Query},
};
use serde::{Deserialize, Serialize};
use tenants::{
    TenantTx,
    lists::{self, List, Rows, kinds},
};
use uuid::Uuid;

use super::{
    digests::{self, Addressee},
    preferences::{Email, InApp, Preference},
};
use crate::{
    entity::{
        notification_preferences,
        notifications::{ActiveModel, Column, Entity},
        users,
    },
    error::ServiceError,
    references::Reference,
    state::App,
};

/// What an event is to somebody. In the database it is a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename = "NotificationKind", rename_all = "snake_case")]
pub enum Kind {
    /// Somebody mentioned him in a comment.
    Mention,
    /// Somebody replied to a comment of his.
    Reply,
    /// Somebody wrote a comment on his page.
    Comment,
    /// Somebody accepted an invitation of his.
    InvitationAccepted,
    /// Somebody gave him another role.
    RoleChanged,
    /// He signed in from a device that was never seen before.
    NewDevice,
}

impl Kind {
    /// Every kind there is.
    pub const ALL: [Self; 6] = [
        Self::Mention,
        Self::Reply,
        Self::Comment,
        Self::InvitationAccepted,
        Self::RoleChanged,
        Self::NewDevice,
    ];

    /// The one the database calls so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// As the database has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Mention => "mention",
            Self::Reply => "reply",
            Self::Comment => "comment",
            Self::InvitationAccepted => "invitation_accepted",
            Self::RoleChanged => "role_changed",
            Self::NewDevice => "new_device",
        }
    }
}

/// Something that people are told of.
#[derive(Clone, Debug)]
pub struct Event {
    /// Its id: a person is told of one event once. That of the comment, for example.
    pub id: Uuid,
    /// Who did it; `None` if nobody did. He is not told.
    pub actor: Option<Uuid>,
    /// What it is about.
    pub object: Reference,
}

/// The list of what a user is told.
pub(super) fn inbox(user: Uuid) -> List {
    List::of(kinds::INBOX, user)
}

/// Tells these users of an event, in its transaction: of one who is there several times, the first kind counts. Nobody
/// deletes them before the end of the transaction; see [`users::hold`](crate::users::hold). It is the last thing that a
/// transaction does.
///
/// Who was told of the event before is not told again. Whoever tells of one event in several transactions has what it is
/// about locked in each.
///
/// # Errors
/// Those of the database.
pub async fn notify(
    app: &App,
    tx: &TenantTx,
    event: &Event,
    recipients: &[(Uuid, Kind)],
) -> Result<(), ServiceError> {
    let told = those_to_tell(tx, event, recipients).await?;
    if told.is_empty() {
        return Ok(());
    }
    let now = app.clock.now();
    let shown: Vec<Uuid> = told.iter().filter(|told| told.is_shown).map(|told| told.user).collect();
    let inboxes: Vec<List> = shown.iter().copied().map(inbox).collect();
    let mut places = lists::enter(tx, &inboxes, Rows::Unread, now).await?.into_iter();
    let rows: Vec<_> = told
        .iter()
        .map(|told| {
            let place = if told.is_shown { places.next() } else { None };
            ActiveModel {
                id: Set(app.clock.uuid_v7()),
                user_pk: Set(told.user),
                number: Set(place.map(|place| place.number)),
                event: Set(event.id),
                kind: Set(told.kind.as_str().to_owned()),
                actor_pk: Set(event.actor),
                object_type: Set(event.object.kind.as_str().to_owned()),
                object_id: Set(event.object.id),
                object_text: Set(event.object.text.clone()),
                mail: Set(told.mail.map(|mail| mail.as_str().to_owned())),
                read_at: Set(None),
                created_at: Set(place.map_or(now, |place| place.at)),
            }
        })
        .collect();
    Entity::insert_many(rows).exec_without_returning(tx).await?;
    let addressees: Vec<_> = told.into_iter().filter_map(Told::into_addressee).collect();
    digests::schedule(app, tx, &addressees, now).await?;
    for user in shown {
        tx.wake(user);
    }
    Ok(())
}

/// Somebody who is told of an event.
struct Told {
    user: Uuid,
    kind: Kind,
    is_shown: bool,
    mail: Option<Email>,
    timezone: String,
}

impl Told {
    fn into_addressee(self) -> Option<Addressee> {
        Some(Addressee { user: self.user, mail: self.mail?, timezone: self.timezone })
    }
}

/// A user and one of his preferences.
#[derive(FromQueryResult)]
struct Wish {
    pk: Uuid,
    email_verified_at: Option<DateTime<Utc>>,
    timezone: String,
    kind: Option<String>,
    in_app: Option<String>,
    email: Option<String>,
}

/// Who of these wants to be told in any way, may sign in and does not know yet, in the order of their keys: in that their
/// inboxes and mails are locked.
async fn those_to_tell(
    tx: &TenantTx,
    event: &Event,
    recipients: &[(Uuid, Kind)],
) -> Result<Vec<Told>, ServiceError> {
    let mut kinds: BTreeMap<Uuid, Kind> = BTreeMap::new();
    for (user, kind) in recipients.iter().filter(|(user, _)| Some(*user) != event.actor) {
        kinds.entry(*user).or_insert(*kind);
    }
    if kinds.is_empty() {
        return Ok(Vec::new());
    }
    let wishes = wishes(tx, event, kinds.keys().copied()).await?;
    let told = kinds.into_iter().filter_map(|(user, kind)| {
        let mut his = wishes.iter().filter(|wish| wish.pk == user);
        let him = his.clone().next()?;
        let chosen = his.find(|wish| wish.kind.as_deref() == Some(kind.as_str()));
        let preference = match chosen.and_then(|wish| wish.in_app.as_deref().zip(wish.email.as_deref())) {
            Some((in_app, email)) => Preference::read(kind, in_app, email),
            None => Preference::default_of(kind),
        };
        // Whose address it is, nobody knows before it is verified.
        let is_mailed = preference.email != Email::Off && him.email_verified_at.is_some();
        let is_shown = preference.in_app == InApp::Instant;
        let mail = is_mailed.then_some(preference.email);
        (is_shown || is_mailed).then(|| Told { user, kind, is_shown, mail, timezone: him.timezone.clone() })
    });
    Ok(told.collect())
}

/// Those of these users who may sign in and were not told of the event: with all their preferences, each at least once.
async fn wishes(
    tx: &TenantTx,
    event: &Event,
    users: impl Iterator<Item = Uuid>,
) -> Result<Vec<Wish>, ServiceError> {
    let known = Query::select()
        .expr(Expr::val(1))
        .from(Entity)
        .and_where(Column::UserPk.into_expr().eq(users::Column::Pk.into_expr()))
        .and_where(Column::Event.into_expr().eq(event.id))
        .take();
    let preferences = users::Entity::belongs_to(notification_preferences::Entity)
        .from(users::Column::Pk)
        .to(notification_preferences::Column::UserPk);
    Ok(users::Entity::find()
        .select_only()
        .columns([users::Column::Pk, users::Column::EmailVerifiedAt, users::Column::Timezone])
        .column_as(notification_preferences::Column::Kind, "kind")
        .column_as(notification_preferences::Column::InApp, "in_app")
        .column_as(notification_preferences::Column::Email, "email")
        .join(JoinType::LeftJoin, preferences.into())
        .filter(users::Column::Pk.is_in(users))
        .filter(users::Column::IsActive.eq(true))
        .filter(Expr::exists(known).not())
        .into_model()
        .all(tx)
        .await?)
}
