//! What a running server tells an OpenTelemetry collector.

use std::{
    collections::BTreeSet,
    sync::{Arc, LazyLock, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest,
    common::v1::{KeyValue, any_value::Value as Any},
    trace::v1::{Span, span::SpanKind},
};
use prost::Message as _;
use serde_json::json;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::support::Workplace;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// A collector that takes OTLP over HTTP, in protobuf.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<(String, ExportTraceServiceRequest)>>>);

impl Collector {
    async fn start() -> (Self, String) {
        let (collector, listener) = (Self::default(), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let endpoint = format!("http://{}", listener.local_addr().unwrap());
        let this = collector.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(this.clone().take(stream));
            }
        });
        (collector, endpoint)
    }

    async fn take(self, stream: TcpStream) {
        let mut stream = BufReader::new(stream);
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
                    return;
                }
            }
            let head = head.to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
            let mut body = vec![0; length.parse().unwrap()];
            stream.read_exact(&mut body).await.unwrap();
            let spans = ExportTraceServiceRequest::decode(&body[..]).unwrap();
            self.0.lock().unwrap().push((head, spans));
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
        }
    }

    fn spans(&self) -> Vec<Span> {
        let posts = self.0.lock().unwrap();
        let resources = posts.iter().flat_map(|(_, post)| &post.resource_spans);
        resources.flat_map(|resource| &resource.scope_spans).flat_map(|scope| scope.spans.clone()).collect()
    }
}

