//! One shape for every error: RFC 9457, with the field errors of Django REST framework beside it.

mod schema;

use std::{borrow::Cow, error::Error as StdError, fmt, time::Duration};

use poem::{
    IntoResponse, Response,
    error::ResponseError,
    http::{
        HeaderName, HeaderValue, StatusCode,
        header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE},
    },
};
use poem_openapi::{
    ApiResponse,
    registry::{MetaResponses, Registry},
};
use serde::ser::{Serialize, SerializeMap as _, Serializer};

use super::field_errors::FieldErrors;
use crate::telemetry::Chain;

/// The media type of every error.
pub const PROBLEM_JSON: &str = "application/problem+json";
/// Where an error goes that belongs to no single field.
pub const NON_FIELD_ERRORS: &str = "non_field_errors";

/// The members a problem has by itself. A field of the same name would make the object ambiguous.
const RESERVED: [&str; 6] = ["type", "title", "status", "code", "detail", "request_id"];

/// A sentence for people.
pub type Sentence = Cow<'static, str>;
/// What caused a problem; logged, never shown.
pub type Source = Box<dyn StdError + Send + Sync>;

/// An answer that says what went wrong. Small, because it is the `E` of most results.
pub struct Problem(Box<Inner>);

struct Inner {
    status: StatusCode,
    code: &'static str,
    detail: Sentence,
    fields: FieldErrors,
    headers: Vec<(HeaderName, HeaderValue)>,
    source: Option<Source>,
    tenant_changed: bool,
}

impl Problem {
    /// A problem of the contract that has no constructor of its own.
    pub fn new(status: StatusCode, code: &'static str, detail: impl Into<Sentence>) -> Self {
        Self(Box::new(Inner {
            status,
            code,
            detail: detail.into(),
            fields: FieldErrors::default(),
            headers: Vec::new(),
            source: None,
            tenant_changed: false,
        }))
    }

    /// 400: these fields are wrong.
    #[must_use]
    pub fn invalid(fields: FieldErrors) -> Self {
        let mut problem = Self::new(StatusCode::BAD_REQUEST, "invalid", "Invalid input.");
        problem.0.fields = fields;
        problem
    }

    /// 400: one field is wrong.
    pub fn field(field: impl Into<Cow<'static, str>>, sentence: impl Into<Sentence>) -> Self {
        let mut fields = FieldErrors::default();
        fields.push(field, sentence);
        Self::invalid(fields)
    }

    /// 400: the input as a whole is wrong.
    pub fn non_field(sentence: impl Into<Sentence>) -> Self {
        Self::field(NON_FIELD_ERRORS, sentence)
    }

