//! What was measured, for people and for programs.

use std::{
    fmt::{self, Write as _},
    io::{self, Write as _},
    num::NonZero,
    thread::available_parallelism,
    time::Duration,
};

use serde::Serialize;
use serde_json::Value;

use crate::{Failure, cases::Case, options::Options};

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// What the server said when it was ready.
    pub(crate) started: Value,
    /// Without optimizations, figures say nothing.
    optimized: bool,
    cores: usize,
    /// The machine's, when it began.
    load_average: String,
    users_per_tenant: u32,
    connections: u32,
    rounds: u32,
    seconds: u32,
    pub(crate) stages: Vec<Stage>,
}

/// What was measured with so many tenants.
#[derive(Debug, Serialize)]
pub(crate) struct Stage {
    pub(crate) tenants: u32,
    /// How long it took to make one with its users, without hashing.
    pub(crate) provisioning_ms: Option<f64>,
    pub(crate) cases: Vec<Figures>,
    pub(crate) memory: Memory,
    pub(crate) sign_ups: Option<SignUps>,
    pub(crate) storm: Option<Storm>,
    pub(crate) streams: Option<Streams>,
}

/// What one endpoint costs.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figures {
    pub(crate) case: Case,
    pub(crate) requests_per_second: f64,
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    /// Per request, like all that follows.
    pub(crate) server_cpu_ms: f64,
    pub(crate) postgres_cpu_ms: f64,
    /// Both.
    pub(crate) cpu_ms: f64,
    /// PostgreSQL's for a pgbench transaction of the same statements; of a login, that of its hash.
    pub(crate) floor_cpu_ms: Option<f64>,
    pub(crate) ratio_to_floor: Option<f64>,
}

impl Figures {
    /// Each figure's own median.
    pub(crate) fn median_of(rounds: &[Self]) -> Self {
        let median = |figure: fn(&Self) -> f64| median(rounds.iter().map(figure).collect());
        let optional = |figure: fn(&Self) -> Option<f64>| {
            let figures: Vec<f64> = rounds.iter().filter_map(figure).collect();
            (!figures.is_empty()).then(|| self::median(figures))
        };
        Self {
            case: rounds[0].case,
            requests_per_second: median(|round| round.requests_per_second),
            p50_ms: median(|round| round.p50_ms),
            p99_ms: median(|round| round.p99_ms),
            server_cpu_ms: median(|round| round.server_cpu_ms),
            postgres_cpu_ms: median(|round| round.postgres_cpu_ms),
            cpu_ms: median(|round| round.cpu_ms),
            floor_cpu_ms: optional(|round| round.floor_cpu_ms),
            ratio_to_floor: optional(|round| round.ratio_to_floor),
        }
    }
}

pub(crate) fn median(mut figures: Vec<f64>) -> f64 {
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    if figures.len().is_multiple_of(2) {
        f64::midpoint(figures[middle - 1], figures[middle])
    } else {
        figures[middle]
    }
}

/// What is kept in memory, in MiB; `None` where it may not be read.
#[derive(Debug, Serialize)]
pub(crate) struct Memory {
    server_resident: Option<f64>,
    server_proportional: Option<f64>,
    lane_backends: usize,
    backend_private_mean: Option<f64>,
    backend_private_largest: Option<f64>,
}

impl Memory {
    /// From KiB.
    pub(crate) fn new(resident: Option<u32>, proportional: Option<u32>, private: &[u32]) -> Self {
        let mib = |kib: u32| f64::from(kib) / 1_024.0;
        let count = u32::try_from(private.len()).unwrap_or(u32::MAX);
        let all: f64 = private.iter().copied().map(mib).sum();
        Self {
            server_resident: resident.map(mib),
            server_proportional: proportional.map(mib),
            lane_backends: private.len(),
            backend_private_mean: (count > 0).then(|| all / f64::from(count)),
            backend_private_largest: private.iter().copied().max().map(mib),
        }
    }
}

/// How long sign-ups took, one after the other.
#[derive(Debug, Serialize)]
pub(crate) struct SignUps {
    pub(crate) count: u32,
    pub(crate) median_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) hash_median_ms: f64,
    /// The difference of the medians.
    pub(crate) beside_hash_median_ms: f64,
    /// On average, the hash included.
    pub(crate) server_cpu_ms: f64,
    /// On average.
    pub(crate) postgres_cpu_ms: f64,
    /// Of the new organization's owner.
    pub(crate) first_request_median_ms: f64,
    pub(crate) first_request_p99_ms: f64,
}

