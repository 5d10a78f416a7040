//! How other commands find the cluster one of our processes runs.

use super::binaries::Version;
use super::endpoint::Endpoint;
use super::error::Error;
use super::files;
use super::home::Home;
use super::postmaster::is_alive;
use serde::{Deserialize, Serialize};

/// What the connection file holds while the cluster is up. The password is in a file of its own.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Connection {
    /// The process that runs the cluster.
    holder: i32,
    /// PostgreSQL's.
    postmaster: i32,
    pub(super) version: Version,
    pub(super) endpoint: Endpoint,
}

impl Connection {
    pub(super) fn new(endpoint: Endpoint, version: Version, postmaster: i32) -> Self {
        Self { holder: std::process::id().cast_signed(), postmaster, version, endpoint }
    }

    /// One that cannot be read, from another version of ours, is as good as none.
    pub(super) fn read(home: &Home) -> Result<Option<Self>, Error> {
        let contents = files::read_if_present(&home.connection_file())?;
        Ok(contents.and_then(|contents| serde_json::from_str(&contents).ok()))
    }

    /// Reads it and removes it.
    pub(super) fn take(home: &Home) -> Result<Option<Self>, Error> {
        let connection = Self::read(home)?;
        files::remove_if_present(&home.connection_file())?;
        Ok(connection)
    }

    pub(super) fn write(&self, home: &Home) -> Result<(), Error> {
        let path = home.connection_file();
        let contents = serde_json::to_string(self).map_err(Error::io("write", &path))?;
        home.write(&path, &contents)
    }

    /// Whether it is of the process that holds the lock, and not what one that was killed left behind, which its
    /// successor is about to remove.
    pub(super) fn is_up(&self, holder: Option<i32>) -> bool {
        holder == Some(self.holder) && is_alive(self.holder) && is_alive(self.postmaster)
    }
}
