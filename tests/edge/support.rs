//! Clients that speak byte by byte, and rows that are locked.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use sqlx::{AssertSqlSafe, Executor as _, PgConnection};
use tenantry::server::CertificateFiles;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpSocket, TcpStream},
    time::timeout,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{
        ClientConfig, RootCertStore, SupportedProtocolVersion,
        pki_types::{CertificateDer, ServerName, pem::PemObject as _},
    },
};

use crate::support::TestApp;

/// Longer than anything takes that is meant to come.
const SOON: Duration = Duration::from_secs(20);

/// A connection, spoken to byte by byte.
pub(super) struct Wire<S>(pub(super) S);

impl Wire<TcpStream> {
    pub(super) async fn open(app: &TestApp) -> Self {
        Self(TcpStream::connect(app.address).await.unwrap())
    }

    /// One of a client at this address: all of 127.0.0.0/8 are this machine's.
    pub(super) async fn open_from(app: &TestApp, client: &str) -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(SocketAddr::new(client.parse().unwrap(), 0)).unwrap();
        Self(socket.connect(app.address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(super) async fn send(&mut self, text: &str) {
        self.0.write_all(text.as_bytes()).await.unwrap();
    }

    pub(super) async fn get(&mut self, path: &str) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n")).await;
    }

    /// The next answer: its head in lower case, and its body.
    pub(super) async fn answer(&mut self) -> (String, Vec<u8>) {
        let answer = async {
            let mut bytes = Vec::new();
            while !bytes.ends_with(b"\r\n\r\n") {
                bytes.push(self.0.read_u8().await.unwrap());
            }
            let head = String::from_utf8(bytes).unwrap().to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
            self.0.read_exact(&mut body).await.unwrap();
            (head, body)
        };
        timeout(SOON, answer).await.expect("an answer")
    }

    /// Its status alone.
    pub(super) async fn status(&mut self) -> u16 {
        let (head, _) = self.answer().await;
        head.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// All that comes until the server hangs up, however it does.
    pub(super) async fn rest(&mut self) -> String {
        let mut rest = Vec::new();
        timeout(SOON, self.0.read_to_end(&mut rest)).await.expect("the server hangs up").ok();
        String::from_utf8(rest).unwrap()
    }
}

/// Something that nobody else can read for as long as this is not released.
pub(super) struct Locked(PgConnection);

impl Locked {
    pub(super) async fn table(app: &TestApp, table: &str) -> Self {
        let mut superuser = app.superuser().await;
        let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
        superuser.execute(AssertSqlSafe(lock)).await.unwrap();
        Self(superuser)
    }

    pub(super) async fn release(mut self) {
        self.0.execute("ROLLBACK").await.unwrap();
    }

    /// How many wait for it.
    pub(super) async fn waiting(&mut self) -> i64 {
        // Within a transaction, what was seen first is seen on.
        self.0.execute("SELECT pg_stat_clear_snapshot()").await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
        sqlx::query_scalar(sql).fetch_one(&mut self.0).await.unwrap()
    }
}

/// Writes a certificate of its own authority for these names, and its key.
pub(super) fn certify(directory: &Path, file: &str, names: &[&str]) -> CertificateFiles {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    let [chain, key] = ["pem", "key"].map(|kind| directory.join(format!("{file}.{kind}")));
    std::fs::write(&chain, cert.pem()).unwrap();
    std::fs::write(&key, signing_key.serialize_pem()).unwrap();
    CertificateFiles { chain, key }
}

/// Shakes hands with a server as this name, trusting nothing but this certificate.
pub(super) async fn encrypt(
    stream: TcpStream,
    name: &str,
    trusted: &CertificateFiles,
    version: &'static SupportedProtocolVersion,
) -> std::io::Result<Wire<TlsStream<TcpStream>>> {
    encrypt_by(&trusting(&[trusted], version), stream, name).await
}

/// Shakes hands by what may remember sessions.
pub(super) async fn encrypt_by(
    connector: &TlsConnector,
    stream: TcpStream,
    name: &str,
) -> std::io::Result<Wire<TlsStream<TcpStream>>> {
    let name = ServerName::try_from(name.to_owned()).unwrap();
    Ok(Wire(connector.connect(name, stream).await?))
}

/// A client that trusts nothing but these certificates, and remembers its sessions.
pub(super) fn trusting(
    trusted: &[&CertificateFiles],
    version: &'static SupportedProtocolVersion,
) -> TlsConnector {
    rustls::crypto::ring::default_provider().install_default().ok();
    let mut roots = RootCertStore::empty();
    for files in trusted {
        roots.add(CertificateDer::from_pem_file(&files.chain).unwrap()).unwrap();
    }
    let mut config = ClientConfig::builder_with_protocol_versions(&[version])
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    TlsConnector::from(Arc::new(config))
}
