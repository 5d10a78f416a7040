//! Where the cluster of a data directory and what belongs to it are.
//!
//! ```text
//! <data_dir>/postgres/
//!     lock        locked by the process that runs the cluster, whose id it holds
//!     password    the superuser's
//!     connection  how to reach the cluster, while it runs
//!     location    only where the cluster lives elsewhere: the directory it lives in
//!     cluster/    what initdb made, and PostgreSQL's log
//! ```

use super::error::Error;
use super::files;
use super::identity::Identity;
use super::lock::Lock;
use rustix::fs::OFlags;
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

/// For clusters whose data directory the account PostgreSQL runs as cannot get into.
const ELSEWHERE: &str = "/var/lib/tenantry";

/// `<data_dir>/postgres`, which is ours, whoever PostgreSQL runs as.
#[derive(Debug, Clone)]
pub(super) struct Home {
    data_dir: PathBuf,
    directory: PathBuf,
    /// Who gets the files we write: where root runs what an ordinary user has made, that user, who shall be able to
    /// run it again.
    owner: Identity,
}

/// The directory of a cluster in a data directory.
pub(super) fn directory_in(data_dir: &Path) -> PathBuf {
    data_dir.join("postgres")
}

impl Home {
    /// Makes the directory where it is missing. Its path is made absolute and free of symbolic links: the programs we
    /// run have another working directory, and its hash names the cluster elsewhere.
    pub(super) fn open(data_dir: &Path) -> Result<Self, Error> {
        files::create_own_directory(data_dir)?;
        let data_dir = fs::canonicalize(data_dir).map_err(Error::io("find", data_dir))?;
        let directory = directory_in(&data_dir);
        if !directory.is_dir() {
            files::create_own_directory(&directory)?;
        }
        let owner = Identity::owner_of(&directory)?;
        Ok(Self { data_dir, directory, owner })
    }

    pub(super) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The directory that is locked.
    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn connection_file(&self) -> PathBuf {
        self.directory.join("connection")
    }

    /// Writes one of the files of this directory.
    pub(super) fn write(&self, file: &Path, contents: &str) -> Result<(), Error> {
        files::write_private(file, contents, &self.owner)
    }

    fn password_file(&self) -> PathBuf {
        self.directory.join("password")
    }

    pub(super) fn write_password(&self, password: &str) -> Result<(), Error> {
        self.write(&self.password_file(), password)
    }

    pub(super) fn read_password(&self) -> Result<SecretString, Error> {
        let file = self.password_file();
        files::read_if_present(&file)?.map(SecretString::from).ok_or(Error::PasswordGone { file })
    }

    /// Finds the cluster, or a place for it.
    pub(super) fn site(&self) -> Result<Site, Error> {
        let pointer = self.directory.join("location");
        if let Some(location) = files::read_if_present(&pointer)? {
            let location = PathBuf::from(OsStr::from_bytes(location.as_bytes()));
            let cluster = location.join("cluster");
            return if cluster.is_dir() {
                Site::existing(location, true)
            } else {
                Err(Error::ClusterGone { pointer, cluster })
            };
        }
        if self.directory.join("cluster").is_dir() {
            return Site::existing(self.directory.clone(), false);
        }
        let identity = Identity::for_new_cluster()?;
        if identity.can_search(&self.directory) {
            return Ok(Site { directory: self.directory.clone(), identity, exists: false, _lock: None });
        }
        let hash = Sha256::digest(self.data_dir.as_os_str().as_bytes());
        let location = Path::new(ELSEWHERE).join(data_encoding::HEXLOWER.encode(&hash[..16]));
        files::create_own_directory(&location)?;
        let cluster = location.join("cluster");
        if cluster.is_dir() && self.password_file().exists() {
            // It was completed, but its pointer never written.
            self.write_pointer(&location)?;
            return Site::existing(location, true);
        }
        tracing::info!(
            user = identity.name(), location = %location.display(),
            "the user PostgreSQL runs as cannot get into the data directory: its files go elsewhere"
        );
        let lock = Some(Lock::acquire(&location)?);
        if cluster.is_dir() {
            set_aside(&cluster)?;
        }
        Ok(Site { directory: location, identity, exists: false, _lock: lock })
    }

    /// Remembers where the cluster is, once it is complete: a pointer to nothing is reported as a loss.
    pub(super) fn remember(&self, site: &Site) -> Result<(), Error> {
        if site.directory == self.directory { Ok(()) } else { self.write_pointer(&site.directory) }
    }

    fn write_pointer(&self, location: &Path) -> Result<(), Error> {
        self.write(&self.directory.join("location"), &location.to_string_lossy())
    }
}

/// A place for a cluster, and the account PostgreSQL runs as there.
#[derive(Debug)]
pub(super) struct Site {
    directory: PathBuf,
    pub(super) identity: Identity,
    pub(super) exists: bool,
    /// Of a place outside the data directory, which a copy of the data directory points to as well.
    _lock: Option<Lock>,
}

impl Site {
    fn existing(directory: PathBuf, elsewhere: bool) -> Result<Self, Error> {
        let cluster = directory.join("cluster");
        let identity = Identity::of_cluster(&cluster)?;
        if !identity.can_search(&cluster) {
            return Err(Error::Unreachable { user: identity.name().to_owned(), cluster });
        }
        let lock = if elsewhere { Some(Lock::acquire(&directory)?) } else { None };
        Ok(Self { directory, identity, exists: true, _lock: lock })
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.directory.join("cluster")
    }
}

/// Makes room where a data directory was removed and made again: its password went with it, so nothing can use the old
/// cluster any more. Whether to delete it is not ours to decide.
fn set_aside(cluster: &Path) -> Result<(), Error> {
    let aside = cluster.with_added_extension(files::random_name());
    fs::rename(cluster, &aside).map_err(Error::io("set aside", cluster))?;
    tracing::warn!(
        directory = %aside.display(),
        "the data directory this database belonged to is gone: it was set aside, and can be deleted"
    );
    Ok(())
}

/// For opening what others may have put in our place.
pub(super) fn no_follow() -> i32 {
    i32::try_from(OFlags::NOFOLLOW.bits()).unwrap_or_default()
}
