//! The document, and that the service answers as the document says.

use std::{fs, path::Path};

use serde_json::{Value, json};

use crate::support::{Answer, TestApp};

const METHODS: [&str; 5] = ["GET", "POST", "PUT", "PATCH", "DELETE"];
const NOBODY: &str = "5e0c1f5a-0d0c-4d0c-8f3e-6f1de0a7c0de";

#[test]
fn the_committed_document_is_the_one_of_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi.json");
    let committed = fs::read_to_string(&path).unwrap_or_default();
    let generated = String::from_utf8(tenantry::app::document().to_json().unwrap()).unwrap();
    if committed.trim_end() == generated {
        return;
    }
    let differs = committed.lines().zip(generated.lines()).position(|(old, new)| old != new);
    let n = differs.unwrap_or_else(|| committed.lines().count().min(generated.lines().count()));
    let [old, new] = [&committed, &generated].map(|text| text.lines().nth(n).unwrap_or("(its end)"));
    panic!(
        "{} is not what the code says any more; line {} is\n{old}\nand would be\n{new}\n\
         If the change is meant, run `cargo run -- openapi > tests/openapi.json` and commit it: clients rely on it.",
        path.display(),
        n + 1,
    );
}

#[test]
fn the_document_leaves_nothing_unsaid() {
    assert_eq!(tenantry::app::document().gaps(), [""; 0]);
}

