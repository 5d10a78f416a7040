//! The service under test: a real server on a free port of the loopback interface.

use std::{net::SocketAddr, time::Duration};

use chrono::{DateTime, Utc};
use secrecy::SecretString;
use sqlx::PgConnection;
use tenantry::{
    archives::Directory,
    auth::Tokens,
    clock::Clock,
    http::{Face, Hsts, Origins, Policy, TrustedProxies},
    jobs,
    mail::{Letter, Mailer},
    password::Hasher,
    server::{Limits, Server, Tls},
    state::{App, Parts, Site},
    streams::{StreamOptions, Streams},
    throttle::Throttles,
};
use tenants::{PoolOptions, Pooling, ResolverOptions, Tenancy};
use tokio::sync::oneshot;
use url::Url;

use super::{
    Database,
    client::{Organization, Request, http_client},
    superuser_of,
};

/// How a service under test differs from an ordinary one.
pub(crate) struct Options {
    /// How many connections each lane has.
    pub(crate) lane_pool_size: usize,
    /// Whether strangers may sign organizations up.
    pub(crate) tenant_sign_up: bool,
    /// Where it is from outside, if that is another place than where it listens.
    pub(crate) public_url: Option<Url>,
    /// Whether it refuses what happens too often.
    pub(crate) rate_limits: bool,
    /// The proxies it believes.
    pub(crate) proxies: &'static [&'static str],
    /// Where the account pages are, if not here.
    pub(crate) frontend_url: Option<Url>,
    /// The origins whose pages may call it, beside its own.
    pub(crate) cors_origins: &'static [&'static str],
    /// How much it remembers of names and tenants.
    pub(crate) resolver: ResolverOptions,
    /// Whether it hears what other processes change.
    pub(crate) listens: bool,
    /// How its mails go out, if not to [`TestApp::mails`].
    pub(crate) mailer: Option<Mailer>,
    /// How its streams behave.
    pub(crate) streams: StreamOptions,
    /// Which paths its listener shows.
    pub(crate) face: Face,
    /// How much its listener takes on.
    pub(crate) limits: Limits,
    /// How long an answer may take.
    pub(crate) deadline: Duration,
    /// How it encrypts.
    pub(crate) tls: Option<Tls>,
    /// Whether its requests go through a PgBouncer that gives each transaction another connection.
    /// `TENANTRY_TEST_POOLING=transaction` has every test do so that does not say.
    pub(crate) pooling: Pooling,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lane_pool_size: PoolOptions::default().size,
            tenant_sign_up: true,
            public_url: None,
            rate_limits: true,
            proxies: &[],
            frontend_url: None,
            cors_origins: &[],
            resolver: ResolverOptions::default(),
            listens: true,
            mailer: None,
            streams: StreamOptions::default(),
            face: Face::default(),
            limits: Limits::default(),
            deadline: Policy::default().deadline,
            tls: None,
            pooling: match std::env::var("TENANTRY_TEST_POOLING") {
                Ok(pooling) if pooling == "transaction" => Pooling::Transaction,
                _ => Pooling::Session,
            },
        }
    }
}

fn fixed_clock() -> Clock {
    Clock::fixed("2026-01-02T03:04:05.678901Z".parse::<DateTime<Utc>>().unwrap())
}

/// A service of one's own. It ends when this is dropped.
pub(crate) struct TestApp {
    /// The service from inside.
    pub(crate) app: App,
    /// Its time, which stands still until it is advanced.
    pub(crate) clock: Clock,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    database: Database,
    /// Where its export store is.
    pub(crate) store: std::sync::Arc<tempfile::TempDir>,
    pub(super) client: reqwest::Client,
    _stop: oneshot::Sender<()>,
}

impl TestApp {
    /// An ordinary one.
    pub(crate) async fn start() -> Self {
        Self::with(Options::default()).await
    }

    /// One with options.
    pub(crate) async fn with(options: Options) -> Self {
        let mut database = Database::create().await;
        if options.pooling == Pooling::Transaction {
            database = database.behind_pooler().await.expect("PgBouncer is installed");
        }
        Self::on(database, fixed_clock(), options).await
    }

    /// The service once more, on the same database and clock: another process, as far as memory goes.
    pub(crate) async fn beside(&self) -> Self {
        self.beside_with(Options::default()).await
    }

