//! The operations of the OpenAPI document, as something that can be called: a new endpoint needs no word here.

use serde_json::{Map, Value, json};

use super::{TestApp, client::Request};

/// An operation of the document.
pub(crate) struct Operation {
    /// In upper case.
    pub(crate) method: String,
    /// The path with its parameters' names.
    pub(crate) path: String,
    /// Whether it needs a token.
    pub(crate) secured: bool,
    /// Whether it runs in a tenant: whether it takes the tenant's header.
    pub(crate) tenanted: bool,
    query: String,
    body: Option<Value>,
}

/// All operations there are.
pub(crate) fn operations() -> Vec<Operation> {
    let document: Value = serde_json::from_slice(&tenantry::app::document().to_json().unwrap()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let operations = paths.iter().flat_map(|(path, operations)| {
        let operations = operations.as_object().unwrap();
        operations.iter().map(|(method, operation)| Operation::of(&document, method, path, operation))
    });
    operations.collect()
}

impl Operation {
    fn of(document: &Value, method: &str, path: &str, operation: &Value) -> Self {
        let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
        let query = parameters
            .iter()
            .filter(|parameter| parameter["in"] == "query" && parameter["required"] == true)
            .map(|parameter| match sample(document, &parameter["schema"]) {
                Value::String(text) => format!("{}={text}", parameter["name"].as_str().unwrap()),
                other => format!("{}={other}", parameter["name"].as_str().unwrap()),
            });
        Self {
            method: method.to_uppercase(),
            path: path.to_owned(),
            secured: operation["security"].as_array().is_some_and(|schemes| !schemes.is_empty()),
            tenanted: parameters.iter().any(|parameter| parameter["name"] == "X-Tenant"),
            query: query.collect::<Vec<_>>().join("&"),
            body: operation
                .pointer("/requestBody/content/application~1json/schema")
                .map(|schema| sample(document, schema)),
        }
    }

    /// Whether it changes nothing.
    pub(crate) fn is_safe(&self) -> bool {
        self.method == "GET"
    }

    /// Whether an id stands in its path.
    pub(crate) fn takes_id(&self) -> bool {
        self.path.contains('{')
    }

    /// Its path with this in the place of every id.
    pub(crate) fn path_of(&self, id: &str) -> String {
        let mut parts = self.path.split(['{', '}']);
        let mut path = parts.next().unwrap().to_owned();
        while let (Some(_name), Some(literal)) = (parts.next(), parts.next()) {
            path.push_str(id);
            path.push_str(literal);
        }
        if self.query.is_empty() { path } else { format!("{path}?{}", self.query) }
    }

    /// A request that has everything but a tenant and credentials; to the service itself.
    pub(crate) fn request(&self, app: &TestApp, id: &str) -> Request {
        let request = app.request(&self.method, &self.path_of(id));
        match &self.body {
            Some(body) => request.json(body),
            None => request,
        }
    }
}

impl std::fmt::Display for Operation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

/// A value of this schema.
fn sample(document: &Value, schema: &Value) -> Value {
    if let Some(reference) = schema["$ref"].as_str() {
        return sample(document, document.pointer(reference.strip_prefix('#').unwrap()).unwrap());
    }
    if let Some(parts) = schema["allOf"].as_array() {
        return parts
            .iter()
            .map(|part| sample(document, part))
            .find(|value| !value.is_null())
            .unwrap_or_default();
    }
    if let Some(given) = ["example", "default"].into_iter().find_map(|name| schema.get(name)) {
        return given.clone();
    }
    if let Some(values) = schema["enum"].as_array() {
        return values[0].clone();
    }
    match schema["type"].as_str() {
        Some("object") => {
            let members = schema["properties"].as_object().cloned().unwrap_or_default();
            let members = members.iter().map(|(name, schema)| (name.clone(), sample(document, schema)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Some("array") => json!([sample(document, &schema["items"])]),
        Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or(json!(1)),
        Some("boolean") => json!(true),
        Some("string") => text(schema),
        _ => Value::Null,
    }
}

fn text(schema: &Value) -> Value {
    match schema["format"].as_str() {
        Some("uuid") => json!("0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41"),
        Some("date-time") => json!("2026-01-02T03:04:05Z"),
        Some("email") => json!("ann@example.com"),
        Some("uri") => json!("https://example.com/"),
        _ => {
            let length = schema["minLength"].as_u64().unwrap_or(1).max(8);
            json!(
                "sample-text-of-a-length"
                    .chars()
                    .cycle()
                    .take(usize::try_from(length).unwrap())
                    .collect::<String>()
            )
        }
    }
}
