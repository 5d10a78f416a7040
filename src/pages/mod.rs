//! The pages that links in mails lead to: plain HTML for those who have no client of their own at hand.
//!
//! Opening one changes nothing and asks nothing of the database but the tenant: what looks into mails opens links too. A
//! small script takes the token out of the address and sends it, with what was typed, to the same endpoints as any client.

use std::fmt::Write as _;

use bytes::Bytes;
use data_encoding::HEXLOWER;
use poem::{
    Endpoint, Request, Response, Result,
    http::{
        HeaderValue, Method,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE},
    },
};

use crate::http::{Access, Routes, routes::RouteError};

/// A page: its path under `/account/`, its heading, and what stands below.
struct Page {
    name: &'static str,
    title: &'static str,
    content: &'static str,
}

const PAGES: [Page; 4] = [
    Page { name: "verify", title: "Confirm your e-mail address", content: include_str!("files/verify.html") },
    Page { name: "accept", title: "Accept your invitation", content: include_str!("files/accept.html") },
    Page { name: "reset", title: "Choose a new password", content: include_str!("files/reset.html") },
    Page {
        name: "email",
        title: "Confirm your new e-mail address",
        content: include_str!("files/email.html"),
    },
];

const STYLE: &str = include_str!("files/account.css");
const SCRIPT: &str = include_str!("files/account.js");

/// Nothing runs and nothing is loaded but the two files below, and forms go nowhere: what is typed leaves the page by the
/// script or not at all.
const POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'",
);
/// The name changes with the content.
const FOR_EVER: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// An address with a token in it stays in no cache, nor does what was typed.
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");
/// On the hosts of tenants, for everybody.
const IN_TENANT: Access = Access { tenant: true, credentials: false };

/// Adds the pages, and the files they are made of.
///
/// # Errors
/// A path is taken; a matter of the build, found at start.
pub fn mount(mut routes: Routes) -> Result<Routes, RouteError> {
    let (style, script) = (path_of("css", STYLE), path_of("js", SCRIPT));
    for page in PAGES {
        let html = page.html(&style, &script);
        let file = File { media_type: "text/html; charset=utf-8", caching: NO_STORE, body: html.into() };
        routes = routes.mount(&format!("/account/{}", page.name), &[Method::GET], IN_TENANT, file)?;
    }
    for (path, media_type, body) in
        [(style, "text/css; charset=utf-8", STYLE), (script, "text/javascript; charset=utf-8", SCRIPT)]
    {
        let file = File { media_type, caching: FOR_EVER, body: Bytes::from_static(body.as_bytes()) };
        routes = routes.mount(&path, &[Method::GET], Access::PUBLIC, file)?;
    }
    Ok(routes)
}

/// `/account/<hash of the content>.<extension>`.
fn path_of(extension: &str, content: &str) -> String {
    let hash = blake3::hash(content.as_bytes());
    format!("/account/{}.{extension}", HEXLOWER.encode(&hash.as_bytes()[..8]))
}

impl Page {
    fn html(&self, style: &str, script: &str) -> String {
        let Self { title, content, .. } = self;
        let mut html = String::with_capacity(content.len() + 1024);
        // Writing to a string cannot fail.
        let _ = write!(
            html,
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"robots\" content=\"noindex\">\n<title>{title}</title>\n<link rel=\"icon\" href=\"data:,\">\n\
             <link rel=\"stylesheet\" href=\"{style}\">\n<script src=\"{script}\" defer></script>\n</head>\n\
             <body>\n<main>\n<h1>{title}</h1>\n<noscript><p>This page needs JavaScript: with it, the link from your \
             mail is used by your click only. Please allow it here and load the page again.</p></noscript>\n\
             <div id=\"problem\" role=\"alert\" tabindex=\"-1\" hidden></div>\n{content}</main>\n</body>\n</html>\n"
        );
        html
    }
}

/// Bytes made at start, the same for everybody.
struct File {
    media_type: &'static str,
    caching: HeaderValue,
    body: Bytes,
}

impl Endpoint for File {
    type Output = Response;

    async fn call(&self, _: Request) -> Result<Response> {
        Ok(Response::builder()
            .header(CONTENT_TYPE, self.media_type)
            .header(CACHE_CONTROL, self.caching.clone())
            .header(CONTENT_SECURITY_POLICY, POLICY)
            .body(self.body.clone()))
    }
}
