//! `tenantry serve`.

use std::time::Instant;

use futures_util::FutureExt as _;

use super::{
    key_files,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    backend::{Backend, Use},
    cleanup,
    config::{self, Config},
    http::{Face, Origins, Policy, TrustedProxies},
    jobs::Workers,
    mail,
    operations::Runners,
    server::{Server, stop_signal},
    state::App,
    streams::raise_file_limit,
    usage,
};

/// Serves until told to stop.
pub(super) async fn serve(context: &Context) -> Result<Exit, Failure> {
    context.config.validate_for_serve()?;
    // Listened for before anything is started: from here on, a signal ends in an orderly stop.
    let stop = stop_signal()?;
    raise_file_limit();
    let mut server = Server::bind(context.config.listen).await?;
    let mut admin = None;
    if let Some(address) = context.config.admin_listen {
        admin = Some(Server::bind(address).await?.showing(Face::Admin));
        server = server.showing(Face::Public);
    }
    let mut metrics = None;
    if let Some(address) = context.config.metrics_listen {
        metrics = Some(Server::bind(address).await?.showing(Face::Metrics));
    }
    let config = context.config.clone().listening_on(server.address());
    let backend = Backend::open(&config, Use::Exclusive).await?;
    let outcome = serve_on(context, &config, &backend, (server, admin, metrics), stop).await;
    backend.close().await?;
    outcome?;
    Ok(Exit::Ok)
}

async fn serve_on(
    context: &Context,
    config: &Config,
    backend: &Backend,
    (server, admin, metrics): (Server, Option<Server>, Option<Server>),
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    key_files::warn(config);
    let app = backend.app(config, context.clock.clone()).await?;
    app.tenancy.listen();
    app.tenancy.keep_busiest(usize::try_from(config.metrics_tenants).unwrap_or(0));
    let started = Started::of(config, backend, &app, (admin.as_ref(), metrics.as_ref()));
    context.output.answer(&started, ToString::to_string)?;
    let (workers, runners) = (Workers::start(&app), Runners::start(&app));
    let mut ended = None;
    let stop = async {
        tokio::select! {
            () = stop => {}
            error = backend.ended() => ended = Some(error),
            // Goes on until then; a statement that is under way comes to its end.
            () = cleanup::forever(&app) => {}
            () = usage::forever(&app) => {}
        }
        // Requests and jobs have the same time to end in.
        let deadline = Instant::now() + config.shutdown_timeout;
        workers.stop(deadline);
        runners.stop(deadline);
    };
    let stop = stop.boxed_local().shared();
    let run =
        async |server: Server| server.run(&app, policy(config), stop.clone(), config.shutdown_timeout).await;
    let run_if_there = async |server: Option<Server>| match server {
        Some(server) => run(server).await,
        None => Ok(()),
    };
    let (outcome, of_admin, of_metrics) =
        tokio::join!(run(server), run_if_there(admin), run_if_there(metrics));
    drop(stop);
    tokio::join!(workers.finish(), runners.finish());
    app.mailer.close().await;
    // The last of what was counted.
    if let Err(error) = usage::flush(&app).await {
        tracing::warn!(%error, "what tenants used in the last seconds is lost");
    }
    app.tenancy.close();
    outcome?;
    of_admin?;
    of_metrics?;
    ended.map_or(Ok(()), |error| Err(error.into()))
}

fn policy(config: &Config) -> Policy {
    let origins = config.cors_origins.iter().map(|origin| origin.as_str().to_owned());
    Policy {
        proxies: TrustedProxies::new(config.trusted_proxies.iter().copied()),
        origins: Origins::new(config.public_url().scheme(), origins),
    }
}

/// What a start says.
#[derive(serde::Serialize)]
struct Started {
    version: &'static str,
    url: String,
    docs: String,
    /// Where the admin API is.
    admin: String,
    /// Where its figures are, if anywhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    metrics: Option<String>,
    /// Where the mails are shown, or what else becomes of them.
    mails: String,
    database: String,
    #[serde(skip)]
    development: bool,
}

impl Started {
    fn of(
        config: &Config,
        backend: &Backend,
        app: &App,
        (admin, metrics): (Option<&Server>, Option<&Server>),
    ) -> Self {
        let url = config.public_url().as_str().trim_end_matches('/').to_owned();
        let database = match backend.cluster() {
            Some(cluster) => {
                format!("embedded PostgreSQL {} in {}", cluster.version(), config.data_dir.display())
            }
            None => "that of TENANTRY_DATABASE_URL".to_owned(),
        };
        let mails = match config.mail() {
            config::Mail::Smtp(server) => format!("go out by {server}"),
            config::Mail::Files(_) if app.mailer.shown().is_some() => {
                format!("{url}{}", mail::DEVELOPMENT_PATH)
            }
            config::Mail::Files(directory) => format!("are written to {}, not sent", directory.display()),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            mails,
            docs: format!("{url}/docs"),
            admin: match admin {
                Some(admin) => format!("http://{}/api/admin/", admin.address()),
                None => format!("{url}/api/admin/"),
            },
            metrics: metrics
                .or(admin)
                .map(|server| format!("http://{}{}", server.address(), crate::metrics::PATH)),
            url,
            database,
            development: config.is_development(),
        }
    }
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, url, docs, admin, metrics, mails, database, .. } = self;
        writeln!(f, "Tenantry {version} is ready.\n")?;
        writeln!(f, "  API       {url}")?;
        writeln!(f, "  Docs      {docs}")?;
        writeln!(f, "  Admin     {admin}")?;
        if let Some(metrics) = metrics {
            writeln!(f, "  Metrics   {metrics}")?;
        }
        writeln!(f, "  Mails     {mails}")?;
        write!(f, "  Database  {database}")?;
        if self.development {
            write!(
                f,
                "\n\nSign an organization up, here or on the page above:\n\n  \
                 curl {url}/api/sign_up/tenant/ -H 'Content-Type: application/json' \\\n    \
                 -d '{{\"organization\": \"Acme\", \"username\": \"ada\", \"email\": \"ada@acme.example\", \
                 \"password\": \"correct horse battery\"}}'\n"
            )?;
        }
        Ok(())
    }
}
