//! `/openapi.json` and `/docs`.

use bytes::Bytes;
use data_encoding::BASE64;
use poem::{
    Endpoint, Request, Response, Result,
    http::{
        HeaderValue, Method,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, ETAG, InvalidHeaderValue},
    },
};
use poem_openapi::OpenApiService;
use sha2::{Digest as _, Sha256};

use super::{
    conditional,
    docs::Document,
    edge::Viewer,
    routes::{Access, RouteError, Routes},
};

/// Starts Swagger UI on the very document that clients read.
const START: &str = "window.addEventListener('load', () => SwaggerUIBundle({\
    url: '/openapi.json', dom_id: '#ui', deepLinking: true, docExpansion: 'list', filter: true, \
    tagsSorter: 'alpha', displayRequestDuration: true, validatorUrl: null}))";
/// What its style sheet leaves to the page.
const STYLE: &str = "body{margin:0;background:#fafafa}";

/// Why the pages can't be served.
#[derive(Debug, thiserror::Error)]
pub enum SwaggerError {
    /// The document can't be written.
    #[error("the document can't be written as JSON")]
    Document(#[from] serde_json::Error),
    /// The bundled page is not what it was when this was written.
    #[error("poem-openapi's page for Swagger UI has changed: no {0} in it")]
    Bundle(&'static str),
    /// A hash makes no header.
    #[error("the page's security policy is no header")]
    Header(#[from] InvalidHeaderValue),
    /// The paths are taken.
    #[error(transparent)]
    Route(#[from] RouteError),
}

/// Adds `/openapi.json` and `/docs`.
///
/// # Errors
/// When the page in `poem_openapi` is not as expected or a path is taken; a matter of the build, found at start.
pub fn mount(routes: Routes, document: &Document) -> Result<Routes, SwaggerError> {
    let json = Asset::new("application/json", document.to_json()?);
    let routes = routes.mount("/openapi.json", &[Method::GET], Access::PUBLIC, json)?;
    Ok(routes.mount("/docs", &[Method::GET], Access::PUBLIC, page()?)?)
}

/// The page: Swagger UI from the files in `poem_openapi`, started by a script of ours.
fn page() -> Result<Asset, SwaggerError> {
    let bundled = OpenApiService::new((), "", "").swagger_ui_html();
    let style =
        between(&bundled, "<style charset=\"UTF-8\">", "</style>").ok_or(SwaggerError::Bundle("style"))?;
    let script =
        between(&bundled, "<script charset=\"UTF-8\">", "</script>").ok_or(SwaggerError::Bundle("script"))?;
    let html = format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>API documentation</title>\n\
         <link rel=\"icon\" href=\"data:,\">\n<style>{style}</style>\n<style>{STYLE}</style>\n</head>\n\
         <body>\n<div id=\"ui\"></div>\n<script>{script}</script>\n<script>{START}</script>\n</body>\n</html>\n"
    );
    let mut page = Asset::new("text/html; charset=utf-8", html.into_bytes());
    page.policy = Some(HeaderValue::from_str(&format!(
        "default-src 'none'; script-src {} {}; style-src {} {}; img-src 'self' data:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(script),
        hash(START),
        hash(style),
        hash(STYLE),
    ))?);
    Ok(page)
}

fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    Some(text.split_once(start)?.1.split_once(end)?.0)
}

fn hash(inline: &str) -> String {
    format!("'sha256-{}'", BASE64.encode(&Sha256::digest(inline)))
}

/// Bytes made at start, the same for everybody.
struct Asset {
    media_type: &'static str,
    // Shared with every answer: the page has 1.6 MB.
    body: Bytes,
    tag: HeaderValue,
    policy: Option<HeaderValue>,
}

impl Asset {
    fn new(media_type: &'static str, body: Vec<u8>) -> Self {
        let tag = conditional::tag(Viewer::default(), &body);
        Self { media_type, body: body.into(), tag, policy: None }
    }
}

impl Endpoint for Asset {
    type Output = Response;

    async fn call(&self, _: Request) -> Result<Response> {
        let mut response = Response::builder()
            .header(CONTENT_TYPE, self.media_type)
            .header(CACHE_CONTROL, "public, max-age=300")
            .header(ETAG, self.tag.clone())
            .body(self.body.clone());
        if let Some(policy) = &self.policy {
            response.headers_mut().insert(CONTENT_SECURITY_POLICY, policy.clone());
        }
        Ok(response)
    }
}
