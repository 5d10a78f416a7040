//! Who PostgreSQL runs as: ourselves, or somebody without privileges where we are root.

use super::error::Error;
use rustix::fs::{Gid, Uid, fchown};
use std::ffi::OsStr;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// The accounts PostgreSQL is run as when we are root, the first that exists.
const UNPRIVILEGED: [&str; 2] = ["postgres", "nobody"];

/// What a child keeps of our environment: how to find programs and libraries. Everything else (`PGDATA`, `PGPORT`,
/// `PGOPTIONS`, a locale) would change what PostgreSQL does from one start to the next.
const KEPT_VARIABLES: [&str; 4] =
    ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "DYLD_FALLBACK_LIBRARY_PATH"];

/// The account PostgreSQL and its tools run as.
#[derive(Debug, Clone)]
pub(super) struct Identity {
    name: String,
    /// Set where it is not our own.
    switch_to: Option<(u32, u32)>,
}

impl Identity {
    /// For a cluster yet to be made.
    pub(super) fn for_new_cluster() -> Result<Self, Error> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::own());
        }
        UNPRIVILEGED
            .into_iter()
            .find_map(|name| {
                // `id` and not /etc/passwd: it knows the accounts of directory services too.
                let number = |flag| -> Option<u32> {
                    let output = Command::new("id").args([flag, name]).stderr(Stdio::null()).output().ok()?;
                    str::from_utf8(&output.stdout).ok()?.trim().parse().ok()
                };
                let switch_to = Some((number("-u")?, number("-g")?));
                Some(Self { name: name.to_owned(), switch_to })
            })
            .ok_or(Error::NoUnprivilegedUser)
    }

    /// For a cluster that exists: its owner, since PostgreSQL runs as nobody else.
    pub(super) fn of_cluster(cluster: &Path) -> Result<Self, Error> {
        let owner = Self::owner_of(cluster)?;
        if owner.switch_to.is_none() && rustix::process::geteuid().is_root() {
            return Err(Error::NotOwner { path: cluster.to_owned(), owner: 0 });
        }
        Ok(owner)
    }

    /// Whoever owns the file or directory: ourselves, or anybody where we are root.
    pub(super) fn owner_of(path: &Path) -> Result<Self, Error> {
        let metadata = fs::metadata(path).map_err(Error::io("look at", path))?;
        let (uid, gid) = (metadata.uid(), metadata.gid());
        let own = rustix::process::geteuid();
        if uid == own.as_raw() {
            return Ok(Self::own());
        }
        if !own.is_root() {
            return Err(Error::NotOwner { path: path.to_owned(), owner: uid });
        }
        Ok(Self { name: uid.to_string(), switch_to: Some((uid, gid)) })
    }

    fn own() -> Self {
        Self { name: rustix::process::geteuid().to_string(), switch_to: None }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// A command that will run as this account, in an environment of its own.
    pub(super) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("LC_ALL", "C").env("TZ", "UTC").current_dir("/").stdin(Stdio::null());
        for name in KEPT_VARIABLES {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        if let Some((uid, gid)) = self.switch_to {
            // The standard library drops root's supplementary groups along with its user id.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Whether this account can get into `directory`. Asked of the kernel, which knows about access lists, read-only
    /// mounts and user namespaces; the mode bits do not tell.
    pub(super) fn can_search(&self, directory: &Path) -> bool {
        self.switch_to.is_none()
            || self
                .command("/bin/sh")
                .args(["-c", "cd -- \"$1\"", "sh"])
                .arg(directory)
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    }

    /// Gives the open file or directory to this account.
    pub(super) fn give(&self, file: impl AsFd) -> rustix::io::Result<()> {
        match self.switch_to {
            Some((uid, gid)) => fchown(file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))),
            None => Ok(()),
        }
    }
}
