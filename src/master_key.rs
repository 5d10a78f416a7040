//! Files with master keys: the one in the data directory, and those that operators keep.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::{
    io::Errno,
    process::{Pid, test_kill_process},
};
use secrecy::{ExposeSecret as _, SecretString};
use tenants::SecretKey;

use crate::config::MasterKey;

/// The master key of an embedded database, in the data directory.
const FILE: &str = "master.key";
/// The key that comes after it, while one is put in the place of the other.
const NEXT: &str = "master.key.next";
/// How the names of drafts end. A number alone would not do: it is how operators number their keys.
const DRAFT: &str = ".draft";
/// A draft lives for a moment. After this time its number is another process's by now.
const ABANDONED: Duration = Duration::from_hours(1);

/// A file with a master key could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("the master key in {}: {error}", path.display())]
pub struct MasterKeyFileError {
    path: PathBuf,
    error: io::Error,
}

/// Where the master key of an embedded database is.
#[must_use]
pub fn file_in(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

/// Where the next one is, while it is changed.
#[must_use]
pub fn next_in(data_dir: &Path) -> PathBuf {
    data_dir.join(NEXT)
}

/// The key in this file, made if there is none: readable for its owner alone, and whole or not there. Two processes that
/// make it at once get the same one.
///
/// # Errors
/// The file cannot be read or written, or has no key in it.
pub fn read_or_make(path: &Path) -> Result<SecretKey, MasterKeyFileError> {
    let failed = |error| MasterKeyFileError { path: path.to_owned(), error };
    if !path.exists() {
        make(path).map_err(failed)?;
    }
    let text = SecretString::from(fs::read_to_string(path).map_err(failed)?);
    let key = MasterKey::parse(text.expose_secret().trim());
    let key =
        key.map_err(|wrong| failed(io::Error::new(io::ErrorKind::InvalidData, format!("it {}", wrong.is))))?;
    Ok(key.key().clone())
}

fn make(path: &Path) -> io::Result<()> {
    drop_abandoned(path)?;
    // Written under another name first: a file that is there is whole.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}{DRAFT}", std::process::id()));
    let draft = PathBuf::from(draft);
    // Not one that is there: it might be readable for others.
    let mut file = fs::File::options().write(true).create_new(true).mode(0o600).open(&draft)?;
    let text = data_encoding::HEXLOWER.encode(SecretKey::generate().expose());
    io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all())?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(path),
    }
}

/// The drafts of this file whose process was killed while it wrote them. Each may be a copy of a key that is in use.
///
/// # Errors
/// The directory cannot be read.
pub fn abandoned(path: &Path) -> io::Result<Vec<PathBuf>> {
    let (Some(directory), Some(name)) = (directory_of(path), path.file_name().and_then(|it| it.to_str()))
    else {
        return Ok(Vec::new());
    };
    let mut drafts = Vec::new();
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(drafts),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let other = entry.file_name();
        let number = other.to_str().and_then(|it| it.strip_prefix(name)?.strip_prefix('.'));
        // Earlier versions wrote those of the next key, and of no other, without the ending.
        let number = number.and_then(|it| it.strip_suffix(DRAFT).or((name == NEXT).then_some(it)));
        let Some(process) = number.and_then(|it| it.parse::<i32>().ok()) else { continue };
        if !is_running(process) || age(&entry)? > ABANDONED {
            drafts.push(entry.path());
        }
    }
    drafts.sort_unstable();
    Ok(drafts)
}

/// Removes them, and says which.
///
/// # Errors
/// One cannot be removed.
pub fn drop_abandoned(path: &Path) -> io::Result<Vec<PathBuf>> {
    let drafts = abandoned(path)?;
    for draft in &drafts {
        match fs::remove_file(draft) {
            // Somebody else was at it, too.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => result?,
        }
    }
    Ok(drafts)
}

fn is_running(process: i32) -> bool {
    // One that is another user's is there, too.
    Pid::from_raw(process).is_some_and(|pid| test_kill_process(pid) != Err(Errno::SRCH))
}

fn age(entry: &fs::DirEntry) -> io::Result<Duration> {
    match entry.metadata() {
        // One from the future is new.
        Ok(metadata) => Ok(metadata.modified()?.elapsed().unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Duration::ZERO),
        Err(error) => Err(error),
    }
}

