//! A cluster is made, started, used, shared and stopped.

use super::support::{
    Holder, connect, directory, execute, fetch, is_running, options, postmaster, socket_directory,
};
use secrecy::SecretString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use tenantry::embedded::{Cluster, Options, Transport};

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

    let private = |path: &Path| fs::metadata(path).unwrap().permissions().mode().trailing_zeros() >= 6;
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

#[tokio::test]
async fn what_a_terminal_sends_to_us_does_not_reach_the_server() {
    let directory = directory();
    let options = options(&directory);
    let cluster = Cluster::start(&options).await.unwrap();
    let group_of = |pid: &str| {
        let ps = Command::new("ps").args(["-o", "pgid=", "-p", pid]).output().unwrap();
        String::from_utf8(ps.stdout).unwrap().trim().to_owned()
    };
    let server = postmaster(&options.data_dir.join("postgres/cluster"));
    let ours = group_of(&std::process::id().to_string());
    assert_ne!(ours, "");
    assert_ne!(group_of(&server.to_string()), ours);
    cluster.stop().await.unwrap();
}
