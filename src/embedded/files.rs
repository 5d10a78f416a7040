//! Private directories and files, made so that nobody who may write beside them can slip in their own.

use super::error::Error;
use super::identity::Identity;
use rustix::fs::{Mode, OFlags};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

/// Makes a directory that only `identity` can enter. It fails where anything has that name already, a symbolic link
/// included; ownership changes hands by file descriptor, never by name.
pub(super) fn create_private_directory(path: &Path, identity: &Identity) -> io::Result<()> {
    DirBuilder::new().mode(0o700).create(path)?;
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(path, flags, Mode::empty())?;
    if rustix::fs::fstat(&directory)?.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::other("somebody else replaced it while it was being made"));
    }
    identity.give(&directory)?;
    Ok(())
}

/// Makes a directory of ours and those above it. Root's can be passed through by the account PostgreSQL runs as, but
/// not listed; an ordinary user's only by that user.
pub(super) fn create_own_directory(path: &Path) -> Result<(), Error> {
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    DirBuilder::new().recursive(true).mode(mode).create(path).map_err(Error::io("create", path))
}

/// Writes a file that only `owner` can read: all of it or nothing, and still there after a power cut.
pub(super) fn write_private(path: &Path, contents: &str, owner: &Identity) -> Result<(), Error> {
    let write = || -> io::Result<()> {
        let temporary = path.with_added_extension(random_name());
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all(contents.as_bytes())?;
        owner.give(&file)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        sync_parent(path)
    };
    write().map_err(Error::io("write", path))
}

/// Makes a new name last.
pub(super) fn sync_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), |parent| File::open(parent)?.sync_all())
}

/// What is in the file; none where there is no such file.
pub(super) fn read_if_present(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(contents) => Ok(Some(contents)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("read", path)(error)),
    }
}

/// Removes the file, if there is one.
pub(super) fn remove_if_present(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(error)),
        _ => Ok(()),
    }
}

/// Whether what is put into the directory stays there: either nobody but root and `identity` may write to it, or it is
/// sticky, as /tmp is.
pub(super) fn is_safe_parent(directory: &Path) -> bool {
    fs::metadata(directory).is_ok_and(|metadata| {
        let mode = metadata.permissions().mode();
        let owner = metadata.uid();
        let trusted_owner = owner == 0 || owner == rustix::process::geteuid().as_raw();
        metadata.is_dir() && trusted_owner && (mode & 0o022 == 0 || mode & 0o1000 != 0)
    })
}

/// Eight bytes nobody can guess, in hexadecimal.
pub(super) fn random_name() -> String {
    data_encoding::HEXLOWER.encode(&rand::random::<[u8; 8]>())
}

#[cfg(test)]
mod tests {
    use super::{create_private_directory, is_safe_parent};
    use crate::embedded::identity::Identity;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    #[test]
    fn a_private_directory_is_never_one_that_was_there() {
        let directory = tempfile::tempdir().unwrap();
        let identity = Identity::for_new_cluster().unwrap();
        let target = directory.path().join("target");
        fs::create_dir(&target).unwrap();
        let owner = fs::metadata(&target).unwrap().uid();
        let link = directory.path().join("link");
        symlink(&target, &link).unwrap();

        create_private_directory(&target, &identity).unwrap_err();
        create_private_directory(&link, &identity).unwrap_err();
        assert_eq!(fs::metadata(&target).unwrap().uid(), owner);

        let fresh = directory.path().join("fresh");
        create_private_directory(&fresh, &identity).unwrap();
        assert_eq!(fs::metadata(&fresh).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_anybody_may_rename_things_in_is_no_safe_parent() {
        let directory = tempfile::tempdir().unwrap();
        let is_safe_with = |mode| {
            fs::set_permissions(directory.path(), Permissions::from_mode(mode)).unwrap();
            is_safe_parent(directory.path())
        };
        assert!(is_safe_with(0o700));
        assert!(is_safe_with(0o1777));
        assert!(!is_safe_with(0o777));
        assert!(!is_safe_with(0o770));
    }
}
