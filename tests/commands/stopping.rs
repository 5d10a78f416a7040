//! How a real `serve` stops: out of the balancer first, then what is under way, and at once for who insists.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::support::{Serve, Workplace};
use crate::support::eventually;

/// A connection that is used for request after request.
struct Wire(TcpStream);

impl Wire {
    fn open(serve: &Serve) -> Self {
        let stream = TcpStream::connect(serve.address()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        Self(stream)
    }

    fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).unwrap();
    }

    fn get(&mut self, path: &str) -> (String, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        self.answer()
    }

    fn head(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).unwrap();
            bytes.push(byte[0]);
        }
        String::from_utf8(bytes).unwrap().to_lowercase()
    }

    fn answer(&mut self) -> (String, String) {
        let head = self.head();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).unwrap();
        (head, String::from_utf8(body).unwrap())
    }

    /// What comes until the server hangs up.
    fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        match self.0.read_to_end(&mut rest) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
        }
        String::from_utf8(rest).unwrap()
    }
}

async fn sign_up(serve: &Serve) -> Value {
    let body = json!({
        "organization": "Acme", "slug": "acme", "username": "ada", "email": "ada@acme.example",
        "password": "correct horse battery",
    });
    serve.service("POST", "/api/sign_up/tenant/").json(&body).expect(201).await
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_not_ready_first_and_serves_on_until_the_balancer_knows() {
    let place = Workplace::new().with("TENANTRY_SHUTDOWN_DELAY", "2s");
    let serve = place.serve();
    let (mut kept, mut idle) = (Wire::open(&serve), Wire::open(&serve));
    for wire in [&mut kept, &mut idle] {
        let (head, body) = wire.get("/readyz");
        assert!(head.starts_with("http/1.1 200 ") && !head.contains("connection: close"), "{head}");
        assert_eq!(body, r#"{"status":"ok"}"#);
    }
    serve.signal("TERM");
    eventually("it is not ready", async || Wire::open(&serve).get("/readyz").0.starts_with("http/1.1 503 "))
        .await;
    let (head, body) = Wire::open(&serve).get("/readyz");
    assert!(head.contains("\nretry-after: 1\r"), "{head}");
    let problem: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(problem["code"], "service_unavailable");
    // It is alive none the less, and answers whoever comes, on a connection that is there as on a new one.
    let (head, _) = kept.get("/healthz");
    assert!(head.starts_with("http/1.1 200 ") && head.contains("\nconnection: close\r"), "{head}");
    assert_eq!(kept.rest(), "");
    assert!(sign_up(&serve).await["token"].is_string());
    // Then nobody is let in any more, and who has nothing under way is hung up on.
    assert_eq!(idle.rest(), "");
    assert_eq!(serve.ended(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_under_way_ends_streams_say_when_to_come_again_and_the_rest_is_cut_off() {
    let place = Workplace::new().with("TENANTRY_SHUTDOWN_TIMEOUT", "2s");
    let serve = place.serve();
    let signed_up = sign_up(&serve).await;
    let mut stream = Wire::open(&serve);
    stream.send(&format!(
        "GET /api/notifications/stream/ HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer {}\r\n\r\n",
        signed_up["token"].as_str().unwrap()
    ));
    assert!(stream.head().starts_with("http/1.1 200 "));
    let post = "POST /api/login/ HTTP/1.1\r\nHost: acme.localhost\r\nContent-Type: application/json\r\nContent-Length: 56\r\n\r\n";
    let (mut ends, mut never) = (Wire::open(&serve), Wire::open(&serve));
    for wire in [&mut ends, &mut never] {
        wire.send(post);
    }
    // Both are at it once an answer comes to what was sent later.
    Wire::open(&serve).get("/readyz");
    let begun = Instant::now();
    serve.signal("TERM");
    let rest = stream.rest();
    let retries: Vec<u64> =
        rest.lines().filter_map(|line| line.strip_prefix("retry: ")?.parse().ok()).collect();
    assert!(matches!(retries[..], [_, 1_000..=10_000]), "{rest}");
    assert!(rest.ends_with("\r\n0\r\n\r\n"), "it ends as a chunked answer does: {rest}");
    let refused = TcpStream::connect(serve.address()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    ends.send(r#"{"username": "ada", "password": "correct horse battery"}"#);
    let (head, body) = ends.answer();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("\nconnection: close\r"), "{head}");
    assert!(serde_json::from_str::<Value>(&body).unwrap()["token"].is_string());
    assert_eq!(never.rest(), "");
    assert_eq!(serve.ended(), Some(0));
    assert!(
        (Duration::from_secs(2)..Duration::from_secs(9)).contains(&begun.elapsed()),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_it_at_once() {
    let place =
        Workplace::new().with("TENANTRY_SHUTDOWN_DELAY", "30m").with("TENANTRY_SHUTDOWN_TIMEOUT", "30m");
    let (serve, log) = place.serve_with_log();
    let mut under_way = Wire::open(&serve);
    under_way.send("POST /api/login/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 56\r\n\r\n");
    serve.signal("INT");
    eventually("it is not ready", async || Wire::open(&serve).get("/readyz").0.starts_with("http/1.1 503 "))
        .await;
    let begun = Instant::now();
    serve.signal("TERM");
    assert_eq!(serve.ended(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let log: Vec<_> = log.filter(|line| line.contains("stopping")).collect();
    assert!(log[0].contains("stopping on Ctrl-C"), "{log:?}");
    assert!(log.iter().any(|line| line.contains("stopping at once on another SIGTERM")), "{log:?}");
}
