//! Is the process up, does the database answer?

use std::{future::Future, time::Duration};

use poem_openapi::{OpenApi, payload::Response};

use super::{Json, Problem};

/// A database that needs longer than this to answer a question about nothing does not answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// Knows whether the database answers.
pub trait Readiness: Send + Sync + 'static {
    /// Asks it.
    fn ready(&self) -> impl Future<Output = Result<(), Problem>> + Send;
}

/// Whether a path is one of these: they are answered however much there is to do.
#[must_use]
pub fn is_health(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// The endpoints a supervisor asks.
pub struct HealthApi<R>(pub R);

crate::output! {
    /// How the process is.
    pub struct HealthOut {
        /// `ok`.
        pub status: String,
    }
}

fn ok() -> Response<Json<HealthOut>> {
    // A cached answer would say how it was.
    Response::new(Json(HealthOut { status: "ok".to_owned() })).header("cache-control", "no-store")
}

#[expect(clippy::unused_async, reason = "every operation of `OpenApi` is async")]
#[OpenApi]
impl<R: Readiness> HealthApi<R> {
    /// Is the process alive?
    #[oai(path = "/healthz", method = "get", operation_id = "healthz")]
    async fn alive(&self) -> Response<Json<HealthOut>> {
        ok()
    }

    /// Does the database answer?
    ///
    /// Not ready either is a process that is about to stop.
    #[oai(path = "/readyz", method = "get", operation_id = "readyz")]
    async fn ready(&self) -> Result<Response<Json<HealthOut>>, Problem> {
        match tokio::time::timeout(PATIENCE, self.0.ready()).await {
            Ok(ready) => ready.map(|()| ok()),
            Err(late) => Err(Problem::unavailable(Duration::from_secs(1)).source(late)),
        }
    }
}
