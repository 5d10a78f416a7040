//! What becomes of comments when people go, and how much work it is.

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;

use super::{acme, comment, comment_count, page, path, reply, texts};
use crate::support::{TestApp, assert_counts};

#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_wrote_stays_and_his_page_goes() {
    let app = TestApp::start().await;
    let (acme, [ann, bob, cid]) = acme(&app, ["ann", "bob", "cid"]).await;
    let on_ann = comment(&bob, &ann, "by bob @cid").expect(201).await;
    let answer = reply(&bob, &ann, &on_ann, "by bob").expect(201).await;
    let on_bob = comment(&ann, &bob, "on bob's page").expect(201).await;
    let under = reply(&cid, &bob, &on_bob, "under it").expect(201).await;
    let exported = bob.get("/api/current_user/export/").await["comments"].clone();
    let written = |comment: &Value| {
        json!({
            "id": comment["id"], "user": ann.pk, "parent": comment["parent"], "body": comment["body"],
            "created_at": comment["created_at"], "edited_at": null,
        })
    };
    assert_eq!(exported, json!([written(&answer), written(&on_ann)]));

    acme.owner.request("DELETE", &format!("/api/users/{}/", bob.pk)).expect(204).await;
    for (comment, replies) in [(&on_ann, 1), (&answer, 0)] {
        let mut expected = comment.clone();
        expected["author"] = Value::Null;
        expected["reply_count"] = json!(replies);
        assert_eq!(ann.get(&path(comment)).await, expected);
    }
    assert_eq!(ann.get(&page(&ann)).await["results"][0]["author"], Value::Null);
    assert_eq!(comment_count(&ann, &ann).await, 2, "they still stand");
    for gone in [path(&on_bob), path(&under), page(&bob)] {
        assert_eq!(ann.request("GET", &gone).send().await.said(), (404, "not_found".into()), "{gone}");
    }
    assert_counts(&app, &acme).await;
    // Who manages people can still delete what nobody is the author of; nobody can change it.
    assert_eq!(super::edit(&ann, &answer, "x").send().await.said(), (403, "permission_denied".into()));
    super::delete(&acme.owner, &answer).expect(204).await;
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_with_very_many_comments_can_go() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    // 100,000 on his page, half of them replies, and 50,000 of his own elsewhere.
    let (schema, bob_pk, ann_pk) = (acme.schema(), &bob.pk, &ann.pk);
    let sql = format!(
        r#"SET search_path TO "{schema}";
        CREATE TEMPORARY TABLE tops AS SELECT n, gen_random_uuid() AS id FROM generate_series(1, 50000) AS n;
        INSERT INTO comments (id, user_pk, author_pk, number, body, reply_count, created_at)
            SELECT id, '{bob_pk}', '{ann_pk}', n, 'x', 1, '2025-01-01Z'::timestamptz + n * interval '1 s' FROM tops;
        INSERT INTO comments (id, user_pk, author_pk, parent, number, body, created_at)
            SELECT gen_random_uuid(), '{bob_pk}', '{ann_pk}', id, 1, 'x', '2025-01-01Z' FROM tops;
        INSERT INTO comments (id, user_pk, author_pk, number, body, created_at)
            SELECT gen_random_uuid(), '{ann_pk}', '{bob_pk}', n, 'x', '2025-01-01Z'::timestamptz + n * interval '1 s' FROM tops;
        INSERT INTO lists (kind, owner, numbered, numbered_at)
            SELECT 'replies', id, 1, '2025-01-01Z'::timestamptz FROM tops
            UNION ALL VALUES ('page', '{bob_pk}'::uuid, 50000, '2026-01-01Z'::timestamptz), ('page', '{ann_pk}', 50000, '2026-01-01Z');
        INSERT INTO list_blocks (kind, owner, block, total)
            SELECT 'replies', id, 0, 1 FROM tops
            UNION ALL SELECT 'page', u::uuid, n / 1024, count(*) FROM tops, (VALUES ('{bob_pk}'), ('{ann_pk}')) AS v (u) GROUP BY 2, 3;
        UPDATE users SET comment_count = CASE pk WHEN '{bob_pk}' THEN 100000 ELSE 50000 END WHERE pk IN ('{bob_pk}', '{ann_pk}');
        ANALYZE comments, lists, list_blocks"#
    );
    sqlx::raw_sql(AssertSqlSafe(sql)).execute(&mut app.superuser().await).await.unwrap();
    assert_counts(&app, &acme).await;
    acme.owner.request("DELETE", &format!("/api/users/{}/", bob.pk)).expect(204).await;
    assert_eq!(ann.get(&page(&ann)).await["count"], 50_000);
    assert_eq!(texts(&app, &acme, "SELECT owner::text FROM lists WHERE kind = 'replies'").await, [""; 0]);
    assert_counts(&app, &acme).await;
}
