//! From a command line to an exit code.

use std::{error::Error, process::ExitCode, time::Duration};

use tenants::{SecretKey, Tenancy};

use super::{
    Cli, Command, Global, api, api_key, archive,
    arguments::WrongArguments,
    audit, completions, doctor, export_schedule, health, jobs, keys, limits, migrate, operation, operator,
    output::{Exit, Output},
    serve, tenant, usage,
};
use crate::{
    backend::{Backend, Use},
    clock::Clock,
    config::Config,
    state::App,
    telemetry::{self, traces::Tracing},
};

/// How long is waited at the end for threads that are at something.
const LAST_THREADS: Duration = Duration::from_secs(1);

/// Why a command failed; its text is for the person who typed it.
pub(super) type Failure = Box<dyn Error>;

/// What every command works with.
pub(super) struct Context {
    pub(super) config: Config,
    pub(super) clock: Clock,
    pub(super) output: Output,
}

impl Context {
    /// The database, which a running `serve` may be using too. To be closed when the command is done with it.
    pub(super) async fn open_backend(&self, usage: Use) -> Result<Backend, Failure> {
        self.config.validate_for_database()?;
        Ok(Backend::open(&self.config, usage).await?)
    }

    /// The installation in it.
    pub(super) async fn open_tenancy(&self) -> Result<Opened<Tenancy>, Failure> {
        let backend = self.open_backend(Use::Shared).await?;
        match backend.tenancy(&self.clock).await {
            Ok(tenancy) => Ok(Opened { inner: tenancy.clone(), tenancy, backend }),
            Err(error) => finish(backend, Err(error)).await,
        }
    }

    /// The service on it, as `serve` has it.
    pub(super) async fn open_app(&self) -> Result<Opened<App>, Failure> {
        self.open_app_for(Use::Shared).await.map(|(app, _)| app)
    }

    /// As [`open_app`](Self::open_app), with the master key that opened it.
    pub(super) async fn open_app_for(&self, usage: Use) -> Result<(Opened<App>, SecretKey), Failure> {
        let backend = self.open_backend(usage).await?;
        let key = backend.settings.master_key.clone();
        match backend.app(&self.config, self.clock.clone()).await {
            Ok(app) => Ok((Opened { tenancy: app.tenancy.clone(), inner: app, backend }, key)),
            Err(error) => finish(backend, Err(error)).await,
        }
    }
}

/// Something that stands on the database while a command works with it.
pub(super) struct Opened<T> {
    inner: T,
    tenancy: Tenancy,
    backend: Backend,
}

impl<T> Opened<T> {
    /// Gives everything back, and passes on what came of the work. The embedded PostgreSQL stops, if it was started for
    /// this command.
    pub(super) async fn finish<R, E: Into<Failure>>(self, result: Result<R, E>) -> Result<R, Failure> {
        self.tenancy.close();
        finish(self.backend, result).await
    }
}

/// Closes the database. Where the work failed too, that is what is told: it came first.
pub(super) async fn finish<R, E: Into<Failure>>(
    backend: Backend,
    result: Result<R, E>,
) -> Result<R, Failure> {
    let closed = backend.close().await;
    let value = result.map_err(Into::into)?;
    closed?;
    Ok(value)
}

impl<T> std::ops::Deref for Opened<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.inner
    }
}

/// Runs the command that was typed.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let (global, command) = cli.into_parts();
    let output = Output::new(global.json);
    let serves = matches!(command, Command::Serve);
    let result = started(global, output, command);
    match result {
        Ok(exit) => exit.into(),
        Err(error) => {
            output.failure(error.as_ref(), serves);
            if error.is::<WrongArguments>() { Exit::Usage.into() } else { Exit::Failed.into() }
        }
    }
}

fn started(global: Global, output: Output, command: Command) -> Result<Exit, Failure> {
    let mut config = Config::load(global.config.as_deref(), std::env::vars_os())?;
    if let Some(data_dir) = global.data_dir {
        config = config.with_data_dir(data_dir);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    // Who types a command sees its answer; log and traces are for what runs unattended.
    let serves = matches!(command, Command::Serve);
    let log = if serves { &config.log } else { config.log_or("warn") };
    let traces = config.traces.as_ref().filter(|_| serves);
    let traces = traces.map(|traces| Tracing::start(traces, runtime.handle().clone())).transpose()?;
    let filter = telemetry::filter(log, traces.is_some())?;
    // Dropped at the very end, before it is said why there was one.
    let _log = telemetry::init(filter, config.log_format, traces.as_ref(), serves)?;
    let context = Context { config, clock: Clock::system(), output };
    let exit = runtime.block_on(dispatch(&context, command));
    if let Some(traces) = traces {
        traces.end();
    }
    // Threads that read a file or look a name up cannot be cut off, and what they wait for may never come. Nobody is left to
    // take what they find.
    runtime.shutdown_timeout(LAST_THREADS);
    exit
}

async fn dispatch(context: &Context, command: Command) -> Result<Exit, Failure> {
    match command {
        // Their futures are large.
        Command::Serve => Box::pin(serve::serve(context)).await,
        Command::Migrate(arguments) => migrate::migrate(context, arguments).await,
        Command::Migrations(command) => migrate::migrations(context, command).await,
        Command::Tenant(command) => Box::pin(tenant::tenant(context, command)).await,
        Command::Operator(command) => operator::operator(context, command).await,
        Command::ApiKey(command) => api_key::api_key(context, command).await,
        Command::Plan(command) => limits::plan(context, command).await,
        Command::Usage(arguments) => usage::of_day(context, &arguments).await,
        Command::Audit(arguments) => audit::audit(context, arguments).await,
        Command::Keys(command) => keys::keys(context, command).await,
        Command::Jobs(command) => jobs::jobs(context, command).await,
        Command::Operation(command) => operation::operation(context, command).await,
        Command::Archive(command) => archive::archive(context, command).await,
        Command::ExportSchedule(command) => export_schedule::export_schedule(context, command).await,
        Command::Openapi => api::openapi(context),
        Command::Routes => api::routes(context),
        Command::Completions(arguments) => completions::completions(arguments),
        Command::Doctor(arguments) => doctor::doctor(context, arguments).await,
        Command::Health(arguments) => health::health(context, arguments).await,
    }
}
