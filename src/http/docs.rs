//! The OpenAPI document, finished.
//!
//! What `poem_openapi` collects from the operations lacks what no operation says of itself: the final slash, the
//! tenant's header, and the errors, which follow from what an operation takes. All of it is added here, so that the
//! document, the route table and the tests read one description.

mod errors;
mod rate_limits;
mod written;

use std::collections::HashSet;

use poem::http::Method;
use poem_openapi::{
    ApiResponse as _, OpenApi,
    registry::{
        MetaMediaType, MetaOperation, MetaOperationParam, MetaParamIn, MetaPath, MetaSchema, MetaSchemaRef,
        MetaSecurityScheme, Registry,
    },
};
use serde::Serialize;

use self::errors::{ERRORS, ErrorAnswer};

use super::{
    conditional,
    error::Problem,
    idempotency, query,
    routes::{canonical, is_tenanted},
};

/// The name of the security scheme of a tenant's users.
pub const BEARER: &str = "bearer";
/// The name of the security scheme of operators.
pub const OPERATOR: &str = "operator";

/// Registers the scheme named [`BEARER`]; for the `register` of an extractor that proves a signed-in user.
pub fn register_bearer(registry: &mut Registry) {
    let description = "The token a login answers with. It belongs to one organization.";
    registry.create_security_scheme(BEARER, bearer_scheme(description));
}

/// Registers the scheme named [`OPERATOR`]; for the `register` of an extractor that proves an operator.
pub fn register_operator(registry: &mut Registry) {
    let description = "The token an operator's login answers with, or an API key.";
    registry.create_security_scheme(OPERATOR, bearer_scheme(description));
}

fn bearer_scheme(description: &'static str) -> MetaSecurityScheme {
    MetaSecurityScheme {
        ty: "http",
        description: Some(description),
        name: None,
        key_in: None,
        scheme: Some("bearer"),
        bearer_format: Some("JWT"),
        flows: None,
        openid_connect_url: None,
    }
}

/// What the document says about the whole.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Info {
    /// The product's name.
    pub title: &'static str,
    /// What a newcomer should know, in Markdown.
    pub description: &'static str,
    /// The version of the API.
    pub version: &'static str,
}

/// The finished document.
pub struct Document {
    info: Info,
    paths: Vec<MetaPath>,
    registry: Registry,
}

impl Document {
    /// The document of these operations.
    #[must_use]
    pub fn of<A: OpenApi>(info: Info) -> Self {
        let mut registry = Registry::new();
        A::register(&mut registry);
        Problem::register(&mut registry);
        let mut paths: Vec<MetaPath> = Vec::new();
        for found in A::meta().into_iter().flat_map(|api| api.paths) {
            let path = canonical(&found.path);
            match paths.iter_mut().find(|known| known.path == path) {
                Some(known) => known.operations.extend(found.operations),
                None => paths.push(MetaPath { path, operations: found.operations }),
            }
        }
        for path in &mut paths {
            path.operations.iter_mut().for_each(|operation| finish(operation, &path.path));
        }
        Self { info, paths, registry }
    }

    /// Its paths, in canonical form.
    #[must_use]
    pub fn paths(&self) -> &[MetaPath] {
        &self.paths
    }

    /// The document as JSON; the same operations give the same bytes.
    ///
    /// # Errors
    /// When an example or default in a schema can't be written as JSON.
    pub fn to_json(&self) -> serde_json::Result<Vec<u8>> {
        written::to_json(self.info, &self.paths, &self.registry)
    }

