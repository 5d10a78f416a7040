//! Several query parameters as one extractor.
//!
//! `poem_openapi` gives an extractor one parameter or one body. So an extractor of ours that reads several parameters
//! describes them as the members of a body of the media type below, and the finishing of the document turns these
//! members into what they are.

use poem_openapi::registry::{
    MetaMediaType, MetaOperation, MetaOperationParam, MetaParamIn, MetaRequest, MetaSchema, MetaSchemaRef,
};

const QUERY_PARAMETERS: &str = "application/x.query-parameters";

/// What `request_meta` of such an extractor answers.
pub(crate) fn describe(parameters: Vec<(&'static str, MetaSchema)>) -> MetaRequest {
    let inline = |schema| MetaSchemaRef::Inline(Box::new(schema));
    let properties = parameters.into_iter().map(|(name, schema)| (name, inline(schema))).collect();
    let schema = inline(MetaSchema { properties, ..MetaSchema::new("object") });
    let content = vec![MetaMediaType { content_type: QUERY_PARAMETERS, schema }];
    MetaRequest { description: None, content, required: false }
}

/// Turns such a body into parameters.
pub(crate) fn unfold(operation: &mut MetaOperation) {
    let described =
        |request: &MetaRequest| request.content.iter().any(|body| body.content_type == QUERY_PARAMETERS);
    let Some(request) = operation.request.take_if(|request| described(request)) else { return };
    for body in request.content {
        let MetaSchemaRef::Inline(schema) = body.schema else { continue };
        operation.params.extend(schema.properties.into_iter().map(|(name, mut schema)| MetaOperationParam {
            name: name.to_owned(),
            description: match &mut schema {
                MetaSchemaRef::Inline(schema) => schema.description.take().map(str::to_owned),
                MetaSchemaRef::Reference(_) => None,
            },
            schema,
            in_type: MetaParamIn::Query,
            required: false,
            deprecated: false,
            explode: true,
            style: None,
        }));
    }
}