/// What `current_user` takes, alone and beside a storm of logins.
#[derive(Debug, Serialize)]
pub(crate) struct Storm {
    /// The storm's.
    pub(crate) connections: u32,
    pub(crate) logins_per_second: f64,
    pub(crate) alone_p50_ms: f64,
    pub(crate) alone_p99_ms: f64,
    pub(crate) beside_p50_ms: f64,
    pub(crate) beside_p99_ms: f64,
    /// Beside over alone.
    pub(crate) ratio_p50: f64,
    pub(crate) ratio_p99: f64,
}

impl fmt::Display for Storm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "current_user beside {:.0} logins of nobody a second over {} connections: p50 {:.2} ms, alone {:.2}, ratio \
             {:.1}; p99 {:.2} ms, alone {:.2}, ratio {:.1}",
            self.logins_per_second,
            self.connections,
            self.beside_p50_ms,
            self.alone_p50_ms,
            self.ratio_p50,
            self.beside_p99_ms,
            self.alone_p99_ms,
            self.ratio_p99,
        )
    }
}

/// What streams of notifications take.
#[derive(Debug, Serialize)]
pub(crate) struct Streams {
    pub(crate) count: u32,
    /// By how much the server's proportional memory grew for each; `None` where that may not be read.
    pub(crate) memory_each_kib: Option<f64>,
    /// Of one heartbeat of one stream.
    pub(crate) heartbeat_server_cpu_ms: f64,
    pub(crate) heartbeat_postgres_cpu_ms: f64,
    pub(crate) events: u32,
    pub(crate) writes_per_second: u32,
    /// From the commit to the reader.
    pub(crate) delay_p50_ms: f64,
    pub(crate) delay_p99_ms: f64,
}

impl fmt::Display for Streams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} streams: {} KiB each; a heartbeat CPU server {:.3}, postgres {:.3}; from commit to reader, {} events at {} \
             writes a second by another process: p50 {:.1} ms, p99 {:.1}",
            self.count,
            self.memory_each_kib.map_or_else(|| "–".to_owned(), |kib| format!("{kib:.1}")),
            self.heartbeat_server_cpu_ms,
            self.heartbeat_postgres_cpu_ms,
            self.events,
            self.writes_per_second,
            self.delay_p50_ms,
            self.delay_p99_ms,
        )
    }
}

impl Report {
    pub(crate) fn new(options: &Options) -> Result<Self, Failure> {
        Ok(Self {
            started: Value::Null,
            optimized: !cfg!(debug_assertions),
            cores: available_parallelism().map_or(1, NonZero::get),
            load_average: std::fs::read_to_string("/proc/loadavg")?.split(' ').take(1).collect(),
            users_per_tenant: options.users,
            connections: options.connections,
            rounds: options.rounds,
            seconds: options.seconds,
            stages: Vec::new(),
        })
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = |name: &str| self.started[name].as_str().unwrap_or_default();
        let database = said("database").split(" in ").next().unwrap_or_default();
        writeln!(
            f,
            "Tenantry {} on {database}; {} cores, load average {} when it began",
            said("version"),
            self.cores,
            self.load_average
        )?;
        writeln!(
            f,
            "{} users in each tenant, {} connections; rounds of {} s, {}; CPU in ms per request",
            self.users_per_tenant,
            self.connections,
            self.seconds,
            if self.rounds == 1 { "only one".to_owned() } else { format!("medians of {}", self.rounds) }
        )?;
        if !self.optimized {
            writeln!(f, "This is a debug build: its figures say nothing. Add --release.")?;
        }
        let fewest = self.stages.first();
        self.stages.iter().try_for_each(|stage| stage.write(f, fewest))
    }
}

