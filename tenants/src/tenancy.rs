//! The open installation: what the server holds of it while it runs.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use migration::sea_orm_migration::{MigrationTrait, MigratorTrait as _};
use sea_orm::{ConnectionTrait, DbBackend, DbErr, Statement};
use secrecy::SecretString;

use crate::{
    Busy, CatalogDb, DataKey, Error, PoolFigures, PoolOptions, PoolReport, Resolver, ResolverOptions,
    SecretKey, Signals, TenantDb,
    announcer::{self, Announcing},
    binding::{Guards, Pooling},
    breaker::Openings,
    busiest::Busiest,
    connection::{Access, Login},
    install::{self, Installation, MigrationReport, Pending},
    keys::DataKeys,
    lanes::Lanes,
    listener::{self, Listening},
    live::Live,
    meter::Meters,
    names::RoleNames,
    pool::Pool,
    probe,
    provisioning::Provisioned,
    render::Migrations,
    resolution::Tenant,
    role_maker::RoleMaker,
};

/// How many connections the owner's pool has. It is for what is rare: sign-ups, operators, migrations.
pub(crate) const OWNER_CONNECTIONS: usize = 2;
/// How often one of them is used. Its backend remembers whatever it has made, and looks through that at every change of the
/// catalogs: after some thousands of sign-ups on one connection, each took three times as long.
const OWNER_USES: u32 = 100;
/// How many the catalog's pool has.
pub(crate) const CATALOG_CONNECTIONS: usize = 2;
/// How long a statement on the catalog may take.
const CATALOG_TIMEOUT: Duration = Duration::from_secs(30);
/// How many listen for changes, and announce some.
pub(crate) const LISTENER_CONNECTIONS: usize = 2;
/// How many copy whole tenants.
pub(crate) const BULK_CONNECTIONS: usize = 2;
/// How many lanes a new installation gets.
pub const LANES: u16 = 8;

/// What it takes to open an installation.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The URL of the database, as the login that owns it.
    pub owner: SecretString,
    /// The same, never through a pooler: for migrations, and to listen.
    pub direct: SecretString,
    /// What connections to the former keep from one transaction to the next.
    pub pooling: Pooling,
    /// The key that wraps all others.
    pub master_key: SecretKey,
    /// How long a statement of a tenant may take that has no limit of its own.
    pub statement_timeout: Duration,
    /// How each lane's pool behaves.
    pub lane_pool: PoolOptions,
    /// How much is remembered of names and tenants.
    pub resolver: ResolverOptions,
    /// The number of lanes, where this makes a new installation. An existing one keeps its own.
    pub lanes: u16,
}

/// An installation, open: the catalog, the lanes and what makes new tenants. Cloning it costs a reference count.
#[derive(Clone, Debug)]
pub struct Tenancy {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    owner: CatalogDb,
    bulk: CatalogDb,
    catalog: CatalogDb,
    lanes: Arc<Lanes>,
    lane_count: u16,
    resolver: Resolver,
    meters: Arc<Meters>,
    signals: Signals,
    live: Live,
    /// How the owner connects, never through a pooler.
    direct: Login,
    /// Whose connections listen and announce.
    listener_login: Login,
    listening: Mutex<Option<(Listening, Announcing)>>,
    keys: DataKeys,
    roles: RoleNames,
    role_maker: RoleMaker,
    migrations: Migrations,
    pools: [Pool; 3],
    busiest: Mutex<Busiest>,
    provisioned: Arc<Provisioned>,
}

impl Tenancy {
    /// Brings the catalog up to date, with the roles, keys and grants of the installation. The tenants are brought up to
    /// date by a [run](Self::hold_fleet).
    ///
    /// # Errors
    /// [`Error::WrongMasterKey`], or those of the database.
    pub async fn migrate_catalog(settings: &Settings, now: DateTime<Utc>) -> Result<MigrationReport, Error> {
        install::migrate_catalog(&settings.direct, &settings.master_key, settings.lanes, now).await
    }

    /// Finds out whether connections stay whose they are, as far as the settings need that. To be asked before anything
    /// else: behind a pooler that is not known of, nothing else can be trusted.
    ///
    /// # Errors
    /// [`Error::Pooled`], [`Error::PooledDirect`], or there is no database.
    pub async fn refuse_pooled(settings: &Settings) -> Result<(), Error> {
        probe::refuse_pooled(settings).await
    }

