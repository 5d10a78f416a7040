//! The run: tenants are added, everything is measured, tenants are added.

use std::{
    num::NonZero,
    sync::Arc,
    thread::available_parallelism,
    time::{Duration, Instant},
};

use futures_util::future::try_join_all;
use tenantry::password::Hasher;

use crate::{
    Failure,
    cases::Case,
    client::{self, Client, Request},
    database::Database,
    floor::{PgBench, Script},
    options::Options,
    processes::{Cpu, Processes, private_memory},
    report::{self, Figures, Memory, Report, Stage, millis, say},
    seed::{PASSWORD, Seeder, Target},
    service::Service,
    sign_ups, storm, streams,
};

/// Before each measurement: connections are opened, plans made, caches filled.
const WARM_UP: Duration = Duration::from_secs(1);
/// How old the tokens may be at the start of a measurement. They live for ten minutes.
const TOKENS_AGE: Duration = Duration::from_mins(4);
/// How many hashes each core makes to tell what one costs.
const HASHES_PER_CORE: usize = 10;

/// Everything that measuring needs. Fields are dropped in order: the server stops when nobody uses it any more.
pub(crate) struct Bench<'a> {
    pub(crate) options: &'a Options,
    pub(crate) seeder: Seeder,
    database: Database,
    pub(crate) processes: Processes,
    pub(crate) hasher: Hasher,
    pub(crate) service: Service,
}

/// An endpoint to be measured.
struct Loaded {
    case: Case,
    requests: Arc<[Request]>,
    rounds: Vec<Figures>,
}

pub(crate) async fn everything(options: &Options) -> Result<Report, Failure> {
    let mut report = Report::new(options)?;
    say("starting the service on an embedded PostgreSQL");
    let service = Service::start().await?;
    report.started = service.started.clone();
    let seeder = Seeder::open(&service.data_dir(), &service.url, service.address).await?;
    let database = Database::open(seeder.superuser_url()?).await?;
    let processes = Processes::new(service.pid, database.backend)?;
    let mut bench = Bench { options, seeder, database, processes, hasher: Hasher::new()?, service };
    let mut targets = Vec::new();
    for tenants in options.tenants() {
        let stage = bench.stage(&mut targets, tenants).await?;
        report.stages.push(stage);
    }
    bench.seeder.app().tenancy.close();
    Ok(report)
}

