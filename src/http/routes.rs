//! Which paths and methods there are, and what each needs, read off the document.

use std::{fmt, sync::Arc};

use poem::{
    EndpointExt as _, IntoEndpoint, Response,
    endpoint::BoxEndpoint,
    http::{HeaderValue, Method},
};

use super::docs::Document;
use crate::metrics::{self, RouteFigures};

/// What an operation needs to know before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    /// Runs in a tenant.
    pub tenant: bool,
    /// Needs a signed-in caller.
    pub credentials: bool,
}

impl Access {
    /// Neither a tenant nor credentials.
    pub const PUBLIC: Self = Self { tenant: false, credentials: false };
}

/// Whether an operation at this path runs in a tenant: all do, but for those the contract lists.
#[must_use]
pub fn is_tenanted(path: &str) -> bool {
    const PATHS: [&str; 5] = ["/healthz", "/readyz", "/openapi.json", "/docs", "/api/tenants/find/"];
    const TREES: [&str; 3] = ["/.well-known/", "/api/sign_up/tenant/", "/api/admin/"];
    let path = canonical(path);
    !PATHS.contains(&path.as_str()) && !TREES.iter().any(|tree| path.starts_with(tree))
}

/// Whether an operation at this path takes bodies that may be as long as a disk: it has deadlines of its own.
#[must_use]
pub fn is_transfer(path: &str) -> bool {
    path == "/api/admin/archives/{name}/"
}

/// Whether an operation at this path is for operators.
#[must_use]
pub fn is_admin(path: &str) -> bool {
    path.starts_with("/api/admin/")
}

/// Which paths a listener answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Face {
    /// All of them, those for operators on hosts that name no tenant; but not its figures, which are for no client.
    #[default]
    Whole,
    /// All but those for operators, which have a listener of their own.
    Public,
    /// Those for operators, and what every listener has: how the process is, and the document; and its figures.
    Admin,
    /// How the process is, and its figures.
    Metrics,
}

impl Face {
    /// Whether this path is one of them.
    #[must_use]
    pub fn shows(self, path: &str) -> bool {
        const EVERYWHERE: [&str; 4] = ["/healthz", "/readyz", "/openapi.json", "/docs"];
        match self {
            Self::Whole => path != metrics::PATH,
            Self::Public => !is_admin(path) && path != metrics::PATH,
            Self::Admin => is_admin(path) || path == metrics::PATH || EVERYWHERE.contains(&path),
            Self::Metrics => [metrics::PATH, "/healthz", "/readyz"].contains(&path),
        }
    }
}

/// A path as the contract writes it: one of the API ends in a slash.
#[must_use]
pub fn canonical(path: &str) -> String {
    let slash = path.starts_with("/api/") && !path.ends_with('/');
    format!("{path}{}", if slash { "/" } else { "" })
}

/// A path as the table and `poem_openapi` have it: one of the API without its final slash, and only without that one.
#[must_use]
pub fn stripped(path: &str) -> &str {
    if path.starts_with("/api/") { path.strip_suffix('/').unwrap_or(path) } else { path }
}

/// A route table that can't be.
#[derive(Debug, thiserror::Error)]
#[error("the path {path} can't be routed: {source}")]
pub struct RouteError {
    path: String,
    source: matchit::InsertError,
}

/// One path and what it answers to.
pub struct Route {
    template: Arc<str>,
    operations: Vec<(Method, Access)>,
    allow: HeaderValue,
    endpoint: Option<BoxEndpoint<'static, Response>>,
    figures: Arc<RouteFigures>,
}

impl Route {
    /// The canonical path, with its parameters' names: `/api/users/{pk}/`.
    #[must_use]
    pub fn template(&self) -> &Arc<str> {
        &self.template
    }

    /// Its operations.
    #[must_use]
    pub fn operations(&self) -> &[(Method, Access)] {
        &self.operations
    }

    /// What the operation of this method needs; `None` if there is no such operation.
    pub(crate) fn access(&self, method: &Method) -> Option<Access> {
        let method = if *method == Method::HEAD { &Method::GET } else { method };
        self.operations.iter().find(|(known, _)| known == method).map(|(_, access)| *access)
    }

    /// The value of `Allow`.
    pub(crate) fn allow(&self) -> HeaderValue {
        self.allow.clone()
    }

    /// What counts the requests here.
    pub(crate) fn figures(&self) -> &RouteFigures {
        &self.figures
    }

    /// What answers here, if it isn't the API.
    pub(crate) fn endpoint(&self) -> Option<&BoxEndpoint<'static, Response>> {
        self.endpoint.as_ref()
    }
}

/// Every path this process answers.
#[derive(Default)]
pub struct Routes {
    paths: matchit::Router<usize>,
    routes: Vec<Route>,
}

impl Routes {
    /// The paths of a document.
    ///
    /// # Errors
    /// When two paths can't be told apart.
    pub fn of(document: &Document) -> Result<Self, RouteError> {
        let mut routes = Self::default();
        for path in document.paths() {
            let tenant = is_tenanted(&path.path);
            let operations = path
                .operations
                .iter()
                .map(|operation| {
                    let credentials = !operation.security.is_empty()
                        && operation.security.iter().all(|any| !any.is_empty());
                    (operation.method.clone(), Access { tenant, credentials })
                })
                .collect();
            routes.insert(&path.path, operations, None)?;
        }
        Ok(routes)
    }

