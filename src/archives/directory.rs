//! The export store: a directory of archives that only its owner can read.
//!
//! A file has its name once it is whole and on the disk. Until then it is a draft, whose name begins with a dot: one that
//! is given up is removed, and what a killed process left is removed after a day.

use std::{
    fs::{self, File, Permissions},
    io::{self, ErrorKind, Read as _, Seek as _, SeekFrom},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use chrono::{DateTime, TimeDelta, Utc};
use data_encoding::HEXLOWER;
use tenants::archive::{self, ArchivedTenant};

use super::ArchiveName;

/// How a draft's name ends.
const DRAFT: &str = ".draft";
/// No draft is written for so long.
const ABANDONED: TimeDelta = TimeDelta::days(1);
/// With what every archive ends: the last link of its chain, a hash of all of it.
const LINK: u64 = 32;

/// The export store. What it does blocks.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    max_upload: u64,
}

/// An archive in the store.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Its name.
    pub name: ArchiveName,
    /// Its length in bytes.
    pub size: u64,
    /// When it came into the store.
    pub stored_at: DateTime<Utc>,
    /// The installation that wrote it, the tenant it is of, and when it was made, as its header says; `None` where it has none.
    pub header: Option<(String, ArchivedTenant, DateTime<Utc>)>,
}

/// A file of the store that has no name yet. Dropped, it is gone.
#[derive(Debug)]
pub struct Draft {
    directory: PathBuf,
    path: PathBuf,
    file: File,
}

impl Directory {
    /// The store in this directory, which is made when it is needed, and how many bytes may be uploaded as one archive.
    #[must_use]
    pub fn new(path: PathBuf, max_upload: u64) -> Self {
        Self { path, max_upload }
    }

    /// How many bytes may be uploaded as one archive.
    #[must_use]
    pub fn max_upload(&self) -> u64 {
        self.max_upload
    }

    /// A new draft.
    ///
    /// # Errors
    /// The directory cannot be written to.
    pub fn draft(&self) -> io::Result<Draft> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.path)?;
        let path = self.path.join(format!(".{}{DRAFT}", HEXLOWER.encode(&rand::random::<[u8; 12]>())));
        let file = File::options().read(true).write(true).create_new(true).mode(0o600).open(&path)?;
        Ok(Draft { directory: self.path.clone(), path, file })
    }

    fn of(&self, name: &ArchiveName) -> PathBuf {
        self.path.join(name.as_str())
    }

    /// Opens an archive. `None` if there is none of this name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn open(&self, name: &ArchiveName) -> io::Result<Option<File>> {
        match File::open(self.of(name)) {
            Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// An archive, as lists show it. `None` if there is none of this name.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn entry(&self, name: &ArchiveName) -> io::Result<Option<Entry>> {
        let Some(file) = self.open(name)? else { return Ok(None) };
        let metadata = file.metadata()?;
        let stored_at = DateTime::from(metadata.modified()?);
        let header = archive::peek(io::BufReader::new(file)).ok();
        Ok(Some(Entry { name: name.clone(), size: metadata.len(), stored_at, header }))
    }

    /// The names of all archives, and when they came into the store, the latest first.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn names(&self) -> io::Result<Vec<(ArchiveName, DateTime<Utc>)>> {
        let mut names = Vec::new();
        for (name, at) in self.files()? {
            if let Ok(name) = name.parse::<ArchiveName>() {
                names.push((name, at));
            }
        }
        names.sort_by(|(name, at), (other, other_at)| other_at.cmp(at).then_with(|| other.cmp(name)));
        Ok(names)
    }

    fn files(&self) -> io::Result<Vec<(String, DateTime<Utc>)>> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            // Removed by somebody else since.
            let Ok(metadata) = entry.metadata() else { continue };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                files.push((name, DateTime::from(metadata.modified()?)));
            }
        }
        Ok(files)
    }

    /// Removes an archive; whether there was one.
    ///
    /// # Errors
    /// It cannot be removed.
    pub fn remove(&self, name: &ArchiveName) -> io::Result<bool> {
        match fs::remove_file(self.of(name)) {
            Ok(()) => sync(&self.path).map(|()| true),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the drafts of processes that are gone, and says how many.
    ///
    /// # Errors
    /// The directory cannot be read.
    pub fn sweep(&self, now: DateTime<Utc>) -> io::Result<u64> {
        let drafts = self
            .files()?
            .into_iter()
            .filter(|(name, at)| name.starts_with('.') && name.ends_with(DRAFT) && *at < now - ABANDONED);
        let mut swept = 0;
        for (name, _) in drafts {
            swept += u64::from(fs::remove_file(self.path.join(name)).is_ok());
        }
        Ok(swept)
    }
}

/// By what an archive is told from every other: the hash of all of it, in base 16.
///
/// # Errors
/// It cannot be read.
pub(super) fn fingerprint(file: &mut File) -> io::Result<String> {
    let mut link = [0; 32];
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(LINK)))?;
    let end = usize::try_from(length.min(LINK)).unwrap_or(0);
    file.read_exact(&mut link[..end])?;
    file.rewind()?;
    Ok(HEXLOWER.encode(&link[..end]))
}

/// A name is on the disk once its directory is.
fn sync(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

impl Draft {
    /// The file, to be written or read.
    ///
    /// # Errors
    /// It cannot be had a second time.
    pub fn file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives it its name, in place of what has that name; it is whole and on the disk then.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep(self, name: &ArchiveName) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, self.directory.join(name.as_str()))?;
        sync(&self.directory)
    }

    /// Gives it its name if nothing has it; whether so.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn keep_new(self, name: &ArchiveName) -> io::Result<bool> {
        self.file.sync_all()?;
        // A link is never made over another file.
        match fs::hard_link(&self.path, self.directory.join(name.as_str())) {
            Ok(()) => sync(&self.directory).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // Gone already, where it has a name.
        fs::remove_file(&self.path).ok();
    }
}

/// Writes a file that only its owner can read, for whoever wants an archive elsewhere.
///
/// # Errors
/// It is there already, or cannot be written.
pub(crate) fn copy_to(mut from: File, to: &Path) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).mode(0o600).open(to)?;
    file.set_permissions(Permissions::from_mode(0o600))?;
    io::copy(&mut from, &mut file)?;
    file.sync_all()
}
