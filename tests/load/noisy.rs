//! What a noisy tenant does to a quiet one, with limits and without.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::Value;
use tenantry::{
    admin,
    audit::Actor,
    limits::{self, Change, LimitsPatch},
};
use tenants::{Limit, TenantName, Which};
use tokio::task::JoinSet;

use crate::{
    Failure,
    cases::Case,
    client::{self, Client, Load, Request},
    options::Options,
    report::{median, millis, say},
    seed::{Seeder, Target},
    service::Service,
};

/// Somebody at work, not a load: what is measured is how long he waits.
const AT_WORK: u32 = 2;
/// Before each measurement: connections are opened, limits are heard of.
const WARM_UP: Duration = Duration::from_secs(1);
/// What the noisy tenant may do: what some hundred people at work need.
const LIMITS: [(Limit, u64); 3] =
    [(Limit::RequestsPerSecond, 50), (Limit::Burst, 50), (Limit::Concurrency, 2)];
/// Tokens live for ten minutes, and this is how long one round of everything may take.
const MOST_SECONDS: u32 = 60;
/// Among so many tenants there is one on the lane of the first, and one on another.
const TENANTS: u32 = 64;
/// As few as a page of users needs.
const USERS: u32 = 50;

/// How a quiet tenant fares.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    started: Value,
    optimized: bool,
    /// The noisy tenant's.
    connections: u32,
    rounds: u32,
    seconds: u32,
    limits: Value,
    /// The noisy one on the quiet one's lane, and on another.
    places: Vec<Place>,
}

/// Where the noisy tenant is, and what that does.
#[derive(Debug, Serialize)]
struct Place {
    lane: &'static str,
    alone_p50_ms: f64,
    alone_p99_ms: f64,
    without_limits: Beside,
    with_limits: Beside,
}

/// What the quiet one waits, beside so many requests of the noisy one.
#[derive(Debug, Serialize)]
struct Beside {
    p50_ms: f64,
    p99_ms: f64,
    /// Over alone.
    ratio_p50: f64,
    ratio_p99: f64,
    noisy_served_per_second: f64,
    noisy_refused_per_second: f64,
}

/// What was measured in a round.
struct Round {
    alone: [f64; 2],
    without: [f64; 4],
    with: [f64; 4],
}

pub(crate) async fn measure(options: &Options) -> Result<Report, Failure> {
    say("starting the service on an embedded PostgreSQL, with its limits on");
    let service = Service::start_with_limits(true).await?;
    let seeder = Seeder::open(&service.data_dir(), &service.url, service.address).await?;
    let mut targets = Vec::new();
    let (quiet, noisy) = cast(&seeder, &mut targets).await?;
    let mut places = Vec::new();
    for (lane, noisy) in ["the same", "another"].into_iter().zip(noisy) {
        let stage = Stage { options, service: &service, seeder: &seeder };
        let mut rounds = Vec::new();
        for round in 1..=options.rounds {
            say(&format!("a noisy tenant on {lane} lane: round {round} of {}", options.rounds));
            let mut pair = [targets[quiet].clone(), targets[noisy].clone()];
            seeder.renew_tokens(&mut pair).await?;
            rounds.push(stage.round(&pair).await?);
        }
        places.push(Place::of(lane, &rounds));
    }
    seeder.app().tenancy.close();
    let limits = LIMITS.into_iter().map(|(limit, value)| (limit.as_str().to_owned(), value.into()));
    Ok(Report {
        started: service.started.clone(),
        optimized: !cfg!(debug_assertions),
        connections: options.connections,
        rounds: options.rounds,
        seconds: options.seconds.min(MOST_SECONDS),
        limits: Value::Object(limits.collect()),
        places,
    })
}

/// Makes tenants until there is a quiet one, a noisy one on its lane, and one on another.
async fn cast(seeder: &Seeder, targets: &mut Vec<Target>) -> Result<(usize, [usize; 2]), Failure> {
    let mut lanes = Vec::new();
    for number in 1..=TENANTS {
        seeder.fill(targets, number, USERS).await?;
        let name = TenantName::Id(targets[lanes.len()].id);
        let tenant = seeder.app().tenancy.resolver().resolve(name).await?.ok_or("a tenant is gone")?;
        lanes.push(tenant.lane);
        let like = |same: bool| (1..lanes.len()).find(|n| (lanes[*n] == lanes[0]) == same);
        if let (Some(same), Some(other)) = (like(true), like(false)) {
            return Ok((0, [same, other]));
        }
    }
    Err("all tenants are on one lane, or none is on that of the first".into())
}

struct Stage<'a> {
    options: &'a Options,
    service: &'a Service,
    seeder: &'a Seeder,
}

