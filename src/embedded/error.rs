//! What can keep the embedded PostgreSQL from running, in sentences a person can act on.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why the embedded PostgreSQL could not be started, attached to or stopped.
///
/// The messages carry their cause, so there is no chain of sources to print behind them.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither installed nor to be had from the network.
    #[error(
        "no PostgreSQL {minimum} or newer is installed, and downloading it failed ({reason}): install it (Debian, \
         Ubuntu: `apt install postgresql`; Fedora: `dnf install postgresql-server`; Alpine: `apk add postgresql`; \
         macOS: `brew install postgresql`) or name a running server in TENANTRY_DATABASE_URL",
        minimum = super::binaries::OLDEST_MAJOR
    )]
    NoPostgres {
        /// What the download ended with.
        reason: String,
    },

    /// The cluster needs another major version than those at hand.
    #[error(
        "the database in {} was made by PostgreSQL {made_by}, but only PostgreSQL {} is installed here; nothing was \
         changed. Install PostgreSQL {made_by}, or move the data with pg_upgrade or pg_dump and psql, or choose \
         another data directory with TENANTRY_DATA_DIR",
        cluster.display(),
        installed.join(", ")
    )]
    OtherMajor {
        /// The cluster's directory.
        cluster: PathBuf,
        /// The major version its `PG_VERSION` names.
        made_by: String,
        /// The versions found on this machine.
        installed: Vec<String>,
    },

    /// Another process runs the cluster of this data directory.
    #[error(
        "the data directory {} is in use by {}: stop that process first, or choose another data directory with \
         TENANTRY_DATA_DIR",
        data_dir.display(),
        describe_holder(*holder)
    )]
    InUse {
        /// The data directory asked for.
        data_dir: PathBuf,
        /// The process that holds it, unless it has not told yet.
        holder: Option<i32>,
    },

    /// The process that runs the cluster did not get it ready in time.
    #[error(
        "{} is starting the database in {}, but it was not ready after {} s: look at what that process says",
        describe_holder(*holder),
        data_dir.display(),
        waited.as_secs()
    )]
    AttachTimeout {
        /// The data directory asked for.
        data_dir: PathBuf,
        /// The process that holds it.
        holder: Option<i32>,
        /// How long it was given.
        waited: Duration,
    },

    /// The files belong to somebody else.
    #[error(
        "{} belongs to user {owner}, and PostgreSQL runs only as the owner of its files: run this as that user or as \
         root, or choose another data directory with TENANTRY_DATA_DIR",
        path.display()
    )]
    NotOwner {
        /// What belongs to somebody else.
        path: PathBuf,
        /// The owner's numeric id.
        owner: u32,
    },

    /// Started as root, and there is no account to run PostgreSQL as.
    #[error(
        "PostgreSQL refuses to run as root, and this machine has neither a user `postgres` nor a user `nobody` to run \
         it as: add one, or run this as an ordinary user"
    )]
    NoUnprivilegedUser,

    /// Started as root, and the account PostgreSQL runs as cannot get at a cluster that exists already.
    #[error(
        "user {user}, as whom PostgreSQL runs, cannot reach {}: make every directory above it searchable for that \
         user (`chmod o+x`)",
        cluster.display()
    )]
    Unreachable {
        /// Who cannot.
        user: String,
        /// The cluster's directory.
        cluster: PathBuf,
    },

    /// The pointer file names a directory without a cluster.
    #[error(
        "{} says that the database is in {}, but there is none: bring that directory back, or remove the file to \
         start with an empty database",
        pointer.display(),
        cluster.display()
    )]
    ClusterGone {
        /// The pointer file.
        pointer: PathBuf,
        /// Where the cluster should be.
        cluster: PathBuf,
    },

    /// The superuser's password is lost.
    #[error(
        "the password of the embedded database is not in {}: bring that file back, or choose another data directory \
         with TENANTRY_DATA_DIR",
        file.display()
    )]
    PasswordGone {
        /// Where it should be.
        file: PathBuf,
    },

    /// `initdb` failed.
    #[error("initdb could not create a database cluster:\n{output}")]
    Initdb {
        /// What it printed.
        output: String,
    },

    /// It is gone although nobody has stopped it.
    #[error("the embedded PostgreSQL has ended by itself; its log is {}. Start again: nothing that was committed is lost", log.display())]
    Ended {
        /// The server's log.
        log: PathBuf,
    },

    /// PostgreSQL exited instead of getting ready.
    #[error("PostgreSQL did not start; the end of its log, {}:\n{tail}", log.display())]
    DidNotStart {
        /// PostgreSQL's log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
    },

    /// PostgreSQL neither exited nor got ready.
    #[error(
        "PostgreSQL was not ready after {} s; the end of its log, {}:\n{tail}",
        waited.as_secs(),
        log.display()
    )]
    StartTimeout {
        /// PostgreSQL's log.
        log: PathBuf,
        /// The last lines of it.
        tail: String,
        /// How long it was given.
        waited: Duration,
    },

    /// A server left behind by a process that died will not go away.
    #[error(
        "PostgreSQL still runs as process {pid} on {}, left behind by a process that died, and could not be stopped: \
         end it with `kill -QUIT {pid}`",
        cluster.display()
    )]
    Orphan {
        /// The postmaster's process id.
        pid: i32,
        /// The cluster's directory.
        cluster: PathBuf,
    },

    /// PostgreSQL did not stop.
    #[error("PostgreSQL did not stop within {} s; its supervisor, process {supervisor}, goes on trying", waited.as_secs())]
    StopTimeout {
        /// The supervisor's process id.
        supervisor: u32,
        /// How long it was given.
        waited: Duration,
    },

    /// The operating system refused something.
    #[error("could not {action} {}: {reason}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What it said.
        reason: io::Error,
    },
}

impl Error {
    /// For `map_err`: the action and the path an [`io::Error`] does not know about.
    pub(super) fn io<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        move |reason| Self::Io { action, path: path.to_owned(), reason: reason.into() }
    }
}

fn describe_holder(holder: Option<i32>) -> String {
    holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
