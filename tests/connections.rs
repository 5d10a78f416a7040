//! What becomes of a connection whose request was refused before its body was read.

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::support::TestApp;

/// A connection, spoken to byte by byte.
struct Wire(TcpStream);

impl Wire {
    async fn open(app: &TestApp) -> Self {
        Self(TcpStream::connect(app.address).await.unwrap())
    }

    async fn send(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
    }

    /// A request that needs a token and has none, up to its body.
    async fn refused(&mut self, header: &str) {
        let head = format!("PATCH /api/tenant/ HTTP/1.1\r\nHost: acme.localhost\r\n{header}\r\n\r\n");
        self.send(head.as_bytes()).await;
    }

    /// The next answer: its head, and as much of its body as the head says.
    async fn answer(&mut self) -> String {
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"\r\n\r\n") {
            bytes.push(self.0.read_u8().await.unwrap());
        }
        let head = String::from_utf8(bytes).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
        self.0.read_exact(&mut body).await.unwrap();
        head
    }

    async fn ends(&mut self) {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).await.unwrap();
        assert_eq!(String::from_utf8_lossy(&rest), "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_a_short_body_keeps_the_connection() {
    let app = TestApp::start().await;
    app.sign_up("acme").await;
    let mut wire = Wire::open(&app).await;
    for _ in 0..3 {
        wire.refused("Content-Length: 40000").await;
        wire.send(&[b'x'; 10_000]).await;
        let head = wire.answer().await;
        assert!(head.starts_with("http/1.1 401 ") && !head.contains("\nconnection:"), "{head}");
        wire.send(&b"x".repeat(30_000)).await;
    }
    wire.send(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    let head = wire.answer().await;
    assert!(head.starts_with("http/1.1 200 "), "{head}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_before_a_long_body_reaches_a_client_that_sends_it_all_first() {
    const BYTES: usize = 8 << 20;
    let app = TestApp::start().await;
    app.sign_up("acme").await;
    let chunk = format!("{BYTES:x}\r\n");
    for (header, before, after) in [
        (format!("Content-Length: {BYTES}"), "", ""),
        ("Transfer-Encoding: chunked".into(), &*chunk, "\r\n0\r\n\r\n"),
    ] {
        let mut wire = Wire::open(&app).await;
        wire.refused(&header).await;
        wire.send(before.as_bytes()).await;
        wire.send(&vec![b'x'; BYTES]).await;
        wire.send(after.as_bytes()).await;
        let head = wire.answer().await;
        assert!(head.starts_with("http/1.1 401 ") && head.contains("\nconnection: close\r"), "{head}");
        wire.ends().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_before_sending_a_body_is_refused_at_once() {
    let app = TestApp::start().await;
    app.sign_up("acme").await;
    let mut wire = Wire::open(&app).await;
    wire.refused("Expect: 100-continue\r\nContent-Length: 40").await;
    let head = wire.answer().await;
    assert!(head.starts_with("http/1.1 401 ") && head.contains("\nconnection: close\r"), "{head}");
    wire.ends().await;
}
