//! `tenantry serve`.

use super::{
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    backend::{Backend, Use},
    cleanup,
    config::Config,
    http::{Origins, Policy, TrustedProxies},
    server::{Server, stop_signal},
};

/// Serves until told to stop.
pub(super) async fn serve(context: &Context) -> Result<Exit, Failure> {
    context.config.validate_for_serve()?;
    // Listened for before anything is started: from here on, a signal ends in an orderly stop.
    let stop = stop_signal()?;
    let server = Server::bind(context.config.listen).await?;
    let config = context.config.clone().listening_on(server.address());
    let backend = Backend::open(&config, Use::Exclusive).await?;
    let outcome = serve_on(context, &config, &backend, server, stop).await;
    backend.close().await?;
    outcome?;
    Ok(Exit::Ok)
}

async fn serve_on(
    context: &Context,
    config: &Config,
    backend: &Backend,
    server: Server,
    stop: impl Future<Output = ()>,
) -> Result<(), Failure> {
    let app = backend.app(config, context.clock.clone()).await?;
    app.tenancy.listen();
    context.output.answer(&Started::of(config, backend), ToString::to_string)?;
    let mut ended = None;
    let stop = async {
        tokio::select! {
            () = stop => {}
            error = backend.ended() => ended = Some(error),
            // Goes on until then; a statement that is under way comes to its end.
            () = cleanup::forever(&app) => {}
        }
    };
    server.run(&app, policy(config), stop, config.shutdown_timeout).await?;
    app.tenancy.close();
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
    database: String,
    #[serde(skip)]
    development: bool,
}

impl Started {
    fn of(config: &Config, backend: &Backend) -> Self {
        let url = config.public_url().as_str().trim_end_matches('/').to_owned();
        let database = match backend.cluster() {
            Some(cluster) => {
                format!("embedded PostgreSQL {} in {}", cluster.version(), config.data_dir.display())
            }
            None => "that of TENANTRY_DATABASE_URL".to_owned(),
        };
        Self {
            version: env!("CARGO_PKG_VERSION"),
            docs: format!("{url}/docs"),
            url,
            database,
            development: config.is_development(),
        }
    }
}

impl std::fmt::Display for Started {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { version, url, docs, database, .. } = self;
        writeln!(f, "Tenantry {version} is ready.\n")?;
        writeln!(f, "  API       {url}")?;
        writeln!(f, "  Docs      {docs}")?;
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
