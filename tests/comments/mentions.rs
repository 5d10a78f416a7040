//! Whom a comment mentions, and who is told of it.

use serde_json::{Value, json};

use super::{acme, comment, delete, done, edit, path, reply, told};
use crate::support::{Organization, Person, TestApp, User, assert_counts};

fn mentioned(comment: &Value) -> Vec<&str> {
    let mentions = comment["mentions"].as_array().unwrap();
    mentions.iter().map(|mention| mention["username"].as_str().unwrap()).collect()
}

async fn deactivate(app: &TestApp, acme: &Organization, user: &User) {
    acme.change(app, user, "is_active = false").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_found_in_the_text() {
    let app = TestApp::start().await;
    let names = ["ann", "Straße", "re\u{301}ne", "dot.", "dot", "a-b", "b"];
    let (acme, [ann, ..]) = acme(&app, names).await;
    for (text, expected) in [
        ("@Ann, @ANN and ann", vec!["ann"]),
        ("@STRASSE @réne @ｂ", vec!["Straße", "réne", "b"]),
        ("see @dot. or @dot.. or @a-b- (@b)", vec!["dot.", "a-b", "b"]),
        ("@dot, @dot..", vec!["dot", "dot."]),
        ("mail a@b, ann@ann.example @nobody @@ann @ann@b https://x/@ann", vec![]),
        ("@b @ann @b", vec!["b", "ann"]),
    ] {
        let written = comment(&ann, &ann, text).expect(201).await;
        assert_eq!(mentioned(&written), expected, "{text}");
        assert_eq!(ann.get(&path(&written)).await, written);
    }
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn names_are_those_of_today() {
    let app = TestApp::start().await;
    let (acme, [ann, bob, cid]) = acme(&app, ["ann", "bob", "cid"]).await;
    deactivate(&app, &acme, &cid).await;
    let written = comment(&ann, &ann, "@bob @cid").expect(201).await;
    assert_eq!(mentioned(&written), ["bob"], "who may not sign in is not mentioned");
    bob.request("PATCH", "/api/current_user/").json(&json!({"username": "robert"})).expect(200).await;
    assert_eq!(mentioned(&ann.get(&path(&written)).await), ["robert"]);
    deactivate(&app, &acme, &bob).await;
    assert_eq!(mentioned(&ann.get(&path(&written)).await), ["robert"]);
    let edited = edit(&ann, &written, "@robert!").expect(200).await;
    assert_eq!(mentioned(&edited), ["robert"], "he was mentioned before");
    acme.owner.request("DELETE", &format!("/api/users/{}/", bob.pk)).expect(204).await;
    assert_eq!(ann.get(&path(&written)).await["mentions"], json!([]));
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_is_told_once_of_what_concerns_him_most() {
    let app = TestApp::start().await;
    let (acme, [ann, bob, cid]) = acme(&app, ["ann", "bob", "cid"]).await;
    let top = comment(&bob, &ann, "hello @bob").expect(201).await;
    assert_eq!(told(&app, &acme).await, ["ann: comment by bob"], "nobody is told of his own doing");
    assert_eq!(done(&app, &acme).await, ["bob commented ann"]);
    reply(&cid, &ann, &top, "hello").expect(201).await;
    assert_eq!(told(&app, &acme).await[1..], ["ann: comment by cid", "bob: reply by cid"]);
    reply(&ann, &ann, &top, "@cid @bob @ann").expect(201).await;
    assert_eq!(told(&app, &acme).await[3..], ["bob: mention by ann", "cid: mention by ann"]);
    assert_eq!(
        done(&app, &acme).await[1..],
        ["cid replied", "ann replied", "ann mentioned cid", "ann mentioned bob"]
    );
    comment(&bob, &ann, "@ann").expect(201).await;
    assert_eq!(told(&app, &acme).await[5..], ["ann: mention by bob"]);
    deactivate(&app, &acme, &ann).await;
    deactivate(&app, &acme, &bob).await;
    reply(&cid, &ann, &top, "@ann @bob are you there?").expect(201).await;
    assert_eq!(told(&app, &acme).await.len(), 6, "who may not sign in is told nothing");
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_tells_whom_it_mentions_first() {
    let app = TestApp::start().await;
    let (acme, [ann, bob, cid]) = acme(&app, ["ann", "bob", "cid"]).await;
    let written = comment(&ann, &bob, "hello").expect(201).await;
    let edited = edit(&ann, &written, "hello @cid, @bob").expect(200).await;
    assert_eq!(mentioned(&edited), ["cid", "bob"]);
    let expected = ["bob: comment by ann", "cid: mention by ann"];
    assert_eq!(told(&app, &acme).await, expected, "bob was told of this comment before");
    let expected = ["ann commented bob", "ann mentioned cid", "ann mentioned bob"];
    assert_eq!(done(&app, &acme).await, expected);
    for text in ["hello @bob, @cid and @ann", "nobody", "@cid again"] {
        edit(&ann, &written, text).expect(200).await;
    }
    assert_eq!(told(&app, &acme).await.len(), 2, "of one comment nobody is told twice");
    assert_eq!(ann.get(&path(&written)).await["mentions"], json!([{"pk": cid.pk, "username": "cid"}]));
    // What he has deleted, he was told all the same.
    let shown = cid.get("/api/notifications/").await["results"][0].clone();
    let notification = format!("/api/notifications/{}/", shown["id"].as_str().unwrap());
    cid.request("DELETE", &notification).expect(204).await;
    for text in ["nobody", "@cid once more"] {
        edit(&ann, &written, text).expect(200).await;
    }
    assert_eq!(cid.get("/api/notifications/").await["results"], json!([]));
    assert_eq!(cid.request("GET", &notification).send().await.status, 404);
    delete(&ann, &written).expect(204).await;
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_text_mentions_fifty_people_at_most() {
    let app = TestApp::start().await;
    let (acme, [ann]) = acme(&app, ["ann"]).await;
    let names: Vec<String> = (0..52).map(|n| format!("user-{n:02}")).collect();
    for name in &names {
        acme.add_account(&app, Person::named(name)).await;
    }
    let text: Vec<String> = names.iter().map(|name| format!("@{name}.")).collect();
    let written = comment(&ann, &ann, &text.join(" ")).expect(201).await;
    assert_eq!(mentioned(&written), names[..50]);
    assert_eq!(told(&app, &acme).await.len(), 50);
    assert_counts(&app, &acme).await;
}
