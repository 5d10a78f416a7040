//! The service under load: the real binary, on a PostgreSQL and in a directory of its own.

use std::{
    fs::Permissions,
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
};

use crate::Failure;

/// How long it gets to stop, PostgreSQL included, before it is killed.
const STOP_DEADLINE: Duration = Duration::from_mins(1);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A running server. It and its directory are gone when this has been dropped.
pub(crate) struct Service {
    child: Child,
    /// What it said when it was ready.
    pub(crate) started: Value,
    pub(crate) url: String,
    pub(crate) address: SocketAddr,
    pub(crate) pid: u32,
    directory: TempDir,
}

impl Service {
    pub(crate) async fn start() -> Result<Self, Failure> {
        Self::start_with_limits(false).await
    }

    /// One that refuses what happens too often, or does not.
    pub(crate) async fn start_with_limits(limits: bool) -> Result<Self, Failure> {
        Self::start_with(limits, &[]).await
    }

    /// One with these settings beside.
    pub(crate) async fn start_with(limits: bool, settings: &[(&str, String)]) -> Result<Self, Failure> {
        // As root, PostgreSQL runs as another user, who has to be let through.
        let permissions = Permissions::from_mode(0o711);
        let directory =
            tempfile::Builder::new().prefix("tenantry-load-").permissions(permissions).tempdir()?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_tenantry"));
        command.args(["serve", "--json"]).current_dir(directory.path());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("TENANTRY_") {
                command.env_remove(name);
            }
        }
        command
            .env("TENANTRY_LISTEN", "127.0.0.1:0")
            .env("TENANTRY_DATA_DIR", data_dir(directory.path()))
            .env("TENANTRY_LOG", "warn")
            .env("TENANTRY_RATE_LIMITS", if limits { "on" } else { "off" })
            .env("TENANTRY_SHUTDOWN_TIMEOUT", "1s")
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let child = command.spawn()?;
        let pid = child.id().ok_or("the server ended at once")?;
        // Complete before anything can fail, so that it is stopped if something does.
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut service = Self { child, started: Value::Null, url: String::new(), address, pid, directory };
        service.wait_until_ready().await?;
        Ok(service)
    }

    async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let stdout = self.child.stdout.take().ok_or("the server has no output")?;
        let mut lines = BufReader::new(stdout).lines();
        let mut answer = String::new();
        while !answer.ends_with('}') {
            answer.push_str(&lines.next_line().await?.ok_or("the server did not start")?);
        }
        self.started = serde_json::from_str(&answer)?;
        let url = self.started["url"].as_str().ok_or("the server did not say where it is")?;
        self.address =
            self.started["listen"].as_str().ok_or("the server did not say where it listens")?.parse()?;
        url.clone_into(&mut self.url);
        Ok(())
    }

    pub(crate) fn data_dir(&self) -> PathBuf {
        data_dir(self.directory.path())
    }
}

fn data_dir(directory: &Path) -> PathBuf {
    directory.join("data")
}

impl Drop for Service {
    /// Stops it as an operating system does, and waits until it has: PostgreSQL stops with it, and only then the
    /// directory can go.
    fn drop(&mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            // It may have ended already.
            let _ = kill_process(pid, Signal::TERM);
        }
        let end = Instant::now() + STOP_DEADLINE;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() >= end {
                let _ = self.child.start_kill();
            }
            std::thread::sleep(POLL_INTERVAL);
        }
    }
}