/// Who can read a file with a key and should not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readers {
    /// The file's group.
    Group,
    /// Whoever is on this machine.
    Everybody,
}

/// Who beside its owner can read or write this file. That its group can read a file of somebody else's is how it is given
/// to this process.
///
/// # Errors
/// The file cannot be asked.
pub fn readers(path: &Path) -> io::Result<Option<Readers>> {
    let metadata = fs::metadata(path)?;
    let is_given = metadata.uid() != rustix::process::geteuid().as_raw();
    Ok(readers_of(metadata.mode(), is_given))
}

fn readers_of(mode: u32, is_given: bool) -> Option<Readers> {
    match (mode & 0o070, mode & 0o007) {
        (_, 1..) => Some(Readers::Everybody),
        (0o040, _) if is_given => None,
        (1.., _) => Some(Readers::Group),
        _ => None,
    }
}

/// Lets its owner alone read this file.
///
/// # Errors
/// It is somebody else's, or not there.
pub fn close(path: &Path) -> io::Result<()> {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600))
}

/// Puts the next key in the place of the one before.
///
/// # Errors
/// The file cannot be renamed.
pub fn take_next(data_dir: &Path) -> Result<(), MasterKeyFileError> {
    let (next, path) = (next_in(data_dir), file_in(data_dir));
    let failed = |error| MasterKeyFileError { path: next.clone(), error };
    fs::rename(&next, &path).and_then(|()| sync_dir(&path)).map_err(failed)
}

/// Forgets a next key that never came to be used.
///
/// # Errors
/// The file cannot be removed.
pub fn drop_next(data_dir: &Path) -> Result<(), MasterKeyFileError> {
    let next = next_in(data_dir);
    fs::remove_file(&next).map_err(|error| MasterKeyFileError { path: next, error })
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(directory_of(path).unwrap_or(Path::new(".")))?.sync_all()
}

/// Where a file is; `None` for what is no file.
fn directory_of(path: &Path) -> Option<&Path> {
    path.parent().map(|dir| if dir.as_os_str().is_empty() { Path::new(".") } else { dir })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_its_owners() {
        assert_eq!([0o600, 0o400, 0o700].map(|mode| readers_of(mode, false)), [None; 3]);
        assert_eq!([0o640, 0o620, 0o670].map(|mode| readers_of(mode, false)), [Some(Readers::Group); 3]);
        assert_eq!([0o644, 0o602, 0o777].map(|mode| readers_of(mode, true)), [Some(Readers::Everybody); 3]);
        // As a secret is mounted, or handed to a service's user.
        assert_eq!([0o440, 0o640].map(|mode| readers_of(mode, true)), [None; 2]);
        assert_eq!(readers_of(0o660, true), Some(Readers::Group));
    }

    #[test]
    fn only_drafts_of_processes_that_are_gone_are_abandoned() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        let running = std::process::id();
        // Greater than any number of a process: Linux goes up to 2^22.
        let [key, next] = [at("master.key"), next_in(directory.path())];
        for name in [
            "master.key",
            "master.key.2",
            "master.key.99999999",
            "master.key.99999999.draft",
            &format!("master.key.{running}.draft"),
            "master.key.next",
            "master.key.next.99999999",
            "master.key.next.99999999.draft",
        ] {
            fs::write(at(name), "").unwrap();
        }
        assert_eq!(abandoned(&key).unwrap(), [at("master.key.99999999.draft")]);
        let of_next = [at("master.key.next.99999999"), at("master.key.next.99999999.draft")];
        assert_eq!(drop_abandoned(&next).unwrap(), of_next);
        assert!(abandoned(&next).unwrap().is_empty() && next.exists());

        let old = at(&format!("master.key.{running}.draft"));
        let file = fs::File::options().write(true).open(&old).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        file.set_modified(written - 2 * ABANDONED).unwrap();
        assert_eq!(drop_abandoned(&key).unwrap().len(), 2);
        assert!(
            !old.exists()
                && key.exists()
                && at("master.key.2").exists()
                && at("master.key.99999999").exists()
        );
    }
}
