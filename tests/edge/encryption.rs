//! TLS in the process, and what browsers are told of it.

use std::{fs, time::Duration};

use sqlx::Executor as _;
use tenantry::{
    server::{CertificateFiles, Limits, Tls},
    streams::StreamOptions,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::rustls::{
    HandshakeKind,
    version::{TLS12, TLS13},
};

use super::support::{Wire, certify, encrypt, encrypt_by, trusting};
use crate::support::{Options, TestApp};

const OWN: &str = "strict-transport-security: max-age=31536000; includesubdomains\r\n";
const FOREIGN: &str = "strict-transport-security: max-age=31536000\r\n";

async fn encrypted(tls: &Tls) -> TestApp {
    TestApp::with(Options { tls: Some(tls.clone()), ..by_https() }).await
}

fn by_https() -> Options {
    Options { public_url: Some("https://localhost".parse().unwrap()), ..Options::default() }
}

async fn connect(app: &TestApp) -> TcpStream {
    TcpStream::connect(app.address).await.unwrap()
}

/// Whether a server shows this certificate to who asks for this name.
async fn shows(app: &TestApp, name: &str, certificate: &CertificateFiles) -> bool {
    encrypt(connect(app).await, name, certificate, &TLS13).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_are_spoken_with_http_1_over_them_and_plain_http_is_told_so() {
    let directory = tempfile::tempdir().unwrap();
    let files = certify(directory.path(), "localhost", &["localhost"]);
    let app = encrypted(&Tls::load(std::slice::from_ref(&files)).unwrap()).await;
    for version in [&TLS12, &TLS13] {
        let mut wire = encrypt(connect(&app).await, "localhost", &files, version).await.unwrap();
        assert_eq!(wire.0.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        for _ in 0..2 {
            wire.get("/healthz").await;
            let (head, body) = wire.answer().await;
            assert!(head.starts_with("http/1.1 200 ") && head.contains(OWN), "{head}");
            assert_eq!(body, br#"{"status":"ok"}"#);
        }
    }
    let mut plain = Wire::open(&app).await;
    plain.get("/healthz").await;
    let (head, body) = plain.answer().await;
    assert!(head.starts_with("http/1.1 400 "), "{head}");
    let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&problem["code"], &problem["status"]), (&"tls_required".into(), &400.into()));
    assert_eq!(plain.rest().await, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_has_its_certificate_and_a_new_one_is_taken_when_it_is_good() {
    let directory = tempfile::tempdir().unwrap();
    let [first, second, third] = [
        ("first", &["localhost", "acme.localhost"][..]),
        ("second", &["*.acme.example"]),
        ("third", &["*.acme.example"]),
    ]
    .map(|(file, names)| certify(directory.path(), file, names));
    let tls = Tls::load(&[first.clone(), second.clone()]).unwrap();
    let app = encrypted(&tls).await;
    assert!(shows(&app, "localhost", &first).await && shows(&app, "acme.localhost", &first).await);
    assert!(shows(&app, "www.acme.example", &second).await);
    assert!(!shows(&app, "www.acme.example", &first).await && !shows(&app, "localhost", &second).await);
    // Whoever asks for none of them gets the first.
    let strange = encrypt(connect(&app).await, "other.example", &first, &TLS13).await.map(drop).unwrap_err();
    assert!(strange.to_string().contains("other.example"), "{strange}");

    let mut open = encrypt(connect(&app).await, "www.acme.example", &second, &TLS13).await.unwrap();
    let before = certify(directory.path(), "before", &[]);
    fs::copy(&second.chain, &before.chain).unwrap();
    fs::copy(&third.chain, &second.chain).unwrap();
    tls.reload().unwrap_err();
    assert!(shows(&app, "www.acme.example", &before).await, "its key is not there yet");
    fs::copy(&third.key, &second.key).unwrap();
    assert!(tls.reload().unwrap());
    assert!(shows(&app, "www.acme.example", &third).await && !shows(&app, "www.acme.example", &before).await);
    open.get("/healthz").await;
    assert_eq!(open.status().await, 200, "who is in stays in");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_goes_on_with_the_certificate_it_began_with_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let [files, other] = ["one", "other"].map(|file| certify(directory.path(), file, &["localhost"]));
    let tls = Tls::load(std::slice::from_ref(&files)).unwrap();
    let app = encrypted(&tls).await;
    let connectors = [&TLS12, &TLS13].map(|version| trusting(&[&files, &other], version));
    let shakes = async |connector| {
        let mut wire = encrypt_by(connector, connect(&app).await, "localhost").await.unwrap();
        // What the session is taken up with comes after the handshake.
        wire.get("/healthz").await;
        assert_eq!(wire.status().await, 200);
        wire.0.get_ref().1.handshake_kind().unwrap()
    };
    for connector in &connectors {
        assert_eq!(shakes(connector).await, HandshakeKind::Full);
        assert_eq!(shakes(connector).await, HandshakeKind::Resumed);
    }
    fs::copy(&other.chain, &files.chain).unwrap();
    fs::copy(&other.key, &files.key).unwrap();
    assert!(tls.reload().unwrap());
    for connector in &connectors {
        assert_eq!(shakes(connector).await, HandshakeKind::Full, "it was shown the new one");
        assert_eq!(shakes(connector).await, HandshakeKind::Resumed);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_shake_hands_or_takes_nothing_is_hung_up_on() {
    let directory = tempfile::tempdir().unwrap();
    let files = certify(directory.path(), "localhost", &["localhost"]);
    let deadline = Duration::from_millis(300);
    let app = TestApp::with(Options {
        tls: Some(Tls::load(std::slice::from_ref(&files)).unwrap()),
        limits: Limits { handshake: deadline, ..Limits::default() },
        streams: StreamOptions { patience: deadline, ..StreamOptions::default() },
        ..Options::default()
    })
    .await;
    let (mut silent, mut slow) = (connect(&app).await, connect(&app).await);
    // A record with a handshake, and no end of it.
    slow.write_all(&[22, 3, 1, 2, 0, 1]).await.unwrap();
    for stream in [&mut silent, &mut slow] {
        let mut rest = Vec::new();
        timeout(Duration::from_secs(20), stream.read_to_end(&mut rest)).await.expect("it ends").ok();
    }
    let mut wire = encrypt(connect(&app).await, "localhost", &files, &TLS13).await.unwrap();
    let requests = "GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(200_000);
    let sent = timeout(Duration::from_secs(20), wire.0.write_all(requests.as_bytes())).await;
    sent.expect("the server hangs up").unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn browsers_are_told_to_use_tls_by_who_is_reached_by_it_and_nobody_else() {
    let behind = TestApp::with(Options { proxies: &["127.0.0.0/8"], ..by_https() }).await;
    behind.sign_up("acme").await;
    let domain = "INSERT INTO tenantry.domains (name, tenant_id, verified_at) SELECT 'acme.example', id, now() FROM tenantry.tenants WHERE slug = 'acme'";
    behind.superuser().await.execute(domain).await.unwrap();
    let direct = behind.beside_with(by_https()).await;
    let head = async |app: &TestApp, host: &str, proto: &str| {
        let mut wire = Wire::open(app).await;
        let proto = if proto.is_empty() { String::new() } else { format!("X-Forwarded-Proto: {proto}\r\n") };
        wire.send(&format!("GET /api/tenant/ HTTP/1.1\r\nHost: {host}\r\n{proto}\r\n")).await;
        wire.answer().await.0
    };
    for (host, expected) in [
        ("localhost", OWN),
        ("acme.localhost:443", OWN),
        ("nobody.localhost", OWN),
        ("acme.example", FOREIGN),
        ("notlocalhost", FOREIGN),
    ] {
        let head = head(&behind, host, "https").await;
        assert!(head.contains(expected), "{host}: {head}");
    }
    for (proto, expected) in [
        ("https", true),
        ("HTTPS", true),
        ("http, https", true),
        ("https, http", false),
        ("http", false),
        ("", false),
    ] {
        let head = head(&behind, "acme.localhost", proto).await;
        assert_eq!(head.contains("strict-transport-security"), expected, "{proto}: {head}");
    }
    let by_address = head(&behind, "127.0.0.1", "https").await;
    assert!(!by_address.contains("strict-transport-security"), "{by_address}");
    let stranger = head(&direct, "acme.localhost", "https").await;
    assert!(!stranger.contains("strict-transport-security"), "nobody believes a stranger: {stranger}");
    let http = TestApp::with(Options { proxies: &["127.0.0.0/8"], ..Options::default() }).await;
    let unencrypted = head(&http, "localhost", "https").await;
    assert!(!unencrypted.contains("strict-transport-security"), "{unencrypted}");
}
