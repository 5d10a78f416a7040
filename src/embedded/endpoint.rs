//! Where the cluster listens, and the URLs that lead there.

use super::error::Error;
use super::files;
use super::identity::Identity;
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

/// What a socket's address holds on macOS; Linux has four bytes more.
const SOCKET_PATH_MAX: usize = 103;

/// On a Unix socket this is but a part of the socket's name.
const SOCKET_PORT: u16 = 5432;

/// What the cluster listens on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transport {
    /// A Unix socket in a private directory, or, where none can be had, as [`Transport::Loopback`].
    #[default]
    UnixSocket,
    /// A free port of 127.0.0.1. Everybody on this machine can knock there, so it takes the password to get in.
    Loopback,
}

/// Where a running cluster listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Endpoint {
    SocketDirectory(PathBuf),
    LoopbackPort(u16),
}

impl Endpoint {
    /// A new one. A socket's directory has a name nobody can guess, so that a new server and one that is still
    /// stopping do not meet in it.
    pub(super) fn create(transport: Transport, identity: &Identity) -> Result<Self, Error> {
        if transport == Transport::UnixSocket {
            let parents = socket_parents();
            if let Some(directory) =
                parents.iter().find_map(|parent| create_socket_directory(parent, identity))
            {
                return Ok(Self::SocketDirectory(directory));
            }
            tracing::warn!("no directory is fit for a Unix socket: PostgreSQL listens on 127.0.0.1");
        }
        TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .and_then(|listener| listener.local_addr())
            .map(|address| Self::LoopbackPort(address.port()))
            .map_err(Error::io("find a free port on", Path::new("127.0.0.1")))
    }

    pub(super) fn socket_directory(&self) -> Option<&Path> {
        match self {
            Self::SocketDirectory(directory) => Some(directory),
            Self::LoopbackPort(_) => None,
        }
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Self::SocketDirectory(_) => SOCKET_PORT,
            Self::LoopbackPort(port) => *port,
        }
    }

    /// Removes what a server and its supervisor could not.
    pub(super) fn clean_up(&self) {
        let Some(directory) = self.socket_directory() else { return };
        for name in [socket_name(SOCKET_PORT), format!("{}.lock", socket_name(SOCKET_PORT))] {
            let _ = std::fs::remove_file(directory.join(name));
        }
        let _ = std::fs::remove_dir(directory);
    }

    /// A URL as libpq and sqlx understand it. There is no TLS to try first: nothing leaves this machine.
    pub(super) fn url(&self, user: &str, password: &SecretString, database: &str) -> SecretString {
        let mut url = format!(
            "postgres://{}:{}@{}:{}/{}?sslmode=disable",
            percent_encoded(user.as_bytes()),
            percent_encoded(password.expose_secret().as_bytes()),
            if self.socket_directory().is_some() { "localhost" } else { "127.0.0.1" },
            self.port(),
            percent_encoded(database.as_bytes())
        );
        if let Some(directory) = self.socket_directory() {
            url.push_str("&host=");
            url.push_str(&percent_encoded(directory.as_os_str().as_encoded_bytes()));
        }
        SecretString::from(url)
    }
}

/// /tmp first: a `TMPDIR` may be too long, and the runtime directory goes when its user logs out, whatever still runs.
fn socket_parents() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    [PathBuf::from("/tmp")].into_iter().chain(runtime).chain([std::env::temp_dir()]).collect()
}

fn create_socket_directory(parent: &Path, identity: &Identity) -> Option<PathBuf> {
    let directory = parent.join(format!("tenantry-{}", files::random_name()));
    let length = directory.as_os_str().len() + 1 + socket_name(SOCKET_PORT).len();
    // PostgreSQL takes a list of directories, with commas between and quotes around.
    let is_plain = directory.to_str().is_some_and(|path| path.starts_with('/') && !path.contains([',', '"']));
    if length > SOCKET_PATH_MAX || !is_plain || !files::is_safe_parent(parent) || !identity.can_search(parent)
    {
        return None;
    }
    files::create_private_directory(&directory, identity)
        .inspect_err(|error| tracing::debug!(directory = %directory.display(), %error, "unfit for a socket"))
        .ok()
        .map(|()| directory)
}

fn socket_name(port: u16) -> String {
    format!(".s.PGSQL.{port}")
}

/// Everything but RFC 3986's unreserved characters, so that it fits anywhere in a URL.
fn percent_encoded(bytes: &[u8]) -> String {
    let mut encoded = String::with_capacity(bytes.len());
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::Endpoint;
    use secrecy::{ExposeSecret as _, SecretString};
    use sqlx::postgres::PgConnectOptions;
    use std::path::PathBuf;

    #[test]
    fn a_socket_url_survives_every_character() {
        let endpoint = Endpoint::SocketDirectory(PathBuf::from("/tmp/a b&c=d?e#f%g"));
        let url = endpoint.url("us/er@host", &SecretString::from("p:w%/ö?&#"), "data base/?x");
        let options: PgConnectOptions = url.expose_secret().parse().unwrap();
        assert_eq!(options.get_socket().unwrap(), &PathBuf::from("/tmp/a b&c=d?e#f%g"));
        assert_eq!(options.get_username(), "us/er@host");
        assert_eq!(options.get_database(), Some("data base/?x"));
        assert_eq!(options.get_port(), 5432);
    }

    #[test]
    fn a_loopback_url_names_the_port() {
        let url = Endpoint::LoopbackPort(54321).url("postgres", &SecretString::from("secret"), "postgres");
        assert_eq!(
            url.expose_secret(),
            "postgres://postgres:secret@127.0.0.1:54321/postgres?sslmode=disable"
        );
    }
}
