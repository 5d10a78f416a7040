//! The one way in and out of the server.
//!
//! A request passes these checks in the contract's order: host → route → method → tenant and credentials (the
//! [`Gate`]) → the endpoint, whose extractors do the rest. Whatever comes back, problem, panic or answer, leaves in the
//! contract's shape and is logged once.

use std::{
    future::Future,
    panic::AssertUnwindSafe,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::FutureExt as _;
use poem::{
    Endpoint, EndpointExt as _, IntoEndpoint, Request, Response, Result,
    endpoint::BoxEndpoint,
    http::{
        HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
        header::{
            ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, REFERRER_POLICY,
            STRICT_TRANSPORT_SECURITY, X_CONTENT_TYPE_OPTIONS,
        },
        uri::PathAndQuery,
    },
};
use tracing::{Instrument as _, Span, field::Empty};
use uuid::Uuid;

use super::{
    bearer::Bearer,
    conditional::Conditions,
    cors::Cors,
    error::Problem,
    host::{self, Authority, Host},
    place::Overloaded,
    policy::{self, Limits, Policy},
    rescue,
    routes::{Access, Route, Routes, is_transfer, stripped},
};
use crate::{
    clock::Clock,
    metrics::{self, Requests},
    telemetry::traces,
};

/// How long the headers of a request may be together. The server's own bounds are wider in bytes (64 KiB); it answers
/// what is over them, or has more than 100 headers, with an empty 431.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Asked every few seconds by machines; a line for each would bury the others. They are logged when they fail.
const QUIET: [&str; 3] = ["/healthz", "/readyz", metrics::PATH];
const X_TENANT: HeaderName = HeaderName::from_static("x-tenant");
const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CROSS_ORIGIN_RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");
const CROSS_ORIGIN_OPENER_POLICY: HeaderName = HeaderName::from_static("cross-origin-opener-policy");

/// Lets requests in: finds the tenant, checks the credentials.
pub trait Gate: Send + Sync + 'static {
    /// Whether the operations of this path are there on this host at all. Elsewhere they are as unknown as any other path.
    fn is_there(&self, _host: &Host, _route: &str) -> impl Future<Output = Result<bool, Problem>> + Send {
        std::future::ready(Ok(true))
    }

    /// Puts what the endpoint's extractors take (the tenant's database, the caller, [`Viewer`], [`Origin`]) into the
    /// request's extensions, or says why not.
    ///
    /// It is asked a second time, in another [`Turn`], when it, or the endpoint, found that the tenant changed. After the
    /// endpoint, the request is an empty one.
    fn admit(
        &self,
        request: &mut Request,
        admission: &Admission,
    ) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Somebody who has to know how a request ends that was let in, or almost: where it came to a tenant.
pub trait Visited: Send + Sync {
    /// Told of the answer, whatever it is, when it is made; and may say something in its headers.
    fn end(&self, status: StatusCode, headers: &mut HeaderMap);
}

/// He. The gate leaves one in the request's extensions; it is dropped when the answer is made, its body perhaps not yet sent.
#[derive(Clone)]
pub struct Visit(pub Arc<dyn Visited>);

/// What a request says about where it wants to go and who it comes from, checked for its form only.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The id of the request.
    pub request_id: Uuid,
    /// The path of the operation, as the document has it: `/api/users/{pk}/`.
    pub route: Arc<str>,
    /// What the operation needs.
    pub access: Access,
    /// The host the request is for.
    pub host: Host,
    /// The port written behind it.
    pub port: Option<u16>,
    /// The header `X-Tenant`, where the operation runs in a tenant.
    pub x_tenant: Option<String>,
    /// The token, where the operation needs one.
    pub bearer: Bearer,
    /// Why the gate is asked.
    pub turn: Turn,
}

/// Why the gate is asked about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It has just come in.
    First,
    /// Looking for its session, the database refused what the first look-up said: don't believe a cache. Nothing was done.
    Again,
    /// The endpoint found out that the tenant changed: only the refusal counts.
    Afterwards,
}

/// Whose view of things an answer shows; part of its `ETag`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Viewer {
    /// The tenant.
    pub tenant: Option<Uuid>,
    /// The user.
    pub user: Option<Uuid>,
}

