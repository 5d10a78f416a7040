//! `tenantry openapi` and `tenantry routes`: what the API is, without a database.

use serde::Serialize;

use super::{
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::app;

pub(super) fn openapi(context: &Context) -> Result<Exit, Failure> {
    context.output.text(&String::from_utf8(app::document().to_json()?)?)?;
    Ok(Exit::Ok)
}

/// One operation.
#[derive(Serialize)]
struct Row {
    method: String,
    path: String,
    tenant: bool,
    credentials: bool,
    /// None for the pages beside the API.
    operation_id: Option<&'static str>,
}

pub(super) fn routes(context: &Context) -> Result<Exit, Failure> {
    let document = app::document();
    let operation_id = |path: &str, method: &_| {
        let path = document.paths().iter().find(|known| known.path == path)?;
        path.operations.iter().find(|operation| operation.method == *method)?.operation_id
    };
    let routes = app::routes()?;
    let rows: Vec<Row> = routes
        .all()
        .iter()
        .flat_map(|route| route.operations().iter().map(move |operation| (route.template(), operation)))
        .map(|(path, (method, access))| Row {
            operation_id: operation_id(path, method),
            method: method.to_string(),
            path: path.to_string(),
            tenant: access.tenant,
            credentials: access.credentials,
        })
        .collect();
    context.output.list(&rows, |rows| {
        let headings = ["METHOD", "PATH", "TENANT", "CREDENTIALS", "OPERATION"];
        let yes = |it: bool| if it { "yes" } else { "-" };
        rows.iter().fold(Table::new(&headings, "No routes."), |table, row| {
            let operation = row.operation_id.unwrap_or("-");
            table.row([&row.method, &row.path, yes(row.tenant), yes(row.credentials), operation])
        })
    })?;
    Ok(Exit::Ok)
}