    /// What the document fails to say; a test wants this to be empty.
    #[must_use]
    pub fn gaps(&self) -> Vec<String> {
        let mut ids = HashSet::new();
        let mut gaps = Vec::new();
        for (path, operation) in self.operations() {
            let mut gap = |what: &str| gaps.push(format!("{} {path}: {what}", operation.method));
            if operation.summary.is_none_or(str::is_empty) {
                gap("no summary");
            }
            match operation.operation_id {
                Some(id) if ids.insert(id) => {}
                Some(_) => gap("its operationId is taken"),
                None => gap("no operationId"),
            }
            for name in operation.security.iter().flat_map(|schemes| schemes.keys()) {
                if !self.registry.security_schemes.contains_key(name) {
                    gap("its security scheme is not registered");
                }
            }
            if operation.method == Method::GET && operation.request.is_some() {
                gap("a GET has no body");
            }
            // The names of an operation's arguments: `id` is not `_id`.
            let declared = path.split(['{', '}']).skip(1).step_by(2).collect::<Vec<_>>();
            if declared != path_parameters(operation) {
                gap("the parameters in its path are not those it takes");
            }
            for error in errors(operation, path) {
                if !has(operation, error.status) {
                    gap(&format!("says nothing about {}", error.status));
                }
            }
            if !operation
                .responses
                .responses
                .iter()
                .any(|response| response.status.is_some_and(|status| status < 400))
            {
                gap("says nothing about success");
            }
            let Some(get) = self.get(path) else { continue };
            if [Method::PUT, Method::PATCH, Method::DELETE].contains(&operation.method)
                && !conditional::takes_if_match(operation)
            {
                gap("takes no If-Match");
            }
            if operation.method == Method::PATCH && shown(operation) != shown(get) {
                gap("does not answer what GET does");
            }
        }
        gaps
    }

    fn get(&self, path: &str) -> Option<&MetaOperation> {
        self.operations()
            .find(|(known, operation)| *known == path && operation.method == Method::GET)
            .map(|it| it.1)
    }

    fn operations(&self) -> impl Iterator<Item = (&str, &MetaOperation)> {
        self.paths
            .iter()
            .flat_map(|path| path.operations.iter().map(|operation| (path.path.as_str(), operation)))
    }
}

/// Adds what an operation does not say of itself.
fn finish(operation: &mut MetaOperation, path: &str) {
    query::unfold(operation);
    conditional::describe(operation);
    idempotency::describe(operation);
    if is_tenanted(path) {
        operation.params.push(tenant_header());
    }
    for response in &mut operation.responses.responses {
        if response.description.is_empty() {
            response.description = if response.status == Some(201) { "Created." } else { "Done." };
        }
    }
    for error in errors(operation, path) {
        if !has(operation, error.status) {
            operation.responses.responses.push(error.meta());
        }
    }
    operation.responses.responses.sort_by_key(|response| response.status);
}

fn path_parameters(operation: &MetaOperation) -> Vec<&str> {
    let in_path = operation.params.iter().filter(|param| param.in_type == MetaParamIn::Path);
    in_path.map(|param| param.name.as_str()).collect()
}

/// What an operation answers 200 with.
fn shown(operation: &MetaOperation) -> Option<&[MetaMediaType]> {
    let ok = operation.responses.responses.iter().find(|response| response.status == Some(200));
    ok.map(|response| response.content.as_slice())
}

fn has(operation: &MetaOperation, status: u16) -> bool {
    operation.responses.responses.iter().any(|response| response.status == Some(status))
}

/// The errors an operation can answer, by what it takes.
fn errors(operation: &MetaOperation, path: &str) -> Vec<&'static ErrorAnswer> {
    let needs_tenant = is_tenanted(path);
    // These need no credentials, for the token they are about is in their body.
    let about_token = path.starts_with("/api/token/");
    let body = operation.request.is_some();
    let credentials = !operation.security.is_empty();
    let takes = |place: MetaParamIn| operation.params.iter().any(|param| param.in_type == place);
    let writes = operation.method != Method::GET;
    let applies = |status: u16| match status {
        401 => credentials || about_token,
        403 => credentials || needs_tenant,
        404 => needs_tenant || takes(MetaParamIn::Path) || takes(MetaParamIn::Query),
        408 | 413 | 415 => body,
        409 => writes && (credentials || body),
        412 => conditional::takes_if_match(operation),
        422 => idempotency::takes_key(operation),
        _ => true,
    };
    ERRORS.iter().filter(|error| applies(error.status)).collect()
}

fn tenant_header() -> MetaOperationParam {
    let slug = MetaSchema {
        min_length: Some(3),
        max_length: Some(40),
        pattern: Some("^[a-z][a-z0-9-]+[a-z0-9]$".to_owned()),
        ..MetaSchema::new("string")
    };
    MetaOperationParam {
        name: "X-Tenant".to_owned(),
        schema: MetaSchemaRef::Inline(Box::new(slug)),
        in_type: MetaParamIn::Header,
        description: Some(
            "The organization's slug, for clients that can't name it by the host (`<slug>.<base domain>`)."
                .to_owned(),
        ),
        required: false,
        deprecated: false,
        explode: true,
        style: None,
    }
}
