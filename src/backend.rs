//! The database behind a command: the embedded one or somebody's own, and the keys that open it.

use std::path::Path;

use secrecy::SecretString;
use tenants::{Figures, LANES, Pace, Pending, PoolOptions, ResolverOptions, SecretKey, Settings, Tenancy};
use tokio::sync::watch;

use crate::{
    archives::Directory,
    audit::Actor,
    auth::{TokenError, Tokens},
    clock::Clock,
    config::{Config, Database, TenantSignUp},
    embedded::{self, Cluster},
    fleet::{self, FleetError, Migrated, Order},
    mail::{Mailer, MailerError},
    master_key::{self, MasterKeyFileError},
    password::{Hasher, HasherError},
    state::{App, Parts, Site},
    streams::{StreamOptions, Streams},
    throttle::Throttles,
};

/// The database in the embedded cluster.
const DATABASE: &str = "tenantry";
/// The login that owns it.
const OWNER: &str = "tenantry_owner";

/// Why there is no database to work with.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// The embedded cluster.
    #[error(transparent)]
    Embedded(#[from] embedded::Error),
    /// The installation in the database.
    #[error(transparent)]
    Tenancy(#[from] tenants::Error),
    /// The tenants who are behind.
    #[error(transparent)]
    Fleet(#[from] FleetError),
    /// The file with the master key.
    #[error(transparent)]
    MasterKey(#[from] MasterKeyFileError),
    /// The database was set up with a key that is not there any more.
    #[error(
        "{0} is missing, and the database beside it opens with that key only: put it back, or choose another data directory"
    )]
    MasterKeyLost(String),
    /// The settings name no master key, and the database is not the embedded one.
    #[error("TENANTRY_MASTER_KEY is not set")]
    NoMasterKey,
    /// The signing keys.
    #[error(transparent)]
    Tokens(#[from] TokenError),
    /// The password hasher.
    #[error(transparent)]
    Hasher(#[from] HasherError),
    /// How mails go out.
    #[error(transparent)]
    Mailer(#[from] MailerError),
}

/// Who else may use an embedded cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is ours alone to start and stop: for `serve`.
    Exclusive,
    /// The one that a running `serve` has started, or else our own for as long as we live: for other commands.
    Shared,
    /// As [`Shared`](Self::Shared), without making or mending anything in it: for those that only look.
    AsItIs,
}

/// An open database.
#[derive(Debug)]
pub struct Backend {
    /// How to open the installation in it.
    pub settings: Settings,
    cluster: Option<Cluster>,
}

impl Backend {
    /// Finds the database that the settings name, starting the embedded cluster where it is that.
    ///
    /// # Errors
    /// There is none, or another process has it.
    pub async fn open(config: &Config, usage: Use) -> Result<Self, BackendError> {
        let (owner, direct, master_key, cluster) = match config.database() {
            Database::External { url, direct_url } => {
                let key = config.master_key.as_ref().ok_or(BackendError::NoMasterKey)?;
                let [url, direct_url] = [url, direct_url].map(|url| SecretString::from(url.expose()));
                (url, direct_url, key.key().clone(), None)
            }
            Database::Embedded { data_dir } => {
                let options = embedded::Options::new(data_dir);
                let cluster = match usage {
                    Use::Exclusive => Cluster::start(&options).await?,
                    Use::Shared | Use::AsItIs => Cluster::start_or_attach(&options).await?,
                };
                let superuser = cluster.superuser_url("postgres");
                let key = if let Some(key) = &config.master_key {
                    key.key().clone()
                } else {
                    // One that another process has started may be in the middle of it.
                    if !cluster.is_attached() {
                        settle_next_key(data_dir, &cluster).await?;
                    }
                    let file = master_key::file_in(data_dir);
                    // The login's password comes from the key: where there is one, there was the other.
                    if !file.exists() && tenants::has_login(&superuser, OWNER).await? {
                        return Err(BackendError::MasterKeyLost(file.display().to_string()));
                    }
                    master_key::read_or_make(&file)?
                };
                let password = owner_password(&key);
                if usage != Use::AsItIs {
                    tenants::create_database(&superuser, DATABASE, OWNER, &password).await?;
                }
                let url = cluster.url(OWNER, &password, DATABASE);
                (url.clone(), url, key, Some(cluster))
            }
        };
        let settings = Settings {
            owner,
            direct,
            pooling: config.database_pooling,
            master_key,
            statement_timeout: config.statement_timeout,
            lane_pool: PoolOptions {
                size: usize::try_from(config.lane_pool_size).unwrap_or(usize::MAX),
                ..PoolOptions::default()
            },
            resolver: ResolverOptions::default(),
            lanes: LANES,
        };
        Ok(Self { settings, cluster })
    }

    /// Whether there is anything to open that opening would not make: the embedded database may never have been started.
    #[must_use]
    pub fn exists(config: &Config) -> bool {
        match config.database() {
            Database::External { .. } => true,
            Database::Embedded { data_dir } => embedded::exists(data_dir),
        }
    }

    /// The embedded cluster, where it is that.
    #[must_use]
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref()
    }

    /// How to open the database as the superuser, where the server is ours.
    #[must_use]
    pub fn superuser(&self) -> Option<SecretString> {
        self.cluster.as_ref().map(|cluster| cluster.superuser_url(DATABASE))
    }

    /// Refuses a database of somebody's own whose connections do not stay whose they are. The embedded one has nobody
    /// before it.
    async fn refuse_pooled(&self) -> Result<(), tenants::Error> {
        match self.cluster {
            None => Box::pin(Tenancy::refuse_pooled(&self.settings)).await,
            Some(_) => Ok(()),
        }
    }

    /// Brings the database up to date, catalog and tenants.
    ///
    /// # Errors
    /// As [`fleet::migrate`].
    pub async fn migrate(
        &self,
        clock: &Clock,
        order: Order,
        progress: &watch::Sender<Figures>,
    ) -> Result<Migrated, FleetError> {
        self.refuse_pooled().await?;
        let what = (order, Pace::default());
        fleet::migrate(&self.settings, clock, what, &Actor::command_line(), progress).await
    }

    /// What [`migrate`](Self::migrate) would do. Changes nothing.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn pending(&self) -> Result<Pending, BackendError> {
        self.refuse_pooled().await?;
        Ok(Tenancy::pending(&self.settings).await?)
    }

    /// Opens the installation. The embedded one is brought up to date first; somebody's own is migrated when its
    /// operator says so.
    ///
    /// # Errors
    /// It is not set up, behind or ahead, or not there.
    pub async fn tenancy(&self, clock: &Clock) -> Result<Tenancy, BackendError> {
        self.refuse_pooled().await?;
        if self.cluster.is_none() {
            let tenancy = Tenancy::open(&self.settings).await?;
            clock.follow(&tenancy).await?;
            return Ok(tenancy);
        }
        Tenancy::migrate_catalog(&self.settings, clock.now()).await?;
        let tenancy = Tenancy::open(&self.settings).await?;
        fleet::start_if_untried(&tenancy, clock).await?;
        Ok(tenancy)
    }

    /// The service on this database.
    ///
    /// # Errors
    /// As [`tenancy`](Self::tenancy), or the signing keys cannot be had.
    pub async fn app(&self, config: &Config, clock: Clock) -> Result<App, BackendError> {
        let tenancy = self.tenancy(&clock).await?;
        let site = Site {
            base_domain: config.base_domain.as_str().to_owned(),
            public_url: config.public_url().clone(),
            frontend_url: config.frontend_url.clone(),
        };
        let tokens = Tokens::load(&tenancy, clock.clone(), site.issuer()).await?;
        Ok(App::new(Parts {
            hasher: Hasher::new()?,
            mailer: Mailer::of(config)?,
            throttles: Throttles::new(config.rate_limits),
            streams: Streams::new(StreamOptions::default().within_file_limit()),
            tenant_sign_up: config.tenant_sign_up == TenantSignUp::Open,
            archives: Directory::new(config.export_dir(), u64::from(config.archive_max_mib) << 20),
            grace: chrono::TimeDelta::days(config.grace_days.into()),
            tenancy,
            clock,
            tokens,
            site,
        }))
    }

    /// Waits until the embedded cluster is gone although nobody has stopped it; for ever where it is not that or not ours.
    pub async fn ended(&self) -> BackendError {
        match &self.cluster {
            Some(cluster) => cluster.ended().await.into(),
            None => std::future::pending().await,
        }
    }

    /// Clears up after an [`open`](Self::open) that was not waited for: an embedded cluster that had begun to start is
    /// stopped, or killed when somebody insists.
    ///
    /// # Errors
    /// It does not stop in time.
    pub async fn abandon_unless(
        config: &Config,
        insisted: impl Future<Output = ()>,
    ) -> Result<(), BackendError> {
        match config.database() {
            Database::External { .. } => Ok(()),
            Database::Embedded { data_dir } => {
                Ok(Cluster::abandon_unless(&embedded::Options::new(data_dir), insisted).await?)
            }
        }
    }

    /// As [`close`](Self::close), until somebody insists: the cluster is killed then, and has to recover at its next start.
    ///
    /// # Errors
    /// As [`close`](Self::close).
    pub async fn close_unless(self, insisted: impl Future<Output = ()>) -> Result<(), BackendError> {
        match self.cluster {
            Some(cluster) => Ok(cluster.stop_unless(insisted).await?),
            None => Ok(()),
        }
    }

    /// Stops the embedded cluster, where it is that and ours.
    ///
    /// # Errors
    /// It does not stop in time.
    pub async fn close(self) -> Result<(), BackendError> {
        match self.cluster {
            Some(cluster) => Ok(cluster.stop().await?),
            None => Ok(()),
        }
    }
}

/// The password of the embedded database's owner: derived, so that there is one secret less to keep.
#[must_use]
pub fn owner_password(key: &SecretKey) -> SecretString {
    data_encoding::HEXLOWER.encode(&key.mac(b"tenantry embedded owner")).into()
}

/// Ends a change of the master key that was cut off, as the catalog says it came out.
async fn settle_next_key(data_dir: &Path, cluster: &Cluster) -> Result<(), BackendError> {
    let next = master_key::next_in(data_dir);
    if !next.exists() {
        return Ok(());
    }
    let key = master_key::read_or_make(&next)?;
    if tenants::is_master_key(&cluster.superuser_url(DATABASE), &key).await? {
        master_key::take_next(data_dir)?;
    } else {
        master_key::drop_next(data_dir)?;
    }
    Ok(())
}
