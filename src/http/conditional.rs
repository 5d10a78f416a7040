//! Conditional requests, as section 13 of RFC 9110 has them.
//!
//! # Reading
//! The edge tags whatever JSON a GET answers with 200, and asks `If-Match` and `If-None-Match` of that tag. No endpoint
//! does anything for it.
//!
//! # Changing
//! A change takes an [`IfMatch`] and asks it between locking the row and changing it:
//!
//! ```ignore
//! let tx = db.begin().await.map_err(ServiceError::from)?;
//! let comment = store::lock(&tx, id).await?.ok_or_else(Problem::not_found)?; // SELECT … FOR UPDATE
//! if_match.check(&CommentOut::from(&comment))?; // what GET shows to this caller
//! let comment = store::update(&tx, id, changes).await?;
//! tx.commit().await.map_err(ServiceError::from)?;
//! Ok(Json(CommentOut::from(&comment)))
//! ```
//!
//! Of several clients that have read the same version, the lock lets one through at a time, so one finds its tag again and
//! the others meet what that one made. A 412 drops the transaction, which rolls it back. What a PATCH answers is what GET
//! would give now, so the edge tags it too, and a client can go on without reading again. The document's
//! [`gaps`](super::Document::gaps) tell of an operation that does not take an [`IfMatch`], and of a PATCH that does not
//! answer what GET does.
//!
//! # Where the RFC leaves a choice
//! - A list that can't be read names no tag: `If-None-Match` then gets the whole answer, `If-Match` a 412. Neither is ever
//!   wrong; and a client that wants to be sure is not taken for one that does not care.
//! - What is answered has no date of its last change, so `If-Modified-Since` and `If-Unmodified-Since` are passed over, as
//!   they have to be.
//! - There are no ranges, so there is nothing to do about `If-Range`.

mod if_match;
mod tags;

use poem::{
    Body, Request, Response,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode,
        header::{CACHE_CONTROL, CONTENT_LENGTH, CONTENT_TYPE, ETAG, IF_MATCH, IF_NONE_MATCH, VARY},
    },
};

use self::tags::Comparison;
use super::{edge::Viewer, error::Problem};

pub use self::if_match::IfMatch;
pub(crate) use self::{
    if_match::{describe, takes_if_match},
    tags::tag,
};

/// Whether the lines of `If-Match` (strongly) or `If-None-Match` (weakly) name a tag.
#[must_use]
pub fn names(lines: &[HeaderValue], tag: &[u8], strongly: bool) -> bool {
    tags::name(lines, tag, if strongly { Comparison::Strong } else { Comparison::Weak })
}

/// What a request asks of the tag of what it is for.
#[derive(Debug, Default)]
struct Preconditions {
    if_match: Vec<HeaderValue>,
    if_none_match: Vec<HeaderValue>,
}

impl Preconditions {
    fn of(headers: &HeaderMap) -> Self {
        let lines = |name| headers.get_all(name).iter().cloned().collect();
        Self { if_match: lines(IF_MATCH), if_none_match: lines(IF_NONE_MATCH) }
    }

    fn is_empty(&self) -> bool {
        self.if_match.is_empty() && self.if_none_match.is_empty()
    }

    /// Whether `If-Match` is true of the tag, or absent.
    fn match_tag(&self, tag: &HeaderValue) -> bool {
        self.if_match.is_empty() || names(&self.if_match, tag.as_bytes(), true)
    }

    /// Whether `If-None-Match` names the tag.
    fn know_tag(&self, tag: &HeaderValue) -> bool {
        names(&self.if_none_match, tag.as_bytes(), false)
    }
}

/// What becomes of an answer that shows how things are. Read before the endpoint takes the request.
pub(crate) struct Conditions {
    viewer: Viewer,
    /// What a GET asks. A PATCH has asked already, of the version before.
    reading: Option<Preconditions>,
}

impl Conditions {
    /// Those of a request; `None` if its method answers with something else.
    pub(crate) fn of(request: &Request) -> Option<Self> {
        let reading = match *request.method() {
            Method::GET => Some(Preconditions::of(request.headers())),
            Method::PATCH => None,
            _ => return None,
        };
        Some(Self { viewer: request.data::<Viewer>().copied().unwrap_or_default(), reading })
    }

    /// Tags the answer. One to a GET is shortened to 304 if the client has it already; 412 if it insists on another. An
    /// answer with a `Cache-Control` of its own keeps that and, unless it also brought a tag, goes without.
    pub(crate) async fn apply(self, response: &mut Response) -> Result<(), Problem> {
        if response.status() != StatusCode::OK {
            return Ok(());
        }
        if is_json(response) && !response.headers().contains_key(CACHE_CONTROL) {
            let body = response.take_body().into_bytes().await.map_err(Problem::internal)?;
            let tag = tag(self.viewer, &body);
            let headers = response.headers_mut();
            headers.insert(ETAG, tag);
            if self.reading.is_some() {
                headers.insert(CACHE_CONTROL, HeaderValue::from_static("private, no-cache"));
                // The host is part of every cache's key; the user and the tenant may come from these.
                headers.insert(VARY, HeaderValue::from_static("Authorization, X-Tenant"));
            }
            response.set_body(Body::from_bytes(body));
        }
        let (Some(asked), Some(tag)) = (self.reading, response.headers().get(ETAG)) else { return Ok(()) };
        if !asked.match_tag(tag) {
            return Err(Problem::precondition_failed());
        }
        if asked.know_tag(tag) {
            response.set_status(StatusCode::NOT_MODIFIED);
            response.set_body(());
            response.headers_mut().remove(CONTENT_TYPE);
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        Ok(())
    }
}

fn is_json(response: &Response) -> bool {
    response.content_type().is_some_and(|media_type| media_type.starts_with("application/json"))
}
