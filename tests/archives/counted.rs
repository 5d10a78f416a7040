//! What follows from the rows of an archive is made anew, whatever the archive says.

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _, Row as _};
use tenants::SchemaName;

use super::{
    forgery::Forgery,
    round_trip::{as_of, lively},
    support::{export, import, refusal, rows, tamper},
};
use crate::support::{Organization, Person, TestApp};

/// The lists of a tenant. What is only counted may have been counted with more that came and more that went, and of what
/// happened only the list of all says when.
async fn lists(app: &TestApp, schema: &SchemaName) -> Vec<String> {
    let sql = format!(
        r#"SELECT CASE WHEN kind LIKE 'users %' THEN (kind, numbered - removed)::text
                       WHEN kind LIKE 'activity%' AND (kind, owner::text) <> ('activity', '00000000-0000-0000-0000-000000000000')
                       THEN (kind, owner, numbered, removed)::text
                       ELSE (kind, owner, numbered, removed, numbered_at)::text END
           FROM "{schema}".lists WHERE kind <> 'invitations' AND numbered > removed ORDER BY 1"#
    );
    let rows = app.superuser().await.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_lists_are_counted_as_they_were() {
    let app = TestApp::start().await;
    let (acme, grace) = lively(&app).await;
    let page = format!("/api/users/{}/comments/", acme.owner.pk);
    // Rows that go from the middle of a list: a reply, a comment that leaves its place, something that was read and deleted.
    let comments = acme.owner.get(&page).await["results"].clone();
    let id = |nth: usize| comments[nth]["id"].as_str().unwrap().to_owned();
    let replies = acme.owner.get(&format!("/api/comments/{}/replies/", id(1))).await;
    let reply = replies["results"][0]["id"].as_str().unwrap().to_owned();
    acme.owner.request("DELETE", &format!("/api/comments/{reply}/")).expect(204).await;
    acme.owner.request("DELETE", &format!("/api/comments/{}/", id(1))).expect(204).await;
    acme.owner.request("DELETE", &format!("/api/comments/{}/", id(2))).expect(204).await;
    let told = grace.get("/api/notifications/").await["results"].clone();
    let path = |nth: usize| format!("/api/notifications/{}/", told[nth]["id"].as_str().unwrap());
    grace.request("DELETE", &path(1)).expect(204).await;
    grace.request("PATCH", &path(2)).json(&json!({"read": true})).expect(200).await;
    // Somebody who is gone, and what happened long ago.
    let gone = acme.add_account(&app, Person::named("gone")).await;
    acme.owner.request("DELETE", &format!("/api/users/{}/", gone.pk)).expect(204).await;
    let (old, first) = (acme.schema(), "DELETE FROM activities WHERE number = 1");
    let shorter = format!(
        "UPDATE lists SET removed = 1 WHERE kind IN ('activity', 'activity signed_up') AND owner <> '{}'",
        grace.pk
    );
    tamper(&app, &old, &format!("{first}; {shorter}")).await;

    let (bytes, _) = export(&app, &acme.id).await;
    let copy = import(&app, &bytes, "copy", false).await;
    let (before, after) = (lists(&app, &old).await, lists(&app, &copy.schema).await);
    assert_eq!(after, before);
    for kind in ["users owner true", "page", "replies", "inbox", "activity", "activity commented"] {
        assert!(before.iter().any(|list| list.contains(kind)), "nothing was tried with {kind}");
    }
    let mut blocks = rows(&app, &old, "list_blocks").await;
    blocks.retain(|block| !block.contains(",0,0)"));
    assert_eq!(rows(&app, &copy.schema, "list_blocks").await, blocks);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_archive_says_of_itself_is_not_believed() {
    let app = TestApp::start().await;
    let (acme, grace) = lively(&app).await;
    let (bytes, _) = export(&app, &acme.id).await;
    let honest = import(&app, &bytes, "honest", false).await;
    let mut forged = Forgery::of(&bytes);
    forged.set("users", "comment_count", "", "9999");
    forged.set("users", "username_key", &grace.pk, "zzz");
    forged.set("users", "email_key", &grace.pk, "nobody@example.com");
    forged.set("comments", "reply_count", "", "77");
    forged.set("notifications", "mail", "", "instant");
    let copy = import(&app, &forged.written(), "copy", true).await;
    for table in ["users", "comments", "notifications", "lists", "list_blocks"] {
        let mut expected = as_of(&app, &honest.schema, table, &copy.schema).await;
        expected.sort_unstable();
        assert_eq!(rows(&app, &copy.schema, table).await, expected, "{table}");
    }
    // By what the address is, not by what was said that it is.
    let hash = tenantry::users::blind(&app.app, "nobody@example.com");
    assert!(app.app.tenancy.tenants_with_email(&hash).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_is_numbered_anew_where_it_is_not_one_after_the_other() {
    let app = TestApp::start().await;
    let (acme, grace) = lively(&app).await;
    let (bytes, _) = export(&app, &acme.id).await;
    let honest = import(&app, &bytes, "honest", false).await;
    for (nth, (column, of, value)) in [
        ("number", "\tsigned_up\t", "1000000"),
        ("verb_number", "\tcommented\t", "3"),
        ("actor_number", &grace.pk, "7"),
        ("actor_number", &grace.pk, "\\N"),
        ("actor_verb_number", &grace.pk, "5"),
    ]
    .into_iter()
    .enumerate()
    {
        let mut forged = Forgery::of(&bytes);
        forged.set("activities", column, of, value);
        let copy = import(&app, &forged.written(), &format!("copy-{nth}"), true).await;
        for table in ["activities", "lists"] {
            let mut expected = as_of(&app, &honest.schema, table, &copy.schema).await;
            expected.sort_unstable();
            assert_eq!(rows(&app, &copy.schema, table).await, expected, "{table}: {column} {value}");
        }
    }
    // As it happened: the last is the last.
    let mut forged = Forgery::of(&bytes);
    forged.set("activities", "created_at", "\tsigned_up\t", "2030-01-01 00:00:00+00");
    let copy = import(&app, &forged.written(), "copy", true).await;
    let copy = Organization { id: copy.id.to_string(), slug: "copy".into(), owner: acme.owner.clone() };
    let owner = copy.log_in(&app).await;
    let page = owner.get("/api/activity/").await;
    assert_eq!(page["results"][0]["verb"], "signed_up");
    let comment = json!({"body": "Hello"});
    let comments = format!("/api/users/{}/comments/", owner.pk);
    owner.request("POST", &comments).json(&comment).expect(201).await;
    assert_eq!(owner.get("/api/activity/").await["results"][0]["verb"], "commented");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_who_would_be_one_are_refused() {
    let app = TestApp::start().await;
    let (acme, grace) = lively(&app).await;
    let (bytes, _) = export(&app, &acme.id).await;
    let owner = &acme.owner.username;
    for (column, value, key) in [
        ("username", owner.to_uppercase(), "users_username_key"),
        ("email", "OWNER@acme.example".to_owned(), "users_email_key"),
    ] {
        let mut forged = Forgery::of(&bytes);
        forged.set("users", column, &grace.pk, &value);
        let refused = refusal(&app, &forged.written(), true).await;
        let says = format!("duplicate key value violates unique constraint \"{key}\"");
        assert!(refused.contains(&says), "{refused}");
    }
}