#[test]
fn what_answers_say_of_the_rate_is_described_once_and_named_by_every_operation_of_a_tenant() {
    let document: Value = serde_json::from_slice(&tenantry::app::document().to_json().unwrap()).unwrap();
    let names = ["RateLimit-Limit", "RateLimit-Policy", "RateLimit-Remaining", "RateLimit-Reset"];
    let shared: Vec<_> = document["components"]["headers"].as_object().unwrap().keys().collect();
    assert_eq!(shared, names);
    let reference = |name: &str| json!({"$ref": format!("#/components/headers/{name}")});
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            // Whoever takes the tenant's header is asked for it, and counted.
            let parameters = operation["parameters"].as_array();
            let tenanted = parameters.is_some_and(|all| all.iter().any(|one| one["name"] == "X-Tenant"));
            let responses = operation["responses"].as_object().unwrap();
            for (status, response) in responses.iter().filter(|(_, response)| response["$ref"].is_null()) {
                for name in names {
                    let expected = if tenanted { reference(name) } else { Value::Null };
                    assert_eq!(response["headers"][name], expected, "{method} {path} {status}");
                }
            }
        }
    }
    let refused = &document["components"]["responses"]["TooManyRequests"]["headers"];
    assert_eq!(
        (&refused["RateLimit-Reset"], &refused["Retry-After"]["schema"]["type"]),
        (&reference(names[3]), &json!("integer"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_document_is_served_to_everybody() {
    let app = TestApp::start().await;
    let answer = app.request("GET", "/openapi.json").send().await;
    assert_eq!(answer.text.as_bytes(), tenantry::app::document().to_json().unwrap());
    assert_eq!(answer.header("content-type"), "application/json");
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    let known =
        app.request("GET", "/openapi.json").header("if-none-match", answer.header("etag")).send().await;
    assert_eq!((known.status, known.text.as_str()), (304, ""));

    let page = app.request("GET", "/docs").send().await;
    assert_eq!((page.status, page.header("content-type")), (200, "text/html; charset=utf-8"));
    assert!(
        page.text.contains("/openapi.json") && page.header("content-security-policy").contains("sha256-")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_process_says_how_it_is() {
    let app = TestApp::start().await;
    for path in ["/healthz", "/readyz"] {
        let answer = app.request("GET", path).send().await;
        assert_eq!((answer.status, answer.json()), (200, json!({"status": "ok"})), "{path}");
        assert_eq!(answer.header("cache-control"), "no-store", "{path}");
    }
    app.app.tenancy.close();
    assert_eq!(app.request("GET", "/healthz").send().await.status, 200);
    let ready = app.request("GET", "/readyz").send().await;
    assert_eq!(ready.said(), (503, "service_unavailable".into()));
    assert_eq!(ready.header("retry-after"), "1");
}

/// Every path, filled, and what `Allow` has to say of it.
fn paths() -> Vec<(String, Vec<&'static str>, String)> {
    let routes = tenantry::app::routes().unwrap();
    let paths = routes.all().iter().map(|route| {
        let mut parts = route.template().split(['{', '}']);
        let mut path = parts.next().unwrap().to_owned();
        while let (Some(_), Some(literal)) = (parts.next(), parts.next()) {
            path.push_str(NOBODY);
            path.push_str(literal);
        }
        let known = |method: &&str| route.operations().iter().any(|(other, _)| other.as_str() == *method);
        let methods: Vec<_> = METHODS.into_iter().filter(known).collect();
        let mut allow = Vec::new();
        for method in &methods {
            allow.push(*method);
            if *method == "GET" {
                allow.push("HEAD");
            }
        }
        allow.push("OPTIONS");
        (path, methods, allow.join(", "))
    });
    paths.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_says_which_methods_it_has() {
    let app = TestApp::start().await;
    let paths = paths();
    assert!(paths.len() >= 14, "{}", paths.len());
    for (path, methods, allow) in paths {
        // Those for operators are on no host that could be a tenant's.
        let host = if path.starts_with("/api/admin/") { "localhost" } else { "nobody.localhost" };
        for path in [path.as_str(), path.trim_end_matches('/')] {
            let answer = app.request("OPTIONS", path).host(host).send().await;
            assert_eq!((answer.status, answer.text.as_str()), (204, ""), "OPTIONS {path}");
            assert_eq!(answer.header("allow"), allow, "OPTIONS {path}");
            for method in METHODS.into_iter().chain(["HEAD", "TRACE", "BREW", "get"]) {
                if methods.contains(&method) || method == "HEAD" && methods.contains(&"GET") {
                    continue;
                }
                // Before the tenant, which there is none of here.
                let answer = app.request(method, path).host(host).send().await;
                assert_eq!((answer.status, answer.header("allow")), (405, allow.as_str()), "{method} {path}");
                if method != "HEAD" {
                    let expected = json!({
                        "type": "about:blank", "title": "Method Not Allowed", "status": 405,
                        "code": "method_not_allowed", "detail": format!("Method \"{method}\" not allowed."),
                    });
                    assert_eq!(answer.problem(), expected, "{method} {path}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn head_is_get_without_the_body() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let mut found = 0;
    for (path, ..) in paths().into_iter().filter(|(_, methods, _)| methods.contains(&"GET")) {
        let path = path.replace(NOBODY, &acme.owner.pk);
        let [get, head]: [Answer; 2] =
            [acme.owner.request("GET", &path).send().await, acme.owner.request("HEAD", &path).send().await];
        assert_eq!((head.status, head.text.as_str()), (get.status, ""), "{path}");
        // A stream has no length.
        let streamed = get.header("content-type") == "text/event-stream";
        let length = if streamed { String::new() } else { get.text.len().to_string() };
        assert_eq!(head.header("content-length"), length, "{path}");
        for name in ["content-type", "cache-control", "etag", "vary"] {
            assert_eq!(head.header(name), get.header(name), "{name} of {path}");
        }
        found += usize::from(get.status == 200);
    }
    assert!(found >= 8, "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_is_not_there_is_not_found_by_any_method() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    for path in
        ["/", "/api", "/api/", "/api/nothing/", "/api//users/", "/api/users//", "/healthz/", "/API/users/"]
    {
        for method in ["GET", "POST", "OPTIONS", "BREW"] {
            let answer = acme.owner.request(method, path).send().await;
            assert_eq!(answer.said(), (404, "not_found".into()), "{method} {path}");
            assert_eq!(answer.json()["detail"], "Not found.");
            assert_eq!(answer.header("allow"), "", "{method} {path}");
        }
    }
}
