//! Many write at once, and what is counted stays what is there.

use futures_util::future::join_all;
use serde_json::{Value, json};

use super::{acme, comment, delete, edit, page, path, reply};
use crate::support::{Answer, Options, PASSWORD, Request, TestApp, assert_counts};

/// Sends all of them, each from a task of its own, so that they really run at once.
async fn at_once(requests: impl IntoIterator<Item = Request>) -> Vec<Answer> {
    let tasks = requests.into_iter().map(|request| tokio::spawn(request.send()));
    join_all(tasks).await.into_iter().map(Result::unwrap).collect()
}

fn statuses(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn comments_and_replies_written_at_once_are_all_counted() {
    let app = TestApp::start().await;
    let (acme, [ann, bob, cid]) = acme(&app, ["ann", "bob", "cid"]).await;
    let top = comment(&ann, &ann, "top").expect(201).await;
    let everybody = [&ann, &bob, &cid, &acme.owner];
    let requests = (0..48).map(|n| {
        let (by, on) = (everybody[n % 4], everybody[n / 4 % 3]);
        match n % 3 {
            0 => reply(by, &ann, &top, "@bob @ann @cid"),
            _ => comment(by, on, "@cid and @bob, @ann"),
        }
    });
    let answers = at_once(requests).await;
    assert_eq!(statuses(&answers, 201), 48, "{answers:?}");
    assert_eq!(ann.get(&path(&top)).await["reply_count"], 16);
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_races_replies() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    let (mut refused, mut accepted) = (0, 0);
    for _ in 0..12 {
        let top = comment(&ann, &bob, "top").expect(201).await;
        let mut requests: Vec<Request> = (0..5).map(|_| reply(&bob, &bob, &top, "reply @ann")).collect();
        requests.insert(2, delete(&ann, &top));
        requests.insert(4, delete(&acme.owner, &top));
        requests.insert(1, edit(&ann, &top, "other @bob"));
        let answers = at_once(requests).await;
        for answer in &answers {
            assert!([200, 201, 204, 400, 404].contains(&answer.status), "{answer:?}");
        }
        assert_eq!(statuses(&answers, 204), 1, "one of the two deletes: {answers:?}");
        let written = statuses(&answers, 201);
        let place = ann.request("GET", &path(&top)).send().await;
        match written {
            0 => assert_eq!(place.status, 404),
            _ => assert_eq!(
                (&place.json()["is_deleted"], &place.json()["reply_count"]),
                (&json!(true), &json!(written))
            ),
        }
        (refused, accepted) = (refused + statuses(&answers, 400), accepted + written);
        assert_counts(&app, &acme).await;
    }
    assert!(refused > 0 && accepted > 0, "no race: {refused} replies refused, {accepted} written");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_who_delete_one_comment_one_does() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    for _ in 0..5 {
        let top = comment(&ann, &bob, "top").expect(201).await;
        let answer = reply(&ann, &bob, &top, "reply").expect(201).await;
        // Whichever goes first, at the end neither the comment nor its place is there.
        let requests = (0..10).map(|n| {
            let what = if n % 2 == 0 { &top } else { &answer };
            delete(if n % 3 == 0 { &acme.owner } else { &ann }, what)
        });
        let answers = at_once(requests).await;
        assert_eq!((statuses(&answers, 204), statuses(&answers, 404)), (2, 8), "{answers:?}");
        assert_eq!(bob.get(&page(&bob)).await["count"], 0);
        assert_counts(&app, &acme).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_replies_take_the_place_along_once() {
    let app = TestApp::start().await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    for _ in 0..5 {
        let top = comment(&ann, &bob, "top").expect(201).await;
        let mut all: Vec<Value> = Vec::new();
        for _ in 0..4 {
            all.push(reply(&bob, &bob, &top, "reply").expect(201).await);
        }
        delete(&ann, &top).expect(204).await;
        let answers = at_once(all.iter().map(|one| delete(&bob, one))).await;
        assert_eq!(statuses(&answers, 204), 4, "{answers:?}");
        assert_eq!(ann.request("GET", &path(&top)).send().await.status, 404);
        assert_counts(&app, &acme).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_deleted_while_its_owner_writes() {
    let app = TestApp::start().await;
    let (acme, [ann]) = acme(&app, ["ann"]).await;
    for round in 0..4 {
        let name = format!("bob-{round}");
        let bob = acme.add_user(&app, crate::support::Person::named(&name)).await;
        let top = comment(&bob, &ann, "top").expect(201).await;
        let mine = comment(&ann, &bob, "on his page").expect(201).await;
        let own = reply(&bob, &ann, &top, "own reply").expect(201).await;
        let text = format!("@{name} @ann");
        let mut requests = Vec::new();
        for _ in 0..3 {
            requests.push(comment(&bob, &ann, &text));
            requests.push(comment(&ann, &bob, &text));
            requests.push(reply(&ann, &ann, &top, &text));
            requests.push(reply(&bob, &bob, &mine, &text));
        }
        let gone = bob.request("DELETE", "/api/current_user/").json(&json!({"password": PASSWORD}));
        requests.insert(2, delete(&acme.owner, &own));
        requests.insert(6, edit(&bob, &top, &text));
        requests.insert(1, gone);
        let answers = at_once(requests).await;
        for answer in &answers {
            assert!([200, 201, 204, 400, 401, 404].contains(&answer.status), "{answer:?}");
        }
        assert_eq!(answers[1].status, 204, "{:?}", answers[1]);
        assert_eq!(ann.get(&path(&top)).await["author"], Value::Null);
        assert_eq!(ann.request("GET", &path(&mine)).send().await.status, 404);
        assert_counts(&app, &acme).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_writes_and_who_deletes_never_wait_for_each_other_in_a_circle() {
    let app = TestApp::with(Options { lane_pool_size: 16, ..Options::default() }).await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    let mut written = Vec::new();
    for n in 0..24 {
        written.push(comment(&ann, &ann, &format!("comment {n}")).expect(201).await);
    }
    let (last, others) = written.split_last().unwrap();
    // A place that goes with the last of its replies is a case of its own.
    let kept = reply(&bob, &ann, last, "reply").expect(201).await;
    delete(&ann, last).expect(204).await;
    let mut requests: Vec<Request> = others.iter().map(|comment| delete(&acme.owner, comment)).collect();
    requests.push(delete(&bob, &kept));
    let new = (0..24).map(|_| comment(&bob, &ann, "another"));
    let requests: Vec<Request> = requests.into_iter().zip(new).flat_map(|(old, new)| [old, new]).collect();
    let answers = at_once(requests).await;
    // PostgreSQL finds a circle after a second and breaks it: one of the two is told to come again.
    assert_eq!((statuses(&answers, 204), statuses(&answers, 201)), (24, 24), "{answers:?}");
    assert_counts(&app, &acme).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_never_stops_writing_can_be_stopped() {
    let options = Options { lane_pool_size: 24, rate_limits: false, ..Options::default() };
    let app = TestApp::with(options).await;
    let (acme, [ann, bob]) = acme(&app, ["ann", "bob"]).await;
    let writers: Vec<_> = (0..12)
        .map(|_| {
            let (ann, bob) = (ann.clone(), bob.clone());
            tokio::spawn(async move {
                let mut count = 0;
                // Until his access ends, or, where that cannot be had, for longer than a statement may wait.
                while count < 1_000 && comment(&ann, &bob, "again").send().await.status == 201 {
                    count += 1;
                }
                count
            })
        })
        .collect();
    let path = format!("/api/users/{}/", ann.pk);
    for patch in [json!({"role": "admin"}), json!({"role": "member"}), json!({"is_active": false})] {
        acme.owner.request("PATCH", &path).json(&patch).expect(200).await;
    }
    for writer in writers {
        assert!(writer.await.unwrap() < 1_000, "he wrote all he wanted to");
    }
    assert_counts(&app, &acme).await;
}