impl Stage<'_> {
    async fn round(&self, [quiet, noisy]: &[Target; 2]) -> Result<Round, Failure> {
        self.limit(noisy, false).await?;
        let at_work = Case::CurrentUser.requests(std::slice::from_ref(quiet));
        let alone = self.at_work(&at_work).await?;
        let without = self.beside(&at_work, noisy).await?;
        self.limit(noisy, true).await?;
        let with = self.beside(&at_work, noisy).await?;
        Ok(Round { alone: [millis(alone.percentile(50)), millis(alone.percentile(99))], without, with })
    }

    /// Gives the noisy tenant its limits, or takes them.
    async fn limit(&self, noisy: &Target, limited: bool) -> Result<(), Failure> {
        let app = self.seeder.app();
        let limits = LIMITS.into_iter().map(|(limit, value)| (limit, limited.then_some(value)));
        let change = Change { limits: LimitsPatch(limits.collect()), plan: None };
        let mut action = admin::act_on(app, Which::Id(noisy.id), false).await?;
        limits::change(app, &mut action, &change, &Actor::command_line()).await?;
        action.commit().await?;
        Ok(())
    }

    async fn at_work(&self, requests: &Arc<[Request]>) -> Result<Load, Failure> {
        let address = self.service.address;
        client::load(address, requests, AT_WORK, WARM_UP).await?;
        client::load(address, requests, AT_WORK, self.duration()).await
    }

    /// The latencies of who is at work, and what the noisy one got meanwhile, a second.
    async fn beside(&self, at_work: &Arc<[Request]>, noisy: &Target) -> Result<[f64; 4], Failure> {
        let requests = Case::UsersPage.requests(std::slice::from_ref(noisy));
        let flooding = flood(self.service, requests, self.options.connections, WARM_UP + self.duration());
        let (load, (served, refused)) = tokio::try_join!(self.at_work(at_work), flooding)?;
        let seconds = (WARM_UP + self.duration()).as_secs_f64();
        let (p50, p99) = (millis(load.percentile(50)), millis(load.percentile(99)));
        Ok([p50, p99, f64::from(served) / seconds, f64::from(refused) / seconds])
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.options.seconds.min(MOST_SECONDS).into())
    }
}

/// Sends as fast as it is answered, and sends again what was refused, which no client should.
async fn flood(
    service: &Service,
    requests: Arc<[Request]>,
    connections: u32,
    duration: Duration,
) -> Result<(u32, u32), Failure> {
    let (address, end) = (service.address, Instant::now() + duration);
    let mut senders = JoinSet::new();
    for _ in 0..connections {
        let requests = Arc::clone(&requests);
        senders.spawn(async move {
            let send = async {
                let mut client = Client::connect(address).await?;
                let (mut served, mut refused) = (0_u32, 0_u32);
                while Instant::now() < end {
                    let is_served = client.send_or_be_refused(&requests[0]).await?;
                    *(if is_served { &mut served } else { &mut refused }) += 1;
                }
                Ok::<_, Failure>((served, refused))
            };
            send.await.map_err(|error| error.to_string())
        });
    }
    let (mut served, mut refused) = (0, 0);
    while let Some(sent) = senders.join_next().await {
        let sent = sent??;
        served += sent.0;
        refused += sent.1;
    }
    Ok((served, refused))
}

impl Place {
    fn of(lane: &'static str, rounds: &[Round]) -> Self {
        let median = |figure: &dyn Fn(&Round) -> f64| median(rounds.iter().map(figure).collect());
        let beside = |figures: fn(&Round) -> &[f64; 4]| Beside {
            p50_ms: median(&|round| figures(round)[0]),
            p99_ms: median(&|round| figures(round)[1]),
            ratio_p50: median(&|round| figures(round)[0] / round.alone[0]),
            ratio_p99: median(&|round| figures(round)[1] / round.alone[1]),
            noisy_served_per_second: median(&|round| figures(round)[2]),
            noisy_refused_per_second: median(&|round| figures(round)[3]),
        };
        Self {
            lane,
            alone_p50_ms: median(&|round| round.alone[0]),
            alone_p99_ms: median(&|round| round.alone[1]),
            without_limits: beside(|round| &round.without),
            with_limits: beside(|round| &round.with),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { connections, rounds, seconds, limits, .. } = self;
        writeln!(
            f,
            "current_user of a quiet tenant over {AT_WORK} connections, beside a noisy one that asks for users_page over \
             {connections};\nits limits: {limits}; rounds of {seconds} s, medians of {rounds}"
        )?;
        if !self.optimized {
            writeln!(f, "This is a debug build: its figures say nothing. Add --release.")?;
        }
        for Place { lane, alone_p50_ms, alone_p99_ms, without_limits, with_limits } in &self.places {
            writeln!(f, "\non {lane} lane")?;
            writeln!(f, "  {:<16}{alone_p50_ms:>8.2} p50 ms{alone_p99_ms:>9.2} p99 ms", "alone")?;
            for (name, beside) in [("without limits", without_limits), ("with limits", with_limits)] {
                writeln!(
                    f,
                    "  {name:<16}{:>8.2} p50 ms{:>9.2} p99 ms; ratio {:.1} and {:.1}; the noisy one: {:.0} a second \
                     served, {:.0} refused",
                    beside.p50_ms,
                    beside.p99_ms,
                    beside.ratio_p50,
                    beside.ratio_p99,
                    beside.noisy_served_per_second,
                    beside.noisy_refused_per_second,
                )?;
            }
        }
        Ok(())
    }
}
