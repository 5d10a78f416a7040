//! Who migrates tenants: a connection, and what its errors mean.

use super::hold::STATEMENT_TIMEOUT;
use crate::{
    connection::{Connection, Login},
    error::is_answer,
};

/// How many tenants a connection migrates before there is a new one. Its backend remembers what it has made, and looks
/// through that at every change of the catalogs.
const CONNECTION_USES: u32 = 200;

/// A connection that migrates, and how often it did.
#[derive(Default)]
pub(super) struct Worker {
    connection: Option<Connection>,
    uses: u32,
}

impl Worker {
    pub(super) async fn run(&mut self, login: &Login, sql: &str) -> Result<(), sqlx::Error> {
        if self.uses >= CONNECTION_USES || self.connection.as_ref().is_some_and(|open| !open.is_usable()) {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                self.uses = 0;
                none.insert(Connection::open(login, STATEMENT_TIMEOUT).await?)
            }
        };
        self.uses += 1;
        connection.batch(sql).await
    }
}

/// Whether the same may go well a moment later: a lock was not to be had in time (also one of the catalogs' own rows,
/// which have no error of their own), transactions met, or the connection broke.
pub(super) fn is_passing(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(answer) => match answer.code().as_deref() {
            Some("55P03" | "40001" | "40P01" | "57P01" | "57P02" | "57P03" | "53300" | "25006") => true,
            Some("XX000") => answer.message() == "tuple concurrently updated",
            _ => false,
        },
        error => !is_answer(error),
    }
}
