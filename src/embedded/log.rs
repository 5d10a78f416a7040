//! PostgreSQL's log: one file, appended to by the server itself, kept small by us.
//!
//! Not PostgreSQL's logging collector: it has no bound on size that also throws something away, and what goes wrong
//! before it runs is written elsewhere.

use super::files;
use super::home::no_follow;
use super::identity::Identity;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Then its end becomes `postgresql.log.1`, and it starts anew.
const MAX_BYTES: u64 = 8 << 20;
const CHECK_INTERVAL: Duration = Duration::from_secs(30);
/// As much as helps somebody who reads it in an error message.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: u64 = 8 << 10;

/// The log of one cluster.
#[derive(Debug, Clone)]
pub(super) struct Log {
    path: PathBuf,
}

impl Log {
    pub(super) fn of_cluster(cluster: &Path) -> Self {
        Self { path: cluster.join("postgresql.log") }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn len(&self) -> u64 {
        self.open().and_then(|file| file.metadata()).map_or(0, |metadata| metadata.len())
    }

    /// The last lines written after the first `start` bytes.
    pub(super) fn tail(&self, start: u64) -> String {
        let text = self.read_from(start.max(self.len().saturating_sub(TAIL_BYTES))).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n")
    }

    /// Keeps it small until the returned task is aborted.
    pub(super) fn keep_small(&self, identity: &Identity) -> tokio::task::JoinHandle<()> {
        let (log, identity) = (self.clone(), identity.clone());
        tokio::spawn(async move {
            let mut interval = tokio::time::interval(CHECK_INTERVAL);
            loop {
                interval.tick().await;
                if let Err(error) = log.rotate(&identity, MAX_BYTES) {
                    tracing::warn!(log = %log.path.display(), %error, "PostgreSQL's log could not be rotated");
                }
            }
        })
    }

    /// Copied and cut off, not renamed: the server has it open, for appending.
    fn rotate(&self, identity: &Identity, max_bytes: u64) -> Result<(), super::Error> {
        let length = self.len();
        if length <= max_bytes {
            return Ok(());
        }
        let io = super::Error::io("rotate", &self.path);
        let recent = match self.read_from(length - max_bytes) {
            Ok(recent) => recent,
            Err(error) => return Err(io(error)),
        };
        files::write_private(&self.path.with_added_extension("1"), &recent, identity)?;
        let cut_off = OpenOptions::new().write(true).custom_flags(no_follow()).open(&self.path);
        cut_off.and_then(|file| file.set_len(0)).map_err(io)
    }

    fn read_from(&self, position: u64) -> io::Result<String> {
        let mut file = self.open()?;
        file.seek(SeekFrom::Start(position))?;
        let mut bytes = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn open(&self) -> io::Result<File> {
        OpenOptions::new().read(true).custom_flags(no_follow()).open(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::Log;
    use crate::embedded::identity::Identity;
    use std::fs;

    #[test]
    fn a_log_that_has_grown_keeps_its_end_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::of_cluster(directory.path());
        fs::write(log.path(), "old and new").unwrap();
        let identity = Identity::for_new_cluster().unwrap();

        log.rotate(&identity, 11).unwrap();
        assert_eq!(fs::read_to_string(log.path()).unwrap(), "old and new");

        log.rotate(&identity, 3).unwrap();
        assert_eq!(fs::read_to_string(log.path()).unwrap(), "");
        assert_eq!(fs::read_to_string(directory.path().join("postgresql.log.1")).unwrap(), "new");
    }

    #[test]
    fn a_tail_is_the_last_lines_since_a_position() {
        let directory = tempfile::tempdir().unwrap();
        let log = Log::of_cluster(directory.path());
        fs::write(log.path(), "before\nafter\nlast\n").unwrap();
        assert_eq!(log.tail(7), "after\nlast");
        assert_eq!(log.tail(log.len()), "");
    }
}
