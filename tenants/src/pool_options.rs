//! How pools behave.

use std::time::Duration;

use crate::connection::ANSWER;

/// How a pool behaves.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    /// The most connections it opens. They are opened when needed.
    pub size: usize,
    /// How long a checkout waits for a connection before the caller is told that the service is busy.
    pub wait: Duration,
    /// How long opening a connection may take.
    pub connect: Duration,
    /// How long it takes at most until an answer is here, beside the work that the server has with it: then the connection
    /// is closed, and the caller is told that the service is not available.
    pub answer: Duration,
    /// The age at which a connection is closed instead of used again: a backend's memory grows with every schema it
    /// has seen. Each connection gets up to a quarter less, so that they do not all close at once.
    pub max_age: Duration,
    /// After how many checkouts a connection is closed instead of used again; `None`: only by age.
    pub max_uses: Option<u32>,
}

impl Default for PoolOptions {
    fn default() -> Self {
        Self {
            size: 4,
            wait: Duration::from_secs(5),
            connect: Duration::from_secs(5),
            answer: ANSWER,
            max_age: Duration::from_mins(30),
            max_uses: None,
        }
    }
}