    /// Adds a path that is not in the document, such as a page for people.
    ///
    /// # Errors
    /// When the path can't be told apart from another one.
    pub fn mount<E>(
        mut self,
        path: &str,
        methods: &[Method],
        access: Access,
        endpoint: E,
    ) -> Result<Self, RouteError>
    where
        E: IntoEndpoint,
        E::Endpoint: 'static,
    {
        let operations = methods.iter().map(|method| (method.clone(), access)).collect();
        self.insert(path, operations, Some(endpoint.into_endpoint().map_to_response().boxed()))?;
        Ok(self)
    }

    /// Only those that a listener shows.
    ///
    /// # Errors
    /// None that was not there before.
    pub fn only(self, face: Face) -> Result<Self, RouteError> {
        let mut shown = Self::default();
        for route in self.routes.into_iter().filter(|route| face.shows(&route.template)) {
            shown.insert(&route.template, route.operations, route.endpoint)?;
        }
        Ok(shown)
    }

    fn insert(
        &mut self,
        path: &str,
        operations: Vec<(Method, Access)>,
        endpoint: Option<BoxEndpoint<'static, Response>>,
    ) -> Result<(), RouteError> {
        self.paths
            .insert(stripped(path), self.routes.len())
            .map_err(|source| RouteError { path: path.to_owned(), source })?;
        let allow = allow(&operations);
        let template: Arc<str> = canonical(path).into();
        let methods = operations.iter().map(|(method, _)| method);
        let figures = Arc::new(RouteFigures::of(Arc::clone(&template), methods));
        self.routes.push(Route { template, operations, allow, endpoint, figures });
        Ok(())
    }

    /// The route of a request's path.
    pub(crate) fn find(&self, path: &str) -> Option<&Route> {
        self.paths.at(stripped(path)).ok().map(|found| &self.routes[*found.value])
    }

    /// What counts the requests at each of them.
    pub fn figures(&self) -> impl Iterator<Item = Arc<RouteFigures>> {
        self.routes.iter().map(|route| Arc::clone(&route.figures))
    }

    /// All routes, in the order of the document.
    #[must_use]
    pub fn all(&self) -> &[Route] {
        &self.routes
    }
}

impl fmt::Debug for Routes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.routes.iter().map(|route| (&route.template, &route.operations))).finish()
    }
}

/// Exactly the methods of a path, in the usual order: HEAD comes with GET, OPTIONS always.
fn allow(operations: &[(Method, Access)]) -> HeaderValue {
    const ORDER: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
    let mut names = Vec::with_capacity(ORDER.len() + 2);
    for method in ORDER.iter().filter(|method| operations.iter().any(|(known, _)| known == *method)) {
        names.push(method.as_str());
        if *method == Method::GET {
            names.push("HEAD");
        }
    }
    names.push("OPTIONS");
    HeaderValue::from_str(&names.join(", ")).unwrap_or(HeaderValue::from_static("OPTIONS"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_but_the_listed_paths_are_tenanted() {
        for path in [
            "/healthz",
            "/readyz",
            "/openapi.json",
            "/docs",
            "/.well-known/jwks.json",
            "/api/sign_up/tenant/",
            "/api/sign_up/tenant",
            "/api/sign_up/tenant/check/",
            "/api/tenants/find/",
            "/api/admin/tenants/{id}/",
        ] {
            assert!(!is_tenanted(path), "{path}");
        }
        for path in
            ["/api/sign_up/", "/api/login/", "/api/users/{pk}/", "/api/tenant/", "/api/sign_up/tenants/"]
        {
            assert!(is_tenanted(path), "{path}");
        }
    }

    #[test]
    fn one_slash_and_only_one_does_not_count() -> Result<(), RouteError> {
        let page = || poem::endpoint::make_sync(|_| "");
        let routes = Routes::default()
            .mount("/api/users/", &[Method::GET, Method::POST], Access::PUBLIC, page())?
            .mount("/api/users/{pk}/", &[Method::DELETE], Access::PUBLIC, page())?
            .mount("/docs", &[Method::GET], Access::PUBLIC, page())?;
        let template = |path: &str| routes.find(path).map(|route| route.template().to_string());
        assert_eq!(template("/api/users"), Some("/api/users/".into()));
        assert_eq!(template("/api/users/"), Some("/api/users/".into()));
        assert_eq!(template("/api/users/1"), Some("/api/users/{pk}/".into()));
        assert_eq!(template("/api/users/1/"), Some("/api/users/{pk}/".into()));
        assert_eq!(template("/docs"), Some("/docs".into()));
        for path in
            ["/api/users//", "/api//users/", "//api/users", "/api/users/1//", "/docs/", "/api/", "/", ""]
        {
            assert_eq!(template(path), None, "{path}");
        }
        Ok(())
    }

    #[test]
    fn allow_names_exactly_the_methods() {
        let of = |methods: &[Method]| {
            allow(&methods.iter().map(|method| (method.clone(), Access::PUBLIC)).collect::<Vec<_>>())
        };
        assert_eq!(of(&[Method::POST, Method::GET]), "GET, HEAD, POST, OPTIONS");
        assert_eq!(of(&[Method::DELETE, Method::PATCH]), "PATCH, DELETE, OPTIONS");
    }
}
