//! How a real `serve` stops: out of the balancer first, then what is under way, and at once for who insists.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use sqlx::postgres::PgConnectOptions;

use super::support::{Serve, Workplace};
use crate::support::{Database, Proxy, Weather, eventually};

/// That of the databases of tests.
const MASTER_KEY: &str = "dGhlIG1hc3RlciBrZXkgb2YgYWxsIHRoZSB0ZXN0cy4=";

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
    assert!((Duration::from_secs(2)..SOON).contains(&begun.elapsed()), "{:?}", begun.elapsed());
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
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let log: Vec<_> = log.filter(|line| line.contains("stopping")).collect();
    assert!(log[0].contains("stopping on Ctrl-C"), "{log:?}");
    assert!(log.iter().any(|line| line.contains("stopping at once on another SIGTERM")), "{log:?}");
}

/// Long enough for a stop on a machine that is busy, and less than what any of them took that waited for somebody.
const SOON: Duration = Duration::from_secs(25);

fn signal(child: &Child, name: &str) {
    assert!(
        Command::new("kill").args([&format!("-{name}"), &child.id().to_string()]).status().unwrap().success()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_stops_neither_the_answers_nor_the_end() {
    let place = Workplace::new().with("TENANTRY_LOG", "debug");
    let (serve, mut log) = place.serve_unread();
    // A pipe takes 64 KiB, and each of these makes a line of some 300 bytes.
    let mut wire = Wire::open(&serve);
    for _ in 0..600 {
        assert!(wire.get("/api/current_user/").0.starts_with("http/1.1 4"));
    }
    drop(wire);
    let begun = Instant::now();
    let ended = tokio::task::spawn_blocking(|| serve.terminate()).await.unwrap();
    assert_eq!(ended, Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    let mut taken = Vec::new();
    log.read_to_end(&mut taken).unwrap();
    assert!(taken.len() > 60_000, "{}: it was full", taken.len());
}

#[test]
fn half_a_head_holds_nothing_up_and_a_first_request_is_still_answered() {
    let place = Workplace::new().with("TENANTRY_SHUTDOWN_TIMEOUT", "30m");
    let serve = place.serve();
    let [mut silent, mut half, mut late] = [Wire::open(&serve), Wire::open(&serve), Wire::open(&serve)];
    half.send("GET /healthz HT");
    let begun = Instant::now();
    // Both see the same: a signal, and those who stand in the kernel's queue.
    serve.signal("STOP");
    let mut queued: Vec<Wire> = (0..20).map(|_| Wire::open(&serve)).collect();
    for wire in &mut queued {
        wire.send("GET /.well-known/jwks.json HTTP/1.1\r\nHost: localhost\r\n\r\n");
    }
    serve.signal("TERM");
    serve.signal("CONT");
    // The end has begun once the port is closed.
    while TcpStream::connect(serve.address()).is_ok() {
        assert!(begun.elapsed() < SOON, "it goes on");
    }
    late.send("GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
    for (index, wire) in queued.iter_mut().enumerate() {
        let (head, body) = wire.answer();
        assert!(head.starts_with("http/1.1 200 ") && body.contains("\"keys\""), "{index}: {head}");
    }
    let (head, _) = late.answer();
    assert!(head.starts_with("http/1.1 200 ") && head.contains("\nconnection: close\r"), "{head}");
    assert_eq!((silent.rest(), half.rest()), (String::new(), String::new()));
    assert_eq!(serve.ended(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[test]
fn signals_before_it_is_ready_stop_it_and_hanging_up_never_does() {
    // A database that takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let place = Workplace::new()
        .with("TENANTRY_DATABASE_URL", format!("postgres://ann:s3cret@{}/own", silent.local_addr().unwrap()))
        .with("TENANTRY_MASTER_KEY", MASTER_KEY)
        .with("TENANTRY_MAIL", "file");
    let mut child = place.start("serve");
    let _asked = silent.accept().unwrap();
    signal(&child, "HUP");
    signal(&child, "HUP");
    let begun = Instant::now();
    signal(&child, "TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_that_is_told_to_stop_says_nothing_of_being_ready_and_leaves_nothing_running() {
    let place = Workplace::new();
    let child = place.start_with(Stdio::piped(), "serve");
    let home = place.data_dir().join("postgres");
    eventually("it has begun", async || home.exists()).await;
    signal(&child, "TERM");
    let ended = child.wait_with_output().unwrap();
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!((ended.status.code(), said.as_str()), (Some(0), ""));
    let running = Command::new("pgrep").args(["-f", place.data_dir().to_str().unwrap()]).output().unwrap();
    assert_eq!(String::from_utf8(running.stdout).unwrap(), "");
}

#[test]
fn hanging_up_is_noted_where_there_is_nothing_to_reload() {
    let place = Workplace::new();
    let (serve, mut log) = place.serve_with_log();
    serve.signal("HUP");
    assert!(log.any(|line| line.contains("SIGHUP changes nothing")), "it ended");
    assert_eq!(serve.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_does_not_answer_any_more_does_not_hold_up_the_end() {
    let database = Database::create().await;
    let options: PgConnectOptions = database.settings.owner.expose_secret().parse().unwrap();
    let socket = options.get_socket().unwrap().join(format!(".s.PGSQL.{}", options.get_port()));
    let proxy = Proxy::before(socket).await;
    let place = Workplace::new()
        .with("TENANTRY_DATABASE_URL", proxy.through(&database.settings.owner).expose_secret())
        .with("TENANTRY_MASTER_KEY", MASTER_KEY)
        .with("TENANTRY_MAIL", "file")
        .with("TENANTRY_SHUTDOWN_TIMEOUT", "500ms");
    let serve = place.serve();
    sign_up(&serve).await;
    proxy.turn(Weather::Stalled);
    // By then each loop asks whether there is something to do.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let begun = Instant::now();
    let ended = tokio::task::spawn_blocking(|| serve.terminate()).await.unwrap();
    assert_eq!(ended, Some(0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_insists_does_not_wait_for_a_postgresql_that_reacts_to_nothing() {
    let place = Workplace::new();
    let serve = place.serve();
    let pid_file =
        Command::new("find").arg(place.data_dir()).args(["-name", "postmaster.pid"]).output().unwrap();
    let pid_file = String::from_utf8(pid_file.stdout).unwrap();
    let postmaster = std::fs::read_to_string(pid_file.trim()).unwrap().lines().next().unwrap().to_owned();
    let _killed_in_the_end = Killed(postmaster.clone());
    let kill = |signal: &str| {
        Command::new("kill").args([signal, &postmaster]).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(kill("-STOP"));
    let begun = Instant::now();
    serve.signal("TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    serve.signal("TERM");
    assert_eq!(serve.ended(), Some(0));
    // Far from the minute that it has where nobody insists.
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    // Its supervisor, which outlives both, is the one to bury it.
    eventually("it was killed", async || !kill("-0")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_insists_does_not_wait_for_a_postgresql_whose_start_is_stuck() {
    let place = Workplace::new();
    let child = place.start_with(Stdio::piped(), "serve");
    let deadline = Instant::now() + Duration::from_mins(1);
    // initdb's own have a pid below 0 in theirs.
    let postmaster = loop {
        assert!(Instant::now() < deadline, "no server");
        if let Some(pid) = postmaster_of(&place).filter(|pid| !pid.starts_with('-')) {
            break pid;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    };
    let _killed_in_the_end = Killed(postmaster.clone());
    let kill = |signal: &str| {
        Command::new("kill").args([signal, &postmaster]).stderr(Stdio::null()).status().unwrap().success()
    };
    assert!(kill("-STOP"));
    let begun = Instant::now();
    signal(&child, "TERM");
    tokio::time::sleep(Duration::from_millis(200)).await;
    signal(&child, "TERM");
    let ended = child.wait_with_output().unwrap();
    assert_eq!((ended.status.code(), ended.stdout.len()), (Some(0), 0));
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    eventually("it was killed", async || !kill("-0")).await;
}

/// The first line of the file that the embedded PostgreSQL says who it is in.
fn postmaster_of(place: &Workplace) -> Option<String> {
    let file = place.data_dir().join("postgres/cluster/postmaster.pid");
    std::fs::read_to_string(file).ok()?.lines().next().map(str::to_owned)
}

/// A process that reacts to nothing shall not outlive its test, not even one that fails.
struct Killed(String);

impl Drop for Killed {
    fn drop(&mut self) {
        Command::new("kill").args(["-KILL", &self.0]).stderr(Stdio::null()).status().unwrap();
    }
}
