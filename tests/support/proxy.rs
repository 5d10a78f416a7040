//! A network that fails: between the service and its database, byte by byte.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    sync::watch,
    task::AbortHandle,
};

/// What becomes of what is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// It arrives.
    Fair,
    /// Each piece takes this long.
    Slow(Duration),
    /// Nothing arrives and nobody is told, as behind a cable that was pulled.
    Stalled,
    /// Who knocks is sent away.
    Closed,
    /// Each connection is reset after so many bytes from the server.
    Torn(usize),
}

/// Stands between. It ends with this.
pub(crate) struct Proxy {
    address: SocketAddr,
    weather: watch::Sender<Weather>,
    cuts: watch::Sender<u64>,
    upstream: Arc<std::sync::Mutex<PathBuf>>,
    /// How many connections came through.
    connections: Arc<AtomicU64>,
    task: AbortHandle,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

impl Proxy {
    /// One before what listens on this socket.
    pub(crate) async fn before(socket: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (weather, cuts) = (watch::Sender::new(Weather::Fair), watch::Sender::new(0));
        let upstream = Arc::new(std::sync::Mutex::new(socket));
        let connections = Arc::<AtomicU64>::default();
        let (seen, kept, to, count) =
            (weather.subscribe(), cuts.clone(), Arc::clone(&upstream), Arc::clone(&connections));
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *seen.borrow() == Weather::Closed {
                    client.set_zero_linger().unwrap();
                    continue;
                }
                let socket = to.lock().unwrap().clone();
                // Whoever is not there is told so by the end of the connection.
                let Ok(server) = UnixStream::connect(socket).await else { continue };
                count.fetch_add(1, Ordering::Relaxed);
                let (weather, mut cut) = (seen.clone(), kept.subscribe());
                tokio::spawn(async move {
                    tokio::select! {
                        // What was said last is heard, unless it was torn.
                        () = relay(&client, server, weather) => {}
                        _ = cut.changed() => client.set_zero_linger().unwrap_or_default(),
                    }
                });
            }
        });
        Self { address, weather, cuts, upstream, connections, task: task.abort_handle() }
    }

    /// Changes what becomes of what is sent, on every connection.
    pub(crate) fn turn(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }

    /// Resets every connection, wherever it is.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Leads to another socket from now on.
    pub(crate) fn lead_to(&self, socket: PathBuf) {
        *self.upstream.lock().unwrap() = socket;
    }

    /// How many connections came through so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }

    /// The URL that leads through it, where this one leads past it.
    pub(crate) fn through(&self, url: &SecretString) -> SecretString {
        let (login, rest) = url.expose_secret().split_once('@').unwrap();
        let (_, rest) = rest.split_once('/').unwrap();
        let (database, _) = rest.split_once('?').unwrap_or((rest, ""));
        format!("{login}@{}/{database}?sslmode=disable", self.address).into()
    }
}

async fn relay(client: &TcpStream, server: UnixStream, weather: watch::Receiver<Weather>) {
    let (server_reads, server_writes) = server.into_split();
    tokio::select! {
        () = pump(Half(client), server_writes, weather.clone(), false) => {}
        () = pump(server_reads, Half(client), weather, true) => {}
    }
}

/// A socket that both directions share.
struct Half<'a>(&'a TcpStream);

impl AsyncRead for Half<'_> {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        loop {
            std::task::ready!(self.0.poll_read_ready(context))?;
            match self.0.try_read(buffer.initialize_unfilled()) {
                Ok(read) => {
                    buffer.advance(read);
                    return std::task::Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return std::task::Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Half<'_> {
    fn poll_write(
        self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<std::io::Result<usize>> {
        loop {
            std::task::ready!(self.0.poll_write_ready(context))?;
            match self.0.try_write(bytes) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                written => return std::task::Poll::Ready(written),
            }
        }
    }

    fn poll_flush(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }
}

/// Moves bytes one way until one side ends, or until it is torn.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
    is_from_server: bool,
) {
    let (mut buffer, mut passed) = (vec![0; 16 << 10], 0);
    loop {
        let Ok(mut read @ 1..) = from.read(&mut buffer).await else { return };
        let now = *weather.borrow_and_update();
        if let Weather::Slow(delay) = now {
            tokio::time::sleep(delay).await;
        }
        if weather.wait_for(|weather| *weather != Weather::Stalled).await.is_err() {
            return;
        }
        let mut is_torn = false;
        if let (Weather::Torn(most), true) = (now, is_from_server) {
            passed += read;
            if passed > most {
                read -= (passed - most).min(read);
                is_torn = true;
            }
        }
        if to.write_all(&buffer[..read]).await.is_err() || is_torn {
            return;
        }
    }
}
