//! Which pages may call the API from a browser.
//!
//! A browser lets a page of another origin read an answer only if the answer says so. It says so to the origins that the
//! operator named, and to the origin that the request itself is for: a tenant's own on its own host, whether that is
//! `<slug>.<base domain>` or a domain of the tenant's. A page there is allowed to read anyway, and a preflight is answered
//! before any tenant is looked for.
//!
//! Everybody else gets the very same answer without a word of this, never an error: what protects the rows is the
//! credentials, and a client that is no browser may send any `Origin` it likes. `poem`'s own middleware answers 403.
//!
//! Nothing here says `Access-Control-Allow-Credentials`. Credentials are bearer tokens, which a page sets itself; there are
//! no cookies that a browser could add.

use std::{collections::HashSet, sync::Arc};

use poem::{
    Request, Response,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{
            ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
            ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, ALLOW,
            ORIGIN, VARY,
        },
    },
};

use super::host::Authority;

/// What requests may bring, beside what every page may send unasked.
const REQUEST_HEADERS: HeaderValue = HeaderValue::from_static(
    "Authorization, Content-Type, X-Tenant, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID",
);
/// What a page may read of an answer, beside what every page may.
const ANSWER_HEADERS: HeaderValue = HeaderValue::from_static(
    "ETag, Location, RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset, Retry-After, \
     WWW-Authenticate, X-Request-Id",
);
/// How long a browser need not ask again: two hours, the most that Chromium keeps. What it is told changes with a release
/// or a setting only.
const MAX_AGE_SECONDS: HeaderValue = HeaderValue::from_static("7200");

/// The origins whose pages may read answers.
#[derive(Clone, Debug)]
pub struct Origins {
    scheme: Arc<str>,
    others: Arc<HashSet<String>>,
}

impl Default for Origins {
    /// Own origins only, over plain HTTP.
    fn default() -> Self {
        Self::new("http", [])
    }
}

impl Origins {
    /// These, written as browsers send them, and the own origin of every host that is called by this scheme. It is that of
    /// the public URL: where TLS ends at a proxy, the request itself does not tell.
    #[must_use]
    pub fn new(scheme: &str, others: impl IntoIterator<Item = String>) -> Self {
        Self { scheme: scheme.into(), others: Arc::new(others.into_iter().collect()) }
    }

    fn allow(&self, origin: &str, asked: Option<&Authority>) -> bool {
        self.others.contains(origin) || asked.is_some_and(|asked| self.is_own(origin, asked))
    }

    /// Whether this is the origin of the host that is asked.
    fn is_own(&self, origin: &str, asked: &Authority) -> bool {
        let authority = origin.strip_prefix(&*self.scheme).and_then(|rest| rest.strip_prefix("://"));
        // An origin has the port of its scheme by not naming it; a proxy may have added that to the host.
        let default = if &*self.scheme == "https" { 443 } else { 80 };
        let port = |authority: &Authority| authority.port.unwrap_or(default);
        authority
            .and_then(Authority::parse)
            .is_some_and(|own| own.host == asked.host && port(&own) == port(asked))
    }
}

/// What a request says of the page that makes it. Read before the endpoint takes the request.
pub(super) struct Cors {
    /// The origin, if its pages may read the answer.
    allowed: Option<HeaderValue>,
    options: bool,
    preflight: bool,
}

impl Cors {
    pub(super) fn of(request: &Request, origins: &Origins, asked: Option<&Authority>) -> Self {
        let headers = request.headers();
        let mut values = headers.get_all(ORIGIN).iter();
        let origin = match (values.next(), values.next()) {
            (Some(origin), None) => Some(origin),
            // Of two origins, one would be believed without having been sent by the browser.
            _ => None,
        };
        let allowed =
            origin.filter(|it| it.to_str().is_ok_and(|origin| origins.allow(origin, asked))).cloned();
        let options = *request.method() == Method::OPTIONS;
        Self { allowed, options, preflight: options && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD) }
    }

    /// Completes an answer, whatever it is: a page has to be able to read errors too.
    pub(super) fn apply(self, response: &mut Response) {
        let names = response.headers().get(ALLOW).cloned();
        let is_options = self.options && response.status() == StatusCode::NO_CONTENT;
        let headers = response.headers_mut();
        // Also where nobody is allowed: a cache must not keep that for those who are.
        vary(headers, "Origin");
        if is_options {
            vary(headers, "Access-Control-Request-Method, Access-Control-Request-Headers");
        }
        let Some(origin) = self.allowed else { return };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if let (true, true, Some(methods)) = (self.preflight, is_options, names) {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS);
            headers.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS);
        } else {
            headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, ANSWER_HEADERS);
        }
    }
}