/// Scheme, host and port that links in an answer start with: `https://acme.example.com`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin(pub Arc<str>);

/// The outermost endpoint.
pub struct Edge<G> {
    routes: Routes,
    service: BoxEndpoint<'static, Response>,
    gate: G,
    clock: Clock,
    limits: Limits,
    policy: Policy,
    requests: Arc<Requests>,
}

impl<G: Gate> Edge<G> {
    /// An edge before `service`, which answers the paths of the document; what was mounted answers for itself.
    pub fn new<E>(routes: Routes, service: E, gate: G, clock: Clock) -> Self
    where
        E: IntoEndpoint,
        E::Endpoint: 'static,
    {
        let service = service.into_endpoint().map_to_response().boxed();
        let (limits, policy, requests) = (Limits::default(), Policy::default(), Arc::default());
        Self { routes, service, gate, clock, limits, policy, requests }
    }

    /// Other limits than the contract's.
    #[must_use]
    pub fn limits(self, limits: Limits) -> Self {
        Self { limits, ..self }
    }

    /// Whom to trust; without it, nobody.
    #[must_use]
    pub fn policy(self, policy: Policy) -> Self {
        Self { policy, ..self }
    }

    /// Counts what comes by, for others too; without it, for itself.
    #[must_use]
    pub fn counting(self, requests: Arc<Requests>) -> Self {
        Self { requests, ..self }
    }

