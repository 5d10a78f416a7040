//! What a migration of all tenants costs: one that adds a column, beside the same without any bookkeeping.
//!
//! In each round psql adds a column to every tenant's users, a transaction each, from a file, on one connection; then runs
//! add another one, with all that a run does: its row, its items, version rows, the catalog, announcements. Both are on the
//! same cluster, whose flushes are as in production. The last line asks who is behind when nobody is.

use std::{
    fmt::Write as _,
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    time::{Duration, Instant},
};

use migration::sea_orm_migration::{
    MigrationName, MigrationTrait, SchemaManager, async_trait,
    sea_orm::DbErr,
    sea_query::{Alias, ColumnDef, Table},
};
use secrecy::{ExposeSecret as _, SecretString};
use tenantry::{
    audit::Actor,
    clock::Clock,
    embedded::{Cluster, Options},
    fleet::{self, FleetError},
};
use tenants::{
    Figures, LANES, NewTenant, Pace, PoolOptions, Pooling, ResolverOptions, RunPlan, SchemaName, SecretKey,
    Settings, SlugChoice, Tenancy,
};
use tokio::{io::AsyncWriteExt as _, process::Command, sync::watch};

use crate::{Failure, report};

const DATABASE: &str = "tenantry";
const OWNER: &str = "tenantry_load_owner";
/// How many tenants are migrated at once, in turn.
const PARALLEL: [u8; 3] = [1, 2, 4];

/// A migration that adds the column of this number.
struct AddColumn(String);

impl MigrationName for AddColumn {
    fn name(&self) -> &str {
        &self.0
    }
}

#[async_trait::async_trait]
impl MigrationTrait for AddColumn {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let column = ColumnDef::new(Alias::new(&self.0)).text().null().to_owned();
        manager.alter_table(Table::alter().table(Alias::new("users")).add_column(column).to_owned()).await
    }
}

/// Measures with so many tenants, and says what came of it.
pub(crate) async fn measure(tenants: u32, rounds: u32) -> Result<(), Failure> {
    // As root, PostgreSQL runs as another user, who has to be let through.
    let permissions = Permissions::from_mode(0o711);
    let directory = tempfile::Builder::new().prefix("tenantry-load-").permissions(permissions).tempdir()?;
    let cluster = Cluster::start(&Options::new(directory.path())).await?;
    let measured = measure_on(&cluster, tenants, rounds).await;
    cluster.stop().await?;
    measured
}

async fn measure_on(cluster: &Cluster, tenants: u32, rounds: u32) -> Result<(), Failure> {
    let clock = Clock::system();
    let password = SecretString::from("only for measuring");
    tenants::create_database(&cluster.superuser_url("postgres"), DATABASE, OWNER, &password).await?;
    let owner = cluster.url(OWNER, &password, DATABASE);
    let settings = Settings {
        direct: owner.clone(),
        owner: owner.clone(),
        pooling: Pooling::Session,
        master_key: SecretKey::generate(),
        statement_timeout: Duration::from_secs(30),
        lane_pool: PoolOptions::default(),
        resolver: ResolverOptions::default(),
        lanes: LANES,
    };
    Tenancy::migrate_catalog(&settings, clock.now()).await?;
    let tenancy = Tenancy::open(&settings).await?;
    let mut schemas = Vec::new();
    for number in 0..tenants {
        let (id, slug) = (clock.uuid_v7(), format!("load-{number}"));
        let new = NewTenant { id, slug: SlugChoice::Exactly(slug.parse()?), name: slug, now: clock.now() };
        tenancy.provision(new).await?.commit().await?;
        schemas.push(SchemaName::of(id));
    }
    report::say(&format!("{tenants} tenants, ms per tenant (and times as long as psql):"));
    let mut names = Vec::new();
    for round in 1..=rounds {
        let bare = bare_loop(&owner, &schemas, round).await?;
        let mut line = format!("  round {round}: psql {:.2}", bare / f64::from(tenants));
        for parallel in PARALLEL {
            names.push(format!("column_{round}_{parallel}"));
            let took = run(&settings, &clock, &names, parallel).await?;
            write!(
                line,
                "; a run, {parallel} at once {:.2} ({:.2})",
                took / f64::from(tenants),
                took / bare
            )?;
        }
        report::say(&line);
    }
    let ahead = open(&settings, &names).await?;
    ahead.ping().await?;
    let began = Instant::now();
    let nothing = fleet::start(&ahead, &clock, &RunPlan::default(), &Actor::command_line()).await;
    if !matches!(nothing, Err(FleetError::UpToDate)) {
        return Err("somebody is behind".into());
    }
    report::say(&format!("  nobody behind: {:.2} ms in all", millis(began)));
    Ok(())
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1_000.0
}

async fn open(settings: &Settings, names: &[String]) -> Result<Tenancy, Failure> {
    let further = names.iter().map(|name| Box::new(AddColumn(name.clone())) as Box<dyn MigrationTrait>);
    Ok(Tenancy::open_ahead(settings, further.collect()).await?)
}

async fn run(settings: &Settings, clock: &Clock, names: &[String], parallel: u8) -> Result<f64, Failure> {
    let tenancy = open(settings, names).await?;
    let plan = RunPlan { parallel, ..RunPlan::default() };
    let began = Instant::now();
    let under_way = fleet::start(&tenancy, clock, &plan, &Actor::command_line()).await?;
    let run = under_way.work(Pace::default(), &watch::Sender::new(Figures::default())).await?;
    let took = millis(began);
    tenancy.close();
    if run.is_success() { Ok(took) } else { Err(format!("the run has {}", run.status).into()) }
}

async fn bare_loop(owner: &SecretString, schemas: &[SchemaName], round: u32) -> Result<f64, Failure> {
    let mut script = String::new();
    for schema in schemas {
        writeln!(script, r#"ALTER TABLE "{schema}".users ADD COLUMN bare_{round} text;"#)?;
    }
    let began = Instant::now();
    let mut psql = Command::new("psql")
        .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", "-", owner.expose_secret()])
        .stdin(Stdio::piped())
        .spawn()?;
    let mut input = psql.stdin.take().ok_or("psql takes nothing")?;
    input.write_all(script.as_bytes()).await?;
    drop(input);
    if !psql.wait().await?.success() {
        return Err("psql failed".into());
    }
    Ok(millis(began))
}
