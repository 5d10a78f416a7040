//! New tokens for old ones, and what becomes of those that are used again.

use std::time::{Duration, Instant};

use data_encoding::BASE64URL_NOPAD;
use futures_util::future::join_all;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection, Row as _};

use crate::support::{Organization, Person, TestApp, User, assert_not_valid};

const DAY: Duration = Duration::from_hours(24);
/// How long a refresh token gives the same successor again.
const GRACE: Duration = Duration::from_secs(10);

/// Refreshes, and returns the session with its new tokens.
async fn refreshed(user: &User) -> User {
    user.with(&user.refresh().expect(200).await)
}

/// Everything the tables have on sessions.
async fn rows(app: &TestApp, organization: &Organization) -> Vec<Value> {
    let sql = format!(r#"SELECT to_jsonb(s) FROM "{}".sessions s ORDER BY id"#, organization.schema());
    let rows = app.superuser().await.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_answers_with_new_tokens_of_the_same_session() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let before = &acme.owner;
    app.clock.advance(DAY);
    assert_not_valid(&before.me().await, "a day later");

    let answer = before.refresh().send().await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, "no-store"), "{}", answer.text);
    let tokens = answer.json();
    assert_eq!(
        tokens,
        json!({
            "token": tokens["token"], "token_expiration": "2026-01-03T03:14:05Z",
            "refresh": tokens["refresh"], "refresh_expiration": "2026-02-02T03:04:05.678901Z",
        })
    );
    let after = before.with(&tokens);
    assert_ne!(after.refresh, before.refresh);
    assert_eq!(after.me().await.json()["pk"], json!(before.pk));
    let sessions = after.get("/api/sessions/").await;
    assert_eq!((&sessions["count"], &sessions["results"][0]["current"]), (&json!(1), &json!(true)));
    // Where there is no host to name the organization, a header does.
    let by_header = app.request("POST", "/api/token/refresh/").header("x-tenant", "acme");
    by_header.json(&json!({"refresh": after.refresh})).expect(200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_refreshes_at_once_give_one_successor() {
    let app = TestApp::start().await;
    let other_process = app.beside().await;
    let acme = app.sign_up("acme").await;
    let there = acme.owner.at(&other_process);
    let all = (0..20).map(|n| if n % 2 == 0 { &acme.owner } else { &there }.refresh().expect(200));
    let answers = join_all(all).await;
    for answer in &answers {
        assert_eq!(answer["refresh"], answers[0]["refresh"]);
        assert_eq!(answer["refresh_expiration"], answers[0]["refresh_expiration"]);
        assert_eq!(acme.owner.with(answer).me().await.status, 200);
    }
    let rows = rows(&app, &acme).await;
    assert_eq!((rows.len(), &rows[0]["generation"]), (1, &json!(1)), "one rotation for all of them");
    refreshed(&acme.owner.with(&answers[0])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_was_overtaken_does_not_bring_the_past_back() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let schema = acme.schema();
    let mut superuser = app.superuser().await;
    // Kept twice: as it is before any refresh, and as it is after two of them.
    superuser
        .execute(AssertSqlSafe(format!(
            r#"CREATE TABLE public.before AS SELECT * FROM "{schema}".sessions; SET search_path TO "{schema}""#
        )))
        .await
        .unwrap();
    let newest = refreshed(&refreshed(&acme.owner).await).await;
    let set = |from: &str| {
        AssertSqlSafe(format!(
            "UPDATE sessions s SET generation = f.generation, refresh_hash = f.refresh_hash FROM public.{from} f"
        ))
    };
    superuser.execute("CREATE TABLE public.after AS SELECT * FROM sessions").await.unwrap();
    superuser.execute(set("before")).await.unwrap();

    superuser.execute("BEGIN").await.unwrap();
    superuser.execute(set("after")).await.unwrap();
    let late = tokio::spawn(acme.owner.refresh().send());
    let mut watcher = app.superuser().await;
    until_one_waits(&mut watcher).await;
    superuser.execute("COMMIT").await.unwrap();
    assert_not_valid(&late.await.unwrap(), "two successors were used while it waited");
    assert_not_valid(&newest.me().await, "its session has ended");
}

/// Waits until a statement waits for a lock, and fails where that takes unreasonably long.
async fn until_one_waits(watcher: &mut PgConnection) {
    const WAITING: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' \
                           AND datname = current_database()";
    let end = Instant::now() + Duration::from_secs(20);
    while watcher.fetch_one(WAITING).await.unwrap().get::<i64, _>(0) == 0 {
        assert!(Instant::now() < end, "it never came to that");
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_whose_answer_was_lost_can_be_sent_again_for_ten_seconds() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let first = acme.owner.refresh().expect(200).await;
    let row = rows(&app, &acme).await;
    app.clock.advance(GRACE);
    let again = acme.owner.refresh().expect(200).await;
    for name in ["refresh", "refresh_expiration"] {
        assert_eq!(again[name], first[name]);
    }
    assert_ne!(again["token"], first["token"]);
    assert_eq!(rows(&app, &acme).await, row, "nothing changes by it");
    assert_eq!(acme.owner.with(&again).me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_used_again_after_ten_seconds_ends_its_session() {
    let app = TestApp::start().await;
    let other_process = app.beside().await;
    let acme = app.sign_up("acme").await;
    let (thief, other) = (acme.owner.clone(), acme.sign_in(&app).await);
    let victim = refreshed(&acme.owner).await;
    assert_eq!(victim.at(&other_process).me().await.status, 200);

    app.clock.advance(GRACE + Duration::from_micros(1));
    assert_not_valid(&thief.refresh().send().await, "used again");
    for ended in [&thief, &victim] {
        assert_not_valid(&ended.me().await, "an access token of the session");
        assert_not_valid(&ended.at(&other_process).me().await, "at another process");
        assert_not_valid(&ended.refresh().send().await, "a refresh token of the session");
    }
    assert_eq!(other.me().await.status, 200, "another session of the same user goes on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_used_again_after_its_successor_ends_its_session_at_once() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let first = &acme.owner;
    let second = refreshed(first).await;
    let third = refreshed(&second).await;
    // The one before still gives the same successor; the one before that is spent.
    assert_eq!(refreshed(&second).await.refresh, third.refresh);
    assert_not_valid(&first.refresh().send().await, "used again");
    assert_not_valid(&third.me().await, "the session");
    assert_not_valid(&third.refresh().send().await, "the newest token");
}

#[tokio::test(flavor = "multi_thread")]
async fn however_old_a_token_is_it_ends_its_session_when_it_is_used_again() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let mut newest = acme.owner.clone();
    for _ in 0..12 {
        app.clock.advance(DAY);
        newest = refreshed(&newest).await;
    }
    assert_eq!(newest.me().await.status, 200);
    assert_not_valid(&acme.owner.refresh().send().await, "the first of thirteen");
    assert_not_valid(&newest.me().await, "the session");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_made_up_is_not_valid_and_ends_nothing() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;
    let newest = refreshed(&refreshed(&acme.owner).await).await;
    let before = rows(&app, &acme).await;
    let real = BASE64URL_NOPAD.decode(newest.refresh.as_bytes()).unwrap();
    let with = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = real.clone();
        change(&mut bytes);
        BASE64URL_NOPAD.encode(&bytes)
    };
    let mut forged = vec![
        ("an access token", newest.token.clone()),
        ("garbage", "garbage".to_owned()),
        ("padded", format!("{}==", newest.refresh)),
        ("cut", newest.refresh[..69].to_owned()),
        ("longer", with(&|bytes| bytes.push(0))),
        ("4,096 characters", "a".repeat(4_096)),
        ("no letters of the alphabet", "ü".repeat(70)),
        ("another secret", with(&|bytes| bytes[20..].fill(7))),
        ("one bit of the secret", with(&|bytes| bytes[51] ^= 1)),
        ("another session", with(&|bytes| bytes[15] ^= 1)),
        (
            "another user's session",
            with(&|bytes| {
                let of_ann = BASE64URL_NOPAD.decode(ann.refresh.as_bytes()).unwrap();
                bytes[..20].copy_from_slice(&of_ann[..20]);
            }),
        ),
    ];
    for generation in [0, 1, 3, 4, u32::MAX] {
        forged.push((
            "another generation",
            with(&|bytes| bytes[16..20].copy_from_slice(&generation.to_be_bytes())),
        ));
    }
    // What stands in the row is worth nothing to who can read it.
    let hash = newest_hash(&before, &newest);
    forged.push(("the hash", with(&|bytes| bytes[20..].copy_from_slice(&hash))));
    for (what, token) in forged {
        assert_not_valid(&newest.refresh_with(&token).send().await, what);
    }
    assert_eq!(rows(&app, &acme).await, before);
    assert_eq!(newest.me().await.status, 200);
    refreshed(&newest).await;
}

/// The hash in the row of this user.
fn newest_hash(rows: &[Value], user: &User) -> Vec<u8> {
    let row = rows.iter().find(|row| row["user_pk"] == json!(user.pk)).unwrap();
    let hash = row["refresh_hash"].as_str().unwrap();
    data_encoding::HEXLOWER.decode(hash.strip_prefix("\\x").unwrap().as_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_lasts_thirty_days_after_each_refresh_and_ninety_days_at_most() {
    /// In microseconds.
    const MONTH: u64 = 30 * 24 * 60 * 60 * 1_000_000;
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let idle = acme.sign_in(&app).await;
    app.clock.advance(Duration::from_micros(MONTH - 1));
    let used = refreshed(&acme.owner).await;
    app.clock.advance(Duration::from_micros(1));
    assert_not_valid(&idle.refresh().send().await, "thirty days after the login");

    app.clock.advance(Duration::from_micros(MONTH - 2));
    let used = refreshed(&used).await;
    app.clock.advance(10 * DAY);
    let tokens = used.refresh().expect(200).await;
    assert_eq!(tokens["refresh_expiration"], "2026-04-02T03:04:05.678901Z", "ninety days after the login");
    app.clock.advance(20 * DAY);
    let last = refreshed(&used.with(&tokens)).await;
    assert_eq!(last.me().await.status, 200);
    app.clock.advance(Duration::from_micros(2));
    assert_not_valid(&last.refresh().send().await, "ninety days after the login");
    assert_not_valid(&last.me().await, "ninety days after the login");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_sign_in_may_not_stay_signed_in() {
    let app = TestApp::start().await;
    let other_process = app.beside().await;
    let acme = app.sign_up("acme").await;
    let beta = app.sign_up("beta").await;
    let ann = acme.add_user(&app, Person::named("ann")).await;

    assert_not_valid(&beta.owner.refresh_with(&ann.refresh).send().await, "at another organization");
    acme.change(&app, &ann, "is_active = false").await;
    assert_not_valid(&ann.at(&other_process).refresh().send().await, "deactivated");
    acme.change(&app, &ann, "is_active = true, role = 'admin'").await;
    let ann = refreshed(&ann).await;
    assert_eq!(ann.me().await.json()["role"], "admin");

    app.app.tenancy.set_suspended(&"acme".parse().unwrap(), true).await.unwrap();
    for process in [&app, &other_process] {
        let answer = ann.at(process).refresh().send().await;
        assert_eq!(answer.said(), (403, "tenant_suspended".into()));
    }
    app.app.tenancy.set_suspended(&"acme".parse().unwrap(), false).await.unwrap();
    let ann = refreshed(&ann).await;

    ann.request("POST", "/api/logout/").expect(200).await;
    assert_not_valid(&ann.refresh().send().await, "after the logout");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_without_its_token_is_told_so() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    for (body, sentence) in [
        (json!({}), "This field is required."),
        (json!({"refresh": null}), "This field may not be null."),
        (json!({"refresh": " "}), "This field may not be blank."),
        (json!({"refresh": 1}), "Not a valid string."),
    ] {
        let request = app.request("POST", "/api/token/refresh/").host(&acme.host(&app));
        let answer = request.json(&body).send().await;
        assert_eq!(answer.said(), (400, "invalid".into()), "{body}");
        assert_eq!(answer.json()["refresh"], json!([sentence]), "{body}");
    }
}
