//! The service: two tenants, a list, a login, and endpoints that fail in every way.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use chrono::DateTime;
use poem::{
    Endpoint, Request, RequestBody, Response, Server,
    endpoint::make_sync,
    http::{Method, StatusCode},
    listener::TcpAcceptor,
};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions, OpenApi, OpenApiService,
    param::{Path, Query},
    registry::Registry,
};
use tokio::{net::TcpListener, task::JoinHandle};
use uuid::Uuid;

use crate::{
    clock::Clock,
    http::{
        Access, Admission, Body, ClientAddr, Created, Document, Edge, Gate, Host, IfMatch, Info, Json,
        Limits, Listing, NoContent, OptionalBody, Origin, Origins, Page, PageQuery, Policy, Problem, Routes,
        Text, TrustedProxies, Turn, Viewer,
        bearer::Bearer,
        docs,
        health::{HealthApi, Readiness},
        swagger,
    },
    input, output,
    users::identity::{Credential, Email, Username},
};

/// How many things a tenant has.
pub(super) const THINGS: u64 = 45;

/// Knows `acme` and `beta`, and `frozen`, which is suspended. A token is `<tenant>.<user>`.
struct Directory;

#[derive(Clone, Copy)]
struct Caller(Uuid);

impl<'a> ApiExtractor<'a> for Caller {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::SecurityScheme];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        docs::register_bearer(registry);
    }

    fn security_schemes() -> Vec<&'static str> {
        vec![docs::BEARER]
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(request.data::<Self>().copied().ok_or_else(Problem::not_authenticated)?)
    }
}

fn id(name: &str) -> Uuid {
    let mut bytes = [0; 16];
    bytes.iter_mut().zip(name.bytes()).for_each(|(to, from)| *to = from);
    Uuid::from_bytes(bytes)
}

impl Gate for Directory {
    async fn admit(&self, request: &mut Request, admission: &Admission) -> Result<(), Problem> {
        let mut viewer = Viewer::default();
        if admission.access.tenant {
            let by_host = match &admission.host {
                Host::Name(name) if name == "localhost" => None,
                Host::Name(name) => {
                    Some(name.strip_suffix(".localhost").ok_or_else(Problem::tenant_not_found)?)
                }
                Host::Ip(_) => None,
            };
            let by_header = admission.x_tenant.as_deref();
            if by_host.zip(by_header).is_some_and(|(host, header)| host != header) {
                return Err(Problem::tenant_mismatch());
            }
            let slug = by_host.or(by_header).ok_or_else(Problem::tenant_required)?;
            match slug {
                "acme" if admission.turn != Turn::First => return Err(Problem::tenant_suspended()),
                "acme" | "beta" => viewer.tenant = Some(id(slug)),
                "frozen" => return Err(Problem::tenant_suspended()),
                _ => return Err(Problem::tenant_not_found()),
            }
            request.extensions_mut().insert(Origin(Arc::from(format!("http://{}", admission.host))));
        }
        if admission.access.credentials {
            let Bearer::Token(token) = &admission.bearer else {
                return Err(match admission.bearer {
                    Bearer::Absent => Problem::not_authenticated(),
                    _ => Problem::token_not_valid(),
                });
            };
            let (slug, user) = token.split_once('.').ok_or_else(Problem::token_not_valid)?;
            if viewer.tenant != Some(id(slug)) {
                return Err(Problem::token_not_valid());
            }
            viewer.user = Some(id(user));
            request.extensions_mut().insert(Caller(id(user)));
        }
        request.extensions_mut().insert(viewer);
        Ok(())
    }
}

input! {
    /// Who knocks.
    pub(super) struct LoginIn {
        /// The name chosen at sign-up.
        username: Option<Username>,
        /// Or the address.
        email: Option<Email>,
        /// The password.
        password: Credential,
    }
}

input! {
    /// A thing to make.
    pub(super) struct ThingIn {
        /// What it is called.
        name: Text<2, 5>,
        /// How many.
        amount: u16,
        /// Whether it is in use.
        r#in: Option<bool>,
        /// What it belongs to.
        parents: Option<Vec<Uuid>>,
    }
}

