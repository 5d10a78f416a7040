//! The `tenantry` program.

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    tenantry::cli::run(tenantry::cli::Cli::parse())
}
