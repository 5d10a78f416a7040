//! `tenantry serve`.

use std::{
    cell::Cell,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};

use futures_util::{FutureExt as _, future::join_all};
use ipnet::Ipv4Net;
use tokio::time::sleep;

use super::{
    key_files,
    output::Exit,
    run::{Context, Failure},
};
use crate::{
    backend::{Backend, BackendError, Use},
    cleanup,
    config::{self, Config, TenantSignUp},
    http::{Face, Hsts, Origins, Policy, TrustedProxies},
    jobs, mail, operations,
    server::{Server, ServerError, Signals, Tls},
    state::App,
    stop,
    streams::{file_limit, raise_file_limit},
    telemetry, usage,
    workers::Workers,
};

/// How long is waited, beyond the time that requests and jobs have to end in, until jobs are handed back and what was
/// counted is written down: behind a cut network, each of these would take half a minute. And how long an embedded
/// PostgreSQL has to stop where somebody does not want to wait.
const HURRY: Duration = Duration::from_secs(5);

/// How long an embedded PostgreSQL has otherwise: it writes a checkpoint, and is killed then. What it has committed is safe,
/// and its next start takes longer.
const CHECKPOINT: Duration = Duration::from_mins(1);

/// Serves until told to stop.
pub(super) async fn serve(context: &Context) -> Result<Exit, Failure> {
    let config = &context.config;
    // Listened for before anything else: from here on, a signal ends in an orderly stop.
    let signals = Signals::listen()?;
    config.validate_for_serve()?;
    raise_file_limit();
    let beside = [config.admin_listen, config.metrics_listen].into_iter().flatten().count();
    let (limits, aside) = config.limits(file_limit()).divided(beside);
    let certificates = config.certificates();
    let mut tls = None;
    if !certificates.is_empty() {
        // On a thread of its own: a file may be where nobody answers any more.
        let load = tokio::task::spawn_blocking(move || Tls::load(&certificates));
        let Some(loaded) = unless_told(&signals, load).await else { return Ok(Exit::Ok) };
        tls = Some(loaded?.map_err(ServerError::from)?);
    }
    let exempt = exempt(config);
    let bind = |address, limits, tls| {
        Ok::<_, ServerError>(Server::bind(address)?.encrypted(tls).within(limits, exempt.clone()))
    };
    let mut server = bind(config.listen, limits, tls.clone())?;
    let mut admin = None;
    if let Some(address) = config.admin_listen {
        let tls = tls.clone().filter(|_| config.admin_tls());
        admin = Some(bind(address, aside, tls)?.showing(Face::Admin));
        server = server.showing(Face::Public);
    }
    let mut metrics = None;
    if let Some(address) = config.metrics_listen {
        metrics = Some(bind(address, aside, None)?.showing(Face::Metrics));
    }
    let config = config.clone().listening_on(server.address());
    let Some(backend) = unless_told(&signals, Backend::open(&config, Use::Exclusive)).await else {
        Backend::abandon_unless(&config, insisted(&signals)).await?;
        return Ok(Exit::Ok);
    };
    let backend = backend?;
    let listeners = Listeners { server, admin, metrics };
    let outcome = serve_on(context, &config, &backend, listeners, tls.as_ref(), &signals).await;
    backend.close_unless(insisted(&signals)).await?;
    outcome?;
    Ok(Exit::Ok)
}

/// Does this, unless the process is told to stop before it is done: it is left where it is then.
async fn unless_told<T>(signals: &Signals, work: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        // The signal first: nothing is said to be ready after it.
        biased;
        () = signals.heard(1) => None,
        done = work => Some(done),
    }
}

/// Ends when an embedded PostgreSQL has had the time to stop that it gets.
async fn insisted(signals: &Signals) {
    let hurried = async {
        signals.heard(2).await;
        sleep(HURRY).await;
    };
    tokio::select! {
        () = hurried => {}
        () = sleep(CHECKPOINT) => {}
    }
}

/// Who may have as many connections as there is room for: proxies, behind which are many, and this machine, which has
/// other ways to harm itself.
fn exempt(config: &Config) -> TrustedProxies {
    let own = [
        Ipv4Net::new_assert(Ipv4Addr::new(127, 0, 0, 0), 8).into(),
        IpAddr::from(Ipv6Addr::LOCALHOST).into(),
    ];
    TrustedProxies::new(config.trusted_proxies.iter().copied().chain(own))
}

/// Where it listens.
struct Listeners {
    server: Server,
    admin: Option<Server>,
    metrics: Option<Server>,
}

