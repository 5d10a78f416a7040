//! Writing what happened.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use poem_openapi::Enum;
use sea_orm::{ActiveValue::Set, ConnectionTrait, DbErr, EntityTrait};
use serde::{Deserialize, Serialize};
use tenants::lists::{self, List, Place, kinds::ACTIVITY};
use uuid::Uuid;

use crate::{
    entity::activities::{ActiveModel, Entity},
    references::Reference,
};

/// What was done. In the database it is a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
pub enum Verb {
    /// Somebody signed the organization up: the object.
    SignedUp,
    /// Somebody became a user of the organization: the object.
    Joined,
    /// Somebody was invited: the object is the invitation.
    Invited,
    /// A user got another role: the object is the user, the target the role.
    RoleChanged,
    /// A user may not sign in any more: the object.
    Deactivated,
    /// A user may sign in again: the object.
    Reactivated,
    /// A user was removed: the object, of which nothing but the id is left. Who deletes his own account is not told of.
    Removed,
    /// Somebody changed his profile: the object is himself.
    ProfileUpdated,
    /// Somebody changed the organization's settings: the object.
    SettingsUpdated,
    /// Somebody wrote a comment: the object; the target is the user on whose page it stands.
    Commented,
    /// Somebody replied to a comment: the object is the reply, the target what it replies to.
    Replied,
    /// Somebody mentioned a user: the target; the object is the comment.
    Mentioned,
}

impl Verb {
    /// Every verb there is.
    pub const ALL: [Self; 12] = [
        Self::SignedUp,
        Self::Joined,
        Self::Invited,
        Self::RoleChanged,
        Self::Deactivated,
        Self::Reactivated,
        Self::Removed,
        Self::ProfileUpdated,
        Self::SettingsUpdated,
        Self::Commented,
        Self::Replied,
        Self::Mentioned,
    ];

    /// The one the database calls so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|verb| verb.as_str() == name)
    }

    /// As the database has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::SignedUp => "signed_up",
            Self::Joined => "joined",
            Self::Invited => "invited",
            Self::RoleChanged => "role_changed",
            Self::Deactivated => "deactivated",
            Self::Reactivated => "reactivated",
            Self::Removed => "removed",
            Self::ProfileUpdated => "profile_updated",
            Self::SettingsUpdated => "settings_updated",
            Self::Commented => "commented",
            Self::Replied => "replied",
            Self::Mentioned => "mentioned",
        }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The id it will have.
    pub id: Uuid,
    /// Who did it. Nobody deletes that user before the end of the transaction.
    pub actor: Uuid,
    /// What was done.
    pub verb: Verb,
    /// To what.
    pub object: Reference,
    /// What it was about, too.
    pub target: Option<Reference>,
}

impl Entry {
    /// Something that happened, about nothing else.
    #[must_use]
    pub fn new(id: Uuid, actor: Uuid, verb: Verb, object: Reference) -> Self {
        Self { id, actor, verb, object, target: None }
    }
}

/// The list of what was done: by this user, if one is given, and with the verb of this name, if one is given.
pub(super) fn list(actor: Option<Uuid>, verb: Option<&str>) -> List {
    let kind = verb.map_or(Cow::Borrowed(ACTIVITY), |verb| format!("{ACTIVITY} {verb}").into());
    actor.map_or_else(|| List::the(kind.clone()), |actor| List::of(kind.clone(), actor))
}

/// Writes what happened, in the transaction in which it happens, and as late in it as may be: until its end nobody else
/// writes of what happened in this organization.
///
/// # Errors
/// Those of the database.
pub async fn record(db: &impl ConnectionTrait, entries: &[Entry], now: DateTime<Utc>) -> Result<(), DbErr> {
    let in_lists = |entry: &Entry| {
        let (actor, verb) = (Some(entry.actor), Some(entry.verb.as_str()));
        [list(None, None), list(None, verb), list(actor, None), list(actor, verb)]
    };
    let mut wanted: Vec<(List, i64)> = Vec::new();
    for list in entries.iter().flat_map(in_lists) {
        match wanted.iter_mut().find(|(known, _)| *known == list) {
            Some((_, count)) => *count += 1,
            None => wanted.push((list, 1)),
        }
    }
    let mut drawn: Vec<_> = lists::draw(db, &wanted, now).await?.into_iter().map(Vec::into_iter).collect();
    let mut next = |list: &List| -> Result<Place, DbErr> {
        let of = wanted.iter().position(|(known, _)| known == list);
        let place = of.and_then(|of| drawn[of].next());
        place.ok_or_else(|| DbErr::Custom("fewer numbers were drawn than asked for".into()))
    };
    let mut rows = Vec::with_capacity(entries.len());
    for entry in entries {
        let [all, with, by, by_with] = in_lists(entry);
        let place = next(&all)?;
        let Reference { kind, id, text } = entry.object.clone();
        let target = entry.target.clone();
        rows.push(ActiveModel {
            number: Set(place.number),
            id: Set(entry.id),
            actor_pk: Set(Some(entry.actor)),
            actor_number: Set(Some(next(&by)?.number)),
            verb: Set(entry.verb.as_str().to_owned()),
            verb_number: Set(next(&with)?.number),
            actor_verb_number: Set(Some(next(&by_with)?.number)),
            object_type: Set(kind.as_str().to_owned()),
            object_id: Set(id),
            object_text: Set(text),
            target_type: Set(target.as_ref().map(|target| target.kind.as_str().to_owned())),
            target_id: Set(target.as_ref().and_then(|target| target.id)),
            target_text: Set(target.and_then(|target| target.text)),
            created_at: Set(place.at),
        });
    }
    if rows.is_empty() {
        return Ok(());
    }
    Entity::insert_many(rows).exec_without_returning(db).await.map(|_| ())
}
