//! The order of checks, and what every answer has.

use poem::{
    Endpoint as _, Request,
    http::{Method, Uri},
};
use serde_json::json;

use super::service::{Settings, edge, serve, serve_with};

fn said(status: u16, code: &str, detail: &str) -> (u16, String, String) {
    (status, code.into(), detail.into())
}

fn not_found() -> (u16, String, String) {
    said(404, "not_found", "Not found.")
}

#[tokio::test]
async fn a_problem_is_written_in_the_contracts_order() {
    let server = serve().await;
    let answer = server.ann("GET", "/nowhere", "").await;
    let id = answer.header("x-request-id");
    let expected = format!(
        r#"{{"type":"about:blank","title":"Not Found","status":404,"code":"not_found","detail":"Not found.","request_id":"{id}"}}"#
    );
    assert_eq!(String::from_utf8_lossy(&answer.body), expected);
    assert_eq!(answer.header("x-content-type-options"), "nosniff");
    assert_eq!(answer.header("referrer-policy"), "no-referrer");
    assert!(id.starts_with("018bcfe5-6800-7"), "a UUID v7 of the clock's time: {id}");
}

#[tokio::test]
async fn headers_have_a_length() {
    let server = serve().await;
    let line = |length: usize| format!("X-Filler: {}\r\n", "x".repeat(length));
    assert_eq!(server.ann("GET", "/api/things/", &line(30_000)).await.status, 200);
    let expected = said(431, "headers_too_large", "The headers of a request may have 32 KiB together.");
    assert_eq!(server.ann("GET", "/api/things/", &line(33_000)).await.said(), expected);
    assert_eq!(server.ann("GET", "/nowhere", &line(400).repeat(85)).await.said(), expected);
}

#[tokio::test]
async fn a_malformed_host_comes_before_everything_else() {
    let server = serve().await;
    let missing = said(400, "parse_error", "The header Host is missing.");
    let twice = said(400, "parse_error", "The header Host was given twice.");
    let malformed = said(400, "parse_error", "The header Host is malformed.");
    assert_eq!(server.lines("GET /nowhere", &["A: b"]).await.said(), missing);
    assert_eq!(server.lines("GET /nowhere", &["Host: a.localhost", "Host: a.localhost"]).await.said(), twice);
    for host in [
        "Host:",
        "Host: a b",
        "Host: a/b",
        "Host: user@acme.localhost",
        "Host: acme.localhost:x",
        "Host: ácme",
    ] {
        assert_eq!(server.lines("OPTIONS /api/things/", &[host]).await.said(), malformed, "{host}");
    }
}

#[tokio::test]
async fn a_host_is_the_same_in_any_dress() {
    let server = serve().await;
    for host in ["acme.localhost", "ACME.localhost:8080", "acme.localhost.", "Acme.Localhost.:80"] {
        let answer = server.lines("GET /api/fail/", &[&format!("Host: {host}")]).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0), "{host}");
    }
    for host in ["localhost:8080", "127.0.0.1", "[::1]:8080"] {
        let answer = server.lines("GET /api/fail/", &[&format!("Host: {host}")]).await;
        assert_eq!(answer.said().1, "tenant_required", "{host}");
    }
}

#[tokio::test]
async fn the_target_of_a_request_wins_over_its_host() {
    let server = serve().await;
    let answer = server.lines("GET http://acme.localhost/api/fail/", &["Host: nobody.localhost"]).await;
    assert_eq!(answer.status, 204);
    let answer = server.lines("GET http://nobody.localhost/api/fail/", &["Host: acme.localhost"]).await;
    assert_eq!(answer.said().1, "tenant_not_found");
    let answer = server.lines("GET http://acme.localhost/api/fail/", &["A: b"]).await;
    assert_eq!(answer.said().2, "The header Host is missing.");
    let answer = server.lines("GET http://x@acme.localhost/api/fail/", &["Host: acme.localhost"]).await;
    assert_eq!(answer.said().2, "The authority of the request's target is malformed.");
    let old = server.send("GET /api/fail/ HTTP/1.0\r\nX-Tenant: acme\r\n\r\n").await;
    assert_eq!(old.status, 204, "HTTP/1.0 knows no Host");
}

#[tokio::test]
async fn one_slash_makes_no_difference_and_two_do() {
    let server = serve().await;
    let one = server.ann("GET", "/api/things/?page_size=1", "").await;
    let other = server.ann("GET", "/api/things?page_size=1", "").await;
    assert_eq!((one.status, &one.body), (200, &other.body));
    assert_eq!(one.header("etag"), other.header("etag"));
    let zero = "/api/things/00000000-0000-0000-0000-000000000000";
    assert_eq!(server.ann("GET", zero, "").await.body, server.ann("GET", &format!("{zero}/"), "").await.body);
    for path in [
        "/api/things//",
        "/api//things/",
        "//api/things/",
        "/api",
        "/api/",
        "/",
        "/docs/",
        "/api/things/a/b/",
    ] {
        assert_eq!(server.ann("GET", path, "").await.said(), not_found(), "{path}");
    }
}

