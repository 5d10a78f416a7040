//! The lists of comments, page by page.

use std::time::Duration;

use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _};

use super::{acme, comment, delete, page, replies, reply};
use crate::support::{Organization, TestApp, User, assert_counts};

fn bodies(list: &Value) -> Vec<&str> {
    list["results"].as_array().unwrap().iter().map(|comment| comment["body"].as_str().unwrap()).collect()
}

/// Puts comments on a page, numbered as their texts say, behind the service's back.
async fn fill(app: &TestApp, acme: &Organization, on: &User, count: i64) {
    let (schema, pk) = (acme.schema(), &on.pk);
    let sql = format!(
        r#"SET search_path TO "{schema}";
        INSERT INTO comments (id, user_pk, author_pk, number, body, created_at)
            SELECT gen_random_uuid(), '{pk}', '{pk}', n, 'number ' || n, '2025-01-01Z'::timestamptz + n * interval '1 s'
            FROM generate_series(1, {count}) AS n;
        INSERT INTO lists (kind, owner, numbered, numbered_at) VALUES ('page', '{pk}', {count}, '2026-01-01Z');
        INSERT INTO list_blocks (kind, owner, block, total)
            SELECT 'page', '{pk}', n / 1024, count(*) FROM generate_series(1, {count}) AS n GROUP BY 3;
        UPDATE users SET comment_count = {count} WHERE pk = '{pk}';
        ANALYZE comments"#
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn threads_are_in_their_orders_and_can_be_searched() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    assert_eq!(
        ann.get(&page(&ann)).await,
        json!({"count": 0, "next": null, "previous": null, "results": []})
    );
    let mut top = Value::Null;
    for n in 0..3 {
        top = comment(&bob, &ann, &format!("Top {n} 100%")).expect(201).await;
    }
    for n in 0..3 {
        reply(&ann, &ann, &top, &format!("reply {n}")).expect(201).await;
    }
    comment(&bob, &bob, "top elsewhere").expect(201).await;
    let (page, replies) = (page(&ann), replies(&top));
    for (path, query, expected) in [
        (&page, "", vec!["Top 2 100%", "Top 1 100%", "Top 0 100%"]),
        (&page, "ordering=created_at", vec!["Top 0 100%", "Top 1 100%", "Top 2 100%"]),
        (&page, "ordering=body", vec!["Top 2 100%", "Top 1 100%", "Top 0 100%"]),
        (&page, "search=1 TOP", vec!["Top 2 100%", "Top 1 100%", "Top 0 100%"]),
        (&page, "search=op 2&ordering=created_at", vec!["Top 2 100%"]),
        (&page, "search=0%25", vec!["Top 2 100%", "Top 1 100%", "Top 0 100%"]),
        (&page, "search=reply", vec![]),
        (&replies, "", vec!["reply 0", "reply 1", "reply 2"]),
        (&replies, "ordering=-created_at", vec!["reply 2", "reply 1", "reply 0"]),
        (&replies, "search=2", vec!["reply 2"]),
    ] {
        let list = ann.get(&format!("{path}?{query}")).await;
        assert_eq!(
            (bodies(&list), &list["count"]),
            (expected.clone(), &json!(expected.len())),
            "{path}?{query}"
        );
    }
    let second = ann.get(&format!("{page}?page_size=2&page=2")).await;
    assert_eq!(bodies(&second), ["Top 0 100%"]);
    assert!(second["previous"].as_str().unwrap().ends_with(&format!("{page}?page_size=2")), "{second}");
    let beyond = ann.request("GET", &format!("{page}?page=2")).send().await;
    assert_eq!(beyond.problem()["detail"], "Invalid page.");
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_pages_are_right_where_comments_are_gone() {
    const ALL: i64 = 3_100;
    let app = TestApp::start().await;
    let (acme, [ann]) = acme(&app, ["ann"]).await;
    fill(&app, &acme, &ann, ALL).await;
    assert_counts(&app, &acme).await;
    let mut left: Vec<i64> = (1..=ALL).collect();
    for gone in [1, 2, 1_023, 1_024, 1_025, 2_047, 2_048, ALL] {
        let path = format!(
            "{}?search=number&page_size=1&page={}",
            page(&ann),
            1 + left.iter().rev().position(|n| *n == gone).unwrap()
        );
        let found = ann.get(&path).await;
        assert_eq!(found["results"][0]["body"], format!("number {gone}"));
        delete(&ann, &found["results"][0]).expect(204).await;
        left.retain(|n| *n != gone);
    }
    assert_counts(&app, &acme).await;
    let mut descending = left.clone();
    descending.reverse();
    for (ordering, expected) in [("created_at", &left), ("-created_at", &descending)] {
        for number in [1, 2, 10, 11, 12, 20, 21, 22, 30, 31] {
            let path = format!("{}?ordering={ordering}&page_size=100&page={number}", page(&ann));
            let list = ann.get(&path).await;
            let shown = expected.chunks(100).nth(number - 1).unwrap();
            let shown: Vec<String> = shown.iter().map(|n| format!("number {n}")).collect();
            assert_eq!(
                (bodies(&list), &list["count"]),
                (shown.iter().map(String::as_str).collect(), &json!(left.len())),
                "{path}"
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_comment_is_later_than_those_before_whatever_the_clock_says() {
    let app = TestApp::start().await;
    let (acme, [ann]) = acme(&app, ["ann"]).await;
    // As a process would write whose clock is ahead.
    fill(&app, &acme, &ann, 1).await;
    let sql = format!(
        r#"UPDATE "{}".lists SET numbered_at = '2026-01-02T04:00:00Z' WHERE kind = 'page'"#,
        acme.schema()
    );
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
    let written = comment(&ann, &ann, "late").expect(201).await;
    assert_eq!(written["created_at"], "2026-01-02T04:00:00.000001Z");
    app.clock.advance(Duration::from_secs(1));
    let edited = super::edit(&ann, &written, "later").expect(200).await;
    assert_eq!(edited["edited_at"], written["created_at"], "not before it was written");
    assert_eq!(bodies(&ann.get(&page(&ann)).await), ["later", "number 1"]);
    assert_counts(&app, &acme).await;
}
