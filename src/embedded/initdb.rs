//! Makes a new cluster.

use super::binaries::Installation;
use super::error::Error;
use super::files;
use super::home::{Home, Site};
use super::{Durability, SUPERUSER};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

/// What a directory is called until `initdb` is through with it.
const UNFINISHED: &str = "initdb-";

/// Makes the cluster beside its place and moves it there when it is complete: a directory called `cluster` always is
/// one, and an `initdb` that was killed half-way leaves nothing but what the next removes.
pub(super) async fn initdb(
    home: &Home,
    site: &Site,
    installation: &Installation,
    durability: Durability,
) -> Result<(), Error> {
    remove_unfinished(site.directory());
    tracing::info!(version = %installation.version(), directory = %site.cluster().display(), "creating a database");
    let unfinished = Unfinished(site.directory().join(format!("{UNFINISHED}{}", files::random_name())));
    let password = data_encoding::HEXLOWER.encode(&rand::random::<[u8; 24]>());
    files::create_private_directory(&unfinished.0, &site.identity)
        .map_err(Error::io("create", &unfinished.0))?;
    let password_file = Unfinished(unfinished.0.with_added_extension("password"));
    files::write_private(&password_file.0, &password, &site.identity)?;

    let mut output = Ok(());
    for locale in locales(installation) {
        output = run(site, installation, durability, &unfinished.0, &password_file.0, locale).await?;
        if output.is_ok() {
            break;
        }
    }
    output.map_err(|output| Error::Initdb { output })?;

    home.write_password(&password)?;
    let cluster = site.cluster();
    fs::rename(&unfinished.0, &cluster)
        .and_then(|()| files::sync_parent(&cluster))
        .map_err(Error::io("create", &cluster))?;
    home.remember(site)
}

/// Sorted by bytes, whatever the system: fast, and an upgrade of the C library cannot change the order under an index.
/// Upper and lower case are Unicode's, so that a search finds Ägir under ä: by PostgreSQL's own tables where it has
/// them, else by the C library's, else (macOS before PostgreSQL 17) ASCII's only.
fn locales(installation: &Installation) -> &'static [&'static [&'static str]] {
    if installation.version().major >= 17 {
        &[&["--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]]
    } else {
        &[&["--locale=C", "--lc-ctype=C.UTF-8"], &["--locale=C"]]
    }
}

async fn run(
    site: &Site,
    installation: &Installation,
    durability: Durability,
    directory: &Path,
    password_file: &Path,
    locale: &[&str],
) -> Result<Result<(), String>, Error> {
    let program = installation.program("initdb");
    let mut command = site.identity.command(&program);
    command.arg("--pgdata").arg(directory).arg("--pwfile").arg(password_file);
    command.args(["--username", SUPERUSER, "--encoding=UTF8", "--auth=scram-sha-256", "--data-checksums"]);
    command.args(["--no-instructions"]).args(locale);
    if durability == Durability::Relaxed {
        command.arg("--no-sync");
    }
    let Output { status, stdout, stderr } = tokio::process::Command::from(command)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(Error::io("run", &program))?;
    if status.success() {
        return Ok(Ok(()));
    }
    Ok(Err(format!("{}{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
        .trim()
        .to_owned()))
}

/// Removed when no longer wanted, on every way out. What cannot be removed now is at the next start.
struct Unfinished(PathBuf);

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn remove_unfinished(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(UNFINISHED) {
            drop(Unfinished(entry.path()));
        }
    }
}
