//! The embedded PostgreSQL: found, made, started, shared, stopped, and recovered after whatever can happen to it.

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection};
use sqlx::{AssertSqlSafe, Connection as _};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tenantry::embedded::{Cluster, Durability, Error, Options, Search, Transport};

/// The data directory a child process is to hold the cluster of; see [`Holder`].
const HOLD: &str = "TENANTRY_TEST_HOLD";
/// The cache directory a child process is to find no PostgreSQL in.
const FIND_NOTHING: &str = "TENANTRY_TEST_FIND_NOTHING";

/// A directory the account PostgreSQL runs as can pass through, should we be root.
fn directory() -> TempDir {
    tempfile::Builder::new().permissions(Permissions::from_mode(0o711)).tempdir().unwrap()
}

fn options(directory: &TempDir) -> Options {
    Options {
        durability: Durability::Relaxed,
        max_connections: 20,
        ..Options::new(directory.path().join("data"))
    }
}

#[expect(clippy::disallowed_methods, reason = "the cluster is tested without the crate that uses it")]
async fn connect(url: &SecretString) -> Result<PgConnection, sqlx::Error> {
    PgConnection::connect(url.expose_secret()).await
}

async fn execute(cluster: &Cluster, sql: &'static str) {
    let mut connection = connect(&cluster.superuser_url("postgres")).await.unwrap();
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

async fn fetch(cluster: &Cluster, sql: &str) -> String {
    let mut connection = connect(&cluster.superuser_url("postgres")).await.unwrap();
    let value = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap();
    connection.close().await.unwrap();
    value
}

fn socket_directory(cluster: &Cluster) -> PathBuf {
    let options: PgConnectOptions = cluster.superuser_url("postgres").expose_secret().parse().unwrap();
    options.get_socket().unwrap().clone()
}

/// The server's process, as its lock file names it.
fn postmaster(cluster: &Path) -> i32 {
    let file = fs::read_to_string(cluster.join("postmaster.pid")).unwrap();
    file.lines().next().unwrap().parse().unwrap()
}

/// A dead process counts as gone before whoever started it has noticed.
fn is_running(pid: i32) -> bool {
    let ps = Command::new("ps").args(["-o", "stat=", "-p", &pid.to_string()]).output().unwrap();
    let state = String::from_utf8(ps.stdout).unwrap();
    !state.trim().is_empty() && !state.starts_with('Z')
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let mut interval = tokio::time::interval(Duration::from_millis(20));
    while !holds() {
        assert!(Instant::now() < deadline, "not within 30 s: {what}");
        interval.tick().await;
    }
}

fn kill(signal: &str, target: &str) {
    assert!(Command::new("kill").args([signal, "--", target]).status().unwrap().success());
}

/// This test binary again, running one of its tests alone.
fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]);
    command
}

/// A process of its own that runs a cluster until it is killed.
struct Holder(Child);

impl Holder {
    fn start(data_dir: &Path) -> Self {
        let mut child =
            again("hold").env(HOLD, data_dir).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert!(
            lines.map_while(Result::ok).any(|line| line == "holding"),
            "the holder did not start the cluster"
        );
        Self(child)
    }

