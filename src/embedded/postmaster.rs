//! What `postmaster.pid`, PostgreSQL's own lock file, says about the server of a cluster.

use super::error::Error;
use super::files;
use super::identity::Identity;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// Nothing has this process id: it is above what any system hands out.
const NOBODY: i32 = i32::MAX;
/// A fast shutdown writes a checkpoint, which may be a lot on a slow disk.
const FAST_DEADLINE: Duration = Duration::from_mins(1);
const IMMEDIATE_DEADLINE: Duration = Duration::from_secs(10);
pub(super) const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// The lock file of one cluster: a line each for the process id, the directory, …, and the status as the eighth.
#[derive(Debug)]
pub(super) struct PidFile {
    path: PathBuf,
    contents: String,
}

impl PidFile {
    pub(super) fn read(cluster: &Path) -> Result<Option<Self>, Error> {
        let path = cluster.join("postmaster.pid");
        Ok(files::read_if_present(&path)?.map(|contents| Self { path, contents }))
    }

    pub(super) fn pid(&self) -> Option<i32> {
        self.contents.lines().next()?.trim().parse().ok()
    }

    /// Whether the server takes connections.
    pub(super) fn is_ready(&self) -> bool {
        self.pid().is_some_and(|pid| pid != NOBODY)
            && self.contents.lines().nth(7).is_some_and(|status| status.trim() == "ready")
    }

    /// The process id, if the process is the cluster's server: after a crash it may be anybody's, in containers it
    /// often is.
    fn running(&self, cluster: &Path) -> Option<i32> {
        self.pid().filter(|&pid| is_alive(pid) && arguments(pid).is_some_and(|line| names(&line, cluster)))
    }

    /// Lets a dead server's file name no process. PostgreSQL removes the file of a process that is gone by itself, but
    /// refuses to start while anything else has got that process id. What else the file says is kept: from it
    /// PostgreSQL sees whether children of the dead server still use its memory.
    fn disown(&self, identity: &Identity) -> Result<(), Error> {
        let rest = self.contents.split_once('\n').map_or("", |(_, rest)| rest);
        files::write_private(&self.path, &format!("{NOBODY}\n{rest}"), identity)
    }
}

/// Stops the server a process that was killed left behind, or waits for its supervisor to. Not adopted: it may have
/// been started with other settings, and its supervisor, if it has one still, is about to stop it.
pub(super) async fn stop_orphan(cluster: &Path, identity: &Identity) -> Result<(), Error> {
    let Some(file) = PidFile::read(cluster)? else { return Ok(()) };
    if let Some(pid) = file.running(cluster) {
        tracing::info!(pid, "stopping a PostgreSQL server that was left behind");
        let stopped = signal_and_wait(&file, pid, Signal::INT, FAST_DEADLINE, cluster).await
            || signal_and_wait(&file, pid, Signal::QUIT, IMMEDIATE_DEADLINE, cluster).await;
        if !stopped {
            return Err(Error::Orphan { pid, cluster: cluster.to_owned() });
        }
    }
    match PidFile::read(cluster)? {
        Some(stale) => stale.disown(identity),
        None => Ok(()),
    }
}

/// Kills the server of a cluster, if there is one, and waits until it is gone; its children notice and go, too.
pub(super) async fn kill(cluster: &Path) -> Result<(), Error> {
    let Some(file) = PidFile::read(cluster)? else { return Ok(()) };
    if let Some(pid) = file.running(cluster) {
        tracing::warn!(pid, "the PostgreSQL server does not stop and is killed");
        if !signal_and_wait(&file, pid, Signal::KILL, IMMEDIATE_DEADLINE, cluster).await {
            return Err(Error::Orphan { pid, cluster: cluster.to_owned() });
        }
    }
    Ok(())
}

async fn signal_and_wait(
    file: &PidFile,
    pid: i32,
    signal: Signal,
    deadline: Duration,
    cluster: &Path,
) -> bool {
    let sent = Pid::from_raw(pid).map(|pid| kill_process(pid, signal));
    if !matches!(sent, Some(Ok(()) | Err(rustix::io::Errno::SRCH))) {
        return false;
    }
    let end = Instant::now() + deadline;
    while file.running(cluster).is_some() {
        if Instant::now() >= end {
            return false;
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
    true
}

/// Whether there is such a process, ours or not.
pub(super) fn is_alive(pid: i32) -> bool {
    Pid::from_raw(pid)
        .is_some_and(|pid| matches!(test_kill_process(pid), Ok(()) | Err(rustix::io::Errno::PERM)))
}

/// The command line of a process, its arguments ended by NUL as the kernel keeps them, or by spaces as `ps` prints
/// them. A dead process nobody has waited for has none.
fn arguments(pid: i32) -> Option<Vec<u8>> {
    if Path::new("/proc/self/cmdline").exists() {
        return std::fs::read(format!("/proc/{pid}/cmdline")).ok();
    }
    let mut ps = Command::new("ps");
    ps.args(["-ww", "-o", "args=", "-p", &pid.to_string()]).stdin(Stdio::null()).stderr(Stdio::null());
    ps.output().ok().map(|output| output.stdout)
}

/// Whether the command line has the cluster's directory as an argument of its own.
fn names(command_line: &[u8], cluster: &Path) -> bool {
    let wanted = cluster.as_os_str().as_encoded_bytes();
    let ends = |byte: Option<&u8>| byte.is_none_or(|byte| matches!(byte, 0 | b' ' | b'\n'));
    command_line.windows(wanted.len()).enumerate().any(|(start, window)| {
        window == wanted
            && ends(command_line.get(start + wanted.len()))
            && ends(start.checked_sub(1).and_then(|before| command_line.get(before)))
    })
}

#[cfg(test)]
mod tests {
    use super::{PidFile, names};
    use std::path::{Path, PathBuf};

    #[test]
    fn a_command_line_names_a_whole_directory() {
        let command_line = b"/usr/bin/postgres\0-D\0/srv/a/cluster\0-c\0port=5432\0";
        assert!(names(command_line, Path::new("/srv/a/cluster")));
        assert!(!names(command_line, Path::new("/srv/a/clust")));
        assert!(!names(command_line, Path::new("/a/cluster")));
        assert!(!names(b"", Path::new("/srv/a/cluster")));
    }

    #[test]
    fn only_the_status_ready_is_ready() {
        let file = |pid: &str, status: &str| PidFile {
            path: PathBuf::new(),
            contents: format!("{pid}\n/srv\n1700000000\n5432\n/tmp\n\n 123 456\n{status}\n"),
        };
        assert!(file("12", "ready   ").is_ready());
        assert!(!file("12", "starting").is_ready());
        assert!(!file("2147483647", "ready   ").is_ready());
    }
}
