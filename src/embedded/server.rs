//! A PostgreSQL server under a supervisor that stops it when we are gone.

use super::binaries::Installation;
use super::endpoint::Endpoint;
use super::error::Error;
use super::home::Site;
use super::log::Log;
use super::postmaster::{POLL_INTERVAL, PidFile};
use rustix::process::{Pid, WaitOptions, waitpid};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::time::Duration;
use tokio::time::Instant;

/// Recovery after a crash replays up to a gigabyte of log.
const START_DEADLINE: Duration = Duration::from_mins(5);
/// More than the supervisor takes to lose its patience with a fast shutdown.
const STOP_DEADLINE: Duration = Duration::from_secs(75);

/// A running server, or one on its way up or down.
#[derive(Debug)]
pub(super) struct Server {
    /// Holds, as its standard input, our end of the pipe. No other child of ours inherits that: it is closed on exec.
    supervisor: Child,
    cluster: PathBuf,
    endpoint: Endpoint,
    log: Log,
    log_start: u64,
}

impl Server {
    /// Starts the supervisor, in a process group of its own: Ctrl-C is for us, and the server must outlive what we do
    /// about it.
    pub(super) fn spawn(
        site: &Site,
        installation: &Installation,
        endpoint: Endpoint,
        settings: Vec<(&'static str, String)>,
    ) -> Result<Self, Error> {
        let cluster = site.cluster();
        let log = Log::of_cluster(&cluster);
        let log_start = log.len();
        let mut command = site.identity.command("/bin/sh");
        command.args(["-c", include_str!("supervisor.sh"), "tenantry-postgres"]);
        command.arg(endpoint.socket_directory().unwrap_or(Path::new(""))).arg(log.path());
        command.arg(installation.program("postgres")).arg("-D").arg(&cluster);
        for (name, value) in settings {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        let supervisor = command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::io("run", Path::new("/bin/sh")))
            .inspect_err(|_| endpoint.clean_up())?;
        Ok(Self { supervisor, cluster, endpoint, log, log_start })
    }

    /// Waits until it takes connections; returns the server's process id.
    pub(super) async fn ready(&mut self) -> Result<i32, Error> {
        let end = Instant::now() + START_DEADLINE;
        loop {
            if self.exited()?.is_some() {
                return Err(Error::DidNotStart {
                    log: self.log.path().to_owned(),
                    tail: self.log.tail(self.log_start),
                });
            }
            if let Some(file) = PidFile::read(&self.cluster)?.filter(PidFile::is_ready)
                && let Some(pid) = file.pid()
            {
                return Ok(pid);
            }
            if Instant::now() >= end {
                return Err(Error::StartTimeout {
                    log: self.log.path().to_owned(),
                    tail: self.log.tail(self.log_start),
                    waited: START_DEADLINE,
                });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Stops it: rolls back what is open, writes a checkpoint, leaves nothing to recover.
    pub(super) async fn stop(mut self) -> Result<(), Error> {
        drop(self.supervisor.stdin.take());
        let end = Instant::now() + STOP_DEADLINE;
        loop {
            if let Some(status) = self.exited()? {
                if !status.success() {
                    tracing::warn!(%status, log = %self.log.path().display(), "PostgreSQL did not stop cleanly");
                }
                return Ok(());
            }
            if Instant::now() >= end {
                return Err(Error::StopTimeout { supervisor: self.supervisor.id(), waited: STOP_DEADLINE });
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    /// Asked again and again instead of waited for: the server may be stopped from another runtime than started it.
    fn exited(&mut self) -> Result<Option<ExitStatus>, Error> {
        let status = self.supervisor.try_wait().map_err(Error::io("wait for", self.log.path()))?;
        if status.is_some() {
            self.endpoint.clean_up();
        }
        Ok(status)
    }
}

impl Drop for Server {
    /// Lets go of the pipe, upon which the supervisor stops the server, and waits for that on a thread, so that none
    /// of them becomes a zombie.
    fn drop(&mut self) {
        drop(self.supervisor.stdin.take());
        if let Ok(None) = self.supervisor.try_wait()
            && let Some(supervisor) = Pid::from_raw(self.supervisor.id().cast_signed())
        {
            let reap = move || waitpid(Some(supervisor), WaitOptions::empty());
            let _ = std::thread::Builder::new().name("postgres-reaper".to_owned()).spawn(reap);
        }
    }
}
