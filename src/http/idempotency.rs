//! `Idempotency-Key`: a client that does not know what became of its request sends it again, and it counts once.
//!
//! An operation takes a [`Keyed`] body; what its service does with the key is told in
//! [`idempotency`](crate::idempotency). Of the key, the request and the body only hashes are kept.

use percent_encoding::percent_decode_str;
use poem::{Request, RequestBody, http::HeaderMap};
use poem_openapi::{
    ApiExtractor, ApiExtractorType, ExtractParamOptions,
    registry::{
        MetaOperation, MetaOperationParam, MetaParamIn, MetaRequest, MetaSchema, MetaSchemaRef, Registry,
    },
};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::{
    body::{described, fields, read_object},
    error::Problem,
    input::Input,
    routes::canonical,
};

/// The header's name.
const NAME: &str = "Idempotency-Key";
/// By this the finished document knows the parameter, whatever the operation's author called it.
const FORMAT: &str = "idempotency-key";
/// Enough for any kind of id; the draft of the IETF's working group on HTTP APIs leaves the bound to the server.
const MAX_LENGTH: usize = 255;

/// What a request is known by when it is sent again; of one without a key, nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IdempotencyKey(pub(crate) Option<Fingerprint>);

/// Hashes of what makes two requests the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fingerprint {
    /// Of method, path and key.
    pub(crate) request: [u8; 32],
    /// Of the body, however its JSON is written.
    pub(crate) body: [u8; 32],
}

/// The input of an operation that makes something, and the key by which a client may repeat it.
#[derive(Debug)]
pub struct Keyed<T> {
    /// What is to be made.
    pub input: T,
    /// By what the request is known.
    pub key: IdempotencyKey,
}

impl<'a, T: Input> ApiExtractor<'a> for Keyed<T> {
    const TYPES: &'static [ApiExtractorType] =
        &[ApiExtractorType::Parameter, ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        T::register(registry);
    }

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        let schema = MetaSchema {
            min_length: Some(1),
            max_length: Some(MAX_LENGTH),
            pattern: Some("^[ -~]+$".to_owned()),
            ..MetaSchema::new_with_format("string", FORMAT)
        };
        Some(MetaSchemaRef::Inline(Box::new(schema)))
    }

    fn request_meta() -> Option<MetaRequest> {
        Some(described::<T>(true))
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        let key = key(request.headers())?;
        let object = read_object(request, body).await?.unwrap_or_default();
        let fingerprint = key.map(|key| {
            Fingerprint::of(request.method().as_str(), request.original_uri().path(), key, &object)
        });
        Ok(Self { input: fields(object)?, key: IdempotencyKey(fingerprint) })
    }
}

/// The key a request came with.
fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let mut keys = headers.get_all(NAME).iter();
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => match key.to_str() {
            Ok(key) if is_key(key) => Ok(Some(key)),
            _ => Err(Problem::field(
                NAME,
                format!("Enter a valid key: 1 to {MAX_LENGTH} printable characters of ASCII."),
            )),
        },
        (Some(_), Some(_)) => Err(Problem::field(NAME, "Give one key only.")),
    }
}

fn is_key(text: &str) -> bool {
    (1..=MAX_LENGTH).contains(&text.len()) && text.bytes().all(|byte| (b' '..=b'~').contains(&byte))
}

impl Fingerprint {
    fn of(method: &str, path: &str, key: &str, body: &Map<String, Value>) -> Self {
        let mut request = blake3::Hasher::new();
        for part in [method, &one_spelling(path), key] {
            request.update(part.as_bytes());
            // No part has a NUL in it, so no two requests run into the same bytes.
            request.update(&[0]);
        }
        let mut hash = blake3::Hasher::new();
        hash_object(&mut hash, body);
        Self { request: *request.finalize().as_bytes(), body: *hash.finalize().as_bytes() }
    }
}

/// A path with its ids as they are written here: a client may write them otherwise when it tries again.
fn one_spelling(path: &str) -> String {
    let path = canonical(path);
    let decoded = path.split('/').map(|segment| {
        let id = percent_decode_str(segment).decode_utf8().ok().and_then(|text| Uuid::parse_str(&text).ok());
        id.map_or_else(|| segment.to_owned(), |id| id.to_string())
    });
    decoded.collect::<Vec<_>>().join("/")
}

