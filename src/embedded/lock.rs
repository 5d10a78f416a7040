//! One process at a time runs the cluster of a data directory.

use super::error::Error;
use super::home::no_follow;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read as _, Seek as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

/// A lock file, locked for as long as this lives. The kernel lets go of it when we die, however that happens, so there
/// is no stale lock to judge. No child inherits it: the file is closed on exec.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing does not do: a child that was forked a moment ago has the file open until it has come to exec.
        self.file.unlock().ok();
    }
}

/// What came of trying.
pub(super) enum Attempt {
    Acquired(Lock),
    /// Somebody else has it; who, unless that is not written yet.
    Held(Option<i32>),
}

impl Lock {
    /// Locks the directory or says who has.
    pub(super) fn try_acquire(directory: &Path) -> Result<Attempt, Error> {
        let path = directory.join("lock");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(no_follow())
            .open(&path)
            .map_err(Error::io("open", &path))?;
        match file.try_lock() {
            Ok(()) => {
                let mut write = || {
                    file.set_len(0)?;
                    file.rewind()?;
                    writeln!(file, "{}", std::process::id())
                };
                write().map_err(Error::io("write", &path))?;
                Ok(Attempt::Acquired(Self { file }))
            }
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                file.read_to_string(&mut holder).map_err(Error::io("read", &path))?;
                Ok(Attempt::Held(holder.trim().parse().ok()))
            }
            Err(TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
        }
    }

    /// Locks the directory or refuses.
    pub(super) fn acquire(directory: &Path) -> Result<Self, Error> {
        match Self::try_acquire(directory)? {
            Attempt::Acquired(lock) => Ok(lock),
            Attempt::Held(holder) => Err(Error::InUse { data_dir: directory.to_owned(), holder }),
        }
    }
}
