//! HTTP/1.1 over raw sockets: requests are bytes prepared beforehand, so that the generator takes little of the cores
//! it shares with the server.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};

use crate::Failure;

/// Longer than any deadline of the server's.
const PATIENCE: Duration = Duration::from_secs(30);
/// More is not sent in one go, however fast the machine.
const MOST_REQUESTS: usize = 500_000;
/// More than any answer that is asked for here.
const MOST_BYTES: usize = 16 << 20;

/// A request, and what its answer has to be.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    status: u16,
    /// What only the right answer has in it.
    mark: Vec<u8>,
}

impl Request {
    /// A request for `path` of a host, answered with this status and this text somewhere in the body.
    pub(crate) fn new(method: &str, host: &str, path: &str, status: u16, mark: &str) -> Self {
        let bytes = format!(
            "{method} {path} HTTP/1.1\r\nhost: {host}\r\nuser-agent: load\r\naccept: application/json\r\n\r\n"
        );
        Self { bytes: bytes.into_bytes(), status, mark: mark.as_bytes().to_vec() }
    }

    /// With a token.
    pub(crate) fn bearer(self, token: &str) -> Self {
        self.with(&format!("authorization: Bearer {token}\r\n\r\n"))
    }

    /// With a body.
    pub(crate) fn json(self, body: &serde_json::Value) -> Self {
        let body = body.to_string();
        let length = body.len();
        self.with(&format!("content-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"))
    }

    /// With this instead of the empty line that ends the headers.
    fn with(mut self, rest: &str) -> Self {
        self.bytes.truncate(self.bytes.len() - 2);
        self.bytes.extend_from_slice(rest.as_bytes());
        self
    }
}

/// One keep-alive connection.
pub(crate) struct Client {
    stream: TcpStream,
    answer: Vec<u8>,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Ok(Self { stream, answer: Vec::with_capacity(64 << 10) })
    }

    /// Sends a request and checks the answer; returns its body.
    pub(crate) async fn send(&mut self, request: &Request) -> Result<&[u8], Failure> {
        let (status, body) = timeout(PATIENCE, self.exchange(&request.bytes)).await??;
        let body = &self.answer[body..];
        if status == request.status && contains(body, &request.mark) {
            return Ok(body);
        }
        let asked = String::from_utf8_lossy(&request.bytes);
        let asked = asked.lines().next().unwrap_or_default();
        let (mark, body) = (String::from_utf8_lossy(&request.mark), String::from_utf8_lossy(body));
        Err(format!("`{asked}` was answered {status}, not {} with `{mark}`: {body}", request.status).into())
    }

    /// As [`send`](Self::send); whether it was answered, for it may be one too many.
    pub(crate) async fn send_or_be_refused(&mut self, request: &Request) -> Result<bool, Failure> {
        let (status, body) = timeout(PATIENCE, self.exchange(&request.bytes)).await??;
        let right = status == request.status && contains(&self.answer[body..], &request.mark);
        if right || status == 429 { Ok(right) } else { Err(format!("answered {status}").into()) }
    }

    /// Returns the status, and where the body starts.
    async fn exchange(&mut self, request: &[u8]) -> Result<(u16, usize), Failure> {
        self.stream.write_all(request).await?;
        self.answer.clear();
        let (status, start, end) = loop {
            self.read().await?;
            if let Some(end_of_head) = find(&self.answer, b"\r\n\r\n") {
                let head = str::from_utf8(&self.answer[..end_of_head])?;
                let (status, length) = parse_head(head).ok_or_else(|| format!("no answer: {head}"))?;
                break (status, end_of_head + 4, end_of_head + 4 + length);
            }
        };
        while self.answer.len() < end {
            self.read().await?;
        }
        if self.answer.len() == end { Ok((status, start)) } else { Err("more came than one answer".into()) }
    }

    async fn read(&mut self) -> Result<(), Failure> {
        let read = self.stream.read_buf(&mut self.answer).await?;
        if read == 0 || self.answer.len() > MOST_BYTES {
            return Err("the server closed the connection, or sends without end".into());
        }
        Ok(())
    }
}

/// The status and the length of the body. Answers of the service always tell it.
fn parse_head(head: &str) -> Option<(u16, usize)> {
    let mut lines = head.split("\r\n");
    let status = lines.next()?.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    let length = lines.find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().ok())?
    })?;
    Some((status, length))
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    part.is_empty() || find(text, part).is_some()
}

/// What a load was answered, rightly all of it.
#[derive(Debug)]
pub(crate) struct Load {
    pub(crate) requests: u32,
    pub(crate) took: Duration,
    /// Sorted.
    latencies: Vec<Duration>,
}

impl Load {
    /// The latency that this many of a hundred requests did not exceed.
    pub(crate) fn percentile(&self, percent: usize) -> Duration {
        percentile(&self.latencies, percent)
    }
}

/// Of sorted durations.
pub(crate) fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let index = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
    sorted.get(index).copied().unwrap_or_default()
}

/// Sends each request once, over one connection.
pub(crate) async fn once(address: SocketAddr, requests: &[Request]) -> Result<(), Failure> {
    let mut client = Client::connect(address).await?;
    for request in requests {
        client.send(request).await?;
    }
    Ok(())
}

/// Sends requests chosen at random over so many connections, each one after the other, for so long.
pub(crate) async fn load(
    address: SocketAddr,
    requests: &Arc<[Request]>,
    connections: u32,
    duration: Duration,
) -> Result<Load, Failure> {
    let started = Instant::now();
    let most = MOST_REQUESTS / connections as usize;
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        let requests = Arc::clone(requests);
        // Errors cross tasks as text.
        senders.spawn(async move {
            send_until(address, &requests, started + duration, most).await.map_err(|error| error.to_string())
        });
    }
    let mut latencies = Vec::new();
    while let Some(sent) = senders.join_next().await {
        latencies.append(&mut sent??);
    }
    let took = started.elapsed();
    latencies.sort_unstable();
    Ok(Load { requests: u32::try_from(latencies.len())?, took, latencies })
}

async fn send_until(
    address: SocketAddr,
    requests: &[Request],
    end: Instant,
    most: usize,
) -> Result<Vec<Duration>, Failure> {
    let mut client = Client::connect(address).await?;
    let mut latencies = Vec::new();
    let mut now = Instant::now();
    while now < end && latencies.len() < most {
        client.send(&requests[rand::random_range(0..requests.len())]).await?;
        let sent = std::mem::replace(&mut now, Instant::now());
        latencies.push(now - sent);
    }
    Ok(latencies)
}
