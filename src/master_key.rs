//! Files with master keys: the one in the data directory, and those that operators keep.

use std::{
    fs, io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use secrecy::{ExposeSecret as _, SecretString};
use tenants::SecretKey;

use crate::config::MasterKey;

/// The master key of an embedded database, in the data directory.
const FILE: &str = "master.key";
/// The key that comes after it, while one is put in the place of the other.
const NEXT: &str = "master.key.next";

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
    // Written under another name first: a file that is there is whole.
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}", std::process::id()));
    let draft = PathBuf::from(draft);
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    let text = data_encoding::HEXLOWER.encode(SecretKey::generate().expose());
    io::Write::write_all(&mut file, text.as_bytes()).and_then(|()| file.sync_all())?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => sync_dir(path),
    }
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
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(dir)?.sync_all()
}
