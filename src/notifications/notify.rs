//! Telling people.

use poem_openapi::Enum;
use sea_orm::{ActiveValue::Set, EntityTrait};
use serde::{Deserialize, Serialize};
use tenants::{
    TenantTx,
    lists::{self, List, Rows},
};
use uuid::Uuid;

use crate::{
    entity::notifications::{ActiveModel, Entity},
    error::ServiceError,
    references::Reference,
    state::App,
};

/// What an event is to somebody. In the database it is a text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename_all = "snake_case")]
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
    List::of("inbox", user)
}

/// Tells these users of an event, in its transaction: of one who is there several times, the first kind counts. Nobody
/// deletes them before the end of the transaction; see [`users::hold`](crate::users::hold). It is the last thing that a
/// transaction does.
///
/// # Errors
/// Those of the database.
pub async fn notify(
    app: &App,
    tx: &TenantTx,
    event: &Event,
    recipients: &[(Uuid, Kind)],
) -> Result<(), ServiceError> {
    let mut told: Vec<(Uuid, Kind)> = Vec::new();
    for (user, kind) in recipients {
        if Some(*user) != event.actor && told.iter().all(|(known, _)| known != user) {
            told.push((*user, *kind));
        }
    }
    if told.is_empty() {
        return Ok(());
    }
    let inboxes: Vec<List> = told.iter().map(|(user, _)| inbox(*user)).collect();
    let places = lists::enter(tx, &inboxes, Rows::Unread, app.clock.now()).await?;
    let rows = told.iter().zip(places).map(|((user, kind), place)| ActiveModel {
        id: Set(app.clock.uuid_v7()),
        user_pk: Set(*user),
        number: Set(Some(place.number)),
        event: Set(event.id),
        kind: Set(kind.as_str().to_owned()),
        actor_pk: Set(event.actor),
        object_type: Set(event.object.kind.as_str().to_owned()),
        object_id: Set(event.object.id),
        object_text: Set(event.object.text.clone()),
        mail: Set(None),
        read_at: Set(None),
        created_at: Set(place.at),
    });
    Entity::insert_many(rows).exec_without_returning(tx).await?;
    for (user, _) in &told {
        tx.wake(*user);
    }
    Ok(())
}