/// Adds names to `Vary`, in the same line: not every cache looks at a second one.
fn vary(headers: &mut HeaderMap, names: &'static str) {
    let joined = headers
        .get(VARY)
        .and_then(|line| HeaderValue::from_str(&format!("{}, {names}", line.to_str().ok()?)).ok());
    headers.insert(VARY, joined.unwrap_or(HeaderValue::from_static(names)));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allows(scheme: &str, origin: &str, host: &str) -> bool {
        let others = ["https://app.example.org", "http://localhost:3000"].map(str::to_owned);
        Origins::new(scheme, others).allow(origin, Authority::parse(host).as_ref())
    }

    #[test]
    fn the_configured_origins_are_allowed_to_the_letter() {
        for origin in ["https://app.example.org", "http://localhost:3000"] {
            assert!(allows("https", origin, "acme.example.com"), "{origin}");
            assert!(allows("https", origin, "no host"), "{origin}");
        }
        for origin in [
            "http://app.example.org",
            "https://app.example.org:8443",
            "https://app.example.org:443",
            "https://app.example.org/",
            "https://APP.example.org",
            "https://app.example.org.",
            "https://app.example.org.evil.example",
            "https://evil-app.example.org",
            "https://x.app.example.org",
            "app.example.org",
            "http://localhost",
            "http://localhost:30001",
            "null",
            "*",
            "",
        ] {
            assert!(!allows("https", origin, "acme.example.com"), "{origin}");
        }
    }

    #[test]
    fn the_own_origin_of_the_host_is_allowed() {
        for (scheme, origin, host) in [
            ("https", "https://acme.example.com", "acme.example.com"),
            ("https", "https://acme.example.com", "acme.example.com:443"),
            ("https", "https://acme.example.com", "ACME.example.com."),
            ("https", "https://acme.example.com:8443", "acme.example.com:8443"),
            ("http", "http://acme.localhost:8080", "acme.localhost:8080"),
            ("http", "http://acme.localhost", "acme.localhost:80"),
            ("http", "http://127.0.0.1:8080", "127.0.0.1:8080"),
            ("http", "http://[::1]:8080", "[::1]:8080"),
        ] {
            assert!(allows(scheme, origin, host), "{origin} on {host}");
        }
        for (scheme, origin, host) in [
            ("https", "http://acme.example.com", "acme.example.com"),
            ("http", "https://acme.example.com", "acme.example.com"),
            ("https", "https://beta.example.com", "acme.example.com"),
            ("https", "https://example.com", "acme.example.com"),
            ("https", "https://x.acme.example.com", "acme.example.com"),
            ("https", "https://acme.example.com:8443", "acme.example.com"),
            ("https", "https://acme.example.com", "acme.example.com:8443"),
            ("https", "https://acme.example.com:80", "acme.example.com"),
            ("https", "https://acme.example.com/x", "acme.example.com"),
            ("https", "https://u@acme.example.com", "acme.example.com"),
            ("https", "acme.example.com", "acme.example.com"),
            ("https", "https:acme.example.com", "acme.example.com"),
            ("https", "null", "null"),
            ("https", "https://", "acme.example.com"),
        ] {
            assert!(!allows(scheme, origin, host), "{origin} on {host}");
        }
    }

    #[test]
    fn vary_stays_one_line() {
        let mut headers = HeaderMap::new();
        vary(&mut headers, "Origin");
        assert_eq!(headers[VARY], "Origin");
        headers.insert(VARY, HeaderValue::from_static("Authorization"));
        vary(&mut headers, "Origin");
        assert_eq!(headers.get_all(VARY).iter().collect::<Vec<_>>(), ["Authorization, Origin"]);
    }
}
