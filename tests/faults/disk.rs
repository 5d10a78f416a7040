//! A disk that is full.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::json;
use sqlx::{AssertSqlSafe, Executor as _};

use super::*;

/// A file system of some MiB, in memory. Only root can make one, and not in every container.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(at: &Path, mebibytes: u32) -> Option<Self> {
        let size = format!("size={mebibytes}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(at).output();
        let mounted = mount.is_ok_and(|output| output.status.success());
        if !mounted {
            say("no file system can be mounted here, so a full disk is not tested: run it as root");
        }
        mounted.then(|| Self(at.to_owned()))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        Command::new("umount").arg("--lazy").arg(&self.0).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_a_full_disk_reads_go_on_and_writes_are_refused_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let Some(disk) = SmallDisk::mount(directory.path(), 48) else { return };
    // Of its own, because whatever waits for a checkpoint waits for this disk too.
    let (_directory, _options, cluster) = cluster().await;
    let database = Database::on(&cluster).await;
    move_to(&disk.0, &cluster).await;
    let app = TestApp::on(database, tenantry::clock::Clock::system(), Options::default()).await;
    let one = app.sign_up("anna").await;
    let path = format!("/api/users/{}/comments/", one.owner.pk);
    let write = async |number: usize| {
        // Each takes a page of its own, or nearly.
        let body = json!({"body": format!("{number} {}", "x".repeat(2_000))});
        one.owner.request("POST", &path).json(&body).send().await
    };
    assert_eq!(write(0).await.status, 201);
    let mut superuser = app.superuser().await;
    superuser.execute("CREATE TABLE public.filler (bytes bytea)").await.unwrap();
    superuser.execute("ALTER TABLE public.filler ALTER bytes SET STORAGE PLAIN").await.unwrap();
    let mut code = None;
    for rows in [1_000, 1_000, 1_000, 1_000, 1_000, 1_000, 500, 500, 100, 100, 10, 10, 10, 1, 1, 1, 1, 1, 1] {
        let fill = format!(
            "INSERT INTO public.filler SELECT decode(repeat('00', 8000), 'hex') FROM generate_series(1, {rows})"
        );
        if let Err(error) = superuser.execute(AssertSqlSafe(fill)).await {
            code = error.as_database_error().and_then(|error| error.code().map(std::borrow::Cow::into_owned));
        }
    }
    assert_eq!(code.as_deref(), Some("53100"), "the disk is full");

    let (mut written, mut refused) = (1, 0);
    for number in 1..200 {
        let answer = write(number).await;
        if answer.status == 201 {
            written += 1;
        } else {
            load::assert_unavailable(&answer);
            refused += 1;
        }
        // Where there was room in pages that are there already, it goes on for a while.
        if refused == 5 {
            break;
        }
    }
    assert_eq!(refused, 5, "nothing more can be written");
    assert_eq!(one.owner.get(&path).await["count"], written);
    assert_eq!(one.owner.get("/api/current_user/").await["username"], one.owner.username.as_str());

    superuser.execute("DROP TABLE public.filler").await.unwrap();
    superuser.execute("CHECKPOINT").await.unwrap();
    let answer = write(1_000).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(one.owner.get(&path).await["count"], written + 1);
    crate::support::assert_counts(&app, &one).await;
    say(&format!(
        "faults | full disk | {written} written before, {refused} refused with 503, reads went on | recovered at once"
    ));
    drop(superuser);
    app.app.tenancy.close();
    cluster.stop().await.unwrap();
}

/// Moves the tables of the database onto that disk.
async fn move_to(disk: &Path, cluster: &Cluster) {
    let url = cluster.superuser_url("postgres");
    let whose = std::fs::metadata(socket(&url).parent().unwrap()).unwrap();
    std::os::unix::fs::chown(disk, Some(whose.uid()), Some(whose.gid())).unwrap();
    let mut superuser = crate::support::superuser_of(&url).await;
    let make = format!("CREATE TABLESPACE small LOCATION '{}'", disk.display());
    superuser.execute(AssertSqlSafe(make)).await.unwrap();
    superuser.execute("ALTER DATABASE faults SET TABLESPACE small").await.unwrap();
}