fn text(attributes: &[KeyValue], key: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == key)?.value.clone()?.value?;
    Some(match value {
        Any::StringValue(text) => text,
        Any::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_trace_goes_through_request_database_hash_job_and_mail() {
    let (collector, endpoint) = Collector::start().await;
    let place = Workplace::new()
        .with("TENANTRY_OTLP_ENDPOINT", endpoint)
        .with("TENANTRY_OTLP_HEADERS", "authorization=Bearer%20of-the-collector")
        .with("TENANTRY_TRUSTED_PROXIES", "127.0.0.1/32")
        .with("TENANTRY_TRACE_RATIO", "0");
    let (serve, log) = place.serve_with_log();
    let sign_up = json!({
        "organization": "Zyxel", "slug": "zyxel", "username": "quentin", "email": "quentin@zyxel.example",
        "password": "correct horse battery",
    });
    let request = serve.service("POST", "/api/sign_up/tenant/").json(&sign_up);
    let signed_up = request.header("traceparent", &format!("00-{TRACE}-{PARENT}-01")).expect(201).await;
    // Neither kept by who sent it, nor by us.
    serve.service("GET", "/healthz").expect(200).await;
    let unkept = format!("00-{}-{PARENT}-00", TRACE.replace('4', "5"));
    serve.service("GET", "/healthz").header("traceparent", &unkept).expect(200).await;
    let mail = || collector.spans().iter().any(|span| span.name == "mail");
    crate::support::eventually("the mail's span comes", async || mail()).await;
    assert_eq!(serve.terminate(), Some(0));

    let spans = collector.spans();
    assert!(spans.iter().all(|span| hex(&span.trace_id) == TRACE), "nothing else is kept: {spans:#?}");
    let names: BTreeSet<_> = spans.iter().map(|span| span.name.as_str()).collect();
    for name in ["POST /api/sign_up/tenant/", "hashing", "database begin", "database commit", "job", "mail"] {
        assert!(names.contains(name), "{name} is not among {names:?}");
    }
    let root = spans.iter().find(|span| span.name.starts_with("POST")).unwrap();
    assert_eq!((hex(&root.parent_span_id).as_str(), root.kind()), (PARENT, SpanKind::Server));
    let said = |key: &str| text(&root.attributes, key);
    assert_eq!(said("http.response.status_code").as_deref(), Some("201"));
    assert_eq!(said("http.route").as_deref(), Some("/api/sign_up/tenant/"));
    assert_eq!(said("request_id").map(|id| id.len()), Some(36));
    let hashing = spans.iter().find(|span| span.name == "hashing").unwrap();
    assert_eq!(hashing.parent_span_id, root.span_id);
    let job = spans.iter().find(|span| span.name == "job").unwrap();
    assert_eq!(text(&job.attributes, "tenant").as_deref(), signed_up["tenant"]["id"].as_str());
    assert!(spans.iter().any(|span| span.name == "mail" && span.parent_span_id == job.span_id));

    let posts = collector.0.lock().unwrap();
    for (head, post) in &*posts {
        assert!(head.starts_with("post /v1/traces http/1.1\r\n"), "{head}");
        assert!(head.contains("\ncontent-type: application/x-protobuf\r"), "{head}");
        assert!(head.contains("\nauthorization: bearer of-the-collector\r"), "{head}");
        let all = format!("{post:?}");
        for secret in ["quentin", "zyxel", "Zyxel", "SELECT", "INSERT", "correct horse", "127.0.0.1"] {
            assert!(!all.contains(secret), "{secret} is in {all}");
        }
    }
    let resource = posts[0].1.resource_spans[0].resource.clone().unwrap();
    assert_eq!(text(&resource.attributes, "service.name").as_deref(), Some("tenantry"));
    assert!(
        !log.into_iter()
            .any(|line| line.contains("of-the-collector") || line.contains("the collector takes"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_is_told_of_once_and_keeps_nobody_waiting() {
    // Nobody listens there any more.
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let place = Workplace::new().with("TENANTRY_OTLP_ENDPOINT", format!("http://{gone}"));
    let (serve, mut log) = place.serve_with_log();
    let strangers = format!("00-{TRACE}-{PARENT}-01");
    serve.service("GET", "/healthz").header("traceparent", &strangers).expect(200).await;
    let line = log.find(|line| line.contains("the collector takes no traces")).unwrap();
    assert!(line.contains("WARN") && !line.contains(TRACE), "{line}");
    for _ in 0..20 {
        serve.service("GET", "/healthz").expect(200).await;
    }
    assert_eq!(serve.terminate(), Some(0));
    assert_eq!(log.filter(|line| line.contains("the collector takes no traces")).count(), 0);
}

/// One that answers this, and goes on with it up to this many times; how many bytes it got rid of.
async fn hostile_collector(
    head: &'static str,
    piece: &'static [u8],
    times: usize,
) -> (String, JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let sent = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = [0; 1_024];
        assert_ne!(stream.read(&mut request).await.unwrap(), 0);
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut sent = 0;
        for _ in 0..times {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            sent += piece.len();
        }
        sent
    });
    (endpoint, sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_answers_without_end_is_not_listened_to() {
    // A chunk of 64 KiB, and up to 256 MiB of them.
    static CHUNK: LazyLock<Vec<u8>> =
        LazyLock::new(|| [&b"10000\r\n"[..], &[b'x'; 0x1_0000], b"\r\n"].concat());
    let head = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (endpoint, sent) = hostile_collector(head, &CHUNK, 4_096).await;
    let serve = Workplace::new().with("TENANTRY_OTLP_ENDPOINT", endpoint).serve();
    serve.service("GET", "/healthz").expect(200).await;
    // What the sockets hold on both sides, and no more.
    let sent = sent.await.unwrap();
    assert!(sent < 32 << 20, "{sent} bytes were taken");
    assert_eq!(serve.terminate(), Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_elsewhere_is_told_of() {
    let head = "HTTP/1.1 307 Temporary Redirect\r\nlocation: https://elsewhere.example/\r\ncontent-length: 0\r\n\r\n";
    let (endpoint, _) = hostile_collector(head, b"", 0).await;
    let (serve, mut log) = Workplace::new().with("TENANTRY_OTLP_ENDPOINT", endpoint).serve_with_log();
    serve.service("GET", "/healthz").expect(200).await;
    let line = log.find(|line| line.contains("the collector takes no traces")).unwrap();
    assert!(line.contains("it answered 307 Temporary Redirect"), "{line}");
    assert_eq!(serve.terminate(), Some(0));
}
