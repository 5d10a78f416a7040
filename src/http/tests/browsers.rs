//! What pages in browsers are allowed, and what every answer tells browsers.

use super::{
    service::{Settings, TestServer, serve, serve_with},
    wire::Answer,
};

const APP: &str = "http://app.example.org";
const EXPOSED: &str = "ETag, Location, RateLimit-Limit, RateLimit-Policy, RateLimit-Remaining, RateLimit-Reset, \
                       Retry-After, WWW-Authenticate, X-Request-Id";
const THING: &str = "/api/things/00000000-0000-0000-0000-000000000000/";

async fn serve_app() -> TestServer {
    serve_with(Settings { origins: &[APP], ..Settings::default() }).await
}

/// The names of the headers that only a page reads.
fn of_cors(answer: &Answer) -> Vec<&'static str> {
    let names = ["origin", "credentials", "methods", "headers"]
        .map(|name| ["access-control-allow-", name].concat())
        .into_iter()
        .chain(["access-control-expose-headers".to_owned(), "access-control-max-age".to_owned()]);
    names.filter(|name| !answer.headers(name).is_empty()).map(|name| &*name.leak()).collect()
}

async fn preflight(server: &TestServer, path: &str, lines: &[&str]) -> Answer {
    let lines =
        [lines, &["Access-Control-Request-Method: DELETE", "Access-Control-Request-Headers: x-tenant"]];
    server.lines(&format!("OPTIONS {path}"), &lines.concat()).await
}

#[tokio::test]
async fn a_page_of_an_allowed_origin_reads_answers_of_every_kind() {
    let server = serve_app().await;
    let origin = format!("Origin: {APP}\r\n");
    for (path, more, status) in [
        (THING, "", 200),
        (THING, "If-None-Match: *\r\n", 304),
        (THING, "If-Match: \"x\"\r\n", 412),
        ("/api/fail/", "", 204),
        ("/api/fail/?n=999", "", 400),
        (THING, "Authorization: x\r\n", 401),
        ("/nowhere", "", 404),
        ("/api/login/", "", 405),
        ("/api/fail/?how=throttled", "", 429),
        ("/healthz", "", 200),
        ("/api/things/", &format!("X: {}\r\n", "x".repeat(33_000)), 431),
        ("/api/fail/?how=panic", "", 500),
        ("/api/fail/?how=busy", "", 503),
        ("/openapi.json", "", 200),
        ("/docs", "", 200),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = server.ann(method, path, &format!("{origin}{more}")).await;
            assert_eq!(answer.status, status, "{method} {path}");
            assert_eq!(answer.header("access-control-allow-origin"), APP, "{method} {path}");
            assert_eq!(answer.header("access-control-expose-headers"), EXPOSED, "{method} {path}");
            assert_eq!(
                of_cors(&answer),
                ["access-control-allow-origin", "access-control-expose-headers"],
                "{method} {path}"
            );
        }
    }
    let bad = server.lines("GET /healthz", &["Host: a b", &format!("Origin: {APP}")]).await;
    assert_eq!((bad.status, bad.header("access-control-allow-origin")), (400, APP), "whatever the host");
}

#[tokio::test]
async fn a_preflight_says_what_may_be_sent() {
    let server = serve_app().await;
    // Whether there is such a tenant is not looked at, and neither are credentials.
    for host in ["Host: acme.localhost", "Host: nobody.localhost", "Host: localhost"] {
        let answer = preflight(&server, THING, &[host, &format!("Origin: {APP}")]).await;
        assert_eq!((answer.status, answer.body.len()), (204, 0));
        assert_eq!(answer.header("access-control-allow-origin"), APP);
        assert_eq!(answer.header("access-control-allow-methods"), "GET, HEAD, PATCH, DELETE, OPTIONS");
        assert_eq!(
            answer.header("access-control-allow-headers"),
            "Authorization, Content-Type, X-Tenant, If-Match, If-None-Match, Idempotency-Key, Last-Event-ID"
        );
        assert_eq!(answer.header("access-control-max-age"), "7200");
        assert_eq!(of_cors(&answer).len(), 4, "no credentials, nothing to expose: {answer:?}");
        assert_eq!(
            answer.header("vary"),
            "Origin, Access-Control-Request-Method, Access-Control-Request-Headers"
        );
    }
    let nowhere = preflight(&server, "/nowhere", &["Host: localhost", &format!("Origin: {APP}")]).await;
    assert_eq!(nowhere.status, 404);
    assert!(nowhere.headers("access-control-allow-methods").is_empty());
    let plain =
        server.lines(&format!("OPTIONS {THING}"), &["Host: localhost", &format!("Origin: {APP}")]).await;
    assert_eq!(plain.status, 204);
    assert_eq!(of_cors(&plain), ["access-control-allow-origin", "access-control-expose-headers"]);
}

