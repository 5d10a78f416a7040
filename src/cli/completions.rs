//! `tenantry completions`

use std::io::Write as _;

use clap::{Args, CommandFactory as _};
use clap_complete::Shell;

use super::{Cli, output::Exit, run::Failure};

/// The arguments of `completions`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry completions bash > /etc/bash_completion.d/tenantry
  tenantry completions zsh > \"${fpath[1]}/_tenantry\"
  tenantry completions fish > ~/.config/fish/completions/tenantry.fish")]
pub struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub shell: Shell,
}

pub(super) fn completions(arguments: Completions) -> Result<Exit, Failure> {
    // Written whole: whoever reads the first lines only, as `head` does, ends the pipe.
    let mut script = Vec::new();
    clap_complete::generate(arguments.shell, &mut Cli::command(), "tenantry", &mut script);
    match std::io::stdout().write_all(&script) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(Exit::Ok),
    }
}
