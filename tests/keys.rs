//! Signing keys that rotate while the service runs, on every process.

use chrono::TimeDelta;
use serde_json::Value;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, Row as _};
use tenantry::auth::{KeyState, Start};

use crate::support::{Options, Organization, TestApp, User, eventually};

/// How long a new key is published before it signs: the document's max-age and a minute.
const PUBLISHED_FIRST: TimeDelta = TimeDelta::minutes(6);
/// How long an old key verifies after its last token was made: the longest lifetime of a token, an operator's, and a minute.
const VERIFIES_ON: TimeDelta = TimeDelta::minutes(16);
const SECOND: TimeDelta = TimeDelta::seconds(1);

async fn two_processes() -> (TestApp, TestApp) {
    let app = TestApp::start().await;
    let other = app.beside().await;
    for app in [&app, &other] {
        eventually("it listens", async || app.app.tenancy.signals().is_listening()).await;
    }
    (app, other)
}

/// The ids of the published keys.
async fn published(app: &TestApp) -> Vec<String> {
    let answer = app.request("GET", "/.well-known/jwks.json").send().await;
    assert_eq!(answer.header("cache-control"), "public, max-age=300");
    let keys = answer.json()["keys"].take();
    keys.as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// The key that a token is signed with.
fn key_of(user: &User) -> String {
    jsonwebtoken::decode_header(&user.token).unwrap().kid.unwrap()
}

async fn status(app: &TestApp, user: &User) -> u16 {
    user.at(app).request("GET", "/api/tenant/").send().await.status
}

fn sorted<const N: usize>(mut keys: [String; N]) -> Vec<String> {
    keys.sort();
    keys.to_vec()
}

async fn states(app: &TestApp) -> Vec<KeyState> {
    app.app.tokens.keys().await.unwrap().iter().map(|key| key.state).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_key_is_published_then_signs_and_the_old_one_runs_out() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    let old = key_of(&acme.owner);
    assert_eq!(published(&other).await, [old.as_str()]);

    let rotation = app.app.tokens.rotate(Start::WhenPublished).await.unwrap();
    let new = rotation.key.kid.clone();
    assert_eq!((rotation.is_new, rotation.key.state), (true, KeyState::Next));
    assert_eq!(rotation.key.signs_from, app.clock.now() + PUBLISHED_FIRST);
    let both = sorted([old.clone(), new.clone()]);
    for app in [&app, &other] {
        eventually("both are published", async || published(app).await == both).await;
    }
    app.clock.advance((PUBLISHED_FIRST - SECOND).to_std().unwrap());
    let last = acme.sign_in(&other).await;
    assert_eq!(key_of(&last), old, "the new key signs too early");

    app.clock.advance(SECOND.to_std().unwrap());
    for app in [&app, &other] {
        assert_eq!(key_of(&acme.sign_in(app).await), new);
        assert_eq!(status(app, &last).await, 200, "a token of the old key");
        assert_eq!(published(app).await, both);
    }
    assert_eq!(states(&app).await, [KeyState::Signing, KeyState::Verifying]);

    app.clock.advance((VERIFIES_ON - SECOND).to_std().unwrap());
    assert_eq!(published(&other).await, both);
    app.clock.advance(SECOND.to_std().unwrap());
    for app in [&app, &other] {
        assert_eq!(published(app).await, [new.as_str()]);
    }
    assert_eq!(states(&app).await, [KeyState::Signing, KeyState::Expired]);
    // The next rotation removes what is over.
    app.app.tokens.rotate(Start::WhenPublished).await.unwrap();
    assert_eq!(states(&app).await, [KeyState::Next, KeyState::Signing]);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_both_keys_count_everywhere_when_the_new_one_signs_at_once() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    assert_eq!(status(&other, &acme.owner).await, 200);
    let rotation = app.app.tokens.rotate(Start::Now).await.unwrap();
    assert_eq!((rotation.is_new, rotation.key.state), (true, KeyState::Signing));
    let new = acme.sign_in(&app).await;
    assert_eq!(key_of(&new), rotation.key.kid);
    eventually("the new one counts", async || status(&other, &new).await == 200).await;
    assert_eq!(status(&other, &acme.owner).await, 200);
    assert_eq!(key_of(&acme.sign_in(&other).await), rotation.key.kid);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_was_never_heard_of_is_loaded_when_it_is_met() {
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    // A process that does not listen, on a clock that stands still: it has no other reason to look.
    let deaf = app.beside_with(Options { listens: false, ..Options::default() }).await;
    let loads = deaf.app.tokens.figures().loads;
    app.app.tokens.rotate(Start::Now).await.unwrap();
    let new = acme.sign_in(&app).await;
    assert_eq!(status(&deaf, &new).await, 401, "within a second of its last look it does not look again");
    assert_eq!(deaf.app.tokens.figures().loads, loads);
    app.clock.advance(SECOND.to_std().unwrap());
    assert_eq!(status(&deaf, &new).await, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn rotations_at_once_are_one() {
    let (app, other) = two_processes().await;
    let rotate = |app: &TestApp| {
        let app = app.app.clone();
        tokio::spawn(async move { app.tokens.rotate(Start::WhenPublished).await.unwrap() })
    };
    let mut superuser = app.superuser().await;
    let mut start = superuser.begin().await.unwrap();
    start.execute("LOCK TABLE tenantry.signing_keys IN EXCLUSIVE MODE").await.unwrap();
    let rotations = [&app, &other, &app, &other].map(rotate);
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    eventually("all are at it", async || {
        let row = app.superuser().await.fetch_one(waiting).await.unwrap();
        row.get::<i64, _>(0) == 4
    })
    .await;
    start.commit().await.unwrap();
    let rotations = futures_util::future::try_join_all(rotations).await.unwrap();
    assert_eq!(rotations.iter().filter(|rotation| rotation.is_new).count(), 1, "{rotations:?}");
    assert!(rotations.iter().all(|rotation| rotation.key.kid == rotations[0].key.kid));
    assert_eq!(states(&app).await, [KeyState::Next, KeyState::Signing]);

    // One that counts at once does not wait for the one under way, and takes its place.
    let now = app.app.tokens.rotate(Start::Now).await.unwrap();
    assert!(now.is_new && now.key.kid != rotations[0].key.kid);
    assert_eq!(states(&app).await, [KeyState::Signing, KeyState::Verifying]);
    let old = &app.app.tokens.keys().await.unwrap()[1];
    assert_eq!(old.verifies_until, Some(app.clock.now() + VERIFIES_ON));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_seed_of_a_key_is_nowhere_in_clear() {
    let app = TestApp::start().await;
    app.app.tokens.rotate(Start::Now).await.unwrap();
    let sql = "SELECT kid, length(wrapped_seed) AS length FROM tenantry.signing_keys";
    let rows = app.superuser().await.fetch_all(AssertSqlSafe(sql)).await.unwrap();
    assert_eq!(rows.len(), 2);
    // Nonce, seed and tag.
    assert!(rows.iter().all(|row| row.get::<i32, _>("length") == 24 + 32 + 16));
}

/// A token that is signed with nobody's key.
fn forged(acme: &Organization, kid: &str) -> String {
    use data_encoding::BASE64URL_NOPAD;
    let [_, claims, _] = acme.owner.token.split('.').collect::<Vec<_>>().try_into().unwrap();
    let header = serde_json::json!({"alg": "EdDSA", "typ": "JWT", "kid": kid}).to_string();
    let signature = BASE64URL_NOPAD.encode(&[7; 64]);
    format!("{}.{claims}.{signature}", BASE64URL_NOPAD.encode(header.as_bytes()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_forged_tokens_is_neither_remembered_nor_asked_for() {
    let app = TestApp::start().await;
    eventually("it listens", async || app.app.tenancy.signals().is_listening()).await;
    let acme = app.sign_up("acme").await;
    assert_eq!(status(&app, &acme.owner).await, 200);
    let (tokens, known) = (&app.app.tokens, key_of(&acme.owner));
    let before = tokens.figures();
    for second in 1..=2 {
        app.clock.advance(SECOND.to_std().unwrap());
        let flood = (0..500).flat_map(|_| {
            // An id of a form that none of ours has is not even looked for.
            let unknown = forged(&acme, &data_encoding::BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>()));
            [
                unknown,
                forged(&acme, "unknown"),
                forged(&acme, &known),
                format!("{}x", acme.owner.token),
                "garbage".to_owned(),
            ]
        });
        let flood: Vec<_> = flood.collect();
        let verified = futures_util::future::join_all(flood.iter().map(|token| tokens.verify(token))).await;
        assert!(verified.into_iter().all(|claims| claims.unwrap().is_none()));
        let after = tokens.figures();
        assert_eq!(after.loads - before.loads, second, "one load a second");
        assert_eq!(after.remembered, before.remembered);
    }
    let hits = tokens.figures().hits;
    assert_eq!(status(&app, &acme.owner).await, 200);
    assert_eq!(tokens.figures().hits, hits + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_remembered_of_a_token_ends_with_the_token_and_with_its_key() {
    let (app, other) = two_processes().await;
    let acme = app.sign_up("acme").await;
    for app in [&app, &other] {
        assert_eq!(status(app, &acme.owner).await, 200);
    }
    // Somebody takes the key out by hand.
    app.app.tokens.rotate(Start::Now).await.unwrap();
    let sql = format!(
        "DELETE FROM tenantry.signing_keys WHERE kid = '{}'; NOTIFY tenantry, 'keys'",
        key_of(&acme.owner)
    );
    app.superuser().await.execute(AssertSqlSafe(sql)).await.unwrap();
    for app in [&app, &other] {
        eventually("its tokens do not count", async || status(app, &acme.owner).await == 401).await;
    }
    let again = acme.sign_in(&app).await;
    assert_eq!(status(&other, &again).await, 200);
    app.clock.advance(TimeDelta::minutes(10).to_std().unwrap());
    let answer = again.at(&other).request("GET", "/api/tenant/").send().await;
    assert_eq!(answer.said(), (401, "token_not_valid".into()));
    assert_ne!(answer.json(), Value::Null);
}