    fn kill(mut self) {
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
    println!("\nholding");
    std::io::stdin().lines().for_each(drop);
}

#[tokio::test]
async fn a_cluster_starts_answers_stops_and_keeps_what_it_was_given() {
    let directory = directory();
    let options = options(&directory);

    let cluster = Cluster::start(&options).await.unwrap();
    let files = options.data_dir.join("postgres");
    assert!(!cluster.is_attached());
    assert!(fetch(&cluster, "SHOW server_version").await.starts_with(&cluster.version().to_string()));
    assert_eq!(fetch(&cluster, "SHOW server_encoding").await, "UTF8");
    assert_eq!(fetch(&cluster, "SHOW listen_addresses").await, "");
    assert_eq!(fetch(&cluster, "SHOW client_connection_check_interval").await, "1s");
    assert_eq!(fetch(&cluster, "SELECT lower('ÄGIR') || (SELECT 'a' > 'B')").await, "ägirtrue");
    let trusting = "SELECT coalesce(string_agg(DISTINCT auth_method, ','), '') FROM pg_hba_file_rules";
    assert_eq!(fetch(&cluster, trusting).await, "scram-sha-256");
    execute(&cluster, "CREATE TABLE notes AS SELECT 'still here' AS text").await;
    let server = postmaster(&files.join("cluster"));
    let socket_directory = socket_directory(&cluster);
    cluster.stop().await.unwrap();

    assert!(!is_running(server));
    assert!(!socket_directory.exists());
    assert!(!files.join("connection").exists());
    let cluster = Cluster::start(&options).await.unwrap();
    assert_eq!(fetch(&cluster, "SELECT text FROM notes").await, "still here");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_gets_in_without_the_password() {
    let directory = directory();
    let cluster = Cluster::start(&options(&directory)).await.unwrap();
    let wrong = cluster.url("postgres", &SecretString::from("guessed"), "postgres");
    let error = connect(&wrong).await.unwrap_err();
    assert_eq!(error.as_database_error().unwrap().code().unwrap(), "28P01");

    let private = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o077 == 0;
    let files = directory.path().join("data/postgres");
    assert!(private(&files.join("password")));
    assert!(private(&files.join("connection")));
    assert!(private(&files.join("cluster")));
    assert!(private(&socket_directory(&cluster)));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn without_unix_sockets_it_listens_on_loopback_with_the_password() {
    let directory = directory();
    let options = Options { transport: Transport::Loopback, ..options(&directory) };
    let cluster = Cluster::start(&options).await.unwrap();
    assert_eq!(fetch(&cluster, "SHOW listen_addresses").await, "127.0.0.1");
    assert_eq!(fetch(&cluster, "SHOW unix_socket_directories").await, "");
    let wrong = cluster.url("postgres", &SecretString::from("guessed"), "postgres");
    connect(&wrong).await.unwrap_err();
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn dropping_a_cluster_stops_it_and_the_next_start_waits_for_that() {
    let directory = directory();
    let options = options(&directory);
    let cluster = Cluster::start(&options).await.unwrap();
    let server = postmaster(&options.data_dir.join("postgres/cluster"));
    drop(cluster);
    let cluster = Cluster::start(&options).await.unwrap();
    assert!(!is_running(server));
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_death_of_the_process_stops_the_server_and_loses_nothing() {
    let directory = directory();
    let options = options(&directory);
    let holder = Holder::start(&options.data_dir);
    let attached = Cluster::start_or_attach(&options).await.unwrap();
    let server = postmaster(&options.data_dir.join("postgres/cluster"));
    holder.kill();
    eventually("the server is gone", || !is_running(server)).await;
    eventually("so is its socket's directory", || !socket_directory(&attached).exists()).await;

    let cluster = Cluster::start(&options).await.unwrap();
    assert_eq!(fetch(&cluster, "SELECT value FROM kept").await, "kept");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_start_right_after_a_death_waits_for_the_old_server() {
    let directory = directory();
    let options = options(&directory);
    let holder = Holder::start(&options.data_dir);
    let server = postmaster(&options.data_dir.join("postgres/cluster"));
    holder.kill();
    let cluster = Cluster::start(&options).await.unwrap();
    assert!(!is_running(server));
    assert_eq!(fetch(&cluster, "SELECT value FROM kept").await, "kept");
    cluster.stop().await.unwrap();
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_whose_supervisor_died_too_is_stopped_by_the_next_start() {
    let directory = directory();
    let options = options(&directory);
    let holder = Holder::start(&options.data_dir);
    let socket_directory = socket_directory(&Cluster::start_or_attach(&options).await.unwrap());
    let server = postmaster(&options.data_dir.join("postgres/cluster"));
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let supervisor = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim().to_owned();
    // The script and the part of it that watches the pipe are a process group.
    kill("-KILL", &format!("-{supervisor}"));
    holder.kill();
    assert!(is_running(server));

    let cluster = Cluster::start(&options).await.unwrap();
    assert!(!is_running(server));
    assert!(!socket_directory.exists());
    assert_eq!(fetch(&cluster, "SELECT value FROM kept").await, "kept");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_death_of_the_server_itself_is_recovered_from() {
    let directory = directory();
    let options = Options { durability: Durability::Full, ..options(&directory) };
    let cluster = Cluster::start(&options).await.unwrap();
    execute(&cluster, "CREATE TABLE notes AS SELECT 'still here' AS text").await;
    kill("-KILL", &postmaster(&options.data_dir.join("postgres/cluster")).to_string());
    cluster.stop().await.unwrap();
    let cluster = Cluster::start(&options).await.unwrap();
    assert_eq!(fetch(&cluster, "SELECT text FROM notes").await, "still here");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_process_id_that_is_somebody_elses_by_now_keeps_nothing_from_starting() {
    let directory = directory();
    let options = options(&directory);
    Cluster::start(&options).await.unwrap().stop().await.unwrap();
    let cluster = options.data_dir.join("postgres/cluster");
    let stale = format!("{}\n{}\n1700000000\n5432\n\n\n\nready   \n", std::process::id(), cluster.display());
    fs::write(cluster.join("postmaster.pid"), stale).unwrap();
    Cluster::start(&options).await.unwrap().stop().await.unwrap();
}

#[tokio::test]
async fn a_second_start_on_the_same_data_directory_is_refused() {
    let directory = directory();
    let options = options(&directory);
    let holder = Holder::start(&options.data_dir);
    let error = Cluster::start(&options).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the data directory {} is in use by process {}: stop that process first, or choose another data \
             directory with TENANTRY_DATA_DIR",
            fs::canonicalize(&options.data_dir).unwrap().display(),
            holder.0.id()
        )
    );
}

#[tokio::test]
async fn another_process_attaches_and_leaves_the_cluster_running() {
    let directory = directory();
    let options = options(&directory);
    let _holder = Holder::start(&options.data_dir);
    for _ in 0..2 {
        let cluster = Cluster::start_or_attach(&options).await.unwrap();
        assert!(cluster.is_attached());
        assert_eq!(fetch(&cluster, "SELECT value FROM kept").await, "kept");
        cluster.stop().await.unwrap();
    }
}

#[tokio::test]
async fn whoever_comes_while_the_cluster_is_being_made_waits_for_it() {
    let directory = directory();
    let options = options(&directory);
    let (one, other) = tokio::join!(Cluster::start_or_attach(&options), Cluster::start_or_attach(&options));
    let (one, other) = (one.unwrap(), other.unwrap());
    assert_ne!(one.is_attached(), other.is_attached());
    execute(&one, "CREATE TABLE notes AS SELECT 'shared' AS text").await;
    assert_eq!(fetch(&other, "SELECT text FROM notes").await, "shared");
}

#[tokio::test]
async fn two_data_directories_have_a_cluster_each() {
    let directories = [directory(), directory()];
    let [one, other] = directories.each_ref().map(options);
    let (one, other) = tokio::join!(Cluster::start(&one), Cluster::start(&other));
    let (one, other) = (one.unwrap(), other.unwrap());
    execute(&one, "CREATE TABLE notes AS SELECT 'one' AS text").await;
    execute(&other, "CREATE TABLE notes AS SELECT 'other' AS text").await;
    assert_eq!(fetch(&one, "SELECT text FROM notes").await, "one");
    assert_eq!(fetch(&other, "SELECT text FROM notes").await, "other");
    one.stop().await.unwrap();
    assert_eq!(fetch(&other, "SELECT text FROM notes").await, "other");
    other.stop().await.unwrap();
}

/// Every file below, with when it was last changed and how.
fn contents(directory: &Path) -> BTreeMap<PathBuf, (i64, i64, u64)> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let metadata = fs::symlink_metadata(entry.path()).unwrap();
        all.insert(entry.path(), (metadata.mtime(), metadata.mtime_nsec(), metadata.len()));
        if metadata.is_dir() {
            all.extend(contents(&entry.path()));
        }
    }
    all
}

#[tokio::test]
async fn a_cluster_of_another_major_version_is_refused_and_left_as_it_is() {
    let directory = directory();
    let options = options(&directory);
    let cluster = Cluster::start(&options).await.unwrap();
    let version = cluster.version();
    cluster.stop().await.unwrap();
    let files = fs::canonicalize(&options.data_dir).unwrap().join("postgres/cluster");
    fs::write(files.join("PG_VERSION"), "13\n").unwrap();
    let before = contents(&files);

    let error = Cluster::start(&options).await.unwrap_err().to_string();
    let start =
        format!("the database in {} was made by PostgreSQL 13, but only PostgreSQL ", files.display());
    assert!(error.starts_with(&start), "{error}");
    assert!(error.contains(&version.to_string()), "{error}");
    assert!(error.contains("Install PostgreSQL 13, or move the data with pg_upgrade or pg_dump"), "{error}");
    assert_eq!(contents(&files), before);
}

#[tokio::test]
async fn an_initdb_that_was_interrupted_leaves_nothing_in_the_way() {
    let directory = directory();
    let options = options(&directory);
    let files = options.data_dir.join("postgres");
    fs::create_dir_all(files.join("initdb-half/base")).unwrap();
    if rustix::process::geteuid().is_root() {
        fs::set_permissions(&options.data_dir, Permissions::from_mode(0o711)).unwrap();
        fs::set_permissions(&files, Permissions::from_mode(0o711)).unwrap();
    }
    fs::write(files.join("initdb-half/PG_VERSION"), "15\n").unwrap();
    let interrupted = tokio::time::timeout(Duration::from_millis(150), Cluster::start(&options)).await;
    assert!(interrupted.is_err(), "nothing was interrupted");

    let cluster = Cluster::start(&options).await.unwrap();
    let unfinished = fs::read_dir(&files).unwrap().map(Result::unwrap);
    let unfinished = unfinished.filter(|entry| entry.file_name().to_string_lossy().starts_with("initdb-"));
    assert_eq!(unfinished.count(), 0);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_lost_password_is_named_not_replaced() {
    let directory = directory();
    let options = options(&directory);
    Cluster::start(&options).await.unwrap().stop().await.unwrap();
    fs::remove_file(options.data_dir.join("postgres/password")).unwrap();
    let error = Cluster::start(&options).await.unwrap_err();
    assert!(matches!(&error, Error::PasswordGone { file } if file.ends_with("postgres/password")), "{error}");
}

#[tokio::test]
async fn a_server_that_cannot_start_shows_the_end_of_its_log() {
    let directory = directory();
    let options = options(&directory);
    Cluster::start(&options).await.unwrap().stop().await.unwrap();
    fs::write(options.data_dir.join("postgres/cluster/postgresql.conf"), "no_such_setting = on\n").unwrap();
    let error = Cluster::start(&options).await.unwrap_err().to_string();
    assert!(error.starts_with("PostgreSQL did not start; the end of its log, "), "{error}");
    assert!(error.contains("unrecognized configuration parameter \"no_such_setting\""), "{error}");
}

#[tokio::test]
async fn below_a_closed_directory_root_keeps_the_cluster_elsewhere() {
    let closed = tempfile::Builder::new().permissions(Permissions::from_mode(0o700)).tempdir().unwrap();
    let options = options(&closed);
    let cluster = Cluster::start(&options).await.unwrap();
    execute(&cluster, "CREATE TABLE notes AS SELECT 'still here' AS text").await;
    cluster.stop().await.unwrap();
    let pointer = options.data_dir.join("postgres/location");
    if !rustix::process::geteuid().is_root() {
        assert!(!pointer.exists());
        return;
    }
    let location = PathBuf::from(fs::read_to_string(&pointer).unwrap());
    let _removed_at_the_end = Removed(location.clone());
    assert!(location.starts_with("/var/lib/tenantry"));
    assert!(!options.data_dir.join("postgres/cluster").exists());

    let cluster = Cluster::start(&options).await.unwrap();
    assert_eq!(fetch(&cluster, "SELECT text FROM notes").await, "still here");
    cluster.stop().await.unwrap();

    fs::rename(location.join("cluster"), location.join("gone")).unwrap();
    let error = Cluster::start(&options).await.unwrap_err();
    assert!(matches!(error, Error::ClusterGone { .. }), "{error}");
}

struct Removed(PathBuf);

impl Drop for Removed {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[test]
fn where_there_is_no_postgres_one_sentence_says_what_to_install() {
    let directory = directory();
    // The download goes through a proxy that is not there, so that this ends alike with and without a network.
    let output = again("find_nothing")
        .env(FIND_NOTHING, directory.path())
        .env("HTTPS_PROXY", "http://127.0.0.1:1")
        .env_remove("NO_PROXY")
        .env_remove("no_proxy")
        .output()
        .unwrap();
    let output = String::from_utf8(output.stdout).unwrap();
    let sentence = output.lines().find(|line| line.starts_with("no PostgreSQL 14 or newer is installed"));
    let sentence = sentence.unwrap_or_else(|| panic!("no such sentence in {output}"));
    assert!(sentence.contains("and downloading it failed ("), "{sentence}");
    assert!(sentence.contains("`apt install postgresql`"), "{sentence}");
    assert!(sentence.contains("TENANTRY_DATABASE_URL"), "{sentence}");
}

/// What the test above runs: no test in itself.
#[tokio::test]
async fn find_nothing() {
    let Some(cache) = std::env::var_os(FIND_NOTHING).map(PathBuf::from) else { return };
    let search = Search { path: None, directories: Vec::new(), cache: cache.join("cache") };
    let started = Instant::now();
    let error = Cluster::start(&Options { search, ..Options::new(cache.join("data")) }).await.unwrap_err();
    println!("\n{error}");
    assert!(started.elapsed() < Duration::from_secs(30));
}
