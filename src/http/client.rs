//! Who is at the other end of the line.

use std::{net::IpAddr, sync::Arc};

use ipnet::IpNet;
use poem::{Addr, FromRequest, Request, RequestBody, Result};

/// The proxies whose `X-Forwarded-For` is believed.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies(Arc<[IpNet]>);

impl TrustedProxies {
    /// Those in these networks.
    pub fn new(networks: impl IntoIterator<Item = IpNet>) -> Self {
        Self(networks.into_iter().collect())
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this is one of them.
    #[must_use]
    pub fn trust(&self, ip: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&ip))
    }

    /// Whether a request comes straight from one of them.
    #[must_use]
    pub fn trusts_peer_of(&self, request: &Request) -> bool {
        let peer = request.remote_addr().as_socket_addr();
        !self.is_empty() && peer.is_some_and(|peer| self.trust(peer.ip().to_canonical()))
    }

    /// The client behind `peer`. Every proxy appends the address it was called from, so the header is read from the
    /// right for as long as the address at hand is a proxy's; what stands further left anybody may have written.
    fn client<'a>(&self, peer: IpAddr, forwarded_for: impl DoubleEndedIterator<Item = &'a str>) -> IpAddr {
        let mut client = peer.to_canonical();
        for entry in forwarded_for.rev() {
            if !self.trust(client) {
                break;
            }
            let Some(ip) = address(entry.trim()) else { break };
            client = ip;
        }
        client
    }
}

/// An address as proxies write it: bare, in brackets, with or without a port.
fn address(entry: &str) -> Option<IpAddr> {
    let bare = entry.parse().ok();
    let with_port = || entry.parse().ok().map(|addr: std::net::SocketAddr| addr.ip());
    let bracketed = || entry.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    bare.or_else(with_port).or_else(bracketed).map(|ip: IpAddr| ip.to_canonical())
}

/// Who is at the other end of the connection.
pub(super) fn peer(request: &Request) -> IpAddr {
    match request.remote_addr().0 {
        Addr::SocketAddr(addr) => addr.ip().to_canonical(),
        // Whoever calls through a socket file is on this machine.
        _ => IpAddr::from([127, 0, 0, 1]),
    }
}

/// The address of the client, as far as it can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClientAddr(pub IpAddr);

impl ClientAddr {
    /// Finds it out.
    #[must_use]
    pub fn of(request: &Request) -> Self {
        let peer = peer(request);
        let lines: Vec<&str> = request
            .headers()
            .get_all("x-forwarded-for")
            .iter()
            .map(|line| line.to_str().unwrap_or_default())
            .collect();
        let entries = lines.iter().flat_map(|line| line.split(','));
        Self(
            request
                .data::<TrustedProxies>()
                .map_or_else(|| peer.to_canonical(), |proxies| proxies.client(peer, entries)),
        )
    }
}

impl ClientAddr {
    /// The network that is taken for one place: an IPv4 address, or the /64 of an IPv6 one, for that is what a single
    /// customer gets, to choose addresses from as he likes.
    #[must_use]
    pub fn network(&self) -> IpNet {
        let prefix = if self.0.is_ipv6() { 64 } else { 32 };
        IpNet::new(self.0, prefix).map_or_else(|_| self.0.into(), |network| network.trunc())
    }

    /// The network as a text: `198.51.100.7` or `2001:db8::/64`.
    #[must_use]
    pub fn network_text(&self) -> String {
        if self.0.is_ipv4() { self.0.to_string() } else { self.network().to_string() }
    }
}

impl<'a> FromRequest<'a> for ClientAddr {
    async fn from_request(request: &'a Request, _: &mut RequestBody) -> Result<Self> {
        Ok(Self::of(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(peer: &str, forwarded_for: &str) -> String {
        let proxies = TrustedProxies::new(
            ["10.0.0.0/8", "fd00::/8"].map(|network| network.parse().expect("a network")),
        );
        proxies.client(peer.parse().expect("an address"), forwarded_for.split(',')).to_string()
    }

    #[test]
    fn a_stranger_is_not_believed() {
        assert_eq!(client("203.0.113.5", "198.51.100.7"), "203.0.113.5");
    }

    #[test]
    fn the_header_is_walked_from_the_right_past_our_own_proxies() {
        assert_eq!(client("10.0.0.1", "198.51.100.7"), "198.51.100.7");
        assert_eq!(client("10.0.0.1", "1.1.1.1, 198.51.100.7, 10.2.2.2"), "198.51.100.7");
        assert_eq!(client("10.0.0.1", "10.1.1.1,10.2.2.2"), "10.1.1.1");
        assert_eq!(client("fd00::1", "[2001:db8::7]:4711"), "2001:db8::7");
        assert_eq!(client("::ffff:10.0.0.1", "::ffff:198.51.100.7"), "198.51.100.7");
        assert_eq!(client("10.0.0.1", "198.51.100.7:5123"), "198.51.100.7");
    }

    #[test]
    fn the_walk_ends_where_the_header_makes_no_sense() {
        assert_eq!(client("10.0.0.1", ""), "10.0.0.1");
        assert_eq!(client("10.0.0.1", "198.51.100.7, unknown"), "10.0.0.1");
        assert_eq!(client("10.0.0.1", "unknown, 10.2.2.2"), "10.2.2.2");
    }
}
