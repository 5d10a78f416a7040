//! The finished document and its page.

use poem_openapi::OpenApi;
use serde_json::{Value, json};

use super::service::{document, serve};
use crate::http::{Access, Document, Info, Json, NoContent, Routes};

fn parsed() -> Value {
    serde_json::from_slice(&document().to_json().expect("JSON")).expect("JSON")
}

#[test]
fn nothing_is_missing_and_nothing_depends_on_chance() {
    assert_eq!(document().gaps(), Vec::<String>::new());
    assert_eq!(document().to_json().expect("JSON"), document().to_json().expect("JSON"));
}

/// Operations that forget what a change owes to what can be read.
struct Careless;

#[expect(clippy::unused_async, reason = "every operation of `OpenApi` is async")]
#[OpenApi]
impl Careless {
    /// Read.
    #[oai(path = "/api/it/", method = "get", operation_id = "read")]
    async fn read(&self) -> Json<String> {
        Json(String::new())
    }

    /// Change.
    #[oai(path = "/api/it/", method = "patch", operation_id = "change")]
    async fn change(&self) -> Json<bool> {
        Json(true)
    }

    /// Remove.
    #[oai(path = "/api/it/", method = "delete", operation_id = "remove")]
    async fn remove(&self) -> NoContent {
        NoContent
    }

    /// Remove what nobody can read.
    #[oai(path = "/api/other/", method = "delete", operation_id = "removeOther")]
    async fn remove_other(&self) -> NoContent {
        NoContent
    }
}

#[test]
fn a_change_that_forgets_who_has_read_is_a_gap() {
    let info = Info { title: "", description: "", version: "" };
    assert_eq!(
        Document::of::<Careless>(info).gaps(),
        [
            "PATCH /api/it/: takes no If-Match",
            "PATCH /api/it/: does not answer what GET does",
            "DELETE /api/it/: takes no If-Match",
        ]
    );
}

#[test]
fn paths_are_canonical() {
    let paths = parsed()["paths"].as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    let expected = [
        "/api/admin/address/",
        "/api/fail/",
        "/api/login/",
        "/api/logout/",
        "/api/things/",
        "/api/things/{id}/",
        "/healthz",
        "/readyz",
    ];
    assert_eq!(paths, expected);
}

#[test]
fn an_operation_says_what_it_takes_and_how_it_fails() {
    let document = parsed();
    let operation = |path: &str, method: &str| document["paths"][path][method].clone();
    let list = operation("/api/things/", "get");
    let names = |operation: &Value| {
        operation["parameters"]
            .as_array()
            .map(|all| all.iter().map(|one| one["name"].clone()).collect::<Vec<_>>())
    };
    assert_eq!(
        names(&list),
        Some(vec![json!("page"), json!("page_size"), json!("ordering"), json!("search"), json!("X-Tenant")])
    );
    assert_eq!(list["requestBody"], Value::Null);
    assert_eq!(list["security"], json!([{"bearer": []}]));
    assert_eq!(
        list["responses"]["200"]["content"]["application/json"]["schema"]["$ref"],
        "#/components/schemas/ThingPage"
    );
    let statuses = |operation: &Value| {
        operation["responses"].as_object().map(|all| all.keys().cloned().collect::<Vec<_>>().join(" "))
    };
    assert_eq!(statuses(&list).as_deref(), Some("200 400 401 403 404 429 431 500 503"));
    assert_eq!(
        statuses(&operation("/api/things/", "post")).as_deref(),
        Some("201 400 401 403 404 408 409 413 415 429 431 500 503")
    );
    let rename = operation("/api/things/{id}/", "patch");
    assert_eq!(statuses(&rename).as_deref(), Some("200 400 401 403 404 408 409 412 413 415 429 431 500 503"));
    assert_eq!(names(&rename), Some(vec![json!("id"), json!("If-Match"), json!("X-Tenant")]));
    assert_eq!(
        (&rename["parameters"][1]["in"], &rename["parameters"][1]["required"]),
        (&json!("header"), &json!(false))
    );
    assert_eq!(statuses(&operation("/healthz", "get")).as_deref(), Some("200 400 429 431 500 503"));
    assert_eq!(names(&operation("/healthz", "get")), None, "no tenant is looked for there");
    assert_eq!(list["responses"]["401"], json!({"$ref": "#/components/responses/Unauthorized"}));
    let error = &document["components"]["responses"]["Unauthorized"];
    assert_eq!(error["headers"], json!({"WWW-Authenticate": {"schema": {"type": "string"}}}));
    let content = &error["content"]["application/problem+json"];
    assert_eq!(content["schema"]["$ref"], "#/components/schemas/Problem");
    assert_eq!(content["example"]["code"], "token_not_valid");
    assert_eq!(document["components"]["securitySchemes"]["bearer"]["scheme"], "bearer");
}

#[test]
fn schemas_have_their_bounds() {
    let document = parsed();
    let schema = |name: &str| document["components"]["schemas"][name].clone();
    assert_eq!(
        schema("LoginIn"),
        json!({
            "type": "object", "description": "Who knocks.", "required": ["password"],
            "properties": {
                "username": {
                    "type": "string", "description": "The name chosen at sign-up.", "minLength": 1, "maxLength": 150,
                    "example": "ann.lee",
                },
                "email": {
                    "type": "string", "format": "email", "description": "Or the address.", "minLength": 1,
                    "maxLength": 254, "example": "ann@example.com",
                },
                "password": {
                    "type": "string", "format": "password", "description": "The password.", "writeOnly": true,
                    "minLength": 1, "maxLength": 128,
                },
            },
        })
    );
    let thing = schema("ThingOut");
    assert_eq!(thing["required"], json!(["id", "name", "about"]));
    assert_eq!(thing["properties"]["about"]["nullable"], true);
    assert_eq!(schema("ThingIn")["properties"]["in"]["type"], "boolean");
    assert_eq!(
        schema("Problem")["additionalProperties"],
        json!({"type": "array", "items": {"type": "string"}})
    );
}

#[test]
fn the_route_table_is_the_documents() {
    let routes = Routes::of(&document()).expect("routes");
    let things = routes.all().iter().find(|route| &**route.template() == "/api/things/").expect("a route");
    let member = Access { tenant: true, credentials: true };
    assert_eq!(things.operations().iter().map(|(_, access)| *access).collect::<Vec<_>>(), [member, member]);
    let health = routes.all().iter().find(|route| &**route.template() == "/healthz").expect("a route");
    assert_eq!(health.operations()[0].1, Access::PUBLIC);
}

#[tokio::test]
async fn the_document_is_public() {
    let server = serve().await;
    let answer = server.lines("GET /openapi.json", &["Host: nobody.example"]).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "public, max-age=300"));
    assert_eq!(answer.json(), parsed());
    let again = format!("If-None-Match: {}", answer.header("etag"));
    assert_eq!(server.lines("GET /openapi.json", &["Host: localhost", &again]).await.status, 304);
}

#[tokio::test]
async fn the_page_runs_nothing_but_its_own_scripts() {
    let server = serve().await;
    let answer = server.lines("GET /docs", &["Host: localhost"]).await;
    assert_eq!((answer.status, answer.header("content-type")), (200, "text/html; charset=utf-8"));
    let policy = answer.header("content-security-policy");
    assert!(
        policy.starts_with("default-src 'none'; script-src 'sha256-") && !policy.contains("unsafe"),
        "{policy}"
    );
    let page = String::from_utf8_lossy(&answer.body);
    assert!(page.contains("SwaggerUIBundle({url: '/openapi.json'"));
}
