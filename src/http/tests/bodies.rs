//! From bytes to an input, or to all that is wrong with it.

use std::time::Duration;

use serde_json::{Value, json};

use super::service::{Settings, serve, serve_with};
use crate::http::Limits;

/// The field errors of a problem.
fn fields((status, problem): (u16, Value)) -> Value {
    assert_eq!(
        (status, &problem["code"], &problem["detail"]),
        (400, &json!("invalid"), &json!("Invalid input."))
    );
    let members = problem.as_object().expect("an object").clone();
    members.into_iter().filter(|(_, value)| value.is_array()).collect()
}

#[tokio::test]
async fn a_good_body_is_taken_and_unknown_members_are_ignored() {
    let server = serve().await;
    let answer = server
        .post("/api/things", r#"{"name": " abc ", "amount": 2, "new": {"x": [null]}, "in": true}"#)
        .await;
    let expected =
        r#"{"id":"00000000-0000-0000-0000-000000000000","name":"abc 2","about":"0 parents, in use: true"}"#;
    assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (201, expected));
    assert_eq!(
        (answer.header("content-type"), answer.header("cache-control")),
        ("application/json", "no-store")
    );
    for media_type in ["application/JSON; charset=utf-8", "application/merge-patch+json"] {
        assert_eq!(
            server.post_as(media_type, "/api/things/", r#"{"name":"abc","amount":2}"#).await.status,
            201
        );
    }
}

#[tokio::test]
async fn all_wrong_fields_are_named_at_once_in_the_words_people_know() {
    let server = serve().await;
    let wrong = async |body: &str| fields(server.post("/api/things/", body).await.problem());
    let required = json!({"name": ["This field is required."], "amount": ["This field is required."]});
    assert_eq!(wrong("{}").await, required);
    assert_eq!(wrong("").await, required, "an empty body is an empty object");
    assert_eq!(
        wrong(r#"{"name": null, "amount": null, "in": null, "parents": null}"#).await,
        json!({
            "name": ["This field may not be null."], "amount": ["This field may not be null."],
            "in": ["This field may not be null."], "parents": ["This field may not be null."],
        })
    );
    assert_eq!(
        wrong(r#"{"name": "  ", "amount": "2", "in": "true", "parents": {}}"#).await,
        json!({
            "name": ["This field may not be blank."], "amount": ["A valid integer is required."],
            "in": ["Must be a valid boolean."], "parents": ["Expected a list of items but got type \"dict\"."],
        })
    );
    assert_eq!(
        wrong(r#"{"name": "abcdef", "amount": 65536, "parents": [1, "00000000-0000-0000-0000-000000000000", null]}"#).await,
        json!({
            "name": ["Ensure this field has no more than 5 characters."],
            "amount": ["Ensure this value is less than or equal to 65535."],
            "parents": ["Item 1: Must be a valid UUID.", "Item 3: This field may not be null."],
        })
    );
    assert_eq!(
        wrong(r#"{"name": "ä", "amount": -1}"#).await,
        json!({
            "name": ["Ensure this field has at least 2 characters."],
            "amount": ["Ensure this value is greater than or equal to 0."],
        })
    );
    assert_eq!(
        wrong(r#"{"name": 5, "amount": 1.5}"#).await,
        json!({"name": ["Not a valid string."], "amount": ["A valid integer is required."]})
    );
    let answer = server.post("/api/login/", r#"{"username": "a b", "email": "x"}"#).await;
    assert_eq!(
        fields(answer.problem()),
        json!({
            "username": ["Enter a valid username. This value may contain only letters, numbers, and ./_/- characters."],
            "email": ["Enter a valid email address."], "password": ["This field is required."],
        })
    );
    let answer = server.post("/api/login/", r#"{"username": "ann", "password": "x"}"#).await;
    assert_eq!(
        fields(answer.problem()),
        json!({"non_field_errors": ["Unable to log in with provided credentials."]})
    );
}

#[tokio::test]
async fn a_body_that_is_no_object_is_invalid() {
    let server = serve().await;
    for (body, kind) in [("[]", "list"), ("\"x\"", "str"), ("1", "int"), ("1.5", "float"), ("true", "bool")] {
        let sentence = format!("Invalid data. Expected a dictionary, but got {kind}.");
        let answer = server.post("/api/things/", body).await;
        assert_eq!(fields(answer.problem()), json!({"non_field_errors": [sentence]}));
    }
    let answer = server.post("/api/things/", "null").await;
    assert_eq!(fields(answer.problem()), json!({"non_field_errors": ["This field may not be null."]}));
}

#[tokio::test]
async fn json_that_two_parsers_may_read_differently_is_refused() {
    let server = serve().await;
    let deep = "[".repeat(10_000);
    for (body, said) in [
        (&b"{"[..], "JSON parse error - EOF while parsing an object at line 1 column 1"),
        (b"{} {}", "JSON parse error - trailing characters at line 1 column 4"),
        (b"{\"name\": 1, \"name\": 2}", "JSON parse error - member \"name\" given twice at line 1 column 18"),
        (b"{\"x\": {\"y\": 1, \"y\": 2}}", "JSON parse error - member \"y\" given twice at line 1 column 18"),
        (b"{\"name\": \"a\\u0000\"}", "JSON parse error - NUL in a string at line 1 column 18"),
        (b"{\"name\": \"\xc3\"}", "JSON parse error - not UTF-8: invalid sequence after 10 bytes"),
        (deep.as_bytes(), "JSON parse error - nested deeper than 64 levels at line 1 column 65"),
    ] {
        let answer = server.post("/api/things/", body).await.said();
        assert_eq!(answer, (400, "parse_error".into(), said.into()));
    }
    for body in [&br#"{"name": "\ud800"}"#[..], br#"{"\udfff": 1}"#] {
        let (status, code, detail) = server.post("/api/things/", body).await.said();
        assert_eq!((status, code.as_str()), (400, "parse_error"));
        assert!(detail.contains("surrogate"), "{detail}");
    }
}

#[tokio::test]
async fn what_is_not_json_is_415() {
    let server = serve().await;
    for media_type in [
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "multipart/form-data",
    ] {
        let said = server.post_as(media_type, "/api/things/", "{").await.said();
        let detail = format!("Unsupported media type \"{media_type}\" in request.");
        assert_eq!(said, (415, "unsupported_media_type".into(), detail));
    }
    let bare = server.ann("POST", "/api/things/", "Content-Length: 2\r\n\r\n{}").await;
    assert_eq!(bare.said().2, "Send the body with Content-Type: application/json.");
    let zipped = server
        .ann(
            "POST",
            "/api/things/",
            "Content-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\n{}",
        )
        .await;
    assert_eq!(zipped.said().2, "Send the body without Content-Encoding.");
}

#[tokio::test]
async fn an_optional_body_may_be_empty() {
    let server = serve().await;
    let none = server.ann("POST", "/api/logout/", "").await;
    assert_eq!((none.status, none.json()["everywhere"].clone()), (200, Value::Null));
    assert_eq!(server.post("/api/logout/", "").await.status, 200);
    assert_eq!(server.post("/api/logout/", "{\"everywhere\": true}").await.json()["everywhere"], true);
    let answer = server.post("/api/logout/", "{\"everywhere\": 1}").await;
    assert_eq!(fields(answer.problem()), json!({"everywhere": ["Must be a valid boolean."]}));
    assert_eq!(server.post_as("text/plain", "/api/logout/", "{}").await.status, 415);
}

#[tokio::test]
async fn a_body_over_1_mib_is_413_announced_or_chunked() {
    let server = serve().await;
    let said = (413, "too_large".to_owned(), "The body may have at most 1048576 bytes.".to_owned());
    let announced =
        server.ann("POST", "/api/things/", "Content-Type: text/plain\r\nContent-Length: 1048577\r\n").await;
    assert_eq!(announced.said(), said, "the size comes before the media type");
    let chunked = |size: usize| {
        let padding = " ".repeat(size - 2);
        format!(
            "Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{{}}\r\n{:x}\r\n{padding}\r\n0\r\n",
            size - 2
        )
    };
    assert_eq!(server.ann("POST", "/api/things/", &chunked((1 << 20) + 1)).await.said(), said);
    assert_eq!(
        server.ann("POST", "/api/things/", &chunked(1 << 20)).await.said().1,
        "invalid",
        "which was read to its end"
    );
}

#[tokio::test]
async fn a_body_that_does_not_arrive_is_408() {
    let limits = Limits { body_deadline: Duration::from_millis(20), ..Limits::default() };
    let server = serve_with(Settings { limits, ..Settings::default() }).await;
    let answer = server
        .ann("POST", "/api/things/", "Content-Type: application/json\r\nContent-Length: 20\r\n\r\n{\"na")
        .await;
    assert_eq!(answer.said(), (408, "request_timeout".into(), "The body took too long to arrive.".into()));
}

#[tokio::test]
async fn credentials_come_before_the_body() {
    let server = serve().await;
    let answer =
        server.lines("POST /api/things/", &["Host: acme.localhost", "Content-Length: 9999999"]).await;
    assert_eq!(answer.said().1, "not_authenticated");
}

#[tokio::test]
async fn a_rule_on_the_row_comes_last() {
    let server = serve().await;
    let answer = server.post("/api/things/", r#"{"name": "taken", "amount": 1}"#).await;
    assert_eq!(answer.said(), (409, "name_taken".into(), "There is a thing of this name.".into()));
}
