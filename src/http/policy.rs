//! What a request may cost, and whom to believe.

use std::{future::Future, time::Duration};

use poem::Response;

use super::{
    Hsts, Origins, Problem, TrustedProxies,
    body::{BODY_BYTES, BODY_DEADLINE},
};

/// What a request may cost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// How long a body may be.
    pub body_bytes: usize,
    /// How long it may take to arrive.
    pub body_deadline: Duration,
}

/// How long an answer may take, where nobody has said otherwise: three statements that take as long as they may.
const DEADLINE: Duration = Duration::from_secs(30);

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes: BODY_BYTES, body_deadline: BODY_DEADLINE }
    }
}

/// What the operator says about who calls, and how they are answered.
#[derive(Clone, Debug)]
pub struct Policy {
    /// The proxies whose word on the client's address counts.
    pub proxies: TrustedProxies,
    /// The origins whose pages may call.
    pub origins: Origins,
    /// Whether browsers are told to use TLS.
    pub hsts: Hsts,
    /// How long an answer may take until its body begins.
    pub deadline: Duration,
}

impl Default for Policy {
    /// Nobody is believed.
    fn default() -> Self {
        let (proxies, origins, hsts) = <(TrustedProxies, Origins, Hsts)>::default();
        Self { proxies, origins, hsts, deadline: DEADLINE }
    }
}

/// What comes of an answer within its deadline. What it was at is dropped, as when the client hangs up: no transaction goes
/// on behind it.
pub(super) async fn in_time(
    deadline: Option<Duration>,
    answer: impl Future<Output = Result<Response, Problem>>,
) -> Result<Response, Problem> {
    let Some(deadline) = deadline else { return answer.await };
    let late = |late| Err(Problem::unavailable(Duration::from_secs(1)).source(late));
    tokio::time::timeout(deadline, answer).await.unwrap_or_else(late)
}
