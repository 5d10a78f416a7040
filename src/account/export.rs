//! A copy of all that the organization keeps of a person (article 15 of the GDPR), in one document.
//!
//! Each kind of data is a section: a member of [`ExportOut`], read in [`export`]. What proves who somebody is (hashes of
//! passwords, tokens and links) is in none.

use chrono::{DateTime, Utc};
use tenants::TenantDb;
use uuid::Uuid;

use super::store;
use crate::{
    auth::{self, Caller, SessionOut},
    entity::{comments, devices, invitations, tokens, tokens::Purpose, users::Role},
    error::ServiceError,
    notifications::{self, NotificationOut, PreferencesOut},
    state::App,
    tenant,
    users::CurrentUserOut,
};

crate::output! {
    /// All that is kept of the signed-in user.
    pub struct ExportOut {
        /// When this was put together.
        pub exported_at: DateTime<Utc>,
        /// Where it is kept.
        pub organization: ExportedOrganizationOut,
        /// The account.
        pub profile: CurrentUserOut,
        /// Where the user is signed in.
        pub sessions: Vec<SessionOut>,
        /// From where and with what the user has signed in.
        pub devices: Vec<DeviceOut>,
        /// The invitations the user has sent that wait for an answer.
        pub invitations: Vec<SentInvitationOut>,
        /// The links that were mailed to the user and still work.
        pub links: Vec<LinkOut>,
        /// The comments the user has written.
        pub comments: Vec<WrittenCommentOut>,
        /// What the user was told of and has not deleted.
        pub notifications: Vec<NotificationOut>,
        /// How the user wants to be told of things.
        pub notification_preferences: PreferencesOut,
    }
}

crate::output! {
    /// An organization, as it stands in a copy of somebody's data.
    pub struct ExportedOrganizationOut {
        /// Its id.
        pub id: Uuid,
        /// Its name in hosts and headers.
        pub slug: String,
        /// Its name.
        pub name: String,
    }
}

crate::output! {
    /// A network and a client that somebody has signed in with.
    pub struct DeviceOut {
        /// The address, or the network of an IPv6 address.
        pub network: String,
        /// What the client called itself.
        pub user_agent: String,
        /// When it was used first.
        pub first_used_at: DateTime<Utc>,
        /// When it was used last.
        pub last_used_at: DateTime<Utc>,
    }
}

crate::output! {
    /// An invitation somebody has sent.
    pub struct SentInvitationOut {
        /// The invitation's id.
        pub id: Uuid,
        /// The invited address.
        pub email: String,
        /// What the invited will be.
        pub role: Role,
        /// When it was sent.
        pub created_at: DateTime<Utc>,
        /// When it ends.
        pub expires_at: DateTime<Utc>,
    }
}

crate::output! {
    /// A link that was mailed to somebody.
    pub struct LinkOut {
        /// What it is for: `verify_email`, `change_email` or `reset_password`.
        pub purpose: &'static str,
        /// The new address, if it is for that. Else null.
        pub email: Option<String>,
        /// When it was made.
        pub created_at: DateTime<Utc>,
        /// When it stops working.
        pub expires_at: DateTime<Utc>,
    }
}

crate::output! {
    /// A comment somebody has written.
    pub struct WrittenCommentOut {
        /// The comment's id.
        pub id: Uuid,
        /// The user on whose page it stands.
        pub user: Uuid,
        /// The comment it replies to; null if it is no reply.
        pub parent: Option<Uuid>,
        /// Plain text, as it was written.
        pub body: String,
        /// When it was written.
        pub created_at: DateTime<Utc>,
        /// When its text was last changed.
        pub edited_at: Option<DateTime<Utc>>,
    }
}

impl From<comments::Model> for WrittenCommentOut {
    fn from(row: comments::Model) -> Self {
        Self {
            id: row.id,
            user: row.user_pk,
            parent: row.parent,
            body: row.body,
            created_at: row.created_at,
            edited_at: row.edited_at,
        }
    }
}

impl From<devices::Model> for DeviceOut {
    fn from(row: devices::Model) -> Self {
        Self {
            network: row.network,
            user_agent: row.user_agent,
            first_used_at: row.first_used_at,
            last_used_at: row.last_used_at,
        }
    }
}

impl From<invitations::Model> for SentInvitationOut {
    fn from(row: invitations::Model) -> Self {
        Self {
            id: row.id,
            email: row.email,
            role: row.role,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

impl From<tokens::Model> for LinkOut {
    fn from(row: tokens::Model) -> Self {
        let purpose = match row.purpose {
            Purpose::VerifyEmail => "verify_email",
            Purpose::ChangeEmail => "change_email",
            Purpose::ResetPassword => "reset_password",
        };
        Self { purpose, email: row.email, created_at: row.created_at, expires_at: row.expires_at }
    }
}

/// Reads all sections.
pub(super) async fn export(app: &App, db: &TenantDb, caller: &Caller) -> Result<ExportOut, ServiceError> {
    let (user, now) = (caller.account.pk, app.clock.now());
    let organization = ExportedOrganizationOut {
        id: db.tenant().id,
        slug: db.tenant().slug.to_string(),
        name: tenant::name(db).await?,
    };
    Ok(ExportOut {
        exported_at: now,
        organization,
        profile: caller.account.as_ref().into(),
        sessions: auth::sessions_of(db, caller, now).await?,
        devices: sections(store::devices(db, user).await?),
        invitations: sections(store::invitations(db, user).await?),
        links: sections(store::links(db, user).await?),
        comments: sections(store::comments(db, user).await?),
        notifications: notifications::all_of(db, user).await?,
        notification_preferences: notifications::preferences::of(db, user).await?,
    })
}

fn sections<Row, Out: From<Row>>(rows: Vec<Row>) -> Vec<Out> {
    rows.into_iter().map(Into::into).collect()
}
