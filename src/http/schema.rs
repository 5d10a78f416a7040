//! The schema of an object that a macro declares, for the document.

use poem_openapi::registry::{MetaSchema, MetaSchemaRef};

/// One member of an object, as its declaration has it.
pub struct Member {
    /// The field's name in Rust; a raw identifier loses its `r#`.
    pub name: &'static str,
    /// Its doc comment.
    pub doc: &'static str,
    /// The schema of its type.
    pub schema: MetaSchemaRef,
    /// Whether the member must be there.
    pub required: bool,
    /// Whether it may be null.
    pub nullable: bool,
}

/// The schema of an object with these members.
#[must_use]
pub fn object(doc: &'static str, members: Vec<Member>) -> MetaSchema {
    let mut schema = MetaSchema::new("object");
    schema.description = text(doc);
    for member in members {
        let name = member.name.strip_prefix("r#").unwrap_or(member.name);
        if member.required {
            schema.required.push(name);
        }
        let mut more = MetaSchema::ANY;
        more.description = text(member.doc);
        more.nullable = member.nullable;
        schema.properties.push((name, member.schema.merge(more)));
    }
    schema
}

fn text(doc: &'static str) -> Option<&'static str> {
    Some(doc.trim()).filter(|doc| !doc.is_empty())
}
