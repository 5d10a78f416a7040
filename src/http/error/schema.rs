//! What the document says about a problem.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};

use super::RESERVED;

pub(super) fn schema() -> MetaSchema {
    let member = |ty, description| {
        let mut schema = MetaSchema::new(ty);
        schema.description = Some(description);
        MetaSchemaRef::Inline(Box::new(schema))
    };
    let sentences = MetaSchema {
        items: Some(Box::new(MetaSchemaRef::Inline(Box::new(MetaSchema::new("string"))))),
        ..MetaSchema::new("array")
    };
    MetaSchema {
        description: Some(
            "RFC 9457, and beside it a list of sentences for every field that is wrong, all of them at once; what \
             belongs to no field is in `non_field_errors`.",
        ),
        required: RESERVED.to_vec(),
        properties: vec![
            ("type", member("string", "Always `about:blank`: the code says what it is.")),
            ("title", member("string", "The status in words.")),
            ("status", member("integer", "The status.")),
            ("code", member("string", "Stable; for programs.")),
            ("detail", member("string", "For people.")),
            ("request_id", member("string", "Also in `X-Request-Id`; name it when asking for help.")),
        ],
        additional_properties: Some(Box::new(MetaSchemaRef::Inline(Box::new(sentences)))),
        ..MetaSchema::new("object")
    }
}
