//! A real PgBouncer that gives each transaction another connection, before the cluster of the tests or one's own.

use std::{
    fs::{self, Permissions},
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process::{ChildStdin, Command, Stdio},
    time::{Duration, Instant},
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Executor as _, postgres::PgConnectOptions};

use super::{psql, say, superuser_of};

/// What PgBouncer calls its port, in the name of its socket.
const PORT: u16 = 6432;
/// The login by which it looks verifiers up.
const LOOKER: &str = "pgbouncer";
const PASSWORD: &str = "only for tests";

/// A running one. It ends with this, and with this process at the latest.
pub(crate) struct PgBouncer {
    directory: PathBuf,
    program: PathBuf,
    user: u32,
    end: Option<ChildStdin>,
}

/// Where its program is; where it is not, what to do about that.
fn pgbouncer() -> Result<PathBuf, String> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    // Debian puts it where only root looks.
    let places = std::env::split_paths(&paths).chain(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    places.map(|place| place.join("pgbouncer")).find(|path| path.is_file()).ok_or_else(|| {
        "PgBouncer is not installed, so what works behind it is not tested: apt-get install pgbouncer"
            .to_owned()
    })
}

impl PgBouncer {
    /// One before the cluster that this URL of its superuser leads to. `None`, with a word about it, where it is not
    /// installed.
    pub(crate) async fn start(superuser: &SecretString) -> Option<Self> {
        Self::start_with(superuser, "").await
    }

    /// The same with other settings, and sections, at the end of its file.
    pub(crate) async fn start_with(superuser: &SecretString, settings: &str) -> Option<Self> {
        match pgbouncer() {
            Ok(program) => Some(Self::run(&program, superuser, settings).await),
            Err(missing) => {
                say(&missing);
                None
            }
        }
    }

    async fn run(program: &Path, superuser: &SecretString, others: &str) -> Self {
        let mut connection = superuser_of(superuser).await;
        let role = format!(
            "DO $$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '{LOOKER}') THEN \
             CREATE ROLE {LOOKER} LOGIN PASSWORD '{PASSWORD}'; END IF; END $$"
        );
        connection.execute(AssertSqlSafe(role)).await.unwrap();
        let options: PgConnectOptions = superuser.expose_secret().parse().unwrap();
        // PgBouncer does not run as root, and the socket is its owner's alone.
        let (host, user) = match options.get_socket() {
            Some(socket) => (socket.display().to_string(), fs::metadata(socket).unwrap().uid()),
            None => (options.get_host().to_owned(), 65534),
        };
        let directory = tempfile::Builder::new()
            .prefix("tenantry-pgb-")
            .permissions(Permissions::from_mode(0o777))
            .tempdir()
            .unwrap()
            .keep();
        fs::set_permissions(&directory, Permissions::from_mode(0o777)).unwrap();
        let path = directory.display();
        let port = options.get_port();
        fs::write(directory.join("userlist.txt"), format!("\"{LOOKER}\" \"{PASSWORD}\"\n")).unwrap();
        // Three connections for each login: fewer than the clients that come, so that everybody has everybody's. Nothing
        // is ignored that a client says when it connects.
        let settings = format!(
            "[databases]\n* = host={host} port={port}\n\
             [pgbouncer]\nlisten_addr =\nunix_socket_dir = {path}\nlisten_port = {PORT}\nunix_socket_mode = 0777\n\
             pool_mode = transaction\ndefault_pool_size = 3\nmax_client_conn = 2000\nquery_wait_timeout = 5\n\
             server_idle_timeout = 5\nserver_login_retry = 1\n\
             auth_type = scram-sha-256\nauth_file = {path}/userlist.txt\nauth_user = {LOOKER}\n\
             auth_query = SELECT login, verifier FROM pgbouncer.verifier($1)\n\
             logfile = {path}/log\npidfile = {path}/pid\n{others}\n"
        );
        fs::write(directory.join("pgbouncer.ini"), settings).unwrap();
        let mut pooler = Self { directory, program: program.to_owned(), user, end: None };
        pooler.start_again().await;
        pooler
    }

    /// Starts it, or starts it again when it was killed.
    pub(crate) async fn start_again(&mut self) {
        for left in [self.socket(), self.directory.join("pid")] {
            fs::remove_file(left).ok();
        }
        // Whoever waits for the end of the one before removes nothing that this one needs.
        self.end = Some(run_until_we_end(&self.program, &self.directory, self.user));
        self.wait().await;
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        fs::read_to_string(self.directory.join("pid")).unwrap().trim().parse().unwrap()
    }

    async fn wait(&self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        let mut interval = tokio::time::interval(Duration::from_millis(10));
        while !self.socket().exists() {
            assert!(Instant::now() < deadline, "PgBouncer did not start: {}", self.log());
            interval.tick().await;
        }
    }

    /// Where it listens.
    pub(crate) fn socket(&self) -> PathBuf {
        self.directory.join(format!(".s.PGSQL.{PORT}"))
    }

    /// What it has to say.
    fn log(&self) -> String {
        fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Makes a database known to it, as an operator does.
    pub(crate) async fn serve(&self, superuser: &SecretString) {
        psql(superuser, superuser, "pgbouncer.sql", PASSWORD).await;
    }

    /// The URL that leads through it, where this one leads past it.
    pub(crate) fn through(&self, url: &SecretString) -> SecretString {
        let (login, rest) = url.expose_secret().split_once('@').unwrap();
        let (_, rest) = rest.split_once('/').unwrap();
        let (database, _) = rest.split_once('?').unwrap_or((rest, ""));
        let directory = self.directory.display().to_string().replace('/', "%2F");
        format!("{login}@localhost:{PORT}/{database}?sslmode=disable&host={directory}").into()
    }
}

/// Runs it until we are gone, however we go, and removes its directory.
fn run_until_we_end(program: &Path, directory: &Path, uid: u32) -> ChildStdin {
    const SCRIPT: &str = r#"trap "" HUP INT TERM; directory=$1; shift
        "$@" </dev/null & pid=$!
        read -r _; kill -KILL "$pid" && { wait "$pid"; rm -rf "$directory"; }"#;
    let mut command = Command::new("sh");
    command.args(["-c", SCRIPT, "sh"]).arg(directory).arg(program).arg("--quiet");
    if fs::metadata("/proc/self").is_ok_and(|us| us.uid() == 0) {
        let name = Command::new("id").args(["-nu", &uid.to_string()]).output().unwrap().stdout;
        command.args(["--user", String::from_utf8(name).unwrap().trim()]);
    }
    command
        .arg(directory.join("pgbouncer.ini"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command.spawn().unwrap().stdin.take().unwrap()
}
