//! PostgreSQL from outside: whose backends there are, and what a request makes it run.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{Read as _, Seek as _, SeekFrom},
    path::PathBuf,
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Connection as _, PgConnection};

use crate::Failure;

/// So often a request is watched until it was seen twice to run the same statements: the first time, connections may
/// not know yet that they are to log.
const MOST_TRIES: u32 = 20;

/// A statement as PostgreSQL was sent it, and the values of its parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) sql: String,
    /// By their number in the statement.
    pub(crate) values: BTreeMap<u32, String>,
}

/// The superuser's look at the database of the service.
pub(crate) struct Database {
    url: SecretString,
    connection: PgConnection,
    log: PathBuf,
    /// The process of this connection.
    pub(crate) backend: u32,
}

impl Database {
    pub(crate) async fn open(url: SecretString) -> Result<Self, Failure> {
        let mut connection = connect(&url).await?;
        let backend: i32 = sqlx::query_scalar("SELECT pg_backend_pid()").fetch_one(&mut connection).await?;
        let directory: String =
            sqlx::query_scalar("SELECT current_setting('data_directory')").fetch_one(&mut connection).await?;
        let log = PathBuf::from(directory).join("postgresql.log");
        Ok(Self { url, connection, log, backend: u32::try_from(backend)? })
    }

    pub(crate) fn url(&self) -> &SecretString {
        &self.url
    }

    /// The processes of the connections that serve tenants.
    pub(crate) async fn lane_backends(&mut self) -> Result<Vec<u32>, Failure> {
        let sql = r"SELECT pid FROM pg_stat_activity WHERE usename LIKE 'tenantry\_%\_lane\_%'";
        let backends: Vec<i32> = sqlx::query_scalar(sql).fetch_all(&mut self.connection).await?;
        Ok(backends.into_iter().map(u32::try_from).collect::<Result<_, _>>()?)
    }

    /// The statements that `request` makes the lanes run, but for those that bind a connection.
    pub(crate) async fn statements_of(
        &mut self,
        mut request: impl AsyncFnMut() -> Result<(), Failure>,
    ) -> Result<Vec<Statement>, Failure> {
        self.log_statements("all").await?;
        let mut before = Vec::new();
        for _ in 0..MOST_TRIES {
            let start = self.log.metadata()?.len();
            request().await?;
            let statements = self.logged_since(start)?;
            if !statements.is_empty() && statements.iter().map(sql).eq(before.iter().map(sql)) {
                self.log_statements("none").await?;
                return Ok(statements);
            }
            before = statements;
        }
        Err("PostgreSQL's log does not tell which statements it ran".into())
    }

    /// Says what is logged, and waits until new connections do so.
    async fn log_statements(&mut self, which: &str) -> Result<(), Failure> {
        let sql = match which {
            "all" => "ALTER SYSTEM SET log_statement = 'all'",
            _ => "ALTER SYSTEM RESET log_statement",
        };
        sqlx::raw_sql(sql).execute(&mut self.connection).await?;
        sqlx::raw_sql("SELECT pg_reload_conf()").execute(&mut self.connection).await?;
        for _ in 0..MOST_TRIES {
            let mut other = connect(&self.url).await?;
            let setting: String =
                sqlx::query_scalar("SELECT current_setting('log_statement')").fetch_one(&mut other).await?;
            other.close().await?;
            if setting == which {
                return Ok(());
            }
        }
        Err("PostgreSQL does not take a setting".into())
    }

    fn logged_since(&self, start: u64) -> Result<Vec<Statement>, Failure> {
        let mut file = File::open(&self.log)?;
        file.seek(SeekFrom::Start(start))?;
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        let mut lines = text.lines().filter(|line| line.contains("_lane_")).peekable();
        let mut statements = Vec::new();
        while let Some(line) = lines.next() {
            let Some((_, executed)) = line.split_once(" LOG:  execute ") else { continue };
            let (_name, sql) = executed.split_once(": ").ok_or("a statement has no name in the log")?;
            let values = lines.next_if(|line| line.contains(" DETAIL:  "));
            let values = match values.and_then(|line| line.split_once("arameters: ")) {
                Some((_, values)) => parse_values(values).ok_or_else(|| format!("no values: {values}"))?,
                None => BTreeMap::new(),
            };
            statements.push(Statement { sql: sql.to_owned(), values });
        }
        Ok(statements)
    }
}

fn sql(statement: &Statement) -> &str {
    &statement.sql
}

/// `$1 = 'it''s', $2 = '2'`. A NULL is nothing that pgbench could send, and nothing that the reads here have.
fn parse_values(mut text: &str) -> Option<BTreeMap<u32, String>> {
    let mut values = BTreeMap::new();
    while !text.is_empty() {
        let (number, rest) = text.strip_prefix('$')?.split_once(" = '")?;
        let mut value = String::new();
        let mut rest = rest;
        loop {
            let (part, behind) = rest.split_once('\'')?;
            value.push_str(part);
            // Doubled, it is a quote in the value; alone, the value's end.
            if let Some(behind) = behind.strip_prefix('\'') {
                value.push('\'');
                rest = behind;
            } else {
                text = behind.strip_prefix(", ").unwrap_or(behind);
                break;
            }
        }
        values.insert(number.parse().ok()?, value);
    }
    Some(values)
}

/// For what is set up as an operator does.
#[expect(clippy::expect_used, reason = "there is nothing to measure without it")]
pub(crate) async fn superuser_of(url: &SecretString) -> PgConnection {
    connect(url).await.expect("the superuser can connect")
}

#[expect(clippy::disallowed_methods, reason = "the database is looked at from outside")]
async fn connect(url: &SecretString) -> Result<PgConnection, Failure> {
    Ok(PgConnection::connect(url.expose_secret()).await?)
}
