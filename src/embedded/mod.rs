//! The embedded PostgreSQL: a private cluster in the data directory, for `cargo run`, `cargo test` and whoever has no
//! database server of their own.
//!
//! - `binaries` finds PostgreSQL's programs, `download` gets them where there are none;
//! - `identity` says whom they run as, `home` where the cluster is, `lock` who may run it;
//! - `initdb` makes a cluster, `settings` and `endpoint` say how it runs and where it listens;
//! - `server` runs it under `supervisor.sh`, so that it stops with us however we end; `postmaster` deals with what
//!   was left behind all the same.
//!
//! No connection is opened from here.

mod binaries;
mod connection;
mod download;
mod endpoint;
mod error;
mod files;
mod home;
mod identity;
mod initdb;
mod lock;
mod log;
mod postmaster;
mod server;
mod settings;

pub use binaries::{Search, Version};
pub use endpoint::Transport;
pub use error::Error;

use connection::Connection;
use endpoint::Endpoint;
use home::{Home, Site};
use lock::{Attempt, Lock};
use secrecy::SecretString;
use server::Server;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::time::Instant;

/// PostgreSQL's own superuser. Every login of the server's is made by it.
const SUPERUSER: &str = "postgres";
/// How long another process gets to have the cluster ready: it may have to download PostgreSQL first.
const ATTACH_DEADLINE: Duration = Duration::from_mins(2);
const ATTACH_POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How often it is looked whether the server is still there.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);
/// A free port may be taken by somebody else before PostgreSQL gets to it.
const PORT_ATTEMPTS: u32 = 3;

/// Whether a cluster was ever started in this data directory.
#[must_use]
pub fn exists(data_dir: &Path) -> bool {
    home::directory_in(data_dir).is_dir()
}

/// How the embedded PostgreSQL is to run.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where Tenantry keeps what it keeps; the cluster gets a directory in it.
    pub data_dir: PathBuf,
    /// What a power cut may cost.
    pub durability: Durability,
    /// How many connections it takes at once.
    pub max_connections: u32,
    /// What it listens on.
    pub transport: Transport,
    /// Where PostgreSQL's programs are looked for.
    pub search: Search,
}

impl Options {
    /// A durable cluster in `data_dir`, run by what is installed on this machine.
    pub fn new(data_dir: impl Into<PathBuf>) -> Self {
        Self {
            data_dir: data_dir.into(),
            durability: Durability::Full,
            max_connections: 200,
            transport: Transport::default(),
            search: Search::default(),
        }
    }
}

/// What a power cut may cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// Nothing that was committed.
    Full,
    /// Everything, in exchange for speed: for tests. The death of a process, ours or PostgreSQL's, costs no more than
    /// the last moments before it.
    Relaxed,
}

/// A running cluster.
///
/// It stops with this process, whatever ends that; [`Cluster::stop`] waits until it has. Dropping it starts the
/// shutdown and does not wait.
#[derive(Debug)]
pub struct Cluster {
    endpoint: Endpoint,
    password: SecretString,
    version: Version,
    /// None where another process runs it.
    running: Option<Running>,
}

/// What is ours to stop. Fields are dropped in order: the locks go last.
#[derive(Debug)]
struct Running {
    log_keeper: tokio::task::JoinHandle<()>,
    /// The server's process id.
    postmaster: i32,
    server: Server,
    home: Home,
    site: Site,
    _lock: Lock,
}

impl Cluster {
    /// Starts the cluster of the data directory, making it first if there is none.
    ///
    /// # Errors
    /// Where another process runs it already, and whatever else [`Error`] lists.
    pub async fn start(options: &Options) -> Result<Self, Error> {
        let home = Home::open(&options.data_dir)?;
        match Lock::try_acquire(home.directory())? {
            Attempt::Acquired(lock) => Self::start_locked(options, home, lock).await,
            Attempt::Held(holder) => Err(Error::InUse { data_dir: home.data_dir().to_owned(), holder }),
        }
    }

    /// Uses the cluster another process runs, or is just starting, or else starts it for as long as this lives.
    ///
    /// # Errors
    /// Where the other process does not get it ready, and whatever else [`Error`] lists.
    pub async fn start_or_attach(options: &Options) -> Result<Self, Error> {
        let home = Home::open(&options.data_dir)?;
        let end = Instant::now() + ATTACH_DEADLINE;
        loop {
            let holder = match Lock::try_acquire(home.directory())? {
                Attempt::Acquired(lock) => return Self::start_locked(options, home, lock).await,
                Attempt::Held(holder) => holder,
            };
            if let Some(connection) = Connection::read(&home)?.filter(|connection| connection.is_up(holder)) {
                let Connection { endpoint, version, .. } = connection;
                return Ok(Self { endpoint, version, password: home.read_password()?, running: None });
            }
            if Instant::now() >= end {
                let data_dir = home.data_dir().to_owned();
                return Err(Error::AttachTimeout { data_dir, holder, waited: ATTACH_DEADLINE });
            }
            tokio::time::sleep(ATTACH_POLL_INTERVAL).await;
        }
    }

