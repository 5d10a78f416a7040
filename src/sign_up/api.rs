//! The endpoints of signing up.

use chrono::{DateTime, Utc};
use poem::{FromRequest, Request, RequestBody};
use poem_openapi::{OpenApi, param::Query, payload::Response};
use tenants::{Slug, SlugChoice, SlugError, TenantName};
use uuid::Uuid;

use super::{
    error::SignUpError,
    service::{NewOrganization, Organization, sign_up},
    slug::{ChosenSlug, derive_slug},
};
use crate::{
    app::Tag,
    auth::{Device, no_store},
    error::ServiceError,
    http::{Body, ClientAddr, Created, Json, Name, Problem},
    state::App,
    throttle::{self, TENANT_SIGN_UPS},
    users::{
        UserBrief,
        identity::{Email, Password, Username},
    },
};

crate::input! {
    /// A new organization and its owner.
    pub struct SignUpTenantIn {
        /// The organization's name.
        pub organization: Name<1, 100>,
        /// Its name in hosts. Left out, it is made from the organization's name.
        pub slug: Option<ChosenSlug>,
        /// The owner's username.
        pub username: Username,
        /// The owner's e-mail address.
        pub email: Email,
        /// The owner's password.
        pub password: Password,
        /// The owner's first name.
        pub first_name: Option<Name<0, 150>>,
        /// The owner's last name.
        pub last_name: Option<Name<0, 150>>,
    }
}

crate::output! {
    /// The new organization, and its owner signed in.
    pub struct SignUpTenantOut {
        /// The access token, to be sent as `Authorization: Bearer …`.
        pub token: String,
        /// When the access token ends.
        pub token_expiration: DateTime<Utc>,
        /// The refresh token; it can be used once.
        pub refresh: String,
        /// When the refresh token ends, unless it is used before.
        pub refresh_expiration: DateTime<Utc>,
        /// The owner.
        pub user: UserBrief,
        /// The organization.
        pub tenant: NewTenantOut,
    }
}

crate::output! {
    /// An organization that was just made.
    pub struct NewTenantOut {
        /// The tenant's id.
        pub id: Uuid,
        /// Its name in hosts and headers.
        pub slug: String,
        /// The organization's name.
        pub name: String,
        /// Where its people work.
        pub url: String,
    }
}

crate::output! {
    /// Whether a slug can be had.
    pub struct SlugCheckOut {
        /// The slug that was asked for.
        pub slug: String,
        /// Whether it can be had.
        pub available: bool,
        /// If not, why: a sentence for a person. Else null.
        pub reason: Option<String>,
    }
}

/// Proof that strangers may sign organizations up here, and that this one has not made too many. An extractor, because a client that may not is told so before
/// anything is said about its body.
struct SignUpIsOpen;

impl<'a> FromRequest<'a> for SignUpIsOpen {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> poem::Result<Self> {
        match request.data::<App>() {
            Some(app) if app.tenant_sign_up => {
                let network = ClientAddr::of(request).network_text();
                let limits = [(TENANT_SIGN_UPS, network.as_str())];
                let checked = throttle::check(app, app.tenancy.catalog(), &limits).await;
                checked.map_err(Problem::from)?;
                Ok(Self)
            }
            _ => {
                Err(Problem::forbidden("sign_up_closed", "Organizations can't sign up here by themselves."))?
            }
        }
    }
}

/// The endpoints of this slice.
pub struct SignUpApi(pub App);

#[OpenApi(tag = "Tag::SignUp")]
impl SignUpApi {
    /// Sign an organization up
    ///
    /// Makes the organization, with a database schema of its own, and its owner, who is signed in by it.
    #[oai(path = "/api/sign_up/tenant", method = "post", operation_id = "signUpTenant")]
    async fn sign_up(
        &self,
        _open: SignUpIsOpen,
        device: Device,
        Body(input): Body<SignUpTenantIn>,
    ) -> Result<Response<Created<SignUpTenantOut>>, Problem> {
        let name = input.organization.into_string();
        let slug = match input.slug {
            // Told before the password is hashed; whoever is faster meanwhile is seen when the row is written.
            Some(ChosenSlug(slug)) if self.is_taken(&slug).await? => {
                return Err(SignUpError::SlugTaken(slug).into());
            }
            Some(ChosenSlug(slug)) => SlugChoice::Exactly(slug),
            None => SlugChoice::Derived(derive_slug(&name)),
        };
        let new = NewOrganization {
            name: name.clone(),
            slug,
            plan: None,
            username: input.username,
            email: input.email,
            password: input.password,
            first_name: input.first_name.map(Name::into_string).unwrap_or_default(),
            last_name: input.last_name.map(Name::into_string).unwrap_or_default(),
        };
        let (Organization { tenant, owner }, session) = sign_up(&self.0, new, &device).await?;
        Ok(no_store(Created(SignUpTenantOut {
            token: session.token,
            token_expiration: session.token_expiration,
            refresh: session.refresh,
            refresh_expiration: session.refresh_expiration,
            user: (&owner).into(),
            tenant: NewTenantOut {
                id: tenant.id,
                slug: tenant.slug.to_string(),
                name,
                url: self.0.site.tenant_url(&tenant.slug),
            },
        })))
    }

    /// Can a slug be had?
    #[oai(path = "/api/sign_up/tenant/check", method = "get", operation_id = "checkSlug")]
    async fn check(
        &self,
        /// The slug.
        slug: Query<String>,
    ) -> Result<Json<SlugCheckOut>, Problem> {
        let reason = match slug.0.parse() {
            Ok(slug) if self.is_taken(&slug).await? => Some("This name is taken.".to_owned()),
            Ok(_) => None,
            Err(error) => Some(SlugError::to_string(&error)),
        };
        Ok(Json(SlugCheckOut { slug: slug.0, available: reason.is_none(), reason }))
    }
}

impl SignUpApi {
    async fn is_taken(&self, slug: &Slug) -> Result<bool, Problem> {
        let name = TenantName::Slug(slug.clone());
        let found = self.0.tenancy.resolver().resolve(name).await.map_err(ServiceError::from)?;
        // Nobody has it now, but it may have been given up not long ago.
        let app = &self.0;
        let taken = found.is_some()
            || app.tenancy.is_slug_taken(slug, app.clock.now()).await.map_err(ServiceError::from)?;
        Ok(taken)
    }
}
