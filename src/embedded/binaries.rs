//! Finds PostgreSQL's programs on this machine.

use super::error::Error;
use super::identity::Identity;
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// `client_connection_check_interval`, which we rely on, came with it.
pub(super) const OLDEST_MAJOR: u16 = 14;

/// Where distributions put versions side by side: a directory, what its entries start with, where `bin` is in them.
const VERSIONED: [(&str, &str, &str); 7] = [
    ("/usr/lib/postgresql", "", "bin"),                      // Debian, Ubuntu
    ("/usr", "pgsql-", "bin"),                               // the PostgreSQL project's RPMs
    ("/usr/libexec", "postgresql", ""),                      // Alpine
    ("/opt/homebrew/opt", "postgresql", "bin"),              // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql", "bin"),                 // Homebrew on Intel
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"), // Homebrew on Linux
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"), // Postgres.app
];

/// A released version of PostgreSQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Version {
    /// What decides whether it can read a cluster.
    pub major: u16,
    /// The newest is always the best.
    pub minor: u16,
}

impl Version {
    /// From `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`. Betas and development versions (`18beta1`) have no
    /// minor number and are none: a cluster they make is unreadable to the release.
    fn parse(line: &str) -> Option<Self> {
        let (major, minor) =
            line.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?.split_once('.')?;
        Some(Self { major: major.parse().ok()?, minor: minor.parse().ok()? })
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Where PostgreSQL is looked for.
#[derive(Debug, Clone)]
pub struct Search {
    /// A `PATH`, which is searched for `postgres` and for `pg_config`, which knows where the former is.
    pub path: Option<OsString>,
    /// Further directories that may hold `postgres` and `initdb`.
    pub directories: Vec<PathBuf>,
    /// Where downloaded releases are kept, a directory a version.
    pub cache: PathBuf,
}

impl Default for Search {
    /// This machine's `PATH`, the places distributions use, and the user's cache directory.
    fn default() -> Self {
        let directories = VERSIONED
            .into_iter()
            .flat_map(|(parent, prefix, bin)| {
                entries(Path::new(parent))
                    .filter(move |entry| {
                        entry.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
                    })
                    .map(move |entry| entry.join(bin))
            })
            .collect();
        Self { path: std::env::var_os("PATH"), directories, cache: super::download::default_cache() }
    }
}

impl Search {
    /// Every usable installation, newest first; of equals the one named first.
    pub(super) fn installations(&self, identity: &Identity) -> Vec<Installation> {
        let mut found: Vec<Installation> = Vec::new();
        for directory in self.candidates() {
            // Symbolic links are followed first: PostgreSQL finds its share files beside the true place of its programs.
            let Some(bin) = std::fs::canonicalize(directory.join("postgres"))
                .ok()
                .and_then(|program| program.parent().map(Path::to_owned))
            else {
                continue;
            };
            if found.iter().all(|installation| installation.bin != bin) {
                found.extend(Installation::probe(bin, identity));
            }
        }
        found.sort_by_key(|installation| std::cmp::Reverse(installation.version));
        found
    }

    fn candidates(&self) -> Vec<PathBuf> {
        let on_path: Vec<PathBuf> = self.path.iter().flat_map(std::env::split_paths).collect();
        let by_pg_config = on_path.iter().filter_map(|directory| {
            let program = directory.join("pg_config");
            let output = program.is_file().then(|| Command::new(program).arg("--bindir").output().ok())??;
            Some(PathBuf::from(str::from_utf8(&output.stdout).ok()?.trim()))
        });
        let downloaded = entries(&self.cache).map(|version| version.join("bin"));
        let mut all: Vec<PathBuf> =
            by_pg_config.chain(self.directories.iter().cloned()).chain(downloaded).collect();
        all.splice(0..0, on_path);
        // An empty entry of PATH means the working directory; a relative one has nothing to say to a server either.
        all.retain(|directory| directory.is_absolute());
        all
    }
}

fn entries(directory: &Path) -> impl Iterator<Item = PathBuf> {
    std::fs::read_dir(directory).into_iter().flatten().filter_map(Result::ok).map(|entry| entry.path())
}

/// One version's programs.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    bin: PathBuf,
    version: Version,
}

impl Installation {
    /// Runs `postgres --version` as the account that will have to run it: a directory it cannot enter is of no use.
    fn probe(bin: PathBuf, identity: &Identity) -> Option<Self> {
        if !bin.join("initdb").is_file() {
            return None;
        }
        let output =
            identity.command(bin.join("postgres")).arg("--version").stderr(Stdio::null()).output().ok()?;
        let version = Version::parse(str::from_utf8(&output.stdout).ok()?)?;
        (version.major >= OLDEST_MAJOR).then_some(Self { bin, version })
    }

    pub(super) fn version(&self) -> Version {
        self.version
    }

    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

/// The installation for a cluster: of the major version that made it, or the newest for a new one. Only where there is
/// none at all is one downloaded.
pub(super) async fn installation_for(
    cluster: &Path,
    search: &Search,
    identity: &Identity,
) -> Result<Installation, Error> {
    let made_by = made_by(cluster)?;
    let fits = |installation: &Installation| {
        made_by.as_ref().is_none_or(|major| *major == installation.version.major.to_string())
    };
    let mut installations = search.installations(identity);
    if installations.is_empty() {
        super::download::download(&search.cache, made_by.as_deref())
            .await
            .map_err(|reason| Error::NoPostgres { reason })?;
        installations = search.installations(identity);
        if installations.is_empty() {
            let reason = format!("what was downloaded to {} does not run here", search.cache.display());
            return Err(Error::NoPostgres { reason });
        }
    }
    let installed = || installations.iter().map(|installation| installation.version.to_string()).collect();
    installations.iter().find(|installation| fits(installation)).cloned().ok_or_else(|| Error::OtherMajor {
        cluster: cluster.to_owned(),
        made_by: made_by.unwrap_or_default(),
        installed: installed(),
    })
}

/// The major version in the cluster's `PG_VERSION`; none where there is no cluster yet.
fn made_by(cluster: &Path) -> Result<Option<String>, Error> {
    let file = cluster.join("PG_VERSION");
    match std::fs::read_to_string(&file) {
        Ok(version) => Ok(Some(version.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !cluster.exists() => Ok(None),
        Err(error) => Err(Error::io("read", &file)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_are_those_of_releases() {
        let version = |line| Version::parse(line).map(|version| version.to_string());
        assert_eq!(
            version("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n").as_deref(),
            Some("15.18")
        );
        assert_eq!(version("postgres (PostgreSQL) 18.1\n").as_deref(), Some("18.1"));
        assert_eq!(version("postgres (PostgreSQL) 18beta1\n"), None);
        assert_eq!(version("postgres (PostgreSQL) 19devel\n"), None);
        assert_eq!(version("command not found"), None);
    }

    #[test]
    fn newer_is_greater() {
        assert!(Version { major: 16, minor: 1 } > Version { major: 15, minor: 18 });
        assert!(Version { major: 15, minor: 18 } > Version { major: 15, minor: 9 });
    }
}
