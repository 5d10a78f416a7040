//! Browsers are told to use nothing but TLS from here on: RFC 6797.

use std::sync::Arc;

use poem::{
    Request,
    http::{HeaderValue, header::HeaderName, uri::Scheme},
};

use super::{
    client::{TrustedProxies, peer},
    host::{Authority, Host},
};

const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// For a year, as <https://hstspreload.org> asks for at least. Under the base domain, every name is a tenant or one of the
/// operator's: who serves them by https serves them all so.
const OWN: HeaderValue = HeaderValue::from_static("max-age=31536000; includeSubDomains");
/// A domain of a tenant's own has other names under it that are none of our business.
const FOREIGN: HeaderValue = HeaderValue::from_static("max-age=31536000");

/// Whether answers say so: where people reach the service by https.
#[derive(Clone, Debug, Default)]
pub struct Hsts(Option<Arc<[String]>>);

impl Hsts {
    /// Said where the scheme of the public URL is `https`; with all that is under them, for these domains.
    #[must_use]
    pub fn new(scheme: &str, domains: impl IntoIterator<Item = String>) -> Self {
        Self((scheme == "https").then(|| domains.into_iter().collect()))
    }

    /// What the answer to a request says: only one that comes over TLS counts, to this process or to a proxy of ours.
    pub(super) fn of(
        &self,
        request: &Request,
        proxies: &TrustedProxies,
        asked: Option<&Authority>,
    ) -> Option<HeaderValue> {
        let domains = self.0.as_deref()?;
        let Host::Name(name) = &asked?.host else { return None };
        let is_secure = *request.scheme() == Scheme::HTTPS
            || (forwarded_proto(request).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https"))
                && proxies.trust(peer(request)));
        let is_under = |domain: &String| {
            name.strip_suffix(domain.as_str()).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
        };
        is_secure.then(|| if domains.iter().any(is_under) { OWN } else { FOREIGN })
    }
}

/// By which scheme the proxy was asked; where there are several in a row, the one that is next to us.
fn forwarded_proto(request: &Request) -> Option<&str> {
    let line = request.headers().get_all(X_FORWARDED_PROTO).iter().next_back()?;
    line.to_str().ok()?.rsplit(',').next().map(str::trim)
}