impl Stage {
    /// `fewest`: the stage to compare with.
    fn write(&self, f: &mut fmt::Formatter<'_>, fewest: Option<&Self>) -> fmt::Result {
        let fewest = fewest.filter(|fewest| fewest.tenants < self.tenants);
        let (one_of_them, number) = (", one of them at random for each request", self.tenants);
        writeln!(f, "\n{}{}", tenants(number), if number == 1 { "" } else { one_of_them })?;
        let beside = fewest.map(|fewest| format!("{:>9} {:>6}", format!("CPU/{}", fewest.tenants), "req/s"));
        writeln!(
            f,
            "  {:<13}{:>8}{:>9}{:>9}{:>9}{:>9}{:>9}{:>9}{:>7}{}",
            "",
            "req/s",
            "p50 ms",
            "p99 ms",
            "server",
            "postgres",
            "CPU",
            "floor",
            "ratio",
            beside.unwrap_or_default()
        )?;
        for figures in &self.cases {
            let same = |stage: &'_ Self| stage.cases.iter().find(|other| other.case == figures.case).cloned();
            figures.write(f, fewest.and_then(same).as_ref())?;
        }
        if let Some(provisioning) = self.provisioning_ms {
            writeln!(f, "  making a tenant by the library, without a hash: {provisioning:.1} ms")?;
        }
        if let Some(sign_ups) = &self.sign_ups {
            writeln!(f, "  {sign_ups}")?;
        }
        if let Some(storm) = &self.storm {
            writeln!(f, "  {storm}")?;
        }
        if let Some(streams) = &self.streams {
            writeln!(f, "  {streams}")?;
        }
        writeln!(f, "  {}", self.memory)
    }
}

impl Figures {
    fn write(&self, f: &mut fmt::Formatter<'_>, fewest: Option<&Self>) -> fmt::Result {
        let mut beside = String::new();
        if let Some(fewest) = fewest {
            let (cpu, rate) =
                (self.cpu_ms / fewest.cpu_ms, self.requests_per_second / fewest.requests_per_second);
            write!(beside, "{cpu:>9.2} {rate:>6.2}")?;
        }
        let kind = match (self.floor_cpu_ms, self.case.hashes()) {
            (None, _) => "",
            (Some(_), true) => " × hash",
            (Some(_), false) => " × pgbench",
        };
        let optional = |figure: Option<f64>, digits| {
            figure.map_or_else(|| "–".to_owned(), |figure| format!("{figure:.digits$}"))
        };
        writeln!(
            f,
            "  {:<13}{:>8.0}{:>9.2}{:>9.2}{:>9.3}{:>9.3}{:>9.3}{:>9}{:>7}{beside}{kind}",
            self.case.name(),
            self.requests_per_second,
            self.p50_ms,
            self.p99_ms,
            self.server_cpu_ms,
            self.postgres_cpu_ms,
            self.cpu_ms,
            optional(self.floor_cpu_ms, 3),
            optional(self.ratio_to_floor, 2),
        )
    }
}

impl fmt::Display for SignUps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "sign-up over HTTP, {} one after the other: median {:.0} ms, p99 {:.0}; {:.0} ms beside the hash of {:.0}; \
             CPU server {:.1}, postgres {:.1}; first request after it: median {:.1} ms, p99 {:.1}",
            self.count,
            self.median_ms,
            self.p99_ms,
            self.beside_hash_median_ms,
            self.hash_median_ms,
            self.server_cpu_ms,
            self.postgres_cpu_ms,
            self.first_request_median_ms,
            self.first_request_p99_ms,
        )
    }
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |figure: Option<f64>| figure.map_or_else(|| "–".to_owned(), |mib| format!("{mib:.1}"));
        write!(
            f,
            "memory in MiB: server {} resident, {} proportional; {} lane backends, private {} on average, {} the largest",
            mib(self.server_resident),
            mib(self.server_proportional),
            self.lane_backends,
            mib(self.backend_private_mean),
            mib(self.backend_private_largest),
        )
    }
}

/// So many tenants, in words.
pub(crate) fn tenants(number: u32) -> String {
    if number == 1 { "1 tenant".to_owned() } else { format!("{number} tenants") }
}

pub(crate) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1_000.0
}

/// Prints the report.
pub(crate) fn print(report: &(impl Serialize + fmt::Display), json: bool) -> Result<(), Failure> {
    let text = if json { serde_json::to_string_pretty(report)? } else { report.to_string() };
    writeln!(io::stdout().lock(), "{}", text.trim_end())?;
    Ok(())
}

/// Tells whoever waits what is being done.
pub(crate) fn say(what: &str) {
    // If standard error is closed, nobody wants to know.
    let _ = writeln!(io::stderr().lock(), "{what}");
}
