//! The whole API on one page: what there is, what it is called, and what a request passes on its way.

use std::{sync::Arc, time::Duration};

use poem::{Endpoint, EndpointExt as _, Response};
use poem_openapi::{OpenApiService, Tags};

use crate::{
    account::AccountApi,
    activity::ActivityApi,
    admin::AdminApi,
    archives::{ArchivesApi, ExportSchedulesApi},
    audit::{AuditApi, TenantAuditApi},
    auth::{AuthApi, TenantGate},
    comments::CommentsApi,
    error::ServiceError,
    find::FindApi,
    fleet::{FleetApi, FleetStreamApi},
    http::{
        Document, Edge, Face, Info, Policy, Problem, Routes,
        health::{HealthApi, Readiness},
        routes::RouteError,
        swagger::{self, SwaggerError},
    },
    impersonation::ImpersonationApi,
    invitations::InvitationsApi,
    jobs::JobsApi,
    limits::PlansApi,
    mail, metrics,
    notifications::{NotificationStreamApi, NotificationsApi},
    operations::{OperationStreamApi, OperationsApi},
    operators::OperatorsApi,
    pages,
    password::PasswordApi,
    purge::PurgeApi,
    registration::RegistrationApi,
    sign_up::SignUpApi,
    state::App,
    tenant::TenantApi,
    usage::UsageApi,
    users::UsersApi,
};

/// What the operations are sorted by in the document.
#[derive(Tags)]
pub enum Tag {
    /// How organizations come to be, and how people come into one.
    SignUp,
    /// Signing in and out.
    Session,
    /// Passwords that are changed or forgotten.
    Password,
    /// The people of a tenant.
    Users,
    /// The organization itself.
    Tenant,
    /// What happened.
    Activity,
    /// What people write on each other's pages.
    Comments,
    /// What people are told of, and how.
    Notifications,
    /// What operators do: on hosts that name no tenant, or on a listener of its own.
    Admin,
}

/// All slices: what a tenant's people use, and what operators do. A new one is added here and below.
type Api = (
    (
        HealthApi<App>,
        SignUpApi,
        FindApi,
        RegistrationApi,
        AuthApi,
        PasswordApi,
        UsersApi,
        AccountApi,
        InvitationsApi,
        TenantApi,
        TenantAuditApi,
        ActivityApi,
        CommentsApi,
        NotificationsApi,
        NotificationStreamApi,
    ),
    (
        OperatorsApi,
        AdminApi,
        PurgeApi,
        ImpersonationApi,
        AuditApi,
        OperationsApi,
        OperationStreamApi,
        FleetApi,
        FleetStreamApi,
        JobsApi,
        ArchivesApi,
        ExportSchedulesApi,
        PlansApi,
        UsageApi,
    ),
);

fn api(app: &App) -> Api {
    let of_tenants = (
        HealthApi(app.clone()),
        SignUpApi(app.clone()),
        FindApi(app.clone()),
        RegistrationApi(app.clone()),
        AuthApi(app.clone()),
        PasswordApi(app.clone()),
        UsersApi(app.clone()),
        AccountApi(app.clone()),
        InvitationsApi(app.clone()),
        TenantApi(app.clone()),
        TenantAuditApi,
        ActivityApi(app.clone()),
        CommentsApi(app.clone()),
        NotificationsApi(app.clone()),
        NotificationStreamApi(app.clone()),
    );
    let of_operators = (
        OperatorsApi(app.clone()),
        AdminApi(app.clone()),
        PurgeApi(app.clone()),
        ImpersonationApi(app.clone()),
        AuditApi(app.clone()),
        OperationsApi(app.clone()),
        OperationStreamApi(app.clone()),
        FleetApi(app.clone()),
        FleetStreamApi(app.clone()),
        JobsApi(app.clone()),
        ArchivesApi(app.clone()),
        ExportSchedulesApi(app.clone()),
        PlansApi(app.clone()),
        UsageApi(app.clone()),
    );
    (of_tenants, of_operators)
}

const INFO: Info = Info {
    title: "Tenantry",
    description: "Every organization has a database schema of its own. A request names its tenant by its host, by the \
                  header `X-Tenant` or by its token; `deploy/` and the README tell the rest.",
    version: env!("CARGO_PKG_VERSION"),
};

/// The OpenAPI document.
#[must_use]
pub fn document() -> Document {
    Document::of::<Api>(INFO)
}

/// Why the API cannot be put together. Each is a defect that a test finds.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Two paths are the same.
    #[error(transparent)]
    Route(#[from] RouteError),
    /// The document or its page cannot be rendered.
    #[error(transparent)]
    Swagger(#[from] SwaggerError),
}

/// Every route there is, with what is not in the document: the document itself and its page, and the account pages.
///
/// # Errors
/// A defect; see [`ApiError`].
pub fn routes() -> Result<Routes, ApiError> {
    Ok(pages::mount(routes_of_api()?)?)
}

fn routes_of_api() -> Result<Routes, ApiError> {
    let document = document();
    Ok(swagger::mount(Routes::of(&document)?, &document)?)
}

/// The service, from the outside in: edge, gate, slices.
///
/// # Errors
/// A defect; see [`ApiError`].
pub fn endpoint(
    app: &App,
    policy: Policy,
    face: Face,
) -> Result<impl Endpoint<Output = Response> + use<>, ApiError> {
    let slices = OpenApiService::new(api(app), INFO.title, INFO.version).data(app.clone());
    // What the request left for later is committed by now.
    let left = app.clone();
    let slices = slices.after(move |answer| {
        left.wake_workers();
        std::future::ready(answer)
    });
    // Where a front end has the account pages, one of ours would only mislead.
    let mut routes = if app.site.frontend_url.is_none() { routes()? } else { routes_of_api()? };
    if let Some(directory) = app.mailer.shown() {
        routes = mail::mount(routes, directory)?;
    }
    let routes = metrics::mount(routes, app)?.only(face)?;
    let requests = Arc::clone(&app.metrics().requests);
    requests.tell_of(routes.figures());
    let gate = TenantGate::new(app.clone(), face);
    Ok(Edge::new(routes, slices, gate, app.clock.clone()).policy(policy).counting(requests))
}

impl Readiness for App {
    async fn ready(&self) -> Result<(), Problem> {
        if self.is_leaving() {
            return Err(Problem::unavailable(Duration::from_secs(1)).source("the server is stopping"));
        }
        Ok(self.tenancy.ping().await.map_err(ServiceError::from)?)
    }
}