#[tokio::test]
async fn every_404_is_the_same() {
    let server = serve().await;
    let expected = server.ann("GET", "/nowhere", "").await.problem();
    for path in [
        "/api/things/7a0cdd0c-3f0e-4a73-9d3a-0d9a4ac8a8f6/",
        "/api/things/no-uuid/",
        "/api/things/%00/",
        "/api/things/%ff/",
        "/api/things/%2F/",
    ] {
        assert_eq!(server.ann("GET", path, "").await.problem(), expected, "{path}");
    }
}

#[tokio::test]
async fn a_method_comes_after_the_route_and_before_the_tenant() {
    let server = serve().await;
    let answer = server.lines("PUT /api/things/", &["Host: nobody.localhost"]).await;
    assert_eq!(answer.said(), said(405, "method_not_allowed", "Method \"PUT\" not allowed."));
    assert_eq!(answer.header("allow"), "GET, HEAD, POST, OPTIONS");
    let answer = server.lines("GET /api/login", &["Host: acme.localhost"]).await;
    assert_eq!((answer.status, answer.header("allow")), (405, "POST, OPTIONS"));
    let answer = server.lines("HEAD /api/login", &["Host: acme.localhost"]).await;
    assert_eq!((answer.status, answer.header("allow"), answer.body.len()), (405, "POST, OPTIONS", 0));
    let answer = server.lines("PUT /nowhere", &["Host: acme.localhost"]).await;
    assert_eq!(answer.said(), not_found());
    let answer = server.lines("OPTIONS /api/things/1", &["Host: nobody.localhost", "X-Tenant:"]).await;
    assert_eq!(
        (answer.status, answer.header("allow"), answer.body.len()),
        (204, "GET, HEAD, PATCH, DELETE, OPTIONS", 0)
    );
    let answer = server.lines("OPTIONS *", &["Host: localhost"]).await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn the_tenant_comes_before_the_credentials() {
    let server = serve().await;
    let code = async |lines: &[&str]| server.lines("GET /api/things/", lines).await.said().1;
    assert_eq!(code(&["Host: nobody.localhost"]).await, "tenant_not_found");
    assert_eq!(code(&["Host: frozen.localhost"]).await, "tenant_suspended");
    assert_eq!(code(&["Host: localhost"]).await, "tenant_required");
    assert_eq!(code(&["Host: acme.localhost", "X-Tenant: beta"]).await, "tenant_mismatch");
    assert_eq!(code(&["Host: acme.localhost", "X-Tenant:"]).await, "tenant_mismatch");
    assert_eq!(code(&["Host: localhost", "X-Tenant:"]).await, "tenant_mismatch");
    assert_eq!(code(&["Host: acme.localhost", "X-Tenant: acme", "X-Tenant: acme"]).await, "tenant_mismatch");
    assert_eq!(code(&["Host: acme.localhost", "X-Tenant: äcme"]).await, "tenant_mismatch");
    assert_eq!(code(&["Host: acme.localhost", "X-Tenant: acme"]).await, "not_authenticated");
    assert_eq!(code(&["Host: localhost", "X-Tenant: acme"]).await, "not_authenticated");
    let open = server.lines("GET /healthz", &["Host: acme.localhost", "X-Tenant:", "X-Tenant:"]).await;
    assert_eq!(open.status, 200, "a route without a tenant doesn't look at the header");
}

#[tokio::test]
async fn a_401_says_bearer_and_nothing_about_the_cause() {
    let server = serve().await;
    let with = async |lines: &[&str]| {
        let lines = [&["Host: acme.localhost"], lines].concat();
        let answer = server.lines("GET /api/things/", &lines).await;
        assert_eq!(answer.header("www-authenticate"), "Bearer");
        answer.problem()
    };
    let (status, absent) = with(&[]).await;
    assert_eq!((status, &absent["code"]), (401, &json!("not_authenticated")));
    assert_eq!(absent["detail"], "Authentication credentials were not provided.");
    assert_eq!(with(&["Authorization: Basic YTpi"]).await.1, absent);
    let (_, invalid) = with(&["Authorization: Bearer x"]).await;
    assert_eq!(invalid["code"], "token_not_valid");
    for lines in [
        &["Authorization: Bearer"][..],
        &["Authorization: bearer beta.ann"],
        &["Authorization: Bearer a b"],
        &["Authorization: Bearer acme.ann", "Authorization: Bearer acme.ann"],
    ] {
        assert_eq!(with(lines).await.1, invalid, "{lines:?}");
    }
    assert_eq!(
        server
            .lines("GET /api/things/", &["Host: acme.localhost", "Authorization: bEARER acme.ann"])
            .await
            .status,
        200
    );
}

#[tokio::test]
async fn an_endpoint_without_credentials_ignores_the_authorization_header() {
    let server = serve().await;
    let answer = server
        .lines("GET /api/fail/", &["Host: acme.localhost", "Authorization: Bearer", "Authorization: x"])
        .await;
    assert_eq!(answer.status, 204);
}

#[tokio::test]
async fn head_is_get_without_the_body() {
    let server = serve().await;
    for path in ["/api/things/", "/healthz", "/openapi.json", "/docs", "/nowhere"] {
        let get = server.ann("GET", path, "").await;
        let head = server.ann("HEAD", path, "").await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        for name in ["content-length", "content-type", "etag", "cache-control", "vary"] {
            assert_eq!(head.headers(name), get.headers(name), "{path} {name}");
        }
        assert_eq!(get.header("content-length"), get.body.len().to_string(), "{path}");
    }
}

#[tokio::test]
async fn the_body_of_head_is_dropped_before_hyper_sees_it() {
    let request =
        Request::builder().method(Method::HEAD).uri(Uri::from_static("/healthz")).header("host", "localhost");
    let mut response = edge(&Settings::default()).get_response(request.finish()).await;
    let body = response.take_body().into_vec().await.expect("a body");
    assert_eq!(
        (body.len(), response.header("content-length")),
        (0, Some("15")),
        "hyper would send it over HTTP/2"
    );
}

#[tokio::test]
async fn a_failure_says_nothing_but_the_request_id() {
    let server = serve().await;
    for how in ["panic", "internal"] {
        let answer = server.ann("GET", &format!("/api/fail/?how={how}"), "").await;
        assert_eq!(answer.said(), said(500, "error", "A server error occurred."), "{how}");
        assert!(!String::from_utf8_lossy(&answer.body).contains("secret"), "{how}");
    }
    let answer = server.ann("GET", "/api/fail/?how=busy", "").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, "2"));
    let answer = server.ann("GET", "/api/fail/?how=throttled", "").await;
    assert_eq!(
        answer.said(),
        said(429, "throttled", "Request was throttled. Expected available in 7 seconds.")
    );
    assert_eq!(answer.header("retry-after"), "7");
}

