//! Mails as files, for development and for those who pick them up themselves.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{Failure, Stamp};

/// Where mails are written.
#[derive(Clone, Debug)]
pub(super) struct MailFiles {
    pub(super) directory: PathBuf,
    pub(super) is_shown: bool,
}

/// The ending of a mail's file.
const ENDING: &str = ".eml";

/// Writes a mail. A second attempt at the same mail writes the same file.
pub(super) async fn write(files: &MailFiles, stamp: Stamp, bytes: Vec<u8>) -> Result<(), Failure> {
    // Named by its time, files sort as they came.
    let name = format!("{}-{}{ENDING}", stamp.at.format("%Y%m%dT%H%M%S%.6fZ"), stamp.id);
    let directory = files.directory.clone();
    let written = tokio::task::spawn_blocking(move || write_whole(&directory, &name, &bytes)).await;
    written
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| Failure::retry(format_args!("the mail's file cannot be written: {error}")))
}

/// Whoever reads the directory sees a file whole or not at all. Its links are secrets, so it is ours alone.
fn write_whole(directory: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let draft = directory.join(format!(".{name}.{}", std::process::id()));
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&draft, directory.join(name))?;
    File::open(directory)?.sync_all()
}

/// The names of up to `limit` mails, the newest first, without their ending.
pub(super) fn newest(directory: &Path, limit: usize) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names: Vec<String> = entries
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .filter_map(|name| name.strip_suffix(ENDING).map(str::to_owned))
        .filter(|name| is_name(name))
        .collect();
    names.sort_unstable_by(|a, b| b.cmp(a));
    names.truncate(limit);
    Ok(names)
}

/// The file of this name; `None` if there is none.
pub(super) fn read(directory: &Path, name: &str) -> io::Result<Option<Vec<u8>>> {
    if !is_name(name) {
        return Ok(None);
    }
    match fs::read(directory.join(format!("{name}{ENDING}"))) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        read => read.map(Some),
    }
}

/// Whether it is a name as [`write`] gives it: a time and an id. Nothing else in the directory is ours to show, and no
/// name leads out of it.
fn is_name(name: &str) -> bool {
    name.split_once('-').is_some_and(|(time, id)| {
        time.bytes().all(|byte| byte.is_ascii_digit() || b"TZ.".contains(&byte))
            && Uuid::try_parse(id).is_ok()
    })
}