input! {
    /// What to change of a thing.
    pub(super) struct ThingPatch {
        /// What it is to be called.
        name: Option<Text<2, 20>>,
    }
}

output! {
    /// A thing.
    pub(super) struct ThingOut {
        /// Its id.
        id: Uuid,
        /// What it is called.
        name: String,
        /// What it is about, if anything.
        about: Option<String>,
    }
}

#[derive(Debug)]
struct Things;

impl Listing for Things {
    const FIELDS: &'static [&'static str] = &["number"];
    const DEFAULT: &'static str = "number";
    const SEARCH: Option<&'static str> = Some("Matches every word in the name.");
}

fn thing(number: u64) -> ThingOut {
    ThingOut { id: Uuid::from_u128(number.into()), name: format!("thing {number}"), about: None }
}

fn number_of(id: Uuid) -> Result<u64, Problem> {
    let number = u64::try_from(id.as_u128()).ok().filter(|number| *number < THINGS);
    number.ok_or_else(Problem::not_found)
}

struct Api;

#[expect(clippy::unused_async, reason = "every operation of `OpenApi` is async")]
#[OpenApi]
impl Api {
    /// List things.
    #[oai(path = "/api/things/", method = "get", operation_id = "listThings")]
    async fn list(&self, _caller: Caller, query: PageQuery<Things>) -> Result<Json<Page<ThingOut>>, Problem> {
        let window = query.window(THINGS)?;
        let things = (window.offset..THINGS).take(usize::try_from(window.limit).map_err(Problem::internal)?);
        Ok(Json(query.page(&window, things.map(thing).collect())))
    }

    /// Make a thing.
    #[oai(path = "/api/things/", method = "post", operation_id = "makeThing")]
    async fn make(&self, _caller: Caller, Body(input): Body<ThingIn>) -> Result<Created<ThingOut>, Problem> {
        match &*input.name {
            "taken" => Err(Problem::conflict("name_taken", "There is a thing of this name.")),
            name => {
                let parents = input.parents.map_or(0, |parents| parents.len());
                let about = input.r#in.map(|in_use| format!("{parents} parents, in use: {in_use}"));
                Ok(Created(ThingOut { name: format!("{name} {}", input.amount), about, ..thing(0) }))
            }
        }
    }

    /// Read a thing.
    #[oai(path = "/api/things/:id/", method = "get", operation_id = "readThing")]
    async fn read(&self, _caller: Caller, Path(id): Path<Uuid>) -> Result<Json<ThingOut>, Problem> {
        Ok(Json(thing(number_of(id)?)))
    }

    /// Rename a thing. Nothing is kept, so every thing is always as it was.
    #[oai(path = "/api/things/:id/", method = "patch", operation_id = "renameThing")]
    async fn rename(
        &self,
        _caller: Caller,
        Path(id): Path<Uuid>,
        if_match: IfMatch,
        Body(input): Body<ThingPatch>,
    ) -> Result<Json<ThingOut>, Problem> {
        let current = thing(number_of(id)?);
        if_match.check(&current)?;
        Ok(Json(ThingOut { name: input.name.map_or(current.name, Text::into_string), ..thing(0) }))
    }

    /// Remove a thing, which always comes too late.
    #[oai(path = "/api/things/:id/", method = "delete", operation_id = "removeThing")]
    async fn remove(
        &self,
        _caller: Caller,
        Path(id): Path<Uuid>,
        if_match: IfMatch,
    ) -> Result<NoContent, Problem> {
        if_match.check(&thing(number_of(id)?))?;
        Err(Problem::tenant_changed("permission denied for schema t_acme"))
    }

    /// Sign in.
    #[oai(path = "/api/login/", method = "post", operation_id = "login")]
    async fn login(&self, Body(input): Body<LoginIn>) -> Result<NoContent, Problem> {
        let _ = (input.username, input.email, input.password);
        Err(Problem::non_field("Unable to log in with provided credentials."))
    }

    /// Sign out.
    #[oai(path = "/api/logout/", method = "post", operation_id = "logout")]
    async fn logout(&self, caller: Caller, OptionalBody(input): OptionalBody<LogoutIn>) -> Json<LogoutOut> {
        Json(LogoutOut { user: caller.0, everywhere: input.and_then(|input| input.everywhere) })
    }

