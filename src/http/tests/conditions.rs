//! Tags of versions, and what is asked of them.

use serde_json::json;

use super::{
    service::{TestServer, serve},
    wire::Answer,
};

const THING: &str = "/api/things/00000000-0000-0000-0000-000000000000/";

fn changed() -> (u16, String, String) {
    let detail = "The resource has changed since it was read.";
    (412, "precondition_failed".to_owned(), detail.to_owned())
}

async fn patch(server: &TestServer, more: &str) -> Answer {
    let body = r#"{"name": "other"}"#;
    let head = format!("Content-Type: application/json\r\nContent-Length: {}\r\n{more}", body.len());
    server.ann("PATCH", THING, &format!("{head}\r\n{body}")).await
}

#[tokio::test]
async fn a_get_has_a_tag_over_tenant_user_and_body() {
    let server = serve().await;
    let first = server.ann("GET", THING, "").await;
    assert_eq!(first.header("cache-control"), "private, no-cache");
    assert_eq!(first.header("vary"), "Authorization, X-Tenant, Origin");
    let tag = first.header("etag");
    assert!(tag.starts_with('"') && tag.ends_with('"'), "a strong tag: {tag}");
    assert_eq!(server.ann("GET", THING, "").await.header("etag"), tag);
    for (host, token) in [("acme", "acme.bob"), ("beta", "beta.ann")] {
        let lines = [format!("Host: {host}.localhost"), format!("Authorization: Bearer {token}")];
        let answer = server.lines(&format!("GET {THING}"), &[&lines[0], &lines[1]]).await;
        assert_eq!(answer.body, first.body);
        assert_ne!(answer.header("etag"), tag, "{host} {token}");
    }
}

