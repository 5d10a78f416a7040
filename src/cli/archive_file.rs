//! Archives between the export store and files that somebody named.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read as _, Seek as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use tenants::archive::{ArchiveError, peek};

use super::run::Failure;
use crate::{
    archives::{self, ArchiveName, ArchivesError, Directory},
    operations::Operation,
    state::App,
};

/// Moves an archive out of the store.
pub(super) fn take_out(app: &App, done: &Operation, to: &Path) -> Result<(), Failure> {
    let archive = done.result.as_ref().and_then(|result| result["archive"].as_str()).unwrap_or_default();
    let name: ArchiveName = archive.parse()?;
    let file = app.archives.open(&name)?.ok_or_else(|| ArchivesError::NoSuchArchive(name.clone()))?;
    archives::copy_to(file, to)?;
    app.archives.remove(&name)?;
    Ok(())
}

/// An archive in the store, and whether it was put there for this command.
pub(super) struct Stored {
    pub(super) name: ArchiveName,
    is_ours: bool,
}

/// The archive that was named: one of the store, or a file, which is copied there so that whoever takes the operation up
/// again finds it.
pub(super) async fn stored(app: &App, archive: &Path) -> Result<Stored, Failure> {
    let named = archive.to_str().and_then(|text| text.parse::<ArchiveName>().ok());
    if let Some(name) = named
        && !archive.exists()
    {
        return Ok(Stored { name, is_ours: false });
    }
    let name: ArchiveName = format!("import-{}.tenantry", app.clock.uuid_v7().simple()).parse()?;
    let (store, kept, path) = (app.archives.clone(), name.clone(), archive.to_owned());
    let copied = tokio::task::spawn_blocking(move || copy(&store, &path, &kept)).await?;
    copied.map_err(|error| format!("{}: {error}", archive.display()))?;
    Ok(Stored { name, is_ours: true })
}

/// Why a file is not copied into the store.
#[derive(Debug, thiserror::Error)]
enum NotCopied {
    #[error("it is no regular file")]
    NoFile,
    #[error("it is longer than {} MiB: see `archive_max_mib`", .0 >> 20)]
    TooLong(u64),
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Copies what is an archive by its beginning, and no more of it than an upload may have: whoever names a device, or a file
/// that grows, is not to fill the disk.
fn copy(store: &Directory, path: &Path, name: &ArchiveName) -> Result<(), NotCopied> {
    let mut file = open(path)?;
    peek(io::BufReader::new(&file))?;
    file.rewind()?;
    let (draft, most) = (store.draft()?, store.max_upload());
    if io::copy(&mut file.take(most + 1), &mut draft.file()?)? > most {
        return Err(NotCopied::TooLong(most));
    }
    Ok(draft.keep(name)?)
}

/// Opens a regular file. What is none is not waited for: a pipe nobody writes into would keep this for ever.
fn open(path: &Path) -> Result<File, NotCopied> {
    let at_once = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(at_once).open(path)?;
    if file.metadata()?.is_file() { Ok(file) } else { Err(NotCopied::NoFile) }
}

impl Stored {
    /// Leaves the store as it was, unless somebody is yet to look at it.
    pub(super) fn forget(&self, app: &App, done: Result<&Operation, &Failure>) {
        let is_over = done.map_or(true, |done| ["succeeded", "failed"].contains(&done.status.as_str()));
        if self.is_ours
            && is_over
            && let Err(error) = app.archives.remove(&self.name)
        {
            tracing::warn!(archive = %self.name, %error, "a copy stays in the export store");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Why a file is not copied; and nothing of it stays in the store.
    fn refusal(path: &Path, most: u64) -> String {
        let directory = tempfile::tempdir().unwrap();
        let name = "a.tenantry".parse().unwrap();
        let refused = copy(&Directory::new(directory.path().to_owned(), most), path, &name).unwrap_err();
        assert_eq!(directory.path().read_dir().unwrap().count(), 0, "{refused}");
        refused.to_string()
    }

    #[test]
    fn what_is_no_regular_file_is_neither_read_nor_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(refusal(Path::new("/dev/zero"), 1 << 20), "it is no regular file");
        assert_eq!(refusal(directory.path(), 1 << 20), "it is no regular file");
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)
            .unwrap();
        assert_eq!(refusal(&pipe, 1 << 20), "it is no regular file");
        assert!(refusal(&directory.path().join("none"), 1 << 20).contains("No such file"));
    }

    #[test]
    fn what_does_not_begin_as_an_archive_is_not_copied() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(refusal(file.path(), 1 << 20), "this is no archive of a tenant");
        std::fs::write(file.path(), vec![0; 2 << 20]).unwrap();
        assert_eq!(refusal(file.path(), 1 << 20), "this is no archive of a tenant");
    }
}
