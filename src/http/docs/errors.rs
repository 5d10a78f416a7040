//! The errors that operations have in common.

use std::{collections::BTreeMap, time::Duration};

use poem_openapi::registry::{MetaMediaType, MetaResponse, MetaSchemaRef};
use serde::{Serialize, Serializer};

use super::rate_limits::{RATE_LIMITS, RateLimit};
use crate::http::error::{PROBLEM_JSON, Problem, SCHEMA};

/// An error as the document describes it, once for all operations that can answer it.
pub(super) struct ErrorAnswer {
    pub(super) status: u16,
    /// Its name among the document's components.
    pub(super) name: &'static str,
    description: &'static str,
    example: fn() -> Problem,
}

const fn error(
    status: u16,
    name: &'static str,
    description: &'static str,
    example: fn() -> Problem,
) -> ErrorAnswer {
    ErrorAnswer { status, name, description, example }
}

pub(super) static ERRORS: [ErrorAnswer; 14] = [
    error(400, "BadRequest", "The request is malformed, names no organization or has wrong fields.", || {
        Problem::field("email", "Enter a valid email address.")
    }),
    error(401, "Unauthorized", "The token is missing or not valid.", Problem::token_not_valid),
    error(403, "Forbidden", "Not allowed, or the organization is suspended.", Problem::permission_denied),
    error(404, "NotFound", "No such organization, row or page.", Problem::not_found),
    error(408, "RequestTimeout", "The body took too long to arrive.", Problem::request_timeout),
    error(409, "Conflict", "A conflict with the present state.", || {
        Problem::conflict("last_owner", "An organization needs an owner.")
    }),
    error(412, "PreconditionFailed", "`If-Match` does not name what there is.", Problem::precondition_failed),
    error(413, "PayloadTooLarge", "The body is over 1 MiB.", || Problem::too_large(1 << 20)),
    error(415, "UnsupportedMediaType", "The body is not JSON in UTF-8.", || {
        Problem::unsupported_media_type("Unsupported media type \"text/plain\" in request.")
    }),
    error(
        422,
        "UnprocessableContent",
        "The `Idempotency-Key` was used with another body.",
        Problem::idempotency_key_reused,
    ),
    error(429, "TooManyRequests", "Too many requests.", || Problem::throttled(Duration::from_secs(7))),
    error(431, "RequestHeaderFieldsTooLarge", "The headers are over 32 KiB together.", || {
        Problem::headers_too_large(32 << 10)
    }),
    error(500, "InternalServerError", "A failure of the server; it says nothing but the request id.", || {
        Problem::internal("an example")
    }),
    error(503, "ServiceUnavailable", "The database or the organization is not available.", || {
        Problem::unavailable(Duration::from_secs(1))
    }),
];

impl ErrorAnswer {
    /// As `poem_openapi` describes an answer.
    pub(super) fn meta(&self) -> MetaResponse {
        MetaResponse {
            description: self.description,
            status: Some(self.status),
            status_range: None,
            content: vec![MetaMediaType { content_type: PROBLEM_JSON, schema: schema() }],
            headers: Vec::new(),
        }
    }

    /// The error an answer is, if it is one of these.
    pub(super) fn of(response: &MetaResponse) -> Option<&'static Self> {
        ERRORS
            .iter()
            .find(|error| Some(error.status) == response.status && error.description == response.description)
    }
}

/// As a component of the document.
impl Serialize for ErrorAnswer {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let example = (self.example)();
        // The others may have them as well; this one is about them.
        let of_rate = RATE_LIMITS.iter().filter(|_| self.status == 429);
        let of_rate = of_rate.map(|limit| (limit.name, WrittenHeader::Shared(*limit)));
        WrittenError {
            description: self.description,
            headers: example.header_names().filter_map(header).chain(of_rate).collect(),
            content: BTreeMap::from([(
                PROBLEM_JSON,
                WrittenContent { schema: schema(), example: example.shown() },
            )]),
        }
        .serialize(serializer)
    }
}

fn header(name: &str) -> Option<(&'static str, WrittenHeader)> {
    let (name, ty) = match name {
        "retry-after" => ("Retry-After", "integer"),
        "www-authenticate" => ("WWW-Authenticate", "string"),
        _ => return None,
    };
    Some((name, WrittenHeader::Own { schema: WrittenSchema { ty } }))
}

fn schema() -> MetaSchemaRef {
    MetaSchemaRef::Reference(SCHEMA.to_owned())
}

#[derive(Serialize)]
struct WrittenError<E> {
    description: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'static str, WrittenHeader>,
    content: BTreeMap<&'static str, WrittenContent<E>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenHeader {
    Own { schema: WrittenSchema },
    Shared(RateLimit),
}

#[derive(Serialize)]
struct WrittenSchema {
    #[serde(rename = "type")]
    ty: &'static str,
}

#[derive(Serialize)]
struct WrittenContent<E> {
    schema: MetaSchemaRef,
    example: E,
}