/// Hashes an object whatever the order of its members: a client may write it anew when it tries again.
fn hash_object(hash: &mut blake3::Hasher, object: &Map<String, Value>) {
    let mut members: Vec<_> = object.iter().collect();
    members.sort_unstable_by_key(|(name, _)| *name);
    hash.update(b"{");
    for (name, value) in members {
        // Written as JSON, a name ends where its quotes do.
        hash.update(Value::from(name.as_str()).to_string().as_bytes());
        hash_value(hash, value);
    }
    hash.update(b"}");
}

fn hash_value(hash: &mut blake3::Hasher, value: &Value) {
    match value {
        Value::Object(object) => hash_object(hash, object),
        Value::Array(items) => {
            hash.update(b"[");
            for item in items {
                hash_value(hash, item);
            }
            hash.update(b"]");
        }
        plain => {
            hash.update(plain.to_string().as_bytes());
            hash.update(b",");
        }
    }
}

/// Gives the parameter its name and its meaning.
pub(crate) fn describe(operation: &mut MetaOperation) {
    for param in operation.params.iter_mut().filter(|param| is_key_parameter(param)) {
        NAME.clone_into(&mut param.name);
        param.description = Some(
            "A text of the client's choice. Within 24 hours, the same request with the same key makes nothing anew: it is \
             answered with what the first one made."
                .to_owned(),
        );
    }
}

/// Whether an operation can be repeated by a key.
pub(crate) fn takes_key(operation: &MetaOperation) -> bool {
    operation.params.iter().any(is_key_parameter)
}

fn is_key_parameter(param: &MetaOperationParam) -> bool {
    let ours =
        |schema: &MetaSchemaRef| matches!(schema, MetaSchemaRef::Inline(it) if it.format == Some(FORMAT));
    param.in_type == MetaParamIn::Header && ours(&param.schema)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn fingerprint(method: &str, path: &str, key: &str, body: &str) -> Fingerprint {
        let Ok(Value::Object(body)) = serde_json::from_str(body) else { panic!("{body}") };
        Fingerprint::of(method, path, key, &body)
    }

    #[test]
    fn a_body_is_the_same_however_it_is_written() {
        let written = fingerprint("POST", "/api/x/", "k", r#"{"a": "é", "b": {"c": [1, null], "d": true}}"#);
        let again = fingerprint("POST", "/api/x", "k", r#"{"b":{"d":true,"c":[1,null]},"a":"\u00e9"}"#);
        assert_eq!(written, again);
    }

    #[test]
    fn requests_are_told_apart() {
        let first = fingerprint("POST", "/api/x/", "k", "{}").request;
        for (method, path, key) in [
            ("PUT", "/api/x/", "k"),
            ("POST", "/api/y/", "k"),
            ("POST", "/api/x/", "K"),
            ("POST", "/api/", "x/k"),
        ] {
            assert_ne!(fingerprint(method, path, key, "{}").request, first, "{method} {path} {key}");
        }
        let bodies = [
            json!({}),
            json!({"a": null}),
            json!({"a": ""}),
            json!({"a": "1"}),
            json!({"a": 1}),
            json!({"a": [1]}),
            json!({"a": [[1]]}),
            json!({"a": [1, 1]}),
            json!({"a": [11]}),
            json!({"a": {"b": 1}}),
            json!({"a": {}, "b": 1}),
            json!({"a": [], "b": 1}),
            json!({"ab": 1}),
        ];
        let hashes: Vec<_> =
            bodies.iter().map(|body| fingerprint("POST", "/", "k", &body.to_string()).body).collect();
        for (index, hash) in hashes.iter().enumerate() {
            assert_eq!(hashes.iter().position(|other| other == hash), Some(index), "{}", bodies[index]);
        }
    }

    #[test]
    fn an_id_in_a_path_has_one_spelling() {
        let plain = "/api/users/5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de/comments/";
        for other in [
            "/api/users/5E0C1F5A-0D0C-4D0C-8F3E-6F1DE0A7C0DE/comments",
            "/api/users/5e0c1f5a0d0c4d0c8f3e6f1de0a7c0de/comments/",
            "/api/users/%7B5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de%7D/comments/",
        ] {
            assert_eq!(one_spelling(other), plain);
        }
        assert_eq!(one_spelling("/api/invitations"), "/api/invitations/");
    }
}