    /// 400: the request could not be read.
    pub fn parse_error(detail: impl Into<Sentence>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "parse_error", detail)
    }

    /// 400: neither host nor header nor token names a tenant.
    #[must_use]
    pub fn tenant_required() -> Self {
        let detail = "Name the organization by the host, the header X-Tenant or the token.";
        Self::new(StatusCode::BAD_REQUEST, "tenant_required", detail)
    }

    /// 400: host and header name different tenants, or the header makes no sense.
    #[must_use]
    pub fn tenant_mismatch() -> Self {
        let detail = "Host and X-Tenant must name the same organization, and X-Tenant only one.";
        Self::new(StatusCode::BAD_REQUEST, "tenant_mismatch", detail)
    }

    /// 401: a token is needed and there is none.
    #[must_use]
    pub fn not_authenticated() -> Self {
        let detail = "Authentication credentials were not provided.";
        Self::unauthorized("not_authenticated", detail)
    }

    /// 401: anything wrong with a token; one body for every cause.
    #[must_use]
    pub fn token_not_valid() -> Self {
        Self::unauthorized("token_not_valid", "Given token not valid for any token type")
    }

    fn unauthorized(code: &'static str, detail: &'static str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, code, detail)
            .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))
    }

    /// 403: the caller may not do this.
    #[must_use]
    pub fn permission_denied() -> Self {
        let detail = "You do not have permission to perform this action.";
        Self::forbidden("permission_denied", detail)
    }

    /// 403 with a code of its own (`sign_up_closed`, …).
    pub fn forbidden(code: &'static str, detail: impl Into<Sentence>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, detail)
    }

    /// 403: the operator has suspended the tenant.
    #[must_use]
    pub fn tenant_suspended() -> Self {
        Self::forbidden("tenant_suspended", "This organization is suspended.")
    }

    /// 404: no such route or row, or none this caller may know of.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Not found.")
    }

    /// 404: a list has no such page.
    #[must_use]
    pub fn invalid_page() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Invalid page.")
    }

    /// 404: nothing is known by this host or slug.
    #[must_use]
    pub fn tenant_not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "tenant_not_found", "No such organization.")
    }

    /// 405, with the methods this path has.
    #[must_use]
    pub fn method_not_allowed(method: &str, allow: HeaderValue) -> Self {
        let detail = format!("Method \"{method}\" not allowed.");
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).header(ALLOW, allow)
    }

    /// 408: the body took too long.
    #[must_use]
    pub fn request_timeout() -> Self {
        Self::new(StatusCode::REQUEST_TIMEOUT, "request_timeout", "The body took too long to arrive.")
    }

    /// 431: the headers are longer than `limit` bytes together.
    #[must_use]
    pub fn headers_too_large(limit: usize) -> Self {
        let detail = format!("The headers of a request may have {} KiB together.", limit / 1024);
        Self::new(StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE, "headers_too_large", detail)
    }

    /// 409: a conflict with the present state (`slug_taken`, `last_owner`, …).
    pub fn conflict(code: &'static str, detail: impl Into<Sentence>) -> Self {
        Self::new(StatusCode::CONFLICT, code, detail)
    }

    /// 412: `If-Match` does not match.
    #[must_use]
    pub fn precondition_failed() -> Self {
        let detail = "The resource has changed since it was read.";
        Self::new(StatusCode::PRECONDITION_FAILED, "precondition_failed", detail)
    }

    /// 413: the body is longer than `limit` bytes.
    #[must_use]
    pub fn too_large(limit: usize) -> Self {
        let detail = format!("The body may have at most {limit} bytes.");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", detail)
    }

    /// 415: the body is something other than JSON in UTF-8.
    pub fn unsupported_media_type(detail: impl Into<Sentence>) -> Self {
        Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported_media_type", detail)
    }

    /// 409: a request with this `Idempotency-Key` is not decided yet.
    #[must_use]
    pub fn idempotency_in_flight() -> Self {
        let detail = "A request with this Idempotency-Key is still being worked on.";
        Self::conflict("idempotency_in_flight", detail).header(RETRY_AFTER, HeaderValue::from(1_u64))
    }

    /// 422: this `Idempotency-Key` came with another body before.
    #[must_use]
    pub fn idempotency_key_reused() -> Self {
        let detail = "This Idempotency-Key was used with another body.";
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, "idempotency_key_reused", detail)
    }

    /// 429: come back in so many whole seconds.
    #[must_use]
    pub fn throttled(after: Duration) -> Self {
        let seconds = whole_seconds(after);
        let unit = if seconds == 1 { "second" } else { "seconds" };
        let detail = format!("Request was throttled. Expected available in {seconds} {unit}.");
        Self::new(StatusCode::TOO_MANY_REQUESTS, "throttled", detail)
            .header(RETRY_AFTER, HeaderValue::from(seconds))
    }

    /// 500: our fault. The source is logged, the caller learns the request id.
    pub fn internal(source: impl Into<Source>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "error", "A server error occurred.").source(source)
    }

    /// 503: the database, the tenant or a queue is not available; worth another try after `after`.
    #[must_use]
    pub fn unavailable(after: Duration) -> Self {
        let detail = "Service temporarily unavailable, try again later.";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "service_unavailable", detail)
            .header(RETRY_AFTER, HeaderValue::from(whole_seconds(after)))
    }

    /// The database refused because the tenant changed under this request: it was suspended, closed or moved. The
    /// edge resolves the tenant again and answers what that says, else 503, which is also what this is by itself.
    pub fn tenant_changed(source: impl Into<Source>) -> Self {
        let mut problem = Self::unavailable(Duration::from_secs(1)).source(source);
        problem.0.tenant_changed = true;
        problem
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// Notes what caused this, for the log.
    #[must_use]
    pub fn source(mut self, source: impl Into<Source>) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Its status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    /// Its code.
    #[must_use]
    pub fn code(&self) -> &'static str {
        self.0.code
    }

    /// Whether this came from [`Problem::tenant_changed`].
    #[must_use]
    pub fn is_tenant_changed(&self) -> bool {
        self.0.tenant_changed
    }

    /// The cause and the causes of the cause, in one line.
    pub(crate) fn causes(&self) -> Option<String> {
        let cause: &(dyn StdError + 'static) = self.0.source.as_deref()?;
        Some(Chain(cause).to_string())
    }

    /// The names of its headers.
    pub(crate) fn header_names(&self) -> impl Iterator<Item = &str> {
        self.0.headers.iter().map(|(name, _)| name.as_str())
    }

    /// Its body as an example for the document.
    pub(crate) fn shown(&self) -> impl Serialize + '_ {
        Rendered { problem: &self.0, request_id: "0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41" }
    }

    /// The answer.
    pub(crate) fn render(&self, request_id: &str) -> Response {
        let body = serde_json::to_vec(&Rendered { problem: &self.0, request_id }).unwrap_or_default();
        let mut response = body.into_response();
        response.set_status(self.0.status);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(PROBLEM_JSON));
        for (name, value) in &self.0.headers {
            headers.append(name.clone(), value.clone());
        }
        response
    }
}