async fn serve_on(
    context: &Context,
    config: &Config,
    backend: &Backend,
    Listeners { server, admin, metrics }: Listeners,
    tls: Option<&Tls>,
    signals: &Signals,
) -> Result<(), Failure> {
    key_files::warn(config);
    let Some(app) = unless_told(signals, backend.app(config, context.clock.clone())).await else {
        return Ok(());
    };
    let app = app?;
    app.tenancy.listen();
    app.tenancy.keep_busiest(usize::try_from(config.metrics_tenants).unwrap_or(0));
    let started = Started::of(config, backend, &app, (admin.as_ref(), metrics.as_ref()));
    context.output.answer(&started, ToString::to_string)?;
    let workers = [jobs::start(&app), operations::start(&app)];
    let stops = workers.each_ref().map(Workers::stopping);
    let stop_by = |deadline| stops.iter().for_each(|stop| stop.by(deadline));
    let mut ended = None;
    let stop = async {
        ended = until_told(&app, backend, tls, signals).await;
        app.leave();
        let delay = if ended.is_none() { config.shutdown_delay } else { Duration::ZERO };
        // Requests and jobs have the same time to end in.
        stop_by(Instant::now() + delay + config.shutdown_timeout);
        sleep(delay).await;
    };
    let stop = stop.boxed_local().shared();
    let run =
        async |server: Server| server.run(&app, policy(config), stop.clone(), config.shutdown_timeout).await;
    let run_if_there = async |server: Option<Server>| match server {
        Some(server) => run(server).await,
        None => Ok(()),
    };
    let serving = async {
        let (outcome, of_admin, of_metrics) =
            tokio::join!(run(server), run_if_there(admin), run_if_there(metrics));
        outcome.and(of_admin).and(of_metrics)
    };
    let outcome = tokio::select! {
        outcome = serving => outcome,
        // What was dropped by this is cut off.
        () = signals.heard(2) => Ok(()),
    };
    drop(stop);
    let mut deadline = stops[0].subscribe();
    let hurried = async {
        tokio::select! {
            () = signals.heard(2) => stop_by(Instant::now()),
            () = stop::passed(&mut deadline) => {}
        }
        sleep(HURRY).await;
    };
    let are_back = Cell::new(false);
    tokio::select! {
        () = wind_up(&app, workers, &are_back) => {}
        () = hurried => {
            let what = if are_back.get() { "what was counted was written down" } else { "everything was handed back" };
            tracing::warn!("stopped before {what}");
        }
    }
    app.tenancy.close();
    outcome?;
    ended.map_or(Ok(()), |error| Err(error.into()))
}

/// Does what goes on beside the requests until the process is told to stop, or has lost its database: that is what it says
/// then. A statement that is under way comes to its end.
async fn until_told(
    app: &App,
    backend: &Backend,
    tls: Option<&Tls>,
    signals: &Signals,
) -> Option<BackendError> {
    tokio::select! {
        () = signals.heard(1) => None,
        error = backend.ended() => Some(error),
        () = cleanup::forever(app) => None,
        () = usage::forever(app) => None,
        () = app.clock.follow_forever(&app.tenancy) => None,
        () = certificates_change(app, tls, signals) => None,
        () = telemetry::tell_of_lost_lines() => None,
    }
}

/// What is left to do when nobody is answered any more.
async fn wind_up(app: &App, workers: [Workers; 2], are_back: &Cell<bool>) {
    join_all(workers.map(Workers::finish)).await;
    are_back.set(true);
    // The last of what was counted.
    let counted = async {
        if let Err(error) = usage::flush(app).await {
            tracing::warn!(%error, "what tenants used in the last seconds is lost");
        }
    };
    // Mail servers are of no concern to it.
    tokio::join!(counted, app.mailer.close());
}

/// Never ends: takes the certificates that come to be in the files, where there are any.
async fn certificates_change(app: &App, tls: Option<&Tls>, signals: &Signals) {
    match tls {
        Some(tls) => tls.follow(signals, &app.clock).await,
        None => signals.note_hangups().await,
    }
}

fn policy(config: &Config) -> Policy {
    let scheme = config.public_url().scheme();
    let origins = config.cors_origins.iter().map(|origin| origin.as_str().to_owned());
    let host = config.public_url().host_str().map(str::to_owned);
    Policy {
        proxies: TrustedProxies::new(config.trusted_proxies.iter().copied()),
        origins: Origins::new(scheme, origins),
        hsts: Hsts::new(scheme, host.into_iter().chain([config.base_domain.as_str().to_owned()])),
        deadline: config.request_timeout,
    }
}

/// What a start says.
#[derive(serde::Serialize)]
struct Started {
    version: &'static str,
    /// Where it listens: address and port, which may be others than people come to.
    listen: SocketAddr,
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
    /// Whether whoever sees this may want to sign an organization up.
    #[serde(skip)]
    invites: bool,
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
            listen: config.listen,
            mails,
            docs: format!("{url}/docs"),
            admin: match admin {
                Some(admin) => format!("{}://{}/api/admin/", admin.scheme(), admin.address()),
                None => format!("{url}/api/admin/"),
            },
            metrics: metrics
                .or(admin)
                .map(|it| format!("{}://{}{}", it.scheme(), it.address(), crate::metrics::PATH)),
            url,
            database,
            invites: config.is_development() && config.tenant_sign_up == TenantSignUp::Open,
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
        if self.invites {
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
