//! Many clients at once, some of which hang up, on connections some of which break.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rand::RngExt as _;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::{Options, Organization, TestApp};

use super::*;

/// One client among many: sends requests of one organization, and hangs up on half of them after a moment.
async fn client(app: Arc<TestApp>, own: Arc<Organization>, foreign: Arc<Organization>, requests: u32) {
    for n in 0..requests {
        if n % 2 == 0 {
            hang_up(&app, &own).await;
            continue;
        }
        let request = match n % 5 {
            0 => own.owner.request("GET", "/api/users/"),
            1 => own.owner.request("GET", "/api/tenant/"),
            2 => own.owner.request("PATCH", "/api/current_user/").json(&json!({"first_name": own.slug})),
            3 => app.request("GET", "/api/current_user/").bearer(&own.owner.token),
            _ => own.owner.request("GET", &format!("/api/users/{}/", own.owner.pk)),
        };
        let answer = request.send().await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let text = answer.text.to_lowercase();
        assert!(text.contains(&own.slug), "{text} is not of {}", own.slug);
        assert!(
            !text.contains(&foreign.slug) && !text.contains(&foreign.owner.pk),
            "{text} is of {}",
            foreign.slug
        );
    }
}

/// Sends a request and closes the connection a moment later, whatever the server is at.
async fn hang_up(app: &TestApp, own: &Organization) {
    let mut socket = TcpStream::connect(app.address).await.unwrap();
    let body = format!(r#"{{"first_name":"{}"}}"#, own.slug);
    let request = format!(
        "PATCH /api/current_user/ HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        own.host(app),
        own.owner.token,
        body.len()
    );
    socket.write_all(request.as_bytes()).await.unwrap();
    let patience = Duration::from_micros(rand::rng().random_range(0..60_000));
    let mut answer = [0];
    // An answer that comes before the patience ends is as good.
    let _ = tokio::time::timeout(patience, socket.read(&mut answer)).await;
}

/// Two tenants, two connections, hundreds of requests at once, clients that hang up: not one row of the other tenant.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stress_nobody_sees_a_row_of_the_other_tenant() {
    stress(TestApp::with(two_connections()).await).await;
}

/// The same where each transaction may have another connection of three, which all clients of the lane share.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn under_stress_behind_a_pooler_nobody_sees_a_row_of_the_other_tenant() {
    let Some(app) = TestApp::behind_pooler(two_connections()).await else { return };
    stress(app).await;
}

fn two_connections() -> Options {
    Options { lane_pool_size: 2, ..Options::default() }
}

async fn stress(app: TestApp) {
    const CLIENTS: u32 = 32;
    const REQUESTS: u32 = 25;
    let app = Arc::new(app);
    let (one, other) = neighbours(&app).await;
    let (one, other) = (Arc::new(one), Arc::new(other));
    let clients = (0..CLIENTS).map(|n| {
        let (own, foreign) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        tokio::spawn(client(Arc::clone(&app), Arc::clone(own), Arc::clone(foreign), REQUESTS))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    let figures = figures(&app);
    // The lane has two connections, of which each tenant may have one.
    assert!(figures.opened <= 2 && figures.closed_unfinished == 0 && figures.waiting == 0, "{figures:?}");

    for organization in [&one, &other] {
        let db = database(&app, organization).await;
        let rows = ask(&db, "SELECT username, first_name FROM users").await.unwrap();
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].try_get::<String>("", "username").unwrap(), organization.owner.username);
        assert_eq!(rows[0].try_get::<String>("", "first_name").unwrap(), organization.slug);
    }
}

/// Requests of two tenants while every few moments all their connections are ended: what is answered is right.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn connections_that_break_at_any_moment_show_nobody_a_row_of_the_other_tenant() {
    kills(TestApp::with(two_connections()).await).await;
}

/// The same where the connections that break are those of a pooler.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_pooler_s_connections_that_break_show_nobody_a_row_of_the_other_tenant() {
    let Some(app) = TestApp::behind_pooler(two_connections()).await else { return };
    kills(app).await;
}

async fn kills(app: TestApp) {
    const KILLS: usize = 60;
    let app = Arc::new(app);
    let (one, other) = neighbours(&app).await;
    let (one, other) = (Arc::new(one), Arc::new(other));
    let over = Arc::new(AtomicBool::new(false));
    let clients = (0..8).map(|n| {
        let (own, foreign) = if n % 2 == 0 { (&one, &other) } else { (&other, &one) };
        let (own, foreign, over) = (Arc::clone(own), Arc::clone(foreign), Arc::clone(&over));
        tokio::spawn(async move {
            let (mut right, mut unavailable) = (0, 0);
            while !over.load(Ordering::Relaxed) {
                let answer = own.owner.request("GET", "/api/users/").send().await;
                let text = answer.text.to_lowercase();
                assert!(!text.contains(&foreign.slug) && !text.contains(&foreign.owner.pk), "{text}");
                match answer.status {
                    200 => {
                        assert!(text.contains(&own.owner.pk), "{text}");
                        right += 1;
                    }
                    503 => {
                        assert_eq!(answer.header("retry-after"), "1");
                        unavailable += 1;
                    }
                    _ => panic!("{}", answer.text),
                }
            }
            (right, unavailable)
        })
    });
    let clients: Vec<_> = clients.collect();
    let mut superuser = app.superuser().await;
    let mut killed = 0;
    for _ in 0..KILLS {
        killed += kill_backends(&mut superuser).await;
        let patience = Duration::from_micros(rand::rng().random_range(0..20_000));
        let _ = tokio::time::timeout(patience, std::future::pending::<()>()).await;
    }
    over.store(true, Ordering::Relaxed);
    let (mut right, mut unavailable) = (0, 0);
    for client in clients {
        let counts = client.await.unwrap();
        right += counts.0;
        unavailable += counts.1;
    }
    assert!(killed > 0 && right > 0, "{killed} killed, {right} right, {unavailable} unavailable");
    for organization in [&one, &other] {
        let me = organization.owner.get("/api/current_user/").await;
        assert_eq!(me["username"], organization.owner.username.as_str());
    }
    let figures = figures(&app);
    assert!(figures.open <= 2 && figures.waiting == 0, "{figures:?}");
}