impl Bench<'_> {
    async fn stage(&mut self, targets: &mut Vec<Target>, tenants: u32) -> Result<Stage, Failure> {
        let Options { users, rounds, .. } = *self.options;
        say(&format!("making tenants up to {tenants}, with {users} users each"));
        let (started, present) = (Instant::now(), targets.len());
        self.seeder.fill(targets, tenants, users).await?;
        let made = u32::try_from(targets.len() - present)?;
        let provisioning_ms = (made > 0).then(|| millis(started.elapsed()) / f64::from(made));

        let first = targets.first().cloned().ok_or("there is no tenant")?;
        let pgbench = PgBench::find(&self.database, self.processes.postmaster(), &first)?;
        if pgbench.is_none() {
            say("there is no pgbench beside PostgreSQL's programs, so there is nothing to compare with");
        }
        let mut cases = Vec::new();
        for case in self.options.cases() {
            let script = match &pgbench {
                Some(pgbench) if !case.hashes() => Some((pgbench, self.script(case, &first).await?)),
                _ => None,
            };
            let loaded = Loaded { case, requests: Arc::default(), rounds: Vec::new() };
            cases.push((loaded, script));
        }
        let mut renewed: Option<Instant> = None;
        for round in 1..=rounds {
            say(&format!("{}: round {round} of {rounds}", report::tenants(tenants)));
            for index in 0..cases.len() {
                if renewed.is_none_or(|renewed| renewed.elapsed() > TOKENS_AGE) {
                    self.seeder.renew_tokens(targets).await?;
                    renewed = Some(Instant::now());
                    for (loaded, _) in &mut cases {
                        loaded.requests = loaded.case.requests(targets);
                        self.introduce(loaded).await?;
                    }
                }
                let (loaded, script) = &mut cases[index];
                let figures = self.round(loaded, script.as_ref()).await?;
                loaded.rounds.push(figures);
            }
        }
        let mut client = Client::connect(self.service.address).await?;
        for (loaded, _) in &cases {
            loaded.case.verify(&mut client, &first).await?;
        }
        self.seeder.renew_tokens(targets).await?;
        let storm = storm::measure(self, targets).await?;
        let most = self.options.tenants().last() == Some(&tenants);
        let streams = if most { streams::measure(self, targets).await? } else { None };
        Ok(Stage {
            tenants,
            storm,
            streams,
            provisioning_ms,
            cases: cases.iter().map(|(loaded, _)| Figures::median_of(&loaded.rounds)).collect(),
            memory: self.memory().await?,
            sign_ups: sign_ups::measure(self, tenants).await?,
        })
    }

    /// What the endpoint makes PostgreSQL do. Its answer is looked at as well.
    async fn script(&mut self, case: Case, target: &Target) -> Result<Script, Failure> {
        let mut client = Client::connect(self.service.address).await?;
        let request = async || case.verify(&mut client, target).await;
        Script::new(&self.database.statements_of(request).await?)
    }

    /// Sends each request once: tenants are resolved, and tokens verified, before anything is measured.
    async fn introduce(&self, loaded: &Loaded) -> Result<(), Failure> {
        if loaded.case.hashes() { Ok(()) } else { client::once(self.service.address, &loaded.requests).await }
    }

    async fn round(&self, loaded: &Loaded, script: Option<&(&PgBench, Script)>) -> Result<Figures, Failure> {
        let Options { connections, seconds, .. } = *self.options;
        let duration = Duration::from_secs(seconds.into());
        client::load(self.service.address, &loaded.requests, connections, WARM_UP).await?;
        let before = self.processes.cpu()?;
        let load = client::load(self.service.address, &loaded.requests, connections, duration).await?;
        let Cpu { server, postgres, .. } = self.processes.cpu()?.since(before);
        let per_request = |cpu: Duration| millis(cpu) / f64::from(load.requests);
        let floor = match script {
            Some((pgbench, script)) => {
                let before = self.processes.cpu()?;
                let transactions = pgbench.run(script, connections, seconds).await?;
                let used = self.processes.cpu()?.since(before).postgres;
                Some(millis(used) / f64::from(transactions))
            }
            None if loaded.case.hashes() => Some(self.hash_cpu().await?),
            None => None,
        };
        let (server, postgres) = (per_request(server), per_request(postgres));
        Ok(Figures {
            case: loaded.case,
            requests_per_second: f64::from(load.requests) / load.took.as_secs_f64(),
            p50_ms: millis(load.percentile(50)),
            p99_ms: millis(load.percentile(99)),
            server_cpu_ms: server,
            postgres_cpu_ms: postgres,
            cpu_ms: server + postgres,
            floor_cpu_ms: floor,
            ratio_to_floor: floor.map(|floor| (server + postgres) / floor),
        })
    }

    /// What one password hash costs in milliseconds of CPU, while all cores hash.
    async fn hash_cpu(&self) -> Result<f64, Failure> {
        let hashes = available_parallelism().map_or(1, NonZero::get) * HASHES_PER_CORE;
        let before = self.processes.own_cpu()?;
        try_join_all((0..hashes).map(|_| self.hasher.hash(PASSWORD.into()))).await?;
        let used = self.processes.own_cpu()?.saturating_sub(before);
        Ok(millis(used) / f64::from(u32::try_from(hashes)?))
    }

    async fn memory(&mut self) -> Result<Memory, Failure> {
        let (resident, proportional) = self.processes.server_memory();
        let backends = self.database.lane_backends().await?;
        let private: Vec<u32> = backends.iter().filter_map(|backend| private_memory(*backend)).collect();
        Ok(Memory::new(resident, proportional, &private))
    }
}