    /// Fail in some way.
    #[oai(path = "/api/fail/", method = "get", operation_id = "fail")]
    async fn fail(
        &self,
        how: Query<Option<String>>,
        #[oai(name = "n")] _n: Query<Option<u8>>,
    ) -> Result<NoContent, Problem> {
        match how.0.as_deref() {
            Some("panic") => panic!("secret of the panic"),
            Some("internal") => Err(Problem::internal("secret of the database")),
            Some("busy") => Err(Problem::unavailable(Duration::from_millis(1500))),
            Some("throttled") => Err(Problem::throttled(Duration::from_secs(7))),
            Some("status") => Err(Problem::field("status", "Enter a valid value.")),
            _ => Ok(NoContent),
        }
    }

    /// Say where the call comes from.
    #[oai(path = "/api/admin/address/", method = "get", operation_id = "address")]
    async fn address(&self, ClientAddr(address): ClientAddr) -> Json<AddressOut> {
        Json(AddressOut { address: address.to_string() })
    }
}

input! {
    /// How to sign out.
    pub(super) struct LogoutIn {
        /// On every device.
        everywhere: Option<bool>,
    }
}

output! {
    /// What was done.
    pub(super) struct LogoutOut {
        /// Who signed out.
        user: Uuid,
        /// Whether on every device.
        everywhere: Option<bool>,
    }
}

output! {
    /// An address.
    pub(super) struct AddressOut {
        /// The address.
        address: String,
    }
}

struct Database(bool);

impl Readiness for Database {
    async fn ready(&self) -> Result<(), Problem> {
        if self.0 {
            Ok(())
        } else {
            Err(Problem::unavailable(Duration::from_secs(1)).source("connection refused"))
        }
    }
}

pub(super) fn document() -> Document {
    let info = Info { title: "Things", description: "Things of tenants.", version: "1.0.0" };
    Document::of::<(Api, HealthApi<Database>)>(info)
}

/// A server that runs until it is dropped.
pub(super) struct TestServer {
    pub(super) address: SocketAddr,
    task: JoinHandle<std::io::Result<()>>,
}

impl Drop for TestServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What can be set about it.
pub(super) struct Settings {
    pub(super) limits: Limits,
    pub(super) database: bool,
    pub(super) proxies: &'static [&'static str],
    pub(super) origins: &'static [&'static str],
}

impl Default for Settings {
    fn default() -> Self {
        Self { limits: Limits::default(), database: true, proxies: &[], origins: &[] }
    }
}

pub(super) async fn serve() -> TestServer {
    serve_with(Settings::default()).await
}

pub(super) async fn serve_with(settings: Settings) -> TestServer {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    serve_on(listener, &settings)
}

fn serve_on(listener: TcpListener, settings: &Settings) -> TestServer {
    let address = listener.local_addr().expect("an address");
    let server = Server::new_with_acceptor(TcpAcceptor::from_tokio(listener).expect("an acceptor"));
    TestServer { address, task: tokio::spawn(server.run(edge(settings))) }
}

/// What the server runs.
pub(super) fn edge(settings: &Settings) -> impl Endpoint<Output = Response> + use<> {
    let document = document();
    let routes = swagger::mount(Routes::of(&document).expect("routes"), &document).expect("pages");
    let teapot = make_sync(|_| Response::builder().status(StatusCode::IM_A_TEAPOT).body("secret tea"));
    let routes = routes.mount("/teapot", &[Method::GET], Access::PUBLIC, teapot).expect("a route");
    let service = OpenApiService::new((Api, HealthApi(Database(settings.database))), "", "");
    let proxies = settings.proxies.iter().map(|network| network.parse().expect("a network"));
    let origins = settings.origins.iter().map(|origin| (*origin).to_owned());
    let clock = Clock::fixed(DateTime::from_timestamp(1_700_000_000, 0).expect("a time"));
    Edge::new(routes, service, Directory, clock).limits(settings.limits).policy(Policy {
        proxies: TrustedProxies::new(proxies),
        origins: Origins::new("http", origins),
        ..Policy::default()
    })
}
