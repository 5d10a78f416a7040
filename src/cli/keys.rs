//! `tenantry keys …`

use std::fmt;

use chrono::{DateTime, Utc};

use super::{
    Keys, KeysRotate, master_key,
    output::{Exit, Table},
    run::{Context, Failure},
};
use crate::{
    audit::Actor,
    auth::{KeySummary, Rotation, Start},
    operators,
};

pub(super) async fn keys(context: &Context, command: Keys) -> Result<Exit, Failure> {
    match command {
        Keys::Rotate(arguments) => rotate(context, arguments).await,
        Keys::List => list(context).await,
        Keys::RotateMaster(arguments) => master_key::rotate(context, arguments).await,
    }
}

async fn rotate(context: &Context, arguments: KeysRotate) -> Result<Exit, Failure> {
    let start = if arguments.now { Start::Now } else { Start::WhenPublished };
    let app = context.open_app().await?;
    let rotation = operators::rotate_keys(&app, start, &Actor::command_line()).await;
    let rotation = app.finish(rotation).await?;
    context.output.answer(&rotation, |rotation| Rotated { rotation, start }.to_string())?;
    Ok(Exit::Ok)
}

/// What was done, for people.
struct Rotated<'a> {
    rotation: &'a Rotation,
    start: Start,
}

impl fmt::Display for Rotated<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rotation { key: KeySummary { kid, signs_from, .. }, is_new } = self.rotation;
        let made = if *is_new { "Made" } else { "A rotation is under way already, with" };
        match self.start {
            Start::Now => write!(f, "{made} the key {kid}, which signs from now on."),
            Start::WhenPublished => write!(
                f,
                "{made} the key {kid}.\nIt is published now and signs from {}, when nobody has older keys any more.",
                minute(*signs_from)
            ),
        }?;
        write!(f, "\nThe key before it verifies until its tokens have expired.")
    }
}

async fn list(context: &Context) -> Result<Exit, Failure> {
    let app = context.open_app().await?;
    let keys = app.tokens.keys().await;
    let keys = app.finish(keys).await?;
    context.output.list(&keys, |keys| {
        let headings = ["KEY", "STATE", "CREATED", "SIGNS FROM", "VERIFIES UNTIL"];
        keys.iter().fold(Table::new(&headings, "No keys."), |table, key| {
            table.row([
                key.kid.clone(),
                key.state.as_str().to_owned(),
                minute(key.created_at),
                minute(key.signs_from),
                key.verifies_until.map_or_else(|| "-".to_owned(), minute),
            ])
        })
    })?;
    Ok(Exit::Ok)
}

fn minute(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M UTC").to_string()
}
