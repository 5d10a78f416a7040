//! A service that has too much to do says so at once, and goes on with what it has begun.

use std::time::{Duration, Instant};

use serde_json::Value;
use tenantry::server::{Limits, Tls};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::rustls::version::TLS13;

use super::support::{Locked, Wire, certify, encrypt};
use crate::support::{Options, TestApp, eventually};

/// Names no tenant, so that no share of one is used up.
const CHECK: &str = "/api/sign_up/tenant/check/?slug=acme";

async fn with_requests(requests: usize) -> TestApp {
    TestApp::with(Options { limits: Limits { requests, ..Limits::default() }, ..Options::default() }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_beyond_work_and_queue_is_refused_at_once_but_for_who_asks_how_it_is() {
    let app = with_requests(2).await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let both = format!("\"{}\".users, \"{}\".users", acme.schema(), beta.schema());
    let mut locked = Locked::table(&app, &both).await;
    // One of each tenant, for that is the share of either.
    let busy = [&acme, &beta].map(|organization| {
        let owner = organization.owner.clone();
        tokio::spawn(async move { owner.me().await.status })
    });
    eventually("both are at it", async || locked.waiting().await == 2).await;
    // There is room for one to wait; the other one is told before that one has its turn, or has waited for long enough.
    let [mut one, mut other] = [Wire::open(&app).await, Wire::open(&app).await];
    let begun = Instant::now();
    for wire in [&mut one, &mut other] {
        wire.get(CHECK).await;
    }
    let ((head, body), mut waits) = tokio::select! {
        answer = one.answer() => (answer, other),
        answer = other.answer() => (answer, one),
    };
    assert!(begun.elapsed() < Duration::from_millis(900), "{:?}", begun.elapsed());
    let problem: Value = serde_json::from_slice(&body).unwrap();
    let said = (&problem["status"], &problem["code"]);
    assert_eq!(said, (&503.into(), &"service_unavailable".into()), "{problem}");
    let after = head.lines().find_map(|line| line.strip_prefix("retry-after: ")).unwrap();
    assert!((1..=5).contains(&after.parse::<u32>().unwrap()), "{after}");
    let id = head.lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert_eq!(problem["request_id"], id);
    assert!(!head.contains("connection: close"), "{head}");
    let mut well = Wire::open(&app).await;
    for path in ["/healthz", "/readyz", "/healthz"] {
        well.get(path).await;
        assert_eq!(well.status().await, 200, "{path}");
    }
    locked.release().await;
    for one in busy {
        assert_eq!(one.await.unwrap(), 200, "what was begun comes to its end");
    }
    assert_eq!(acme.owner.me().await.status, 200, "and there is room again");
    let waited = waits.status().await;
    assert!([200, 503].contains(&waited), "{waited}: it waits for a second at most");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenant_with_a_storm_leaves_room_for_the_others() {
    // Two for each tenant.
    let app = with_requests(8).await;
    let (acme, beta) = (app.sign_up("acme").await, app.sign_up("beta").await);
    let mut locked = Locked::table(&app, &format!("\"{}\".users", acme.schema())).await;
    let storm: Vec<_> = (0..2)
        .map(|_| {
            let owner = acme.owner.clone();
            tokio::spawn(async move { owner.me().await.status })
        })
        .collect();
    eventually("they are at it", async || locked.waiting().await == 2).await;
    assert_eq!(acme.owner.me().await.said(), (429, "throttled".into()));
    assert_eq!(beta.owner.me().await.status, 200);
    locked.release().await;
    for one in storm {
        assert_eq!(one.await.unwrap(), 200);
    }
    assert_eq!(acme.owner.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_a_body_slowly_keeps_nobody_else_waiting() {
    let app = with_requests(1).await;
    let acme = app.sign_up("acme").await;
    let mut slow = Wire::open(&app).await;
    let body = r#"{"username": "nobody", "password": "wrong wrong wrong"}"#;
    let head = format!(
        "POST /api/login/ HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        acme.host(&app),
        body.len()
    );
    slow.send(&head).await;
    slow.send(&body[..10]).await;
    for _ in 0..5 {
        assert_eq!(acme.owner.me().await.status, 200);
    }
    slow.send(&body[10..]).await;
    let (head, body) = slow.answer().await;
    let problem: Value = serde_json::from_slice(&body).unwrap();
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    assert_eq!(problem["non_field_errors"][0], "Unable to log in with provided credentials.");
    assert_eq!(acme.owner.me().await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_takes_too_long_is_given_up_and_leaves_nothing_behind() {
    let deadline = Duration::from_millis(500);
    let app = TestApp::start().await;
    let acme = app.sign_up("acme").await;
    let hasty = app.beside_with(Options { deadline, ..Options::default() }).await;
    let mut locked = Locked::table(&app, &format!("\"{}\".users", acme.schema())).await;
    let owner = acme.owner.at(&hasty);
    let begun = Instant::now();
    let answer = owner.me().await;
    assert_eq!(answer.said(), (503, "service_unavailable".into()));
    assert_eq!(answer.header("retry-after"), "1");
    assert!((deadline..Duration::from_secs(5)).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    eventually("its statement is given up, too", async || locked.waiting().await == 0).await;
    locked.release().await;
    eventually("it is answered", async || owner.me().await.status == 200).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_has_so_many_connections_and_no_more() {
    let limits = Limits { connections_of_address: 2, ..Limits::default() };
    let app = TestApp::with(Options { limits, ..Options::default() }).await;
    let mut wires = [Wire::open(&app).await, Wire::open(&app).await];
    for wire in &mut wires {
        wire.get("/healthz").await;
        assert_eq!(wire.status().await, 200);
    }
    assert_eq!(Wire::open(&app).await.rest().await, "");
    let [one, mut other] = wires;
    drop(one);
    eventually("there is room again", async || {
        let mut wire = Wire::open(&app).await;
        wire.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
        wire.rest().await.starts_with("HTTP/1.1 200 ")
    })
    .await;
    other.get("/healthz").await;
    assert_eq!(other.status().await, 200, "who is in stays in");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_there_is_no_room_takes_that_of_who_waits_longest_without_a_request() {
    let limits = Limits { connections: 3, ..Limits::default() };
    let app = TestApp::with(Options { limits, ..Options::default() }).await;
    let acme = app.sign_up("acme").await;
    let body = r#"{"username": "nobody", "password": "wrong wrong wrong"}"#;
    let head = format!(
        "POST /api/login/ HTTP/1.1\r\nHost: {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        acme.host(&app),
        body.len()
    );
    let mut at_work = Wire::open(&app).await;
    at_work.send(&head).await;
    let (mut silent, mut half) = (Wire::open(&app).await, Wire::open(&app).await);
    half.send("GET /healthz HT").await;
    probe(&app, "127.0.0.1").await;
    assert_eq!(silent.rest().await, "");
    // Later than the other, but nothing is on its way there.
    let mut late = Wire::open(&app).await;
    probe(&app, "127.0.0.1").await;
    assert_eq!(late.rest().await, "");
    half.send("TP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(half.status().await, 200, "who has begun may go on");
    at_work.send(body).await;
    assert_eq!(at_work.status().await, 400, "who is at a request stays in");
}

async fn crowded(limits: Limits) -> TestApp {
    TestApp::with(Options { limits, ..Options::default() }).await
}

/// Asks how it is, over a connection of its own.
async fn probe(app: &TestApp, from: &str) {
    let mut probe = Wire::open_from(app, from).await;
    probe.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").await;
    assert!(probe.rest().await.starts_with("HTTP/1.1 200 "));
}

/// Fails where the connection is closed by now.
async fn is_open<S: AsyncRead + AsyncWrite + Unpin>(wire: &mut Wire<S>) {
    wire.get("/healthz").await;
    assert_eq!(wire.status().await, 200);
}

/// More than a connection has to wait until it may be closed.
const SETTLED: Duration = Duration::from_millis(1_200);

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_taken_all_of_an_answer_yet_gets_the_rest() {
    /// More than the kernels of both sides keep.
    const ANSWERS: usize = 24;
    let directory = tempfile::tempdir().unwrap();
    let files = certify(directory.path(), "localhost", &["localhost"]);
    let plain = crowded(Limits { connections: 2, ..Limits::default() }).await;
    let tls = Some(Tls::load(std::slice::from_ref(&files)).unwrap());
    let limits = Limits { connections: 2, ..Limits::default() };
    let encrypted = TestApp::with(Options { limits, tls, ..Options::default() }).await;
    let plainly = async {
        let mut slow = Wire::open(&plain).await;
        slow.send(&"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(ANSWERS)).await;
        tokio::time::sleep(SETTLED).await;
        let mut silent = Wire::open(&plain).await;
        probe(&plain, "127.0.0.1").await;
        assert_eq!(silent.rest().await, "");
        for _ in 0..ANSWERS {
            assert_eq!(slow.status().await, 200);
        }
    };
    let over_tls = async {
        let stream = Wire::open(&encrypted).await.0;
        let mut slow = encrypt(stream, "localhost", &files, &TLS13).await.unwrap();
        slow.send(&"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(ANSWERS)).await;
        tokio::time::sleep(SETTLED).await;
        let mut silent = Wire::open(&encrypted).await;
        let mut probe = encrypt(Wire::open(&encrypted).await.0, "localhost", &files, &TLS13).await.unwrap();
        is_open(&mut probe).await;
        assert_eq!(silent.rest().await, "");
        for _ in 0..ANSWERS {
            assert_eq!(slow.status().await, 200);
        }
    };
    tokio::join!(plainly, over_tls);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_goes_for_who_must_not_come_and_who_has_most_goes_first() {
    let app = crowded(Limits { connections: 4, connections_of_address: 3, ..Limits::default() }).await;
    let mut honest = Wire::open_from(&app, "127.0.0.2").await;
    is_open(&mut honest).await;
    let mut strangers = Vec::new();
    for _ in 0..3 {
        strangers.push(Wire::open_from(&app, "127.0.0.3").await);
        is_open(strangers.last_mut().unwrap()).await;
    }
    tokio::time::sleep(SETTLED).await;
    assert_eq!(Wire::open_from(&app, "127.0.0.3").await.rest().await, "", "it has as many as it may");
    let [first, others @ ..] = &mut strangers[..] else { panic!() };
    for wire in others {
        is_open(wire).await;
    }
    is_open(&mut honest).await;
    tokio::time::sleep(SETTLED).await;
    // All of them have been asked for something since, but for the first.
    probe(&app, "127.0.0.4").await;
    assert_eq!(first.rest().await, "");
    // It waits longer than they, who have more.
    is_open(&mut strangers[2]).await;
    let _next = Wire::open_from(&app, "127.0.0.4").await;
    probe(&app, "127.0.0.5").await;
    assert_eq!(strangers[1].rest().await, "");
    is_open(&mut honest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_when_all_are_at_a_request_waits_at_the_door() {
    let limits = Limits { connections: 1, ..Limits::default() };
    let app = TestApp::with(Options { limits, ..Options::default() }).await;
    let acme = app.sign_up("acme").await;
    let mut first = Wire::open(&app).await;
    let body = r#"{"username": "nobody", "password": "wrong wrong wrong"}"#;
    let head = format!("POST /api/login/ HTTP/1.1\r\nHost: {}\r\n", acme.host(&app));
    let length = body.len();
    first.send(&format!("{head}Content-Type: application/json\r\nContent-Length: {length}\r\n\r\n")).await;
    first.send(&body[..10]).await;
    // By then, the connection that signed up has made room for it.
    tokio::time::sleep(Duration::from_millis(1_300)).await;
    let mut second = Wire::open(&app).await;
    second.get("/healthz").await;
    let mut answer = Box::pin(second.status());
    let early = tokio::time::timeout(Duration::from_millis(1_500), &mut answer).await;
    assert!(early.is_err(), "there was no room yet");
    first.send(&body[10..]).await;
    assert_eq!(first.status().await, 400);
    assert_eq!(answer.await, 200);
    assert_eq!(first.rest().await, "");
}
