//! Hours of everything at a steady pace, to see what only time shows: memory that grows, descriptors that stay open,
//! connections that are lost.
//!
//! ```text
//! cargo test --release --test load -- --soak 60 --tenants 200 --pace 200 --ceiling 150
//! ```
//!
//! It ends with a failure at the first answer that is not the right one, when the server's resident memory passes the
//! ceiling, or when at the end descriptors are open that were not after the warm-up, or counts are not what was written.

use std::{
    fmt, fs,
    sync::{
        Arc, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use crate::{
    Failure,
    client::{Client, Request},
    database::Database,
    options::Options,
    processes::{Processes, private_memory},
    report::{say, tenants},
    seed::{PASSWORD, Seeder, Target},
    service::Service,
};

/// How often it is looked at what the processes have.
const SAMPLE: Duration = Duration::from_secs(30);
/// How old tokens may become: they live for ten minutes.
const TOKENS_AGE: Duration = Duration::from_mins(4);
/// Descriptors that may come and go: idle connections to the database, files of mails.
const DESCRIPTORS: usize = 16;
/// Of a hundred requests, how many are of what kind; the rest read the current user.
const USERS: u32 = 30;
const WALLS: u32 = 45;
const COMMENTS: u32 = 60;
const NOTIFICATIONS: u32 = 70;
const LOGINS: u32 = 71;

/// What there was at a moment.
#[derive(Clone, Copy, Debug, Serialize)]
struct Sample {
    minutes: f64,
    requests: u64,
    comments: u64,
    server_mib: u32,
    descriptors: usize,
    backends: usize,
    largest_backend_mib: u32,
}

/// What the soak came to.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    optimized: bool,
    tenants: u32,
    pace: u32,
    ceiling_mib: u32,
    samples: Vec<Sample>,
}

/// What all clients share.
struct Soak {
    service: Service,
    targets: RwLock<Vec<Target>>,
    requests: AtomicU64,
    comments: AtomicU64,
}

pub(crate) async fn measure(minutes: u32, options: &Options) -> Result<Report, Failure> {
    let most = options.tenants().last().copied().unwrap_or(1);
    say("starting the service on an embedded PostgreSQL");
    let service = Service::start().await?;
    let seeder = Seeder::open(&service.data_dir(), &service.url, service.address).await?;
    let mut database = Database::open(seeder.superuser_url()?).await?;
    let processes = Processes::new(service.pid, database.backend)?;
    let mut targets = Vec::new();
    say(&format!("making {}, with {} users each", tenants(most), options.users));
    seeder.fill(&mut targets, most, options.users).await?;

    let soak = Arc::new(Soak {
        service,
        targets: RwLock::new(targets),
        requests: AtomicU64::new(0),
        comments: AtomicU64::new(0),
    });
    let mut clients = JoinSet::new();
    let pause = Duration::from_secs(options.connections.into()) / options.pace;
    for _ in 0..options.connections {
        let soak = Arc::clone(&soak);
        // Errors cross tasks as text.
        clients.spawn(async move { soak.work(pause).await.map_err(|error| error.to_string()) });
    }
    let started = Instant::now();
    let end = started + Duration::from_mins(minutes.into());
    let mut report = Report {
        optimized: !cfg!(debug_assertions),
        tenants: most,
        pace: options.pace,
        ceiling_mib: options.ceiling,
        samples: Vec::new(),
    };
    let mut renewed = Instant::now();
    while Instant::now() < end {
        tokio::select! {
            ended = clients.join_next() => return Err(format!("a client ended: {ended:?}").into()),
            () = tokio::time::sleep(SAMPLE.min(end - Instant::now())) => {}
        }
        let sample = soak.sample(&processes, &mut database, started).await?;
        say(&sample.to_string());
        report.samples.push(sample);
        if sample.server_mib > options.ceiling {
            return Err(format!("the server has more than {} MiB:\n{report}", options.ceiling).into());
        }
        if renewed.elapsed() > TOKENS_AGE {
            let mut targets = soak.targets()?;
            seeder.renew_tokens(&mut targets).await?;
            *soak.targets.write().map_err(|_| "a client panicked")? = targets;
            renewed = Instant::now();
        }
    }
    clients.shutdown().await;
    // Connections of clients that have gone are gone when the server has noticed.
    tokio::time::sleep(Duration::from_secs(2)).await;
    report.judge(soak.sample(&processes, &mut database, started).await?)?;
    soak.count(&seeder).await?;
    seeder.app().tenancy.close();
    Ok(report)
}

impl Soak {
    fn targets(&self) -> Result<Vec<Target>, Failure> {
        Ok(self.targets.read().map_err(|_| "a client panicked")?.clone())
    }

    /// One client, for ever.
    async fn work(&self, pause: Duration) -> Result<(), Failure> {
        let mut client = Client::connect(self.service.address).await?;
        let mut pace = tokio::time::interval(pause);
        // What a slow answer held up is not made up for.
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            pace.tick().await;
            let (request, writes) = {
                let targets = self.targets.read().map_err(|_| "a client panicked")?;
                let target = &targets[rand::random_range(0..targets.len())];
                Self::request(target)
            };
            client.send(&request).await?;
            self.requests.fetch_add(1, Ordering::Relaxed);
            self.comments.fetch_add(u64::from(writes), Ordering::Relaxed);
            // People come and go.
            if rand::random_ratio(1, 200) {
                client = Client::connect(self.service.address).await?;
            }
        }
    }

    /// Some request, and whether it writes a comment.
    fn request(target: &Target) -> (Request, bool) {
        let Target { host, owner, colleague, username, token, slug, .. } = target;
        let (own, his) = (format!("@{slug}.example\""), colleague.to_string());
        let wall = format!("/api/users/{colleague}/comments/");
        let get = |path: &str, mark: &str| Request::new("GET", host, path, 200, mark).bearer(token);
        match rand::random_range(0..100) {
            0..USERS => (get("/api/users/?page_size=50", &own), false),
            USERS..WALLS => (get(&wall, "\"count\":"), false),
            WALLS..COMMENTS => {
                let body = json!({"body": format!("Hello @{username}, it is {:?}", Instant::now())});
                (Request::new("POST", host, &wall, 201, &his).bearer(token).json(&body), true)
            }
            COMMENTS..NOTIFICATIONS => (get("/api/notifications/", "\"unread_count\":"), false),
            NOTIFICATIONS..LOGINS => {
                let body = json!({"username": username, "password": PASSWORD});
                (Request::new("POST", host, "/api/login/", 200, &his).json(&body), false)
            }
            _ => (get("/api/current_user/", &owner.to_string()), false),
        }
    }

    async fn sample(
        &self,
        processes: &Processes,
        database: &mut Database,
        started: Instant,
    ) -> Result<Sample, Failure> {
        let backends = database.lane_backends().await?;
        let largest = backends.iter().filter_map(|backend| private_memory(*backend)).max();
        let (resident, _) = processes.server_memory();
        Ok(Sample {
            minutes: started.elapsed().as_secs_f64() / 60.0,
            requests: self.requests.load(Ordering::Relaxed),
            comments: self.comments.load(Ordering::Relaxed),
            server_mib: resident.ok_or("the server is gone")? >> 10,
            descriptors: fs::read_dir(format!("/proc/{}/fd", self.service.pid))?.count(),
            backends: backends.len(),
            largest_backend_mib: largest.unwrap_or(0) >> 10,
        })
    }

    /// Whether what the service counts is what was written.
    async fn count(&self, seeder: &Seeder) -> Result<(), Failure> {
        let mut targets = self.targets()?;
        seeder.renew_tokens(&mut targets).await?;
        let mut client = Client::connect(self.service.address).await?;
        let mut found = 0;
        for Target { host, colleague, token, .. } in &targets {
            let path = format!("/api/users/{colleague}/comments/?page_size=1");
            let request = Request::new("GET", host, &path, 200, "\"count\":").bearer(token);
            let page: Value = serde_json::from_slice(client.send(&request).await?)?;
            found += page["count"].as_u64().ok_or("a page has no count")?;
        }
        let written = self.comments.load(Ordering::Relaxed);
        // Each client may have been stopped between a commit and its answer.
        if found < written || found > written + 64 {
            return Err(format!("{written} comments were acknowledged, {found} are there").into());
        }
        Ok(())
    }
}

impl Report {
    /// Adds what there is when all clients have gone, and compares it with the beginning.
    fn judge(&mut self, last: Sample) -> Result<(), Failure> {
        let first = self.samples.first().copied().unwrap_or(last);
        self.samples.push(last);
        if last.descriptors > first.descriptors + DESCRIPTORS {
            return Err(format!("descriptors stay open:\n{self}").into());
        }
        Ok(())
    }
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:>7.1} min {:>10} requests {:>9} comments {:>6} MiB {:>5} descriptors {:>4} backends, the largest {} MiB",
            self.minutes,
            self.requests,
            self.comments,
            self.server_mib,
            self.descriptors,
            self.backends,
            self.largest_backend_mib
        )
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let build = if self.optimized { "release" } else { "debug" };
        writeln!(
            f,
            "{build} build, {}, {} requests a second, at most {} MiB",
            tenants(self.tenants),
            self.pace,
            self.ceiling_mib
        )?;
        // One in ten tells as much.
        let every = (self.samples.len() / 10).max(1);
        self.samples.iter().step_by(every).try_for_each(|sample| writeln!(f, "{sample}"))?;
        self.samples.last().map_or(Ok(()), |last| writeln!(f, "{last}"))
    }
}
