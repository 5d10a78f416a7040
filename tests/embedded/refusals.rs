//! What cannot be done is said in a sentence, and changes nothing.

use super::support::{Holder, again, directory, execute, fetch, options};
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tenantry::embedded::{Cluster, Error, Options, Search};

/// The cache directory a child process is to find no PostgreSQL in.
const FIND_NOTHING: &str = "TENANTRY_TEST_FIND_NOTHING";

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
            holder.pid()
        )
    );
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

    fs::remove_dir_all(&options.data_dir).unwrap();
    let cluster = Cluster::start(&options).await.unwrap();
    assert_eq!(
        fetch(&cluster, "SELECT coalesce(to_regclass('notes')::text, 'a new database')").await,
        "a new database"
    );
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
    let output = again(module_path!(), "find_nothing")
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
    writeln!(std::io::stdout(), "\n{error}").unwrap();
    assert!(started.elapsed() < Duration::from_secs(30));
}
