//! How people want to be told of things: by kind, in the application and by mail. Only what differs from the default is kept.

use poem_openapi::Enum;
use sea_orm::{ActiveValue::Set, ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tenants::TenantTx;
use uuid::Uuid;

use super::Kind;
use crate::{
    entity::notification_preferences::{ActiveModel, Column, Entity},
    http::input::{Field, Wrong, choice, nested},
};

/// How somebody is told in the application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename = "InAppPreference", rename_all = "snake_case")]
pub enum InApp {
    /// In the list, and live.
    Instant,
    /// Not at all.
    Off,
}

/// How somebody is told by mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Enum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[oai(rename = "EmailPreference", rename_all = "snake_case")]
pub enum Email {
    /// Within a minute, with what else happens in it.
    Instant,
    /// With all that happened, once a day.
    Daily,
    /// Not at all.
    Off,
}

impl InApp {
    /// As the database has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::Off => "off",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [Self::Instant, Self::Off].into_iter().find(|way| way.as_str() == name)
    }
}

impl Email {
    /// As the database has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Instant => "instant",
            Self::Daily => "daily",
            Self::Off => "off",
        }
    }

    /// The one the database calls so.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Instant, Self::Daily, Self::Off].into_iter().find(|way| way.as_str() == name)
    }
}

impl Field for InApp {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        choice(value)
    }
}

impl Field for Email {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        choice(value)
    }
}

/// How somebody wants to be told of one kind of thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preference {
    /// In the application.
    pub in_app: InApp,
    /// By mail.
    pub email: Email,
}

impl Preference {
    /// What is meant for a person alone is mailed at once; what is said on his page can wait. Of a new device another mail
    /// warns, which nobody can turn off.
    #[must_use]
    pub fn default_of(kind: Kind) -> Self {
        let email = match kind {
            Kind::Mention | Kind::Reply | Kind::InvitationAccepted | Kind::RoleChanged => Email::Instant,
            Kind::Comment => Email::Daily,
            Kind::NewDevice => Email::Off,
        };
        Self { in_app: InApp::Instant, email }
    }

    /// What a row says; what it does not say, or says in words of another version, is the default.
    #[must_use]
    pub(super) fn read(kind: Kind, in_app: &str, email: &str) -> Self {
        let default = Self::default_of(kind);
        Self {
            in_app: InApp::from_name(in_app).unwrap_or(default.in_app),
            email: Email::from_name(email).unwrap_or(default.email),
        }
    }
}

/// How somebody wants to be told of every kind of thing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preferences([(Kind, Preference); Kind::ALL.len()]);

impl Default for Preferences {
    fn default() -> Self {
        Self(Kind::ALL.map(|kind| (kind, Preference::default_of(kind))))
    }
}

impl Preferences {
    fn get(&self, wanted: Kind) -> Preference {
        let chosen = self.0.iter().find(|(kind, _)| *kind == wanted);
        chosen.map_or_else(|| Preference::default_of(wanted), |(_, preference)| *preference)
    }

    fn set(&mut self, wanted: Kind, to: Preference) {
        self.0.iter_mut().filter(|(kind, _)| *kind == wanted).for_each(|(_, preference)| *preference = to);
    }

    /// The kinds that are mailed in whatever way, as the database calls them.
    pub(super) fn mailed(&self) -> Vec<&'static str> {
        let mailed = self.0.iter().filter(|(_, preference)| preference.email != Email::Off);
        mailed.map(|(kind, _)| kind.as_str()).collect()
    }
}

crate::output! {
    /// How somebody is told of one kind of thing.
    pub struct PreferenceOut {
        /// In the application: at once, or not at all.
        pub in_app: InApp,
        /// By mail: at once, once a day, or not at all.
        pub email: Email,
    }
}

crate::input! {
    /// How somebody wants to be told of one kind of thing. What is left out is as it is by default.
    pub struct PreferenceIn {
        /// In the application: at once, or not at all.
        pub in_app: Option<InApp>,
        /// By mail: at once, once a day, or not at all.
        pub email: Option<Email>,
    }
}

impl Field for PreferenceIn {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        nested(value)
    }
}

/// The two shapes of all preferences, with a member for each kind.
macro_rules! shapes {
    ($($(#[doc = $doc:expr])* $member:ident: $kind:ident),* $(,)?) => {
        crate::output! {
            /// How somebody is told of things, by their kind.
            pub struct PreferencesOut {
                $($(#[doc = $doc])* pub $member: PreferenceOut,)*
            }
        }

        crate::input! {
            /// How somebody wants to be told of things, by their kind. A kind that is left out is as it is by default.
            pub struct PreferencesIn {
                $($(#[doc = $doc])* pub $member: Option<PreferenceIn>,)*
            }
        }

        impl PreferencesIn {
            /// All preferences, the defaults among them.
            #[must_use]
            pub fn into_preferences(self) -> Preferences {
                let mut preferences = Preferences::default();
                $(if let Some(PreferenceIn { in_app, email }) = self.$member {
                    let default = Preference::default_of(Kind::$kind);
                    preferences.set(Kind::$kind, Preference {
                        in_app: in_app.unwrap_or(default.in_app),
                        email: email.unwrap_or(default.email),
                    });
                })*
                preferences
            }
        }

        impl From<Preferences> for PreferencesOut {
            fn from(preferences: Preferences) -> Self {
                $(let $member = {
                    let Preference { in_app, email } = preferences.get(Kind::$kind);
                    PreferenceOut { in_app, email }
                };)*
                Self { $($member),* }
            }
        }
    };
}

shapes! {
    /// Somebody mentions the user in a comment.
    mention: Mention,
    /// Somebody replies to a comment of the user's.
    reply: Reply,
    /// Somebody writes a comment on the user's page.
    comment: Comment,
    /// Somebody accepts an invitation of the user's.
    invitation_accepted: InvitationAccepted,
    /// Somebody gives the user another role.
    role_changed: RoleChanged,
    /// The user signs in from a device that was never seen before.
    new_device: NewDevice,
}

/// What a user has chosen.
///
/// # Errors
/// Those of the database.
pub(super) async fn chosen(db: &impl ConnectionTrait, user: Uuid) -> Result<Preferences, DbErr> {
    let mut preferences = Preferences::default();
    for row in Entity::find().filter(Column::UserPk.eq(user)).all(db).await? {
        if let Some(kind) = Kind::from_name(&row.kind) {
            preferences.set(kind, Preference::read(kind, &row.in_app, &row.email));
        }
    }
    Ok(preferences)
}

/// As `chosen`, for the user to see.
///
/// # Errors
/// Those of the database.
pub async fn of(db: &impl ConnectionTrait, user: Uuid) -> Result<PreferencesOut, DbErr> {
    chosen(db, user).await.map(Into::into)
}

/// Keeps what a locked user has chosen, in place of what he had chosen before.
pub(super) async fn replace(tx: &TenantTx, user: Uuid, preferences: &Preferences) -> Result<(), DbErr> {
    Entity::delete_many().filter(Column::UserPk.eq(user)).exec(tx).await?;
    let others = preferences.0.iter().filter(|(kind, chosen)| *chosen != Preference::default_of(*kind));
    let rows: Vec<_> = others
        .map(|(kind, chosen)| ActiveModel {
            user_pk: Set(user),
            kind: Set(kind.as_str().to_owned()),
            in_app: Set(chosen.in_app.as_str().to_owned()),
            email: Set(chosen.email.as_str().to_owned()),
        })
        .collect();
    if rows.is_empty() {
        return Ok(());
    }
    Entity::insert_many(rows).exec_without_returning(tx).await.map(|_| ())
}