#[tokio::test]
async fn a_line_of_text_from_the_framework_becomes_a_problem() {
    let server = serve().await;
    let answer = server.lines("GET /teapot", &["Host: localhost"]).await;
    assert_eq!(answer.said(), said(418, "error", "I'm a teapot"));
}

#[tokio::test]
async fn a_wrong_parameter_is_a_field_error() {
    let server = serve().await;
    let (status, problem) = server.ann("GET", "/api/fail/?n=999", "").await.problem();
    assert_eq!(
        (status, &problem["code"], &problem["n"]),
        (400, &json!("invalid"), &json!(["Enter a valid value."]))
    );
    let (_, problem) = server.ann("GET", "/api/fail/?how=status", "").await.problem();
    assert_eq!(problem["status"], 400, "a field can't take the place of a member of every problem");
    assert_eq!(problem["non_field_errors"], json!(["status: Enter a valid value."]));
}

#[tokio::test]
async fn a_tenant_that_changed_is_resolved_again() {
    let server = serve().await;
    let path = "/api/things/00000000-0000-0000-0000-000000000000/";
    let answer = server.ann("DELETE", path, "").await;
    assert_eq!(answer.said().1, "tenant_suspended", "which is what resolving it again says");
    let answer = server
        .lines(&format!("DELETE {path}"), &["Host: beta.localhost", "Authorization: Bearer beta.ann"])
        .await;
    assert_eq!((answer.said().1.as_str(), answer.header("retry-after")), ("service_unavailable", "1"));
}

#[tokio::test]
async fn health_is_asked_without_a_tenant() {
    let server = serve_with(Settings { database: false, ..Settings::default() }).await;
    let alive = server.lines("GET /healthz", &["Host: nobody.example"]).await;
    assert_eq!((alive.status, alive.json()), (200, json!({"status": "ok"})));
    assert_eq!((alive.header("cache-control"), alive.headers("etag").len()), ("no-store", 0));
    let ready = server.lines("GET /readyz", &["Host: 127.0.0.1"]).await;
    assert_eq!((ready.said().1.as_str(), ready.header("retry-after")), ("service_unavailable", "1"));
    assert_eq!(serve().await.lines("GET /readyz", &["Host: 127.0.0.1"]).await.status, 200);
}

#[tokio::test]
async fn a_client_behind_our_proxy_is_who_the_proxy_says() {
    let server = serve_with(Settings { proxies: &["127.0.0.0/8"], ..Settings::default() }).await;
    let lines = ["Host: localhost", "X-Forwarded-For: 1.1.1.1", "X-Forwarded-For: 198.51.100.7, 127.0.0.9"];
    let path = "GET /api/admin/address/";
    assert_eq!(server.lines(path, &lines).await.json(), json!({"address": "198.51.100.7"}));
    assert_eq!(serve().await.lines(path, &lines).await.json(), json!({"address": "127.0.0.1"}));
}

#[tokio::test]
async fn headers_without_end_are_431() {
    let server = serve().await;
    let answer = server.ann("GET", "/healthz", &"X: x\r\n".repeat(101)).await;
    assert_eq!(
        (answer.status, answer.body.len()),
        (431, 0),
        "hyper answers this one, before there is a request"
    );
}
