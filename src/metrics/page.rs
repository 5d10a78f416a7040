//! The page on which Prometheus reads.

use poem::{
    Endpoint, Request, Response,
    http::{
        Method,
        header::{CACHE_CONTROL, CONTENT_TYPE},
    },
};

use super::exposition;
use crate::{
    http::{Access, Problem, Routes, routes::RouteError},
    state::App,
};

/// Where it is, on the listeners that have it.
pub const PATH: &str = "/metrics";
/// The text format of `OpenMetrics`, version 1.0.0.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

struct Page(App);

impl Endpoint for Page {
    type Output = Response;

    async fn call(&self, _: Request) -> poem::Result<Response> {
        let backlog = self.0.metrics().catalog.backlog(&self.0).await;
        let text = exposition::page(&self.0, backlog).map_err(Problem::internal)?;
        let response =
            Response::builder().header(CONTENT_TYPE, OPEN_METRICS).header(CACHE_CONTROL, "no-store");
        Ok(response.body(text))
    }
}

/// Adds the page. Only listeners for operators and for who watches show it.
///
/// # Errors
/// The path is taken: a defect.
pub fn mount(routes: Routes, app: &App) -> Result<Routes, RouteError> {
    routes.mount(PATH, &[Method::GET], Access::PUBLIC, Page(app.clone()))
}
