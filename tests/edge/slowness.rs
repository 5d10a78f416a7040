//! Clients that take their time, or all they can get.

use std::time::Duration;

use tenantry::{server::Limits, streams::StreamOptions};
use tokio::{io::AsyncWriteExt as _, time::timeout};

use super::support::Wire;
use crate::support::{Options, TestApp};

#[tokio::test(flavor = "multi_thread")]
async fn a_head_that_does_not_come_and_a_connection_without_requests_are_hung_up_on() {
    let limits = Limits { head: Duration::from_millis(200), ..Limits::default() };
    let app = TestApp::with(Options { limits, ..Options::default() }).await;
    let [mut silent, mut slow, mut idle] =
        [Wire::open(&app).await, Wire::open(&app).await, Wire::open(&app).await];
    slow.send("GET /healthz HTTP/1.1\r\nHost: local").await;
    idle.get("/healthz").await;
    assert_eq!(idle.status().await, 200);
    for wire in [&mut silent, &mut slow, &mut idle] {
        assert!(!wire.rest().await.contains("200"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_head_without_end_is_refused_before_it_is_all_there() {
    let app = TestApp::start().await;
    let mut wire = Wire::open(&app).await;
    wire.send(&format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(33 * 1024))).await;
    wire.send("\r\n\r\n").await;
    let (head, body) = wire.answer().await;
    assert!(head.starts_with("http/1.1 431 "), "{head}");
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(problem["code"], "headers_too_large");

    // No end of the head is ever sent.
    let mut wire = Wire::open(&app).await;
    let endless = format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\nX: {}", "x".repeat(120 * 1024));
    wire.0.write_all(endless.as_bytes()).await.ok();
    let rest = wire.rest().await;
    assert!(rest.is_empty() || rest.starts_with("HTTP/1.1 431 "), "{rest}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_none_of_his_answers_is_hung_up_on() {
    let streams = StreamOptions { patience: Duration::from_millis(200), ..StreamOptions::default() };
    let app = TestApp::with(Options { streams, ..Options::default() }).await;
    let mut wire = Wire::open(&app).await;
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200_000);
    // It takes no more than the kernel does, and then breaks.
    let sent = timeout(Duration::from_secs(20), wire.0.write_all(requests.as_bytes())).await;
    sent.expect("the server hangs up").unwrap_err();
}
