//! From a command line to an exit code.

use std::{error::Error, process::ExitCode};

use super::{
    Cli, Command, Global,
    output::{Exit, Output},
    serve,
};
use crate::{clock::Clock, config::Config, telemetry};

/// Why a command failed; its text is for the person who typed it.
pub(super) type Failure = Box<dyn Error>;

/// What every command works with.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) output: Output,
}

/// Runs the command that was typed.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let (global, command) = cli.into_parts();
    let output = Output::new(global.json);
    let result = prepare(global, output).and_then(|context| {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(dispatch(&context, command))
    });
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.failure(error.as_ref());
            Exit::Failed.into()
        }
    }
}

fn prepare(global: Global, output: Output) -> Result<Context, Failure> {
    let mut config = Config::load(global.config.as_deref(), std::env::vars_os())?;
    if let Some(data_dir) = global.data_dir {
        config = config.with_data_dir(data_dir);
    }
    telemetry::init(telemetry::filter(&config.log)?, config.log_format)?;
    Ok(Context { config, clock: Clock::system(), output })
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        Command::Serve => serve::serve(context).await,
        _ => Ok(Exit::Failed),
    }
}