    async fn answer(
        &self,
        request: Request,
        route: Option<&Route>,
        authority: Result<Authority, Problem>,
        request_id: Uuid,
        passage: &mut Passage,
    ) -> Result<Response, Problem> {
        if let Some(overloaded) = request.extensions().get::<Overloaded>() {
            return Err(overloaded.problem());
        }
        if header_bytes(request.headers()) > MAX_HEADER_BYTES {
            return Err(Problem::headers_too_large(MAX_HEADER_BYTES));
        }
        let authority = authority?;
        if *request.method() == Method::OPTIONS && request.uri().path() == "*" {
            return Ok(options(HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")));
        }
        let route = route.ok_or_else(Problem::not_found)?;
        if !self.gate.is_there(&authority.host, route.template()).await? {
            return Err(Problem::not_found());
        }
        if *request.method() == Method::OPTIONS {
            return Ok(options(route.allow()));
        }
        let access = route
            .access(request.method())
            .ok_or_else(|| Problem::method_not_allowed(method_name(request.method()), route.allow()))?;
        let admission = Admission {
            request_id,
            route: route.template().clone(),
            access,
            host: authority.host,
            port: authority.port,
            x_tenant: if access.tenant { x_tenant(request.headers())? } else { None },
            bearer: if access.credentials { Bearer::of(request.headers()) } else { Bearer::Absent },
            turn: Turn::First,
        };
        self.admitted(request, route, admission, passage).await
    }

    async fn admitted(
        &self,
        mut request: Request,
        route: &Route,
        mut admission: Admission,
        passage: &mut Passage,
    ) -> Result<Response, Problem> {
        if !self.policy.proxies.is_empty() {
            request.extensions_mut().insert(self.policy.proxies.clone());
        }
        let admitted = self.gate.admit(&mut request, &admission).await;
        passage.visit = request.extensions().get().cloned();
        note_viewer(&request, &passage.spans);
        if let Err(problem) = admitted {
            if !problem.is_tenant_changed() {
                return Err(problem);
            }
            // Found out while looking for the session. Nothing has been done yet, so a tenant that is still open goes on.
            admission.turn = Turn::Again;
            self.gate.admit(&mut request, &admission).await?;
        }
        self.prepare(&mut request)?;
        let conditions = Conditions::of(&request);
        let endpoint = route.endpoint().unwrap_or(&self.service);
        let outcome = match endpoint.call(request).await {
            Ok(response) => rescue::response(response),
            Err(error) => Err(rescue::error(error)),
        };
        match outcome {
            Ok(mut response) => {
                if let Some(conditions) = conditions {
                    conditions.apply(&mut response).await?;
                }
                Ok(response)
            }
            Err(problem) if problem.is_tenant_changed() => {
                admission.turn = Turn::Afterwards;
                self.gate.admit(&mut Request::default(), &admission).await?;
                Err(problem)
            }
            Err(problem) => Err(problem),
        }
    }

    /// What the endpoint and its extractors find in the request.
    fn prepare(&self, request: &mut Request) -> Result<(), Problem> {
        if *request.method() == Method::HEAD {
            request.set_method(Method::GET);
        }
        if stripped(request.uri().path()).len() < request.uri().path().len() {
            strip(request.uri_mut())?;
        }
        if self.limits != Limits::default() {
            request.extensions_mut().insert(self.limits);
        }
        Ok(())
    }
}

impl<G: Gate> Endpoint for Edge<G> {
    type Output = Response;

    async fn call(&self, request: Request) -> Result<Response> {
        let (started, flight) = (Instant::now(), self.requests.begin());
        let request_id = self.clock.uuid_v7();
        let method = request.method().clone();
        let route = self.routes.find(request.uri().path());
        let template = route.map_or("none", |route| route.template());
        let figures = route.map_or_else(|| self.requests.nowhere(), Route::figures);
        let span = tracing::info_span!(
            "request",
            %request_id,
            method = traces::name_of(&method),
            route = template,
            tenant = Empty,
            user = Empty,
            operator = Empty,
        );
        let is_trusted = self.policy.proxies.trusts_peer_of(&request);
        let trace =
            traces::request((traces::name_of(&method), template, request_id), request.headers(), is_trusted);
        let authority = host::of(&request);
        let cors = Cors::of(&request, &self.policy.origins, authority.as_ref().ok());
        let hsts = self.policy.hsts.of(&request, &self.policy.proxies, authority.as_ref().ok());
        // A line for each would be one more thing to do, when there is too much already.
        let is_shed = request.extensions().get::<Overloaded>().is_some();
        let deadline =
            route.is_none_or(|route| !is_transfer(route.template())).then_some(self.policy.deadline);
        let spans = [span.clone(), trace.clone()];
        let answering = async {
            let mut passage = Passage { spans, visit: None };
            let answer = self.answer(request, route, authority, request_id, &mut passage);
            let answer = AssertUnwindSafe(policy::in_time(deadline, answer)).catch_unwind().await;
            let answer = answer.unwrap_or_else(|payload| Err(rescue::panic(payload.as_ref())));
            let mut id = Uuid::encode_buffer();
            let id = request_id.hyphenated().encode_lower(&mut id);
            let (mut response, failure) = match answer {
                Ok(response) => (response, None),
                Err(problem) => {
                    self.requests.problem(problem.code());
                    let failure = Failure::of(&problem);
                    (problem.render(id), Some(failure))
                }
            };
            if let Some(Visit(visited)) = passage.visit {
                let status = response.status();
                visited.end(status, response.headers_mut());
            }
            if method == Method::HEAD {
                drop_body(&mut response).await;
            }
            cors.apply(&mut response);
            if let Some(hsts) = hsts {
                response.headers_mut().insert(STRICT_TRANSPORT_SECURITY, hsts);
            }
            finish(response.headers_mut(), id);
            let (status, time) = (response.status(), started.elapsed());
            figures.note(&method, status, time);
            flight.land();
            if !is_shed {
                log(template, status, time, failure.as_ref());
            }
            response
        };
        let response = answering.instrument(trace.clone()).instrument(span).await;
        traces::answered(&trace, response.status().as_u16());
        Ok(response)
    }
}

/// How long the headers are together, names and values.
fn header_bytes(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len()).sum()
}

fn options(allow: HeaderValue) -> Response {
    Response::builder().status(StatusCode::NO_CONTENT).header(ALLOW, allow).finish()
}

/// A method's name for whoever sent it; one nobody knows may be long.
fn method_name(method: &Method) -> &str {
    let name = method.as_str();
    if name.len() <= 16 { name } else { "OTHER" }
}

/// The header `X-Tenant`, which must name something if it is there.
fn x_tenant(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all(X_TENANT).iter();
    match (values.next(), values.next()) {
        (None, _) => Ok(None),
        (Some(value), None) => match value.to_str() {
            Ok(slug) if !slug.is_empty() => Ok(Some(slug.to_owned())),
            _ => Err(Problem::tenant_mismatch()),
        },
        (Some(_), Some(_)) => Err(Problem::tenant_mismatch()),
    }
}

/// Takes the final slash off the path: `poem_openapi` registers paths without it.
fn strip(uri: &mut Uri) -> Result<(), Problem> {
    let path = stripped(uri.path());
    let target = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let mut parts = std::mem::take(uri).into_parts();
    parts.path_and_query = Some(PathAndQuery::try_from(target).map_err(Problem::internal)?);
    *uri = Uri::from_parts(parts).map_err(Problem::internal)?;
    Ok(())
}

/// What HEAD answers: the headers of GET, its length among them, without the body, which hyper leaves out over HTTP/1 only. A stream has no length to tell and is
/// not run to find out.
async fn drop_body(response: &mut Response) {
    let streamed =
        response.content_type().is_some_and(|media_type| media_type.starts_with("text/event-stream"));
    let body = response.take_body();
    let bodiless = matches!(response.status(), StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    if streamed || bodiless || response.headers().contains_key(CONTENT_LENGTH) {
        return;
    }
    if let Ok(body) = body.into_bytes().await {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
    }
}

/// The headers of every answer. What an endpoint has set stays.
fn finish(headers: &mut HeaderMap, request_id: &str) {
    if let Ok(id) = HeaderValue::from_str(request_id) {
        headers.insert(X_REQUEST_ID, id);
    }
    for (name, value) in [
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Neither a page that embeds an answer without asking nor one that opens it gets hold of anything. What is
        // fetched as `cors` has it is not concerned.
        (CROSS_ORIGIN_RESOURCE_POLICY, "same-origin"),
        (CROSS_ORIGIN_OPENER_POLICY, "same-origin"),
        // An error depends on who asks and when, and what a POST answers may hold tokens.
        (CACHE_CONTROL, "no-store"),
        // Nothing here is a page but those that bring a policy of their own.
        (CONTENT_SECURITY_POLICY, "default-src 'none'; frame-ancestors 'none'"),
    ] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
}

/// What is found out of a request on its way.
struct Passage {
    /// That for the log, and that for traces.
    spans: [Span; 2],
    /// Who has to know how it ends.
    visit: Option<Visit>,
}

/// What a line of the log says of a problem.
struct Failure {
    code: &'static str,
    /// Of a failure of ours. What a client did wrong it is told, and its words are nothing for the log.
    cause: Option<String>,
}

impl Failure {
    fn of(problem: &Problem) -> Self {
        let cause = if problem.status().is_server_error() { problem.causes() } else { None };
        Self { code: problem.code(), cause }
    }
}

/// The line with which every request ends, and the one place where a failure of ours is logged. No other line is needed
/// to know who was answered what, how fast and why.
fn log(route: &str, status: StatusCode, time: Duration, failure: Option<&Failure>) {
    let duration_us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    let code = failure.map(|failure| failure.code);
    let cause = failure.and_then(|failure| failure.cause.as_deref());
    let number = status.as_u16();
    if status == StatusCode::SERVICE_UNAVAILABLE {
        tracing::warn!(status = number, duration_us, code, cause, "not available");
    } else if status.is_server_error() {
        tracing::error!(status = number, duration_us, code, cause, "failed");
    } else if QUIET.contains(&route) {
        tracing::debug!(status = number, duration_us, code, "answered");
    } else {
        tracing::info!(status = number, duration_us, code, "answered");
    }
}

/// Notes in the spans of a request who it is by, as far as the gate found that out.
fn note_viewer(request: &Request, spans: &[Span; 2]) {
    let Some(viewer) = request.extensions().get::<Viewer>() else { return };
    for span in spans.iter().filter(|span| !span.is_disabled()) {
        if let Some(tenant) = viewer.tenant {
            span.record("tenant", tracing::field::display(tenant));
        }
        if let Some(user) = viewer.user {
            let who = if viewer.tenant.is_some() { "user" } else { "operator" };
            span.record(who, tracing::field::display(user));
        }
    }
}
