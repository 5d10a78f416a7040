//! A client that sends exactly what it is told to.

use serde_json::Value;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::service::TestServer;

/// The bytes that came back, taken apart.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    fn of(bytes: &[u8]) -> Self {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
        let head = String::from_utf8(bytes[..end].to_vec()).expect("an ASCII head");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Self { status, head, body: bytes[end + 4..].to_vec() }
    }

    /// The values of a header, as many as there are.
    pub(super) fn headers(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        lines.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// The value of a header there is one of.
    pub(super) fn header(&self, name: &str) -> &str {
        match self.headers(name)[..] {
            [value] => value,
            ref values => panic!("{name}: {values:?} in {}", self.head),
        }
    }

    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The problem without its request id, which must be that of the header.
    pub(super) fn problem(&self) -> (u16, Value) {
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(self.header("cache-control"), "no-store");
        let mut problem = self.json();
        let request_id = problem.as_object_mut().and_then(|members| members.remove("request_id"));
        assert_eq!(request_id, Some(self.header("x-request-id").into()));
        assert_eq!(problem["status"], self.status);
        (self.status, problem)
    }

    /// Status, code and detail of the problem.
    pub(super) fn said(&self) -> (u16, String, String) {
        let (status, problem) = self.problem();
        let text = |name: &str| problem[name].as_str().expect("a text").to_owned();
        (status, text("code"), text("detail"))
    }
}

impl TestServer {
    /// Sends these bytes and reads until the server closes.
    pub(super) async fn send(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        stream.write_all(bytes.as_ref()).await.expect("written");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.expect("read");
        Answer::of(&answer)
    }

    /// A request for `acme` by its user `ann`, with more header lines.
    pub(super) async fn ann(&self, method: &str, path: &str, more: &str) -> Answer {
        self.send(format!(
            "{method} {path} HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer acme.ann\r\nConnection: close\r\n{more}\r\n"
        ))
        .await
    }

    /// A request with nothing but these lines.
    pub(super) async fn lines(&self, target: &str, lines: &[&str]) -> Answer {
        self.send(format!("{target} HTTP/1.1\r\nConnection: close\r\n{}\r\n\r\n", lines.join("\r\n"))).await
    }

    /// A JSON body from ann of acme.
    pub(super) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.post_as("application/json", path, body).await
    }

    /// A body of any media type from ann of acme.
    pub(super) async fn post_as(&self, media_type: &str, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: acme.localhost\r\nAuthorization: Bearer acme.ann\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.send([head.as_bytes(), body].concat()).await
    }
}
