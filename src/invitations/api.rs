//! The endpoints of invitations.

use chrono::{DateTime, Utc};
use poem::web::Data;
use poem_openapi::{OpenApi, param::Path, payload::Response};
use tenants::TenantDb;
use uuid::Uuid;

use super::{
    service::{self, Acceptance},
    store,
};
use crate::{
    app::Tag,
    auth::{AdminCaller, Device, LoginOut, no_store},
    entity::{invitations::Model, users::Role},
    error::ServiceError,
    http::{Body, Created, Json, Keyed, Listing, Name, NoContent, Page, PageQuery, Problem, Text},
    state::App,
    users::identity::{Email, Password, Username},
};

crate::input! {
    /// Who is to join.
    pub struct InvitationIn {
        /// The e-mail address.
        pub email: Email,
        /// What the user will be; `member`, if nothing else is said.
        pub role: Option<Role>,
    }
}

crate::input! {
    /// Who joins.
    pub struct InvitationAcceptIn {
        /// The token in the mailed link.
        pub token: Text<1, 4096>,
        /// The username.
        pub username: Username,
        /// The password.
        pub password: Password,
        /// The first name.
        pub first_name: Option<Name<0, 150>>,
        /// The last name.
        pub last_name: Option<Name<0, 150>>,
    }
}

crate::output! {
    /// An invitation that nobody has accepted yet.
    pub struct InvitationOut {
        /// The invitation's id.
        pub id: Uuid,
        /// Who is invited.
        pub email: String,
        /// What the user will be.
        pub role: Role,
        /// The user who invites; null once that user is deleted, and then the invitation is void.
        pub invited_by: Option<Uuid>,
        /// When the link was sent.
        pub created_at: DateTime<Utc>,
        /// When the link stops working.
        pub expires_at: DateTime<Utc>,
    }
}

impl From<Model> for InvitationOut {
    fn from(row: Model) -> Self {
        Self {
            id: row.id,
            email: row.email,
            role: row.role,
            invited_by: row.invited_by,
            created_at: row.created_at,
            expires_at: row.expires_at,
        }
    }
}

/// The list of invitations.
pub struct Invitations;

impl Listing for Invitations {
    const FIELDS: &'static [&'static str] = &["created_at"];
    const DEFAULT: &'static str = "-created_at";
    const SEARCH: Option<&'static str> = None;
}

/// The endpoints of this slice.
pub struct InvitationsApi(pub App);

#[OpenApi(tag = "Tag::Users")]
impl InvitationsApi {
    /// The invitations that nobody has accepted yet
    ///
    /// For admins and owners.
    #[oai(path = "/api/invitations", method = "get", operation_id = "listInvitations")]
    async fn list(
        &self,
        _admin: AdminCaller,
        Data(db): Data<&TenantDb>,
        query: PageQuery<Invitations>,
    ) -> Result<Json<Page<InvitationOut>>, Problem> {
        let window = query.window(store::count(db).await.map_err(ServiceError::from)?)?;
        let rows = store::list(db, query.is_descending(), &window).await.map_err(ServiceError::from)?;
        Ok(Json(query.page(&window, rows.into_iter().map(Into::into).collect())))
    }

    /// Invite somebody
    ///
    /// For admins and owners. A link goes out by mail, good for seven days, or until its sender may no longer give that role.
    /// Inviting an address again sends a new link and voids the one before. Only an owner invites owners, or replaces the
    /// invitation of one.
    #[oai(path = "/api/invitations", method = "post", operation_id = "invite")]
    async fn invite(
        &self,
        admin: AdminCaller,
        Data(db): Data<&TenantDb>,
        body: Keyed<InvitationIn>,
    ) -> Result<Created<InvitationOut>, Problem> {
        let Keyed { input, key } = body;
        let role = input.role.unwrap_or(Role::Member);
        let row = service::invite(&self.0, db, &admin.0, &input.email, role, &key).await?;
        Ok(Created(row.into()))
    }

    /// Withdraw an invitation
    ///
    /// For admins and owners; that of an owner, for owners only.
    #[oai(path = "/api/invitations/:id", method = "delete", operation_id = "withdrawInvitation")]
    async fn withdraw(
        &self,
        admin: AdminCaller,
        Data(db): Data<&TenantDb>,
        /// The invitation's id.
        id: Path<Uuid>,
    ) -> Result<NoContent, Problem> {
        service::withdraw(&self.0, db, &admin.0, id.0).await?;
        Ok(NoContent)
    }

    /// Accept an invitation
    ///
    /// Makes who was invited a user, who is signed in by it. The link works once; what is wrong with the other fields does not
    /// use it up.
    #[oai(path = "/api/invitations/accept", method = "post", operation_id = "acceptInvitation")]
    async fn accept(
        &self,
        Data(db): Data<&TenantDb>,
        device: Device,
        Body(input): Body<InvitationAcceptIn>,
    ) -> Result<Response<Created<LoginOut>>, Problem> {
        let accepted = Acceptance {
            token: input.token.into_string().into(),
            username: input.username,
            password: input.password,
            first_name: input.first_name.map(Name::into_string).unwrap_or_default(),
            last_name: input.last_name.map(Name::into_string).unwrap_or_default(),
        };
        Ok(no_store(Created(service::accept(&self.0, db, accepted, &device).await?)))
    }
}