    async fn start_locked(options: &Options, home: Home, lock: Lock) -> Result<Self, Error> {
        let left_behind = Connection::take(&home)?;
        let site = home.site()?;
        let cluster = site.cluster();
        let installation = binaries::installation_for(&cluster, &options.search, &site.identity).await?;
        if site.exists {
            postmaster::stop_orphan(&cluster, &site.identity).await?;
        } else {
            initdb::initdb(&home, &site, &installation, options.durability).await?;
        }
        if let Some(connection) = left_behind {
            connection.endpoint.clean_up();
        }
        let password = home.read_password()?;
        let version = installation.version();
        let (server, postmaster) = run(options, &site, &installation).await?;
        let endpoint = server.endpoint().clone();
        Connection::new(endpoint.clone(), version, postmaster).write(&home)?;
        tracing::info!(%version, pid = postmaster, "PostgreSQL is ready");
        let log_keeper = server.log().keep_small(&site.identity);
        let running = Some(Running { log_keeper, postmaster, server, home, site, _lock: lock });
        Ok(Self { endpoint, password, version, running })
    }

    /// The URL of a database of this cluster for its superuser.
    #[must_use]
    pub fn superuser_url(&self, database: &str) -> SecretString {
        self.url(SUPERUSER, &self.password, database)
    }

    /// The URL of a database of this cluster for one of its logins.
    #[must_use]
    pub fn url(&self, user: &str, password: &SecretString, database: &str) -> SecretString {
        self.endpoint.url(user, password, database)
    }

    /// Whether another process runs it, and will go on doing so.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.running.is_none()
    }

    /// The version of PostgreSQL it runs.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Waits until the server is gone although nobody has stopped it: killed, or out of memory. For one that another
    /// process runs, that is for ever: that process will notice. The error says where its log is.
    pub async fn ended(&self) -> Error {
        let Some(Running { postmaster, server, .. }) = &self.running else {
            return std::future::pending().await;
        };
        let alive = || {
            let pid = rustix::process::Pid::from_raw(*postmaster);
            pid.is_some_and(|pid| rustix::process::test_kill_process(pid) != Err(rustix::io::Errno::SRCH))
        };
        while alive() {
            tokio::time::sleep(WATCH_INTERVAL).await;
        }
        Error::Ended { log: server.log().path().to_owned() }
    }

    /// Stops it and waits until it has stopped; open transactions are rolled back. One that another process runs is
    /// left alone.
    ///
    /// # Errors
    /// Where it does not stop within a minute or so.
    pub async fn stop(self) -> Result<(), Error> {
        self.stop_unless(std::future::pending()).await
    }

    /// As [`stop`](Self::stop), until somebody insists: then the server is killed, for it may be one that reacts to nothing
    /// else. What it has committed is safe; its next start takes longer.
    ///
    /// # Errors
    /// As [`stop`](Self::stop).
    pub async fn stop_unless(mut self, insisted: impl Future<Output = ()>) -> Result<(), Error> {
        let Some(running) = self.running.take() else { return Ok(()) };
        let Running { log_keeper, server, home, site, _lock, .. } = running;
        log_keeper.abort();
        // Before the server: nobody shall attach to one that is on its way down.
        Connection::take(&home)?;
        let cluster = site.cluster();
        let stopped = async {
            server.stop().await?;
            // Should its supervisor have been killed, it runs on.
            postmaster::stop_orphan(&cluster, &site.identity).await
        };
        tokio::select! {
            stopped = stopped => stopped,
            () = insisted => postmaster::kill(&cluster).await,
        }
    }

    /// Clears up after a start that was not waited for to its end: a server that it may have come to stops, or is killed when
    /// somebody insists. Nothing is done where another process has the cluster.
    ///
    /// # Errors
    /// It does not stop within a minute or so.
    pub async fn abandon_unless(options: &Options, insisted: impl Future<Output = ()>) -> Result<(), Error> {
        let home = Home::open(&options.data_dir)?;
        let Attempt::Acquired(_lock) = Lock::try_acquire(home.directory())? else { return Ok(()) };
        let site = home.site()?;
        if !site.exists {
            return Ok(());
        }
        let cluster = site.cluster();
        tokio::select! {
            stopped = postmaster::stop_orphan(&cluster, &site.identity) => stopped,
            () = insisted => postmaster::kill(&cluster).await,
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.log_keeper.abort();
            if let Err(error) = Connection::take(&running.home) {
                tracing::warn!(%error, "the embedded PostgreSQL's connection file stays behind");
            }
        }
    }
}

/// Starts the server and waits until it is ready.
async fn run(
    options: &Options,
    site: &Site,
    installation: &binaries::Installation,
) -> Result<(Server, i32), Error> {
    let mut attempt = 1;
    loop {
        let endpoint = Endpoint::create(options.transport, &site.identity)?;
        let may_be_taken = endpoint.socket_directory().is_none() && attempt < PORT_ATTEMPTS;
        let settings = settings::settings(options, installation.version(), &endpoint);
        let mut server = Server::spawn(site, installation, endpoint, settings)?;
        match server.ready().await {
            Ok(postmaster) => return Ok((server, postmaster)),
            Err(Error::DidNotStart { .. }) if may_be_taken => attempt += 1,
            Err(error) => return Err(error),
        }
    }
}
