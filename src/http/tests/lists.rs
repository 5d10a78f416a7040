//! Pages over the wire.

use serde_json::json;

use super::service::{THINGS, serve};

#[tokio::test]
async fn a_page_is_count_next_previous_results() {
    let server = serve().await;
    let answer = server.ann("GET", "/api/things?page=2&page_size=1&search=a+b", "").await;
    let expected = concat!(
        r#"{"count":45,"next":"http://acme.localhost/api/things/?page_size=1&search=a+b&page=3","#,
        r#""previous":"http://acme.localhost/api/things/?page_size=1&search=a+b","#,
        r#""results":[{"id":"00000000-0000-0000-0000-000000000001","name":"thing 1","about":null}]}"#,
    );
    assert_eq!((answer.status, String::from_utf8_lossy(&answer.body).as_ref()), (200, expected));
}

#[tokio::test]
async fn walking_the_links_meets_each_row_once() {
    let server = serve().await;
    let mut path = "/api/things/?page_size=7".to_owned();
    let mut names = Vec::new();
    loop {
        let page = server.ann("GET", &path, "").await.json();
        names.extend(page["results"].as_array().expect("a list").iter().map(|thing| thing["name"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = next.strip_prefix("http://acme.localhost").expect("a link to this host").to_owned();
    }
    assert_eq!(names, (0..THINGS).map(|number| json!(format!("thing {number}"))).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_page_that_is_not_there_is_404() {
    let server = serve().await;
    for page in ["0", "-1", "4", "x", "1e0"] {
        let said = server.ann("GET", &format!("/api/things/?page={page}"), "").await.said();
        assert_eq!(said, (404, "not_found".into(), "Invalid page.".into()), "{page}");
    }
    let last = server.ann("GET", "/api/things/?page=last", "").await.json();
    assert_eq!((last["next"].clone(), last["results"].as_array().map(Vec::len)), (json!(null), Some(5)));
}

#[tokio::test]
async fn a_search_that_makes_no_sense_is_400() {
    let server = serve().await;
    let (status, problem) =
        server.ann("GET", &format!("/api/things/?search={}", "a".repeat(201)), "").await.problem();
    assert_eq!(
        (status, &problem["search"]),
        (400, &json!(["Ensure this field has no more than 200 characters."]))
    );
}