    /// As [`beside`](Self::beside), with options.
    pub(crate) async fn beside_with(&self, options: Options) -> Self {
        let public_url = Some(self.app.site.public_url.clone());
        Self::on(self.database.clone(), self.clock.clone(), Options { public_url, ..options }).await
    }

    /// One on a database of one's own.
    pub(crate) async fn on(mut database: Database, clock: Clock, options: Options) -> Self {
        database.settings.lane_pool.size = options.lane_pool_size;
        database.settings.resolver = options.resolver;
        let tenancy = Tenancy::open(&database.settings).await.unwrap();
        if options.listens {
            tenancy.listen();
        }
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).unwrap().showing(options.face);
        let server = server.encrypted(options.tls).within(options.limits, TrustedProxies::default());
        let address = server.address();
        let public_url = options
            .public_url
            .unwrap_or_else(|| format!("http://localhost:{}", address.port()).parse().unwrap());
        let frontend_url = options.frontend_url;
        let site = Site { base_domain: "localhost".into(), public_url, frontend_url };
        let store = std::sync::Arc::new(tempfile::tempdir().unwrap());
        let tokens = Tokens::load(&tenancy, clock.clone(), site.issuer()).await.unwrap();
        let app = App::new(Parts {
            hasher: Hasher::new().unwrap(),
            mailer: options.mailer.unwrap_or_else(Mailer::memory),
            throttles: Throttles::new(options.rate_limits),
            streams: Streams::new(options.streams),
            tenant_sign_up: options.tenant_sign_up,
            archives: Directory::new(store.path().join("exports"), 8 << 20),
            grace: chrono::TimeDelta::days(30),
            clock: clock.clone(),
            tenancy,
            tokens,
            site,
        });
        let (stop, stopped) = oneshot::channel::<()>();
        let service = app.clone();
        let origins = options.cors_origins.iter().map(|origin| (*origin).to_owned());
        let policy = Policy {
            origins: Origins::new("http", origins),
            proxies: TrustedProxies::new(options.proxies.iter().map(|proxy| proxy.parse().unwrap())),
            hsts: Hsts::new(app.site.public_url.scheme(), [app.site.base_domain.clone()]),
            deadline: options.deadline,
        };
        tokio::spawn(async move {
            let stopped = async {
                // Dropping the sender is the signal.
                stopped.await.ok();
            };
            server.run(&service, policy, stopped, Duration::from_secs(5)).await.unwrap();
        });
        // The first test to come here does it; the others are told that it is done.
        rustls::crypto::ring::default_provider().install_default().ok();
        let client = http_client();
        Self { app, clock, address, database, store, client, _stop: stop }
    }

    /// A request by nobody, to the service itself. `path` begins with a slash.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(&self.client, self.address, method, path)
    }

    /// Signs an organization up; its owner is called like it.
    pub(crate) async fn sign_up(&self, slug: &str) -> Organization {
        Organization::sign_up(self, slug).await
    }

    /// As [`sign_up`](Self::sign_up), without the mail to its owner: for who counts mails.
    pub(crate) async fn sign_up_quietly(&self, slug: &str) -> Organization {
        let organization = self.sign_up(slug).await;
        sqlx::raw_sql("DELETE FROM tenantry.jobs").execute(&mut self.superuser().await).await.unwrap();
        organization
    }

    /// Does all that is due, and takes the mails that went out, oldest first.
    pub(crate) async fn mails(&self) -> Vec<Letter> {
        while jobs::run_due(&self.app).await.unwrap() > 0 {}
        self.app.mailer.take()
    }

    /// The service once more, whose database the superuser finds elsewhere now.
    pub(crate) fn looking_at(mut self, superuser: SecretString) -> Self {
        self.database.superuser = superuser;
        self
    }

    /// One behind a PgBouncer that gives each transaction another connection. `None`, with a word about it, where there
    /// is no PgBouncer.
    pub(crate) async fn behind_pooler(options: Options) -> Option<Self> {
        let database = Database::create().await.behind_pooler().await?;
        Some(Self::on(database, fixed_clock(), options).await)
    }

    /// A look at the database past everything that guards it.
    pub(crate) async fn superuser(&self) -> PgConnection {
        superuser_of(&self.database.superuser).await
    }

    /// The URL of this test's database, as the superuser.
    pub(crate) fn superuser_url(&self) -> &SecretString {
        &self.database.superuser
    }

    /// How to open the installation in this test's database.
    pub(crate) fn settings(&self) -> &tenants::Settings {
        &self.database.settings
    }
}
