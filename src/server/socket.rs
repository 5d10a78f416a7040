//! The listening socket.

use std::{io, net::SocketAddr, time::Duration};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpSocket};

/// After how long without a packet a client is asked whether it is still there, and how often, and how many times in vain
/// until it is not: one that vanished without a word, with its machine or its network, is gone within a minute, also from a
/// stream on which there is nothing to say.
const KEEP_ALIVE_IDLE: Duration = Duration::from_secs(20);
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(10);
const KEEP_ALIVE_PROBES: u32 = 3;
/// For how long what was sent may be without an acknowledgement, probes among it (RFC 5482). The kernel would try for a
/// quarter of an hour.
#[cfg(target_os = "linux")]
const USER_TIMEOUT: Duration = Duration::from_secs(40);

/// How many connections the kernel keeps that are not accepted yet; it cuts this to what the system lets (`somaxconn`, 4,096 where
/// nobody has changed it). Of a burst beyond it, clients are not answered and try again a second later.
const BACKLOG: u32 = 4_096;

/// Listens on this address. What is set here, the kernel hands on to each connection that is accepted.
pub(super) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // As tokio's own listener: one that was just closed leaves its port to the next.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    let listener = socket.listen(BACKLOG)?;
    sockopt::set_socket_keepalive(&listener, true)?;
    sockopt::set_tcp_keepidle(&listener, KEEP_ALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(&listener, KEEP_ALIVE_INTERVAL)?;
    sockopt::set_tcp_keepcnt(&listener, KEEP_ALIVE_PROBES)?;
    #[cfg(target_os = "linux")]
    sockopt::set_tcp_user_timeout(&listener, u32::try_from(USER_TIMEOUT.as_millis()).unwrap_or(u32::MAX))?;
    // Without it, the end of an answer may wait for the client's acknowledgement of its beginning.
    sockopt::set_tcp_nodelay(&listener, true)?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpStream;

    use super::*;

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn each_connection_notices_a_client_that_vanished() {
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        assert!(sockopt::socket_keepalive(&accepted).unwrap());
        assert_eq!(sockopt::tcp_keepidle(&accepted).unwrap(), KEEP_ALIVE_IDLE);
        assert_eq!(sockopt::tcp_keepintvl(&accepted).unwrap(), KEEP_ALIVE_INTERVAL);
        assert_eq!(sockopt::tcp_keepcnt(&accepted).unwrap(), KEEP_ALIVE_PROBES);
        assert_eq!(sockopt::tcp_user_timeout(&accepted).unwrap(), 40_000);
        assert!(accepted.nodelay().unwrap());
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_burst_waits_until_it_is_accepted() {
        let most = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
        let burst = most.trim().parse::<usize>().unwrap().min(400);
        let listener = listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = listener.local_addr().unwrap();
        let coming = (0..burst).map(|_| TcpStream::connect(address));
        let all = tokio::time::timeout(Duration::from_secs(20), futures_util::future::try_join_all(coming));
        assert_eq!(all.await.expect("nobody is left out").unwrap().len(), burst);
    }
}
