//! The scripts of `deploy/postgresql/`, run by psql as their first lines say.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{Executor as _, Row as _};

use super::superuser_of;

/// Runs a script with these arguments. Whoever is asked for a password answers with this one.
pub(crate) async fn psql_with(
    superuser: &SecretString,
    url: &SecretString,
    arguments: &[&str],
    script: &str,
    password: &str,
) -> Output {
    let mut connection = superuser_of(superuser).await;
    let programs = "SELECT setting FROM pg_config WHERE name = 'BINDIR'";
    let programs: String = connection.fetch_one(programs).await.unwrap().get(0);
    // Without a terminal, whether the tests have one or not: then psql reads from its standard input.
    let mut command = Command::new("setsid");
    command.arg("--wait").arg(Path::new(&programs).join("psql"));
    command.args(["-X", "--quiet", url.expose_secret()]).args(arguments).arg("--file");
    command.arg(format!("{}/deploy/postgresql/{script}", env!("CARGO_MANIFEST_DIR")));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // Those that ask for nothing close it unread.
    child.stdin.take().unwrap().write_all(format!("{password}\n{password}\n").as_bytes()).ok();
    child.wait_with_output().unwrap()
}

/// Runs a script that has to succeed, and nothing may be said against it.
pub(crate) async fn psql(superuser: &SecretString, url: &SecretString, script: &str, password: &str) {
    assert_quiet(&psql_with(superuser, url, &[], script, password).await, script);
}

/// That a script succeeded and said nothing but what it asks for.
pub(crate) fn assert_quiet(output: &Output, script: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    let asks =
        |line: &&str| line.starts_with("Enter new password for user") || line.starts_with("Enter it again");
    let said: Vec<&str> = said.lines().filter(|line| !line.is_empty() && !asks(line)).collect();
    assert_eq!(said, [""; 0], "{script}");
    assert!(output.status.success(), "{script}");
}
