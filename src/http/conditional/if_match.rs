//! `If-Match`, for the operations that change what a GET shows.

use poem::{Request, RequestBody, http::HeaderValue};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{MetaOperation, MetaOperationParam, MetaParamIn, MetaSchema, MetaSchemaRef},
};
use serde::Serialize;

use super::{Preconditions, tag};
use crate::http::{edge::Viewer, error::Problem};

/// The header's name.
const NAME: &str = "If-Match";
/// By this the finished document knows the parameter, whatever the operation's author called it.
const FORMAT: &str = "entity-tags";

/// What a PATCH, PUT or DELETE asks of the version it is about to change. An operation on a resource that can be read
/// takes one, and asks it under the row's lock; how is told [above](super).
#[derive(Debug)]
pub struct IfMatch {
    preconditions: Preconditions,
    viewer: Viewer,
}

impl IfMatch {
    /// As [`check`](Self::check), of what brings a tag of its own; `None` if there is nothing.
    ///
    /// # Errors
    /// 412.
    pub fn check_tag(&self, tag: Option<&HeaderValue>) -> Result<(), Problem> {
        let is_that = match tag {
            Some(tag) => self.preconditions.match_tag(tag) && !self.preconditions.know_tag(tag),
            None => self.preconditions.if_match.is_empty(),
        };
        if is_that { Ok(()) } else { Err(Problem::precondition_failed()) }
    }

    /// Goes on if `current` is what the client has, or if it did not say what it has. `current` is the very output that
    /// GET would answer this caller with, of a row that is locked: else another request may change it in between.
    ///
    /// # Errors
    /// 412.
    pub fn check(&self, current: &impl Serialize) -> Result<(), Problem> {
        if self.preconditions.is_empty() {
            return Ok(());
        }
        // As `Json` writes it.
        let body = serde_json::to_vec(current).map_err(Problem::internal)?;
        let tag = tag(self.viewer, &body);
        if self.preconditions.match_tag(&tag) && !self.preconditions.know_tag(&tag) {
            Ok(())
        } else {
            Err(Problem::precondition_failed())
        }
    }
}

impl<'a> ApiExtractor<'a> for IfMatch {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        Some(MetaSchemaRef::Inline(Box::new(MetaSchema::new_with_format("string", FORMAT))))
    }

    async fn from_request(
        request: &'a Request,
        _: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self {
            preconditions: Preconditions::of(request.headers()),
            viewer: request.data::<Viewer>().copied().unwrap_or_default(),
        })
    }
}

/// Gives the parameter its name and its meaning.
pub(crate) fn describe(operation: &mut MetaOperation) {
    for param in operation.params.iter_mut().filter(|param| is_if_match(param)) {
        NAME.clone_into(&mut param.name);
        param.description = Some(
            "The `ETag` of what was read, or several, or `*`: the change is made only if that is still what there is."
                .to_owned(),
        );
    }
}

/// Whether an operation takes an [`IfMatch`].
pub(crate) fn takes_if_match(operation: &MetaOperation) -> bool {
    operation.params.iter().any(is_if_match)
}

fn is_if_match(param: &MetaOperationParam) -> bool {
    let ours =
        |schema: &MetaSchemaRef| matches!(schema, MetaSchemaRef::Inline(it) if it.format == Some(FORMAT));
    param.in_type == MetaParamIn::Header && ours(&param.schema)
}