#[tokio::test]
async fn what_the_client_has_already_is_not_sent_again() {
    let server = serve().await;
    let first = server.ann("GET", THING, "").await;
    let tag = first.header("etag");
    for list in [
        tag.to_owned(),
        format!("W/{tag}"),
        format!("\"x\", {tag}"),
        "*".into(),
        format!("\"x\"\r\nIf-None-Match: {tag}"),
        // A date is passed over beside a tag, and there are no dates here anyway.
        format!("{tag}\r\nIf-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
    ] {
        for method in ["GET", "HEAD"] {
            let again = server.ann(method, THING, &format!("If-None-Match: {list}\r\n")).await;
            assert_eq!((again.status, again.body.len()), (304, 0), "{method} {list}");
            assert_eq!(again.header("etag"), tag);
            assert_eq!(again.header("cache-control"), "private, no-cache");
            assert_eq!(again.header("vary"), "Authorization, X-Tenant, Origin");
            assert_eq!(again.header("x-request-id").len(), 36);
            for name in ["content-type", "content-length", "transfer-encoding"] {
                assert!(again.headers(name).is_empty(), "{method} {list}: {name}");
            }
        }
    }
    for list in
        ["\"x\"".to_owned(), tag.trim_matches('"').to_owned(), format!("*, {tag}"), format!("{tag} x")]
    {
        let other = server.ann("GET", THING, &format!("If-None-Match: {list}\r\n")).await;
        assert_eq!((other.status, &other.body), (200, &first.body), "{list}");
    }
    let dated = server.ann("GET", THING, "If-Modified-Since: Fri, 01 Jan 2100 00:00:00 GMT\r\n").await;
    assert_eq!(dated.status, 200);
}

#[tokio::test]
async fn only_an_answer_that_shows_something_is_conditional() {
    let server = serve().await;
    for (path, status) in [("/nowhere", 404), ("/api/fail/", 204), ("/api/fail/?how=panic", 500)] {
        for condition in ["If-None-Match: *", "If-Match: \"x\""] {
            let answer = server.ann("GET", path, &format!("{condition}\r\n")).await;
            assert_eq!((answer.status, answer.headers("etag").len()), (status, 0), "{path} {condition}");
        }
    }
    let health = server.ann("GET", "/healthz", "If-None-Match: *\r\n").await;
    assert_eq!(health.status, 200, "it has no tag");
    let unsigned = server.lines(&format!("GET {THING}"), &["Host: acme.localhost", "If-Match: \"x\""]).await;
    assert_eq!(unsigned.status, 401, "conditions come after all other checks");
}

#[tokio::test]
async fn a_get_may_insist_on_a_version() {
    let server = serve().await;
    let first = server.ann("GET", THING, "").await;
    let tag = first.header("etag");
    for list in [tag, "*"] {
        let answer = server.ann("GET", THING, &format!("If-Match: {list}\r\n")).await;
        assert_eq!((answer.status, &answer.body), (200, &first.body), "{list}");
    }
    for list in ["\"x\"".to_owned(), format!("W/{tag}"), String::new()] {
        let answer = server.ann("GET", THING, &format!("If-Match: {list}\r\n")).await;
        assert_eq!(answer.said(), changed(), "{list}");
    }
    let both = format!("If-None-Match: {tag}\r\nIf-Match: ");
    assert_eq!(server.ann("GET", THING, &format!("{both}{tag}\r\n")).await.status, 304);
    assert_eq!(server.ann("GET", THING, &format!("{both}\"x\"\r\n")).await.status, 412, "it is asked first");
}

#[tokio::test]
async fn a_change_is_made_only_of_the_version_it_names() {
    let server = serve().await;
    let get = server.ann("GET", THING, "").await;
    let tag = get.header("etag");
    for condition in [
        String::new(),
        format!("If-Match: {tag}\r\n"),
        format!("If-Match: \"x\", {tag}\r\n"),
        format!("If-Match: \"x\"\r\nIf-Match: {tag}\r\n"),
        "If-Match: *\r\n".to_owned(),
        "If-None-Match: \"x\"\r\n".to_owned(),
        "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT\r\n".to_owned(),
    ] {
        let answer = patch(&server, &condition).await;
        assert_eq!((answer.status, &answer.json()["name"]), (200, &json!("other")), "{condition}");
        // It would have come to its end, were it not too late for every one of them.
        let answer = server.ann("DELETE", THING, &condition).await;
        assert_eq!(answer.said().1, "tenant_suspended", "{condition}");
    }
    let bob = ["Host: acme.localhost", "Authorization: Bearer acme.bob"];
    let bob = server.lines(&format!("GET {THING}"), &bob).await;
    let of_bob = bob.header("etag");
    for condition in [
        "If-Match: \"x\"".to_owned(),
        format!("If-Match: W/{tag}"),
        format!("If-Match: {}", tag.trim_matches('"')),
        format!("If-Match: *, {tag}"),
        format!("If-Match: {of_bob}"),
        "If-Match:".to_owned(),
        "If-None-Match: *".to_owned(),
        format!("If-None-Match: W/{tag}"),
        format!("If-Match: {tag}\r\nIf-None-Match: {tag}"),
    ] {
        assert_eq!(patch(&server, &format!("{condition}\r\n")).await.said(), changed(), "{condition}");
        let answer = server.ann("DELETE", THING, &format!("{condition}\r\n")).await;
        assert_eq!(answer.said(), changed(), "{condition}");
    }
}

#[tokio::test]
async fn a_change_is_checked_for_everything_else_before() {
    let server = serve().await;
    let stale = "Content-Type: application/json\r\nIf-Match: \"x\"\r\n";
    let nobody = "/api/things/7a0cdd0c-3f0e-4a73-9d3a-0d9a4ac8a8f6/";
    for (path, body, code) in [
        (THING, r#"{"name": ""}"#, "invalid"),
        (THING, "{", "parse_error"),
        (nobody, "{}", "not_found"),
        (THING, "{}", "precondition_failed"),
    ] {
        let more = format!("{stale}Content-Length: {}\r\n\r\n{body}", body.len());
        assert_eq!(server.ann("PATCH", path, &more).await.said().1, code, "{path} {body}");
    }
}

#[tokio::test]
async fn what_a_patch_answers_has_the_tag_it_would_have_as_a_get() {
    let server = serve().await;
    let get = server.ann("GET", THING, "").await;
    let same =
        server.ann("PATCH", THING, "Content-Type: application/json\r\nContent-Length: 2\r\n\r\n{}").await;
    assert_eq!((same.body.as_slice(), same.header("etag")), (get.body.as_slice(), get.header("etag")));
    assert_eq!(same.header("cache-control"), "no-store");
    let other = patch(&server, "").await;
    assert_ne!(other.header("etag"), get.header("etag"));
    let made = server.post("/api/things/", r#"{"name": "new", "amount": 1}"#).await;
    assert_eq!((made.status, made.headers("etag").len()), (201, 0), "a GET there shows the list");
}
