//! The endpoints of working in somebody's name.

use chrono::{DateTime, Utc};
use poem_openapi::{OpenApi, param::Path, payload::Response};
use secrecy::ExposeSecret as _;
use tenants::{Which, entity::impersonations::Model};
use uuid::Uuid;

use super::service::{self, Named, NewImpersonation};
use crate::{
    app::Tag,
    auth::no_store,
    http::{Body, Json, Listing, Name, NoContent, Page, PageQuery, Problem},
    operators::{Provisions, Reads},
    state::App,
    users::{
        Login,
        identity::{Email, Identifier, Username},
    },
};

crate::input! {
    /// In whose name to work, and why.
    pub struct ImpersonationIn {
        /// The user: the pk, the username or the e-mail address.
        pub user: Identifier,
        /// Why. The organization reads it in its log, and the user in the list of his sessions.
        pub reason: Name<1, 150>,
        /// Whether anything may be changed. Left out, nothing may.
        pub write: Option<bool>,
    }
}

crate::output! {
    /// A token that works in a user's name.
    pub struct ImpersonationTokenOut {
        /// An access token, to be sent as `Authorization: Bearer …` to the organization.
        pub token: String,
        /// When it ends. Nothing draws another one.
        pub token_expiration: DateTime<Utc>,
        /// The session that it belongs to.
        pub session: Uuid,
    }
}

crate::output! {
    /// An operator's session in a user's name.
    pub struct ImpersonationOut {
        /// The session's id.
        pub id: Uuid,
        /// Who works there: the operator's e-mail address, or `command line`.
        pub operator: String,
        /// In whose name.
        pub user: ImpersonatedOut,
        /// Why.
        pub reason: String,
        /// Whether anything may be changed.
        pub write: bool,
        /// When it began.
        pub created_at: DateTime<Utc>,
        /// When it ends by itself.
        pub expires_at: DateTime<Utc>,
    }
}

crate::output! {
    /// The user in whose name somebody works.
    pub struct ImpersonatedOut {
        /// The user's id.
        pub pk: Uuid,
        /// What the user was called when it began.
        pub username: String,
    }
}

impl From<Model> for ImpersonationOut {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            operator: row.actor,
            user: ImpersonatedOut { pk: row.user_pk, username: row.username },
            reason: row.reason,
            write: !row.is_read_only,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

/// Reads how an operator names a user; `None` for what names nobody.
#[must_use]
pub fn named(written: &str) -> Option<Named> {
    if let Ok(pk) = Uuid::parse_str(written) {
        return Some(Named::Pk(pk));
    }
    let login = match Email::parse(written) {
        Ok(email) => Login::Email(email),
        Err(_) => Login::Username(Username::parse(written).ok()?),
    };
    Some(Named::Login(login))
}

/// The list of sessions in users' names.
pub struct Impersonations;

impl Listing for Impersonations {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct ImpersonationApi(pub App);

#[OpenApi(tag = "Tag::Admin")]
impl ImpersonationApi {
    /// Work in a user's name
    ///
    /// Scope `provision`. For 15 minutes, in a session of its own; only to look, unless `write` is asked for, and never on
    /// passwords, addresses, roles, invitations, sessions, exports, or to delete anything. Every call stands in both audit
    /// logs. An organization can forbid it.
    #[oai(path = "/api/admin/tenants/:id/impersonate", method = "post", operation_id = "impersonate")]
    async fn begin(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
        Body(input): Body<ImpersonationIn>,
    ) -> Result<Response<Json<ImpersonationTokenOut>>, Problem> {
        let Some(user) = named(&input.user) else {
            return Err(super::ImpersonationError::NoSuchUser.into());
        };
        let write = input.write.unwrap_or(false);
        let new = NewImpersonation { user, reason: input.reason.into_string(), write };
        let begun = service::begin(&self.0, Which::Id(id.0), new, &operator.0.actor).await?;
        Ok(no_store(Json(ImpersonationTokenOut {
            token: begun.token.expose_secret().to_owned(),
            token_expiration: begun.token_expiration,
            session: begun.session.id,
        })))
    }

    /// Who works in the names of a tenant's users
    ///
    /// Scope `read`.
    #[oai(
        path = "/api/admin/tenants/:id/impersonations",
        method = "get",
        operation_id = "listImpersonations"
    )]
    async fn list(
        &self,
        _operator: Reads,
        /// The tenant's id.
        id: Path<Uuid>,
        query: PageQuery<Impersonations>,
    ) -> Result<Json<Page<ImpersonationOut>>, Problem> {
        // They last a quarter of an hour, so there are never many.
        let mut rows = service::under_way(&self.0, Which::Id(id.0)).await?;
        if !query.is_descending() {
            rows.reverse();
        }
        let window = query.window(rows.len() as u64)?;
        let skipped = usize::try_from(window.offset).unwrap_or(usize::MAX);
        let limit = usize::try_from(window.limit).unwrap_or(usize::MAX);
        let shown = rows.into_iter().skip(skipped).take(limit).map(Into::into).collect();
        Ok(Json(query.page(&window, shown)))
    }

    /// End a session in a user's name
    ///
    /// Scope `provision`. From the next request on its token opens nothing.
    #[oai(
        path = "/api/admin/tenants/:id/impersonations/:session",
        method = "delete",
        operation_id = "endImpersonation"
    )]
    async fn end(
        &self,
        operator: Provisions,
        /// The tenant's id.
        id: Path<Uuid>,
        /// The session's id.
        session: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        service::end(&self.0, Which::Id(id.0), session.0, &operator.0.actor).await?;
        Ok(NoContent)
    }
}