    /// What is behind. Changes nothing.
    ///
    /// # Errors
    /// [`Error::CatalogAhead`], or those of the database.
    pub async fn pending(settings: &Settings) -> Result<Pending, Error> {
        install::pending(&settings.direct).await
    }

    /// Opens an installation. Connections are opened when they are needed.
    ///
    /// # Errors
    /// The database is not there, not set up, behind or ahead, or the master key is another.
    pub async fn open(settings: &Settings) -> Result<Self, Error> {
        Self::open_ahead(settings, Vec::new()).await
    }

    /// Opens an installation as a later program would that has these tenant migrations more: to try out what they cost and
    /// do on a copy of it before they land.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_ahead(
        settings: &Settings,
        further: Vec<Box<dyn MigrationTrait>>,
    ) -> Result<Self, Error> {
        let login = install::connect_options(&settings.owner)?;
        // Never through a pooler: for what changes roles and schemas, listens, locks or copies.
        let direct = install::connect_options(&settings.direct)?;
        let installation = Box::pin(Installation::load(&direct, &settings.master_key)).await?;
        let with_size = |size| PoolOptions { size, ..settings.lane_pool.clone() };
        let openings = Openings::default();
        let owner = Pool::new(
            Access::direct(Login(direct.0.clone().options(install::SESSION_SETTINGS))),
            &PoolOptions { max_uses: Some(OWNER_USES), ..with_size(OWNER_CONNECTIONS) },
            &openings,
        );
        // Without the deadlines of what has to be quick. A backend that has read or made a whole tenant is not used again.
        let bulk = Pool::new(
            Access::direct(Login(direct.0.clone().options(install::BULK_SETTINGS))),
            &PoolOptions { max_uses: Some(1), ..with_size(BULK_CONNECTIONS) },
            &openings,
        );
        let guards = Guards::of_server(installation.server);
        let access = |role: &str| Access {
            login: installation.login(&login, role),
            pooling: settings.pooling,
            guards: Arc::clone(&guards),
            answer: settings.lane_pool.answer,
        };
        let catalog =
            Pool::new(access(&installation.roles.catalog()), &with_size(CATALOG_CONNECTIONS), &openings);
        let lanes = (0..installation.lanes).map(|lane| access(&installation.roles.lane(lane)));
        let lanes = Lanes::new(lanes, &settings.lane_pool, &openings);
        let catalog_db = CatalogDb::new(catalog.clone(), Some(CATALOG_TIMEOUT));
        let Login(listener) = installation.login(&direct, &installation.roles.catalog());
        let (signals, meters) = (Signals::default(), Arc::<Meters>::default());
        let mut migrations = migration::Tenant::migrations();
        migrations.extend(further);
        Ok(Self {
            inner: Arc::new(Inner {
                owner: CatalogDb::new(owner.clone(), Some(CATALOG_TIMEOUT)),
                bulk: CatalogDb::new(bulk.clone(), None),
                resolver: Resolver::new(
                    catalog_db.clone(),
                    settings.statement_timeout,
                    Arc::clone(&meters),
                    signals.clone(),
                    &settings.resolver,
                ),
                meters,
                signals,
                live: Live::default(),
                listener_login: Login(listener.options(install::SESSION_SETTINGS)),
                listening: Mutex::default(),
                catalog: catalog_db,
                lanes: Arc::new(lanes),
                lane_count: installation.lanes,
                keys: installation.keys,
                roles: installation.roles,
                role_maker: installation.role_maker,
                migrations: Migrations::render(migrations).await?,
                direct,
                pools: [owner, catalog, bulk],
                busiest: Mutex::default(),
                provisioned: Arc::default(),
            }),
        })
    }

    /// Asks the database for a sign of life.
    ///
    /// # Errors
    /// There is none.
    pub async fn ping(&self) -> Result<(), DbErr> {
        let statement = Statement::from_string(DbBackend::Postgres, "SELECT 1");
        self.catalog().query_one_raw(statement).await.map(|_| ())
    }

    /// What time it is on the database's server. All processes share it, whatever their own machines' clocks say.
    ///
    /// # Errors
    /// Those of the database.
    pub async fn time(&self) -> Result<DateTime<Utc>, DbErr> {
        let statement = Statement::from_string(DbBackend::Postgres, "SELECT clock_timestamp() AS now");
        match self.catalog().query_one_raw(statement).await? {
            Some(row) => row.try_get("", "now"),
            None => Err(DbErr::RecordNotFound("the time".to_owned())),
        }
    }

    /// Listens from now on for what other processes change, and tells them who is to look again, on connections of
    /// their own. For a process that goes on: one that does not listen remembers nothing for longer than a moment.
    pub fn listen(&self) {
        let mut listening = self.listening();
        if listening.is_none() {
            let Inner { listener_login: login, signals, resolver, live, .. } = &*self.inner;
            let heard = listener::listen(login.clone(), signals.clone(), resolver.clone(), live.clone());
            *listening = Some((heard, announcer::announce(login, live)));
        }
    }

    fn listening(&self) -> std::sync::MutexGuard<'_, Option<(Listening, Announcing)>> {
        self.inner.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is heard of other processes, for those that remember something of the catalog.
    #[must_use]
    pub fn signals(&self) -> &Signals {
        &self.inner.signals
    }

    /// Who is shown something live.
    #[must_use]
    pub fn live(&self) -> &Live {
        &self.inner.live
    }

    /// Closes every pool. What is checked out closes when it comes back.
    pub fn close(&self) {
        drop(self.listening().take());
        self.inner.lanes.close();
        self.inner.pools.iter().for_each(Pool::close);
    }

    /// The catalog, for what serves no tenant.
    #[must_use]
    pub fn catalog(&self) -> &CatalogDb {
        &self.inner.catalog
    }

    /// Finds tenants by name.
    #[must_use]
    pub fn resolver(&self) -> &Resolver {
        &self.inner.resolver
    }

    /// A tenant's database.
    #[must_use]
    pub fn database_of(&self, tenant: Arc<Tenant>) -> TenantDb {
        let Inner { lanes, resolver, live, .. } = &*self.inner;
        TenantDb::new(Arc::clone(lanes), resolver.clone(), tenant, live.clone())
    }

    /// One of the installation's data keys.
    #[must_use]
    pub fn key(&self, key: DataKey) -> &SecretKey {
        self.inner.keys.get(key)
    }

    /// The name of this installation, by which it is told from others.
    #[must_use]
    pub fn installation(&self) -> &crate::InstallationId {
        self.roles().installation()
    }

    /// What the pools of the owner, the catalog and of what copies whole tenants did and do.
    #[must_use]
    pub fn other_figures(&self) -> [(&'static str, PoolFigures); 3] {
        let [owner, catalog, bulk] = &self.inner.pools;
        [("owner", owner.figures()), ("catalog", catalog.figures()), ("bulk", bulk.figures())]
    }

    /// What each lane's pool did and does.
    #[must_use]
    pub fn lane_figures(&self) -> Vec<PoolFigures> {
        self.inner.lanes.figures()
    }

    /// All pools: those of the lanes, and those of what serves no tenant.
    #[must_use]
    pub fn pools(&self) -> Vec<PoolReport> {
        let own = self.inner.pools.iter().zip(["owner", "catalog", "bulk"]);
        self.inner.lanes.reports().chain(own.map(|(pool, name)| pool.report(name))).collect()
    }

    /// Keeps in mind which tenants were busiest in the last minutes, so many of them; nobody, where this was never said.
    /// What they did is noted when it is [written down](Self::flush_usage).
    pub fn keep_busiest(&self, most: usize) {
        self.busiest_of_all().keep(most);
    }

    /// Those tenants, the busiest first.
    #[must_use]
    pub fn busiest(&self) -> Vec<Busy> {
        self.busiest_of_all().take(Instant::now())
    }

    pub(crate) fn busiest_of_all(&self) -> std::sync::MutexGuard<'_, Busiest> {
        self.inner.busiest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How the making of tenants went in this process.
    #[must_use]
    pub fn provisioned(&self) -> &Arc<Provisioned> {
        &self.inner.provisioned
    }

    pub(crate) fn owner(&self) -> &CatalogDb {
        &self.inner.owner
    }

    pub(crate) fn direct(&self) -> &Login {
        &self.inner.direct
    }

    /// As [`owner`](Self::owner), for what copies whole tenants and takes its time.
    pub(crate) fn bulk(&self) -> &CatalogDb {
        &self.inner.bulk
    }

    pub(crate) fn meters(&self) -> &Meters {
        &self.inner.meters
    }

    pub(crate) fn lanes(&self) -> u16 {
        self.inner.lane_count
    }

    pub(crate) fn roles(&self) -> &RoleNames {
        &self.inner.roles
    }

    pub(crate) fn role_maker(&self) -> RoleMaker {
        self.inner.role_maker
    }

    pub(crate) fn migrations(&self) -> &Migrations {
        &self.inner.migrations
    }
}
