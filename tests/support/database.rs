//! One private cluster for the whole run, started by the first test that needs it; one database a test, copied from a
//! template that was migrated once.

use std::{
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{ChildStdin, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tenantry::{
    clock::Clock,
    embedded::{self, Cluster, Durability},
};
use tenants::{PoolOptions, Pooling, ResolverOptions, SecretKey, Settings, Tenancy};
use tokio::sync::OnceCell;

use super::{PgBouncer, psql};

/// The login that owns every test's database.
const OWNER: &str = "tenantry_test_owner";
const TEMPLATE: &str = "tenantry_template";
/// Two lanes: few enough that two tenants often share one, which is where a leak would be.
const LANES: u16 = 2;

struct Shared {
    cluster: Cluster,
    owner_password: SecretString,
    pooler: OnceCell<Option<PgBouncer>>,
    // Held for as long as the process lives: its end removes the directory.
    _remover: ChildStdin,
}

/// The cluster has a runtime of its own, because it outlives the runtime of the test that starts it.
async fn shared() -> &'static Shared {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_init(|| async {
            let (sender, receiver) = tokio::sync::oneshot::channel();
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    sender.send(start().await).ok();
                    std::future::pending::<()>().await;
                });
            });
            receiver.await.unwrap()
        })
        .await
}

async fn start() -> Shared {
    // As root, PostgreSQL runs as another user, who has to be let through.
    let directory = tempfile::Builder::new()
        .prefix("tenantry-test-")
        .permissions(Permissions::from_mode(0o711))
        .tempdir()
        .unwrap()
        .keep();
    let remover = remove_after_us(&directory);
    let options = embedded::Options {
        durability: Durability::Relaxed,
        max_connections: 500,
        ..embedded::Options::new(&directory)
    };
    let cluster = Cluster::start(&options).await.unwrap();
    let owner_password = SecretString::from("only for tests");
    let pooler = OnceCell::new();
    let shared = Shared { cluster, owner_password, pooler, _remover: remover };
    tenants::create_database(
        &shared.cluster.superuser_url("postgres"),
        TEMPLATE,
        OWNER,
        &shared.owner_password,
    )
    .await
    .unwrap();
    shared.take_roles_from_owner(TEMPLATE).await;
    let settings = shared.settings(TEMPLATE);
    Tenancy::migrate_catalog(&settings, Clock::system().now()).await.unwrap();
    shared
}

/// Removes the directory when this process is gone, however it went, and PostgreSQL with it.
fn remove_after_us(directory: &Path) -> ChildStdin {
    const SCRIPT: &str = r#"trap "" HUP INT TERM; read -r _; n=0
        while [ -e "$1/postgres/cluster/postmaster.pid" ] && [ $n -lt 100 ]; do sleep 0.1; n=$((n + 1)); done
        rm -rf "$1""#;
    let mut remover = Command::new("sh");
    remover.args(["-c", SCRIPT, "sh"]).arg(directory).stdin(Stdio::piped());
    remover.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap().stdin.take().unwrap()
}

impl Shared {
    /// With `TENANTRY_TEST_ROLES=functions`, every test runs as an owner who may make roles by the functions alone.
    async fn take_roles_from_owner(&self, database: &str) {
        if std::env::var("TENANTRY_TEST_ROLES").is_ok_and(|it| it == "functions") {
            let url = self.cluster.superuser_url(database);
            psql(&url, &url, "roles.sql", "").await;
        }
    }

    fn settings(&self, database: &str) -> Settings {
        settings(self.cluster.url(OWNER, &self.owner_password, database))
    }
}

fn settings(owner: SecretString) -> Settings {
    Settings {
        direct: owner.clone(),
        owner,
        pooling: Pooling::Session,
        master_key: SecretKey::from_bytes(*b"the master key of all the tests."),
        statement_timeout: Duration::from_secs(10),
        lane_pool: PoolOptions { wait: Duration::from_secs(30), ..PoolOptions::default() },
        resolver: ResolverOptions::default(),
        lanes: LANES,
    }
}

/// A database of one test.
#[derive(Clone)]
pub(crate) struct Database {
    /// How the service opens it.
    pub(crate) settings: Settings,
    /// Its URL, as the superuser.
    pub(crate) superuser: SecretString,
}

impl Database {
    /// One that was never migrated.
    pub(crate) async fn empty() -> Self {
        let (shared, name) = (shared().await, next_name());
        let superuser = shared.cluster.superuser_url("postgres");
        tenants::create_database(&superuser, &name, OWNER, &shared.owner_password).await.unwrap();
        shared.take_roles_from_owner(&name).await;
        Self { settings: shared.settings(&name), superuser: shared.cluster.superuser_url(&name) }
    }

    /// A migrated one, with no tenant in it.
    pub(crate) async fn create() -> Self {
        let (shared, name) = (shared().await, next_name());
        let mut connection = superuser_of(&shared.cluster.superuser_url("postgres")).await;
        let sql = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE} OWNER {OWNER}");
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        // What is granted on a database itself is not copied with it.
        let sql = format!("REVOKE TEMPORARY ON DATABASE {name} FROM PUBLIC");
        connection.execute(AssertSqlSafe(sql)).await.unwrap();
        connection.close().await.unwrap();
        Self { settings: shared.settings(&name), superuser: shared.cluster.superuser_url(&name) }
    }
}

impl Database {
    /// A migrated one in a cluster of one's own.
    pub(crate) async fn on(cluster: &Cluster) -> Self {
        let (name, password) = ("faults", SecretString::from("only for tests"));
        let superuser = cluster.superuser_url("postgres");
        tenants::create_database(&superuser, name, OWNER, &password).await.unwrap();
        let settings = settings(cluster.url(OWNER, &password, name));
        Tenancy::migrate_catalog(&settings, Clock::system().now()).await.unwrap();
        let superuser = cluster.superuser_url(name);
        // An acknowledgement is one, whatever the cluster takes easy otherwise.
        let keep = AssertSqlSafe(format!("ALTER DATABASE {name} SET synchronous_commit TO on"));
        superuser_of(&superuser).await.execute(keep).await.unwrap();
        Self { settings, superuser }
    }

    /// The same behind a real PgBouncer, as far as requests go. `None` where there is none.
    pub(crate) async fn behind_pooler(self) -> Option<Self> {
        let shared = shared().await;
        let superuser = shared.cluster.superuser_url("postgres");
        let pooler = shared.pooler.get_or_init(|| async { PgBouncer::start(&superuser).await }).await;
        Some(self.behind(pooler.as_ref()?).await)
    }

    /// The same behind this PgBouncer.
    pub(crate) async fn behind(mut self, pooler: &PgBouncer) -> Self {
        pooler.serve(&self.superuser).await;
        self.settings.owner = pooler.through(&self.settings.direct);
        self.settings.pooling = Pooling::Transaction;
        self
    }
}

fn next_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A look at a database past everything that guards it.
#[expect(clippy::disallowed_methods, reason = "tests look at the database from outside")]
pub(crate) async fn superuser_of(url: &SecretString) -> PgConnection {
    PgConnection::connect(url.expose_secret()).await.unwrap()
}
