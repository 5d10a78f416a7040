//! The real binary, a directory for it to work in, and a `serve` that runs beside other commands.

use std::{
    fs::Permissions,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Request, http_client};

/// Where somebody works with the program.
pub(super) struct Workplace {
    directory: TempDir,
    variables: Vec<(&'static str, String)>,
}

impl Workplace {
    pub(super) fn new() -> Self {
        // As root, PostgreSQL runs as another user, who has to be let through.
        let permissions = Permissions::from_mode(0o711);
        let directory = tempfile::Builder::new().prefix("tenantry-test-").permissions(permissions).tempdir();
        Self { directory: directory.unwrap(), variables: Vec::new() }
    }

    /// With a setting that is not the default.
    pub(super) fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.push((variable, value.into()));
        self
    }

    pub(super) fn data_dir(&self) -> PathBuf {
        self.directory.path().join(".tenantry")
    }

    /// A file beside the data directory, where commands are run.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn command(&self, line: &str) -> Command {
        let mut command = self.command_of(env!("CARGO_BIN_EXE_tenantry"));
        command.args(line.split_whitespace());
        command
    }

    fn command_of(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.directory.path());
        // What is set where the tests run is none of theirs.
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("TENANTRY_")) {
            command.env_remove(name);
        }
        command
            .env("TENANTRY_LISTEN", "127.0.0.1:0")
            .envs(self.variables.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(super) fn run(&self, line: &str) -> Ended {
        self.run_with(line, "")
    }

    /// Runs a command with this on its standard input.
    pub(super) fn run_with(&self, line: &str, input: &str) -> Ended {
        Ended::of(self.command(line), input)
    }

    /// Runs a script of a shell that ends at the first command that fails.
    pub(super) fn run_script(&self, script: &str) -> Ended {
        let mut command = self.command_of("bash");
        command.args(["-euo", "pipefail", "-c", script]);
        Ended::of(command, "")
    }

    /// Starts a command, and nobody takes what it says.
    pub(super) fn start(&self, line: &str) -> Child {
        self.start_with(Stdio::null(), line)
    }

    /// Starts a command whose answer goes there, and nobody takes what else it says.
    pub(super) fn start_with(&self, stdout: Stdio, line: &str) -> Child {
        let mut command = self.command(line);
        command.stdin(Stdio::null()).stdout(stdout).stderr(Stdio::null());
        command.spawn().unwrap()
    }

    /// Starts `serve` and waits until it is ready.
    pub(super) fn serve(&self) -> Serve {
        self.serve_with_log().0
    }

    /// As [`serve`](Self::serve), with the lines of its log, to its end.
    pub(super) fn serve_with_log(&self) -> (Serve, impl Iterator<Item = String> + use<>) {
        // Its log goes on, and somebody has to take it.
        let (serve, stderr) = self.serve_unread();
        let (sender, log) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            // Whether anybody wants to know or not.
            stderr.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        (serve, log.into_iter())
    }

    /// As [`serve`](Self::serve), with its log, which nobody takes.
    pub(super) fn serve_unread(&self) -> (Serve, BufReader<ChildStderr>) {
        let mut child = self.command("serve --json").spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let mut answer = String::new();
        while !answer.ends_with('}') {
            let Some(line) = lines.next() else {
                let mut stderr = String::new();
                child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
                panic!("serve did not start: {stderr}");
            };
            answer.push_str(&line);
        }
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let answer: Value = serde_json::from_str(&answer).unwrap();
        rustls::crypto::ring::default_provider().install_default().ok();
        let address = answer["listen"].as_str().unwrap().parse().unwrap();
        (Serve { child, address, started: answer, client: http_client() }, stderr)
    }
}

/// What a command left.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) code: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Ended {
    fn of(mut command: Command, input: &str) -> Self {
        let mut child = command.spawn().unwrap();
        // Those that need nothing close it unread.
        child.stdin.take().unwrap().write_all(input.as_bytes()).ok();
        let output = child.wait_with_output().unwrap();
        Self {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// What it printed, which has to be all.
    pub(super) fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// What it printed for a program.
    pub(super) fn json(self) -> Value {
        serde_json::from_str(&self.ok()).unwrap()
    }

    /// Why it failed.
    pub(super) fn failure(self, code: i32) -> String {
        assert_eq!((self.code, self.stdout.as_str()), (code, ""), "{}", self.stderr);
        self.stderr
    }
}

/// A running `serve`.
pub(super) struct Serve {
    child: Child,
    address: SocketAddr,
    started: Value,
    client: reqwest::Client,
}

impl Serve {
    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said when it was ready.
    pub(super) fn started(&self) -> &Value {
        &self.started
    }

    pub(super) fn port(&self) -> u16 {
        self.address.port()
    }

    /// A request to the host of a tenant.
    pub(super) fn request(&self, slug: &str, method: &str, path: &str) -> Request {
        let host = format!("{slug}.localhost:{}", self.address.port());
        Request::new(&self.client, self.address, method, path).host(&host)
    }

    /// A request to the service itself.
    pub(super) fn service(&self, method: &str, path: &str) -> Request {
        Request::new(&self.client, self.address, method, path)
    }

    /// Ends it without a chance to tidy up.
    pub(super) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Sends it a signal: `TERM`, `HUP`.
    pub(super) fn signal(&self, name: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().unwrap().success());
    }

    /// Waits until it has ended. Returns its exit code.
    pub(super) fn ended(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Stops it as an operating system does, and waits until it has. Returns its exit code.
    pub(super) fn terminate(self) -> Option<i32> {
        self.signal("TERM");
        self.ended()
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        // Of one that has ended there is nothing left to kill; PostgreSQL stops with it.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
