//! What binding each transaction costs, over binding a session and remembering that: with nothing between the service and
//! PostgreSQL, and with a PgBouncer.

use std::{fmt, sync::Arc, time::Duration};

use secrecy::ExposeSecret as _;
use serde::Serialize;
use tenantry::{
    backend::owner_password,
    embedded::{self, Cluster},
    master_key,
};

use crate::{
    Failure,
    cases::Case,
    client::{self, Request},
    database::Database,
    options::Options,
    pgbouncer::PgBouncer,
    processes::Processes,
    report::{median, millis, say},
    seed::Seeder,
    service::Service,
};

/// Before each measurement: connections are opened, plans made, caches filled.
const WARM_UP: Duration = Duration::from_secs(1);
/// The login that owns the embedded database, and the database.
const OWNER: &str = "tenantry_owner";
const DATABASE: &str = "tenantry";

/// How connections are bound, and where they lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Way {
    Session,
    Transaction,
    TransactionThroughPgbouncer,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    optimized: bool,
    rounds: u32,
    seconds: u32,
    tenants: u32,
    cases: Vec<Compared>,
}

/// One endpoint, each way.
#[derive(Debug, Serialize)]
struct Compared {
    case: Case,
    ways: Vec<Figures>,
}

/// The medians of the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
struct Figures {
    way: Way,
    requests_per_second: f64,
    p50_ms: f64,
    /// Of the service, PostgreSQL and PgBouncer together.
    cpu_ms: f64,
    /// Over that with a session.
    ratio: f64,
}

/// A service, and who works for it.
struct Subject<'a> {
    way: Way,
    service: &'a Service,
    processes: Processes,
}

impl Subject<'_> {
    async fn round(&self, requests: &Arc<[Request]>, options: &Options) -> Result<Figures, Failure> {
        let duration = Duration::from_secs(options.seconds.into());
        let address = self.service.address;
        client::load(address, requests, options.connections, WARM_UP).await?;
        let before = self.processes.cpu()?;
        let load = client::load(address, requests, options.connections, duration).await?;
        let used = self.processes.cpu()?.since(before);
        Ok(Figures {
            way: self.way,
            requests_per_second: f64::from(load.requests) / load.took.as_secs_f64(),
            p50_ms: millis(load.percentile(50)),
            cpu_ms: millis(used.server + used.postgres + used.pooler) / f64::from(load.requests),
            ratio: 1.0,
        })
    }
}

pub(crate) async fn measure(options: &Options) -> Result<Report, Failure> {
    say("starting the service on an embedded PostgreSQL, and two more beside it");
    let service = Service::start().await?;
    let seeder = Seeder::open(&service.data_dir(), &service.url, service.address).await?;
    let superuser = seeder.superuser_url()?;
    let database = Database::open(superuser.clone()).await?;
    let key = master_key::file_in(&service.data_dir());
    let cluster = Cluster::start_or_attach(&embedded::Options::new(service.data_dir())).await?;
    let direct = cluster.url(OWNER, &owner_password(&master_key::read_or_make(&key)?), DATABASE);
    let pooler = PgBouncer::start(&superuser).await;
    let variables = |url: &secrecy::SecretString| {
        [
            ("TENANTRY_DATABASE_URL", url.expose_secret().to_owned()),
            ("TENANTRY_DIRECT_DATABASE_URL", direct.expose_secret().to_owned()),
            ("TENANTRY_DATABASE_POOLING", "transaction".to_owned()),
            ("TENANTRY_MASTER_KEY_FILE", key.display().to_string()),
            ("TENANTRY_MAIL", "file".to_owned()),
            ("TENANTRY_PUBLIC_URL", service.url.clone()),
        ]
    };
    let transaction = Service::start_with(false, &variables(&direct)).await?;
    let through = match &pooler {
        Some(pooler) => {
            pooler.serve(&superuser).await;
            Some(Service::start_with(false, &variables(&pooler.through(&direct))).await?)
        }
        None => None,
    };
    let processes = |service: &Service| Processes::new(service.pid, database.backend);
    let mut subjects = vec![
        Subject { way: Way::Session, service: &service, processes: processes(&service)? },
        Subject { way: Way::Transaction, service: &transaction, processes: processes(&transaction)? },
    ];
    if let (Some(service), Some(pooler)) = (&through, &pooler) {
        let processes = processes(service)?.with_pooler(pooler.pid());
        subjects.push(Subject { way: Way::TransactionThroughPgbouncer, service, processes });
    }
    let tenants = options.tenants().first().copied().unwrap_or(1);
    let mut targets = Vec::new();
    seeder.fill(&mut targets, tenants, options.users).await?;
    let mut cases = Vec::new();
    for case in options.cases().into_iter().filter(|case| !case.hashes()) {
        seeder.renew_tokens(&mut targets).await?;
        let requests = case.requests(&targets);
        cases.push(compare(case, &requests, &subjects, options).await?);
    }
    seeder.app().tenancy.close();
    let Options { rounds, seconds, .. } = *options;
    Ok(Report { optimized: !cfg!(debug_assertions), rounds, seconds, tenants, cases })
}

/// In each round every way is measured in turn, so that what disturbs one disturbs the others too; ratios are made within
/// a round.
async fn compare(
    case: Case,
    requests: &Arc<[Request]>,
    subjects: &[Subject<'_>],
    options: &Options,
) -> Result<Compared, Failure> {
    let mut rounds: Vec<Vec<Figures>> = Vec::new();
    for _ in 0..options.rounds {
        let mut round = Vec::new();
        for subject in subjects {
            client::once(subject.service.address, requests).await?;
            round.push(subject.round(requests, options).await?);
        }
        let session = round[0].cpu_ms;
        for figures in &mut round {
            figures.ratio = figures.cpu_ms / session;
        }
        rounds.push(round);
    }
    let ways = subjects.iter().enumerate().map(|(index, subject)| {
        let of =
            |figure: fn(&Figures) -> f64| median(rounds.iter().map(|round| figure(&round[index])).collect());
        Figures {
            way: subject.way,
            requests_per_second: of(|figures| figures.requests_per_second),
            p50_ms: of(|figures| figures.p50_ms),
            cpu_ms: of(|figures| figures.cpu_ms),
            ratio: of(|figures| figures.ratio),
        }
    });
    Ok(Compared { case, ways: ways.collect() })
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.optimized {
            writeln!(f, "not optimized: only the ratios say something, and those not much")?;
        }
        writeln!(
            f,
            "{} tenants; ms of CPU a request, of the service, PostgreSQL and PgBouncer together:",
            self.tenants
        )?;
        for Compared { case, ways } in &self.cases {
            for Figures { way, requests_per_second, p50_ms, cpu_ms, ratio } in ways {
                let way = match way {
                    Way::Session => "session",
                    Way::Transaction => "transaction",
                    Way::TransactionThroughPgbouncer => "transaction, PgBouncer",
                };
                writeln!(
                    f,
                    "{:<18} {way:<24} CPU {cpu_ms:>7.3}  ratio {ratio:>5.2}  p50 {p50_ms:>7.2} ms  {requests_per_second:>8.0} req/s",
                    case.name()
                )?;
            }
        }
        Ok(())
    }
}
