//! A cluster survives the death of every process around it, and nothing of it outlives them.

use super::support::{
    Holder, directory, eventually, execute, fetch, is_running, kill, options, postmaster, socket_directory,
};
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;
use tenantry::embedded::{Cluster, Durability, Options};

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

/// The script and the part of it that watches the pipe are a process group, without the server.
#[cfg(target_os = "linux")]
fn kill_supervisor(server: i32) {
    let status = fs::read_to_string(format!("/proc/{server}/status")).unwrap();
    let supervisor = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
    kill("-KILL", &format!("-{supervisor}"));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn stopping_stops_the_server_even_where_its_supervisor_died() {
    let directory = directory();
    let options = options(&directory);
    let cluster = Cluster::start(&options).await.unwrap();
    let server = postmaster(&options.data_dir.join("postgres/cluster"));
    kill_supervisor(server);
    cluster.stop().await.unwrap();
    assert!(!is_running(server));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_whose_supervisor_died_too_is_stopped_by_the_next_start() {
    let directory = directory();
    let options = options(&directory);
    let holder = Holder::start(&options.data_dir);
    let socket_directory = socket_directory(&Cluster::start_or_attach(&options).await.unwrap());
    let server = postmaster(&options.data_dir.join("postgres/cluster"));
    kill_supervisor(server);
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
