//! What the tests of the embedded PostgreSQL share.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tenantry::embedded::{Cluster, Durability, Options};

/// The data directory a child process is to hold the cluster of; see [`Holder`].
const HOLD: &str = "TENANTRY_TEST_HOLD";

/// A directory the account PostgreSQL runs as can pass through, should we be root.
pub(super) fn directory() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap()
}

pub(super) fn options(directory: &TempDir) -> Options {
    Options {
        durability: Durability::Relaxed,
        max_connections: 20,
        ..Options::new(directory.path().join("data"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the cluster is tested without the crate that uses it")]
pub(super) async fn connect(url: &SecretString) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(url.expose_secret()).await
}

pub(super) async fn execute(cluster: &Cluster, sql: &'static str) {
    let mut connection = connect(&cluster.superuser_url("postgres")).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

pub(super) async fn fetch(cluster: &Cluster, sql: &str) -> String {
    let mut connection = connect(&cluster.superuser_url("postgres")).await.unwrap();
    let value = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

pub(super) fn socket_directory(cluster: &Cluster) -> PathBuf {
    let options: PgConnectOptions = cluster.superuser_url("postgres").expose_secret().parse().unwrap();
    options.get_socket().unwrap().clone()
}

/// The server's process, as its lock file names it.
pub(super) fn postmaster(cluster: &Path) -> i32 {
    let file = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

/// A dead process counts as gone before whoever started it has noticed.
pub(super) fn is_running(pid: i32) -> bool {
    let ps = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8(ps.stdout).unwrap();
    !state.trim().is_empty() && !state.starts_with('Z')
}

pub(super) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        interval.tick().await;
    }
}

pub(super) fn kill(signal: &str, target: &str) {
    assert!(Command::new("kill").args([signal, "--", target]).status().unwrap().success());
}

/// This test binary again, running one test of a module (its `module_path!()`) alone.
pub(super) fn again(module: &str, test: &str) -> Command {
    let (_binary, module) = module.split_once("::").unwrap();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([&format!("{module}::{test}"), "--exact", "--nocapture"]);
    command
}

/// A process of its own that runs a cluster until it is killed.
pub(super) struct Holder(Child);

impl Holder {
    pub(super) fn start(data_dir: &Path) -> Self {
        let mut child = again(module_path!(), "hold")
            .env(HOLD, data_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.map_while(Result::ok).any(|line| line == "holding"),
            "the holder did not start the cluster"
        );
        Self(child)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    pub(super) fn kill(mut self) {
        self.0.kill().unwrap();
        self.0.wait().unwrap();
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a [`Holder`] runs: no test in itself.
#[tokio::test]
async fn hold() {
    let Some(data_dir) = std::env::var_os(HOLD) else { return };
    let options = Options { durability: Durability::Relaxed, ..Options::new(data_dir) };
    let cluster = Cluster::start(&options).await.unwrap();
    execute(&cluster, "CREATE TABLE IF NOT EXISTS kept AS SELECT 'kept' AS value").await;
    writeln!(std::io::stdout(), "\nholding").unwrap();
    std::io::stdin().lines().for_each(drop);
}
