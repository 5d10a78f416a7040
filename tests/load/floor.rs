//! The floor: what PostgreSQL needs for the same statements, without a service and without tenants.

use std::{path::PathBuf, process::Stdio};

use secrecy::ExposeSecret as _;
use sqlx::postgres::PgConnectOptions;
use tempfile::NamedTempFile;
use tenants::SchemaName;
use tokio::process::Command;
use url::Url;

use crate::{
    Failure,
    database::{Database, Statement},
    seed::Target,
};

/// PostgreSQL's own load generator.
pub(crate) struct PgBench {
    program: PathBuf,
    environment: Vec<(&'static str, String)>,
}

/// The statements of one endpoint, as a script.
pub(crate) struct Script {
    file: NamedTempFile,
    variables: Vec<String>,
}

impl PgBench {
    /// The one that came with the server, if it did. Its connections see this tenant's schema, as the superuser: not
    /// even the rights have to be looked up.
    pub(crate) fn find(
        database: &Database,
        postmaster: u32,
        target: &Target,
    ) -> Result<Option<Self>, Failure> {
        let program = std::fs::read_link(format!("/proc/{postmaster}/exe"))?.with_file_name("pgbench");
        if !program.is_file() {
            return Ok(None);
        }
        let url = database.url().expose_secret();
        let password = Url::parse(url)?.password().unwrap_or_default().to_owned();
        let options: PgConnectOptions = url.parse()?;
        let host = match options.get_socket() {
            Some(directory) => directory.display().to_string(),
            None => options.get_host().to_owned(),
        };
        let environment = vec![
            ("PGHOST", host),
            ("PGPORT", options.get_port().to_string()),
            ("PGUSER", options.get_username().to_owned()),
            ("PGPASSWORD", password),
            ("PGDATABASE", options.get_database().unwrap_or_default().to_owned()),
            ("PGSSLMODE", "disable".to_owned()),
            ("PGOPTIONS", format!("-c search_path={}", SchemaName::of(target.id))),
        ];
        Ok(Some(Self { program, environment }))
    }

    /// Runs a script for so long; returns how often.
    pub(crate) async fn run(&self, script: &Script, connections: u32, seconds: u32) -> Result<u32, Failure> {
        let mut command = Command::new(&self.program);
        command.args(["-n", "-M", "prepared", "-j", "2"]);
        command
            .args(["-c", &connections.to_string(), "-T", &seconds.to_string()])
            .arg("-f")
            .arg(script.file.path());
        for variable in &script.variables {
            command.args(["-D", variable]);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let output = command.stdin(Stdio::null()).kill_on_drop(true).output().await?;
        let text = String::from_utf8_lossy(&output.stdout);
        let processed = text
            .lines()
            .find_map(|line| line.strip_prefix("number of transactions actually processed: "))
            .and_then(|count| count.trim().parse().ok());
        match processed {
            Some(processed) if output.status.success() && processed > 0 => Ok(processed),
            _ => Err(format!("pgbench failed: {}", String::from_utf8_lossy(&output.stderr)).into()),
        }
    }
}

impl Script {
    pub(crate) fn new(statements: &[Statement]) -> Result<Self, Failure> {
        let mut script = String::new();
        let mut variables = Vec::new();
        for (number, Statement { sql, values }) in statements.iter().enumerate() {
            let mut sql = sql.clone();
            // Backwards: $1 is the beginning of $10.
            for (parameter, value) in values.iter().rev() {
                let name = format!("s{number}_{parameter}");
                sql = sql.replace(&format!("${parameter}"), &format!(":{name}"));
                variables.push(format!("{name}={value}"));
            }
            script.push_str(&sql);
            script.push_str(";\n");
        }
        let file = NamedTempFile::with_prefix("tenantry-load-")?;
        std::fs::write(file.path(), script)?;
        Ok(Self { file, variables })
    }
}
