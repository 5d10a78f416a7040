//! What answers say of an organization's rate. A middleware adds it to each of them, so no operation says it: each header is
//! described once, and the answers refer to it.

use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::json;

/// A header, once it is described: written as a reference.
#[derive(Clone, Copy)]
pub(super) struct RateLimit {
    pub(super) name: &'static str,
    ty: &'static str,
    description: &'static str,
}

/// As `limits` sends them.
pub(super) static RATE_LIMITS: [RateLimit; 4] = [
    RateLimit {
        name: "RateLimit-Limit",
        ty: "integer",
        description: "How many requests are let through at once after a pause. Like the others, it is there if the \
                      organization's rate is limited.",
    },
    RateLimit {
        name: "RateLimit-Policy",
        ty: "string",
        description: "How many a second in the long run, and how many at once: `10;w=1;burst=20`.",
    },
    RateLimit { name: "RateLimit-Remaining", ty: "integer", description: "How many are let through now." },
    RateLimit {
        name: "RateLimit-Reset",
        ty: "integer",
        description: "In how many seconds all are let through again; of a 429, when the next one is.",
    },
];

impl Serialize for RateLimit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Reference", 1)?;
        object.serialize_field("$ref", &format!("#/components/headers/{}", self.name))?;
        object.end()
    }
}

/// As components of the document.
pub(super) struct RateLimits;

impl Serialize for RateLimits {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(RATE_LIMITS.iter().map(|limit| {
            (limit.name, json!({"description": limit.description, "schema": {"type": limit.ty}}))
        }))
    }
}