fn whole_seconds(after: Duration) -> u64 {
    after.as_secs() + u64::from(after.subsec_nanos() > 0)
}

struct Rendered<'a> {
    problem: &'a Inner,
    request_id: &'a str,
}

impl Serialize for Rendered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Inner { status, code, detail, fields, .. } = self.problem;
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", "about:blank")?;
        map.serialize_entry("title", status.canonical_reason().unwrap_or("Error"))?;
        map.serialize_entry("status", &status.as_u16())?;
        map.serialize_entry("code", code)?;
        map.serialize_entry("detail", detail)?;
        map.serialize_entry("request_id", self.request_id)?;
        let reserved = |name: &str| RESERVED.contains(&name) || name == NON_FIELD_ERRORS;
        for (name, sentences) in fields.iter().filter(|(name, _)| !reserved(name)) {
            map.serialize_entry(name, sentences)?;
        }
        let mut others = Vec::new();
        for (name, sentences) in fields.iter().filter(|(name, _)| reserved(name)) {
            let named = |sentence: &Sentence| match name {
                NON_FIELD_ERRORS => sentence.clone(),
                name => format!("{name}: {sentence}").into(),
            };
            others.extend(sentences.iter().map(named));
        }
        if !others.is_empty() {
            map.serialize_entry(NON_FIELD_ERRORS, &others)?;
        }
        map.end()
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Inner { status, code, detail, fields, source, .. } = &*self.0;
        f.debug_struct("Problem")
            .field("status", &status.as_u16())
            .field("code", code)
            .field("detail", detail)
            .field("fields", fields)
            .field("source", source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.0.status.as_u16(), self.0.code, self.0.detail)
    }
}

impl StdError for Problem {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.source.as_deref().map(|source| source as &(dyn StdError + 'static))
    }
}

impl ResponseError for Problem {
    fn status(&self) -> StatusCode {
        self.0.status
    }

    // Only reached where there is no edge; the edge takes the problem itself out of the error.
    fn as_response(&self) -> Response {
        self.render("")
    }
}

/// The schema of every error in the document.
pub(crate) const SCHEMA: &str = "Problem";

impl ApiResponse for Problem {
    // Which errors an operation has follows from what it takes; the finished document says so for all of them alike.
    fn meta() -> MetaResponses {
        MetaResponses { responses: Vec::new() }
    }

    fn register(registry: &mut Registry) {
        registry.create_schema::<Self, _>(SCHEMA.to_owned(), |_| schema::schema());
    }
}
