//! `tenantry health`: is the server of these settings alive? For supervisors that can run a command and have no HTTP
//! client, such as those of containers with nothing but this program in them.

use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use clap::Args;
use serde::Serialize;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
};

mod unverified;

use super::{
    output::Exit,
    run::{Context, Failure},
};
use crate::config::Config;

/// `/readyz` gives the database two seconds; a supervisor waits for longer than this.
const PATIENCE: Duration = Duration::from_secs(4);
/// The answer is a line of JSON below some headers.
const LONGEST_ANSWER: u64 = 16 * 1024;

/// The arguments of `health`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry health           Is the process alive? Exit code 0 if it is
  tenantry health --ready   Does the database answer, too?")]
pub struct Health {
    /// Ask whether the database answers, too
    #[arg(long)]
    pub ready: bool,
}

#[derive(Debug, thiserror::Error)]
enum Unwell {
    #[error("nobody answers on {0}: {1}")]
    Silent(SocketAddr, io::Error),
    #[error("no answer on {0} within {time} s", time = PATIENCE.as_secs())]
    Late(SocketAddr),
    #[error("the server on {0} answers {1:?} to {2}")]
    Answered(SocketAddr, String, &'static str),
}

#[derive(Serialize)]
struct Healthy {
    status: &'static str,
}

pub(super) async fn health(context: &Context, arguments: Health) -> Result<Exit, Failure> {
    let (address, is_encrypted) = asked(&context.config);
    let path = if arguments.ready { "/readyz" } else { "/healthz" };
    let line = tokio::time::timeout(PATIENCE, ask(address, path, is_encrypted))
        .await
        .map_err(|_| Unwell::Late(address))?
        .map_err(|error| Unwell::Silent(address, error))?;
    if line.split_whitespace().nth(1) != Some("200") {
        return Err(Unwell::Answered(address, line, path).into());
    }
    context.output.answer(&Healthy { status: "ok" }, |healthy| healthy.status)?;
    Ok(Exit::Ok)
}

/// Which listener is asked, and whether it speaks TLS: one that strangers do not come to, where there is one. A process that
/// they keep busy is alive.
fn asked(config: &Config) -> (SocketAddr, bool) {
    let is_encrypted = !config.certificates().is_empty();
    let aside = [(config.metrics_listen, false), (config.admin_listen, is_encrypted && config.admin_tls())];
    // Of port 0, only the process itself knows which it became.
    let aside =
        aside.into_iter().find_map(|(address, tls)| Some((address.filter(|it| it.port() != 0)?, tls)));
    let (address, is_encrypted) = aside.unwrap_or((config.listen, is_encrypted));
    (reachable(address), is_encrypted)
}

/// Where a listener is reached from its own machine: one on all interfaces is on the loopback one too.
fn reachable(mut listen: SocketAddr) -> SocketAddr {
    if listen.ip().is_unspecified() {
        listen.set_ip(if listen.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
    }
    listen
}

/// The first line of the answer.
async fn ask(address: SocketAddr, path: &str, is_encrypted: bool) -> io::Result<String> {
    let stream = TcpStream::connect(address).await?;
    if is_encrypted {
        ask_over(unverified::encrypt(stream).await?, path).await
    } else {
        ask_over(stream, path).await
    }
}

async fn ask_over(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str) -> io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_on_all_interfaces_is_asked_on_the_loopback_one() {
        let asked = |listen: &str| reachable(listen.parse().unwrap()).to_string();
        assert_eq!(asked("0.0.0.0:8080"), "127.0.0.1:8080");
        assert_eq!(asked("[::]:8080"), "[::1]:8080");
        assert_eq!(asked("10.0.0.7:80"), "10.0.0.7:80");
    }
}
