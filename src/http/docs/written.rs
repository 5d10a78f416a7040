//! The document as JSON, in an order that people can read.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use poem_openapi::registry::{
    MetaExternalDocument, MetaOperation, MetaOperationParam, MetaPath, MetaRequest, MetaResponse, MetaSchema,
    MetaSecurityScheme, MetaTag, Registry,
};
use serde::{
    Serialize, Serializer,
    ser::{SerializeMap as _, SerializeStruct as _},
};

use super::{
    Info,
    errors::{ERRORS, ErrorAnswer},
};

/// `poem_openapi`'s own writing of a registry is private, knows no shared answers, and would not let us add to it.
pub(super) fn to_json(info: Info, paths: &[MetaPath], registry: &Registry) -> serde_json::Result<Vec<u8>> {
    let Registry { schemas, security_schemes, tags } = registry;
    serde_json::to_vec_pretty(&Written {
        openapi: "3.0.3",
        info,
        servers: [Server { url: "/" }],
        tags,
        paths: Paths(paths),
        components: Components { responses: Shared, schemas, security_schemes },
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
        serializer.collect_map(self.0.iter().map(|path| (&path.path, Operations(&path.operations))))
    }
}

struct Operations<'a>(&'a [MetaOperation]);

impl Serialize for Operations<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let named = |operation: &MetaOperation| operation.method.as_str().to_ascii_lowercase();
        serializer
            .collect_map(self.0.iter().map(|operation| (named(operation), WrittenOperation::of(operation))))
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
    fn of(operation: &'a MetaOperation) -> Self {
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
            responses: Responses(&operation.responses.responses),
        }
    }
}

struct Responses<'a>(&'a [MetaResponse]);

impl Serialize for Responses<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for response in self.0 {
            match response.status {
                Some(status) => map.serialize_key(&status.to_string())?,
                None => map.serialize_key(response.status_range.as_deref().unwrap_or("default"))?,
            }
            match ErrorAnswer::of(response) {
                Some(error) => map.serialize_value(&Reference(error.name))?,
                None => map.serialize_value(response)?,
            }
        }
        map.end()
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
