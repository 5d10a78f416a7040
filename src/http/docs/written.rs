//! The document as JSON, in an order that people can read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use poem_openapi::registry::{
    MetaExternalDocument, MetaHeader, MetaMediaType, MetaOperation, MetaOperationParam, MetaPath,
    MetaRequest, MetaResponse, MetaSchema, MetaSecurityScheme, MetaTag, Registry,
};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeStruct as _},
};

use super::{
    Info,
    errors::{ERRORS, ErrorAnswer},
    rate_limits::{RATE_LIMITS, RateLimit, RateLimits},
};
use crate::http::routes::is_tenanted;

/// `poem_openapi`'s own writing of a registry is private, knows no shared answers, and would not let us add to it.
pub(super) fn to_json(info: Info, paths: &[MetaPath], registry: &Registry) -> serde_json::Result<Vec<u8>> {
    let Registry { schemas, security_schemes, tags } = registry;
    serde_json::to_vec_pretty(&Written {
        openapi: "3.0.3",
        info,
        servers: [Server { url: "/" }],
        tags,
        paths: Paths(paths),
        components: Components { headers: RateLimits, responses: Shared, schemas, security_schemes },
    })
}

#[derive(Serialize)]
struct Written<'a> {
    openapi: &'static str,
    info: Info,
    servers: [Server; 1],
    tags: &'a BTreeSet<MetaTag>,
    paths: Paths<'a>,
    components: Components<'a>,
}

#[derive(Serialize)]
struct Server {
    url: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Components<'a> {
    schemas: &'a BTreeMap<String, MetaSchema>,
    headers: RateLimits,
    responses: Shared,
    security_schemes: &'a BTreeMap<&'static str, MetaSecurityScheme>,
}

struct Shared;

impl Serialize for Shared {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(ERRORS.iter().map(|error| (error.name, error)))
    }
}

struct Paths<'a>(&'a [MetaPath]);

impl Serialize for Paths<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|path| {
            (&path.path, Operations { operations: &path.operations, limited: is_tenanted(&path.path) })
        }))
    }
}

struct Operations<'a> {
    operations: &'a [MetaOperation],
    /// Whether they are requests to an organization, whose rate may be limited.
    limited: bool,
}

impl Serialize for Operations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = |operation: &MetaOperation| operation.method.as_str().to_ascii_lowercase();
        let written = |operation| WrittenOperation::of(operation, self.limited);
        serializer.collect_map(self.operations.iter().map(|operation| (named(operation), written(operation))))
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WrittenOperation<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    tags: &'a [&'static str],
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    external_docs: Option<&'a MetaExternalDocument>,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation_id: Option<&'static str>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    deprecated: bool,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    security: &'a [HashMap<&'static str, Vec<&'static str>>],
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    parameters: &'a [MetaOperationParam],
    #[serde(skip_serializing_if = "Option::is_none")]
    request_body: Option<&'a MetaRequest>,
    responses: Responses<'a>,
}

impl<'a> WrittenOperation<'a> {
    fn of(operation: &'a MetaOperation, limited: bool) -> Self {
        Self {
            tags: &operation.tags,
            summary: operation.summary,
            description: operation.description,
            external_docs: operation.external_docs.as_ref(),
            operation_id: operation.operation_id,
            deprecated: operation.deprecated,
            security: &operation.security,
            parameters: &operation.params,
            request_body: operation.request.as_ref(),
            responses: Responses { responses: &operation.responses.responses, limited },
        }
    }
}

struct Responses<'a> {
    responses: &'a [MetaResponse],
    limited: bool,
}

impl Serialize for Responses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.responses.len()))?;
        for response in self.responses {
            match response.status {
                Some(status) => map.serialize_key(&status.to_string())?,
                None => map.serialize_key(response.status_range.as_deref().unwrap_or("default"))?,
            }
            match ErrorAnswer::of(response) {
                Some(error) => map.serialize_value(&Reference(error.name))?,
                None => map.serialize_value(&WrittenResponse::of(response, self.limited))?,
            }
        }
        map.end()
    }
}

/// An answer that is an operation's own.
#[derive(Serialize)]
struct WrittenResponse<'a> {
    description: &'static str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    content: BTreeMap<&'static str, &'a MetaMediaType>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<&'a str, WrittenHeader<'a>>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenHeader<'a> {
    Own(&'a MetaHeader),
    Shared(RateLimit),
}

impl<'a> WrittenResponse<'a> {
    fn of(response: &'a MetaResponse, limited: bool) -> Self {
        let own = response.headers.iter().map(|header| (header.name.as_str(), WrittenHeader::Own(header)));
        let shared = RATE_LIMITS.iter().filter(|_| limited);
        let shared = shared.map(|limit| (limit.name, WrittenHeader::Shared(*limit)));
        Self {
            description: response.description,
            content: response.content.iter().map(|media| (media.content_type, media)).collect(),
            headers: own.chain(shared).collect(),
        }
    }
}

struct Reference(&'static str);

impl Serialize for Reference {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Reference", 1)?;
        object.serialize_field("$ref", &format!("#/components/responses/{}", self.0))?;
        object.end()
    }
}