#[tokio::test]
async fn a_page_of_another_origin_gets_the_ordinary_answer() {
    let server = serve_app().await;
    let plain = server.ann("GET", THING, "").await;
    let plain_options = preflight(&server, THING, &["Host: acme.localhost"]).await;
    for origin in [
        "http://evil.example".to_owned(),
        "null".to_owned(),
        "*".to_owned(),
        String::new(),
        format!("{APP}/"),
        format!("{APP}:8080"),
        format!("{APP}.evil.example"),
        APP.to_uppercase(),
        APP.replace("http:", "https:"),
        format!("{APP} http://evil.example"),
        format!("{APP}, http://evil.example"),
        format!("{APP}\r\nOrigin: {APP}"),
        format!("{APP}\r\nOrigin: http://evil.example"),
        "http://beta.localhost".to_owned(),
        "http://localhost".to_owned(),
        "https://acme.localhost".to_owned(),
        "http://äcme.localhost".to_owned(),
    ] {
        let line = format!("Origin: {origin}");
        let answer = server.ann("GET", THING, &format!("{line}\r\n")).await;
        assert_eq!((answer.status, &answer.body), (200, &plain.body), "{origin}");
        assert_eq!(of_cors(&answer), [""; 0], "{origin}");
        for name in ["vary", "etag", "cache-control"] {
            assert_eq!(answer.header(name), plain.header(name), "{origin}");
        }
        let options = preflight(&server, THING, &["Host: acme.localhost", &line]).await;
        assert_eq!((options.status, options.header("allow")), (204, plain_options.header("allow")));
        assert_eq!(of_cors(&options), [""; 0], "{origin}");
        assert_eq!(options.header("vary"), plain_options.header("vary"), "{origin}");
    }
}

#[tokio::test]
async fn a_tenants_own_origin_is_allowed_on_its_own_host() {
    let server = serve().await;
    for (host, origin) in [
        ("acme.localhost", "http://acme.localhost"),
        ("acme.localhost:80", "http://acme.localhost"),
        ("ACME.localhost.:8080", "http://acme.localhost:8080"),
        ("acme.example:8080", "http://acme.example:8080"),
    ] {
        let lines = [&*format!("Host: {host}"), &format!("Origin: {origin}")];
        let answer = server.lines("POST /api/logout/", &lines).await;
        assert_eq!(answer.header("access-control-allow-origin"), origin, "{host}");
        assert_eq!(preflight(&server, THING, &lines).await.header("access-control-allow-origin"), origin);
    }
}

#[tokio::test]
async fn what_depends_on_the_page_says_so() {
    let server = serve_app().await;
    for origin in ["", "Origin: null\r\n", &format!("Origin: {APP}\r\n")] {
        for (path, more, vary) in [
            (THING, "", "Authorization, X-Tenant, Origin"),
            (THING, "If-None-Match: *\r\n", "Authorization, X-Tenant, Origin"),
            ("/api/fail/", "", "Origin"),
            ("/nowhere", "", "Origin"),
            ("/api/fail/?how=panic", "", "Origin"),
            ("/openapi.json", "", "Origin"),
            ("/openapi.json", "If-None-Match: *\r\n", "Origin"),
        ] {
            let answer = server.ann("GET", path, &format!("{origin}{more}")).await;
            assert_eq!(answer.header("vary"), vary, "{path} {origin}{more}");
        }
    }
}

#[tokio::test]
async fn every_answer_tells_browsers_to_be_careful() {
    let server = serve().await;
    for (method, path) in [
        ("GET", THING),
        ("GET", "/nowhere"),
        ("GET", "/api/fail/"),
        ("GET", "/api/fail/?how=panic"),
        ("GET", "/openapi.json"),
        ("GET", "/docs"),
        ("PUT", "/healthz"),
        ("OPTIONS", "/api/things/"),
        ("HEAD", "/healthz"),
    ] {
        let answer = server.ann(method, path, "").await;
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), value, "{method} {path}");
        }
        let policy = answer.header("content-security-policy");
        assert!(policy.starts_with("default-src 'none'; "), "{method} {path}: {policy}");
        assert!(policy.ends_with("frame-ancestors 'none'"), "{method} {path}: {policy}");
        assert_eq!(answer.header("x-request-id").len(), 36, "{method} {path}");
        assert!(answer.headers("server").is_empty(), "{method} {path}");
    }
}
