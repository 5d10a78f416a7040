//! Every figure there is, in the order in which the page has them.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, text},
    registry::Registry,
};
use tenants::{BUSIEST_WINDOW, Backlog, PoolReport, PoolTimings, TimingFigures};

use super::{
    families::{Families, Figure, Sample, known, labels, only},
    process::Process,
    tally::{Outcome, Tally},
};
use crate::{state::App, telemetry};

/// What a migration run may be; of the latest one, that which it is has 1.
const RUN_STATES: [&str; 6] = ["running", "interrupted", "succeeded", "failed", "stopped", "abandoned"];

/// A look at everything.
#[derive(Debug)]
struct Look {
    app: App,
    backlog: Option<Backlog>,
}

/// The page, with what the catalog says, if it says something.
pub(super) fn page(app: &App, backlog: Option<Backlog>) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Look { app: app.clone(), backlog }));
    let mut page = String::new();
    text::encode(&mut page, &registry)?;
    Ok(page)
}

impl Collector for Look {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut families, app) = (Families::to(encoder), &self.app);
        // Not of the type `info`, which only readers of OpenMetrics know: others read this page too.
        let build = [(labels! {version: env!("CARGO_PKG_VERSION")}, 1.0)];
        families.gauge("tenantry_build_info", "The program", build)?;
        requests(&mut families, app)?;
        let pools = app.tenancy.pools();
        self::pools(&mut families, &pools)?;
        database(&mut families, &pools)?;
        memory(&mut families, app)?;
        hashing(&mut families, app)?;
        work(&mut families, app)?;
        families.gauge(
            "tenantry_catalog_answers",
            "Whether the catalog said just now what there is to do",
            only(if self.backlog.is_some() { 1.0 } else { 0.0 }),
        )?;
        if let Some(backlog) = &self.backlog {
            self::backlog(&mut families, backlog)?;
            run(&mut families, backlog, app)?;
        }
        busiest(&mut families, app)?;
        families.counter(
            "tenantry_log_lines_lost",
            "Lines of the log that were lost because nobody took them in time",
            only(telemetry::lost_lines().figure()),
        )?;
        runtime(&mut families)?;
        process(&mut families, Process::look())
    }
}

fn requests(families: &mut Families<'_>, app: &App) -> fmt::Result {
    let requests = &app.metrics().requests;
    let seen = requests.seen();
    families.counter(
        "tenantry_http_requests",
        "Requests answered, by route, method and class of status",
        seen.counts.iter().map(|((route, method, status), count)| {
            (labels! {route: &**route, method: method, status: *status}, count.figure())
        }),
    )?;
    families.histogram(
        "tenantry_http_request_duration_seconds",
        "Time from the head of a request to that of its answer, by route",
        seen.times.iter().map(|(route, time)| (labels! {route: &**route}, *time)),
    )?;
    families.gauge(
        "tenantry_http_requests_in_flight",
        "Requests that are not answered yet",
        only(requests.under_way().figure()),
    )?;
    families.counter(
        "tenantry_http_requests_abandoned",
        "Requests whose client hung up before they were answered",
        only(requests.abandoned().figure()),
    )?;
    families.counter(
        "tenantry_http_problems",
        "Answers that say what went wrong, by code",
        requests.problems().iter().map(|(code, count)| (labels! {code: *code}, count.figure())),
    )?;
    let of_tenants =
        app.metrics().refusals.counts().map(|(_, reason, count)| (labels! {reason: reason}, count.figure()));
    let others = [("hashing_queue", app.hasher.figures().refused), ("streams", app.streams.refused())];
    families.counter(
        "tenantry_refused_requests",
        "Requests that were one too many, by what there was too much of",
        of_tenants.chain(others.map(|(reason, count)| (labels! {reason: reason}, count.figure()))),
    )?;
    let streams = &app.streams;
    families.gauge("tenantry_streams_open", "Event streams", only(streams.count().figure()))?;
    families.gauge(
        "tenantry_streams_max",
        "Event streams there may be",
        only(streams.options().most.figure()),
    )
}

fn pools(families: &mut Families<'_>, pools: &[PoolReport]) -> fmt::Result {
    let each = |value: fn(&PoolReport) -> f64| {
        pools.iter().map(move |pool| (labels! {pool: pool.name.as_str()}, value(pool)))
    };
    families.gauge(
        "tenantry_pool_connections",
        "Connections to the database that are open",
        each(|pool| pool.figures.open.figure()),
    )?;
    families.gauge(
        "tenantry_pool_connections_max",
        "Connections that may be open",
        each(|pool| pool.size.figure()),
    )?;
    families.gauge(
        "tenantry_pool_waiting",
        "Callers that wait for a connection",
        each(|pool| pool.figures.waiting.figure()),
    )?;
    families.counter(
        "tenantry_pool_connections_opened",
        "Connections opened",
        each(|pool| pool.figures.opened.figure()),
    )?;
    families.counter(
        "tenantry_pool_connections_failed",
        "Connections that could not be opened",
        each(|pool| pool.figures.failed.figure()),
    )?;
    let closed = pools.iter().flat_map(|pool| {
        let figures = &pool.figures;
        [("retired", figures.retired), ("unfinished", figures.closed_unfinished)]
            .map(|(reason, count)| (labels! {pool: pool.name.as_str(), reason: reason}, count.figure()))
    });
    families.counter(
        "tenantry_pool_connections_closed",
        "Connections closed because of their age or use, or because an exchange on them was cut short",
        closed,
    )?;
    let bindings = pools.iter().flat_map(|pool| {
        let figures = &pool.figures;
        [("new", figures.bound), ("switched", figures.rebound), ("reused", figures.reused)]
            .map(|(kind, count)| (labels! {pool: pool.name.as_str(), kind: kind}, count.figure()))
    });
    families.counter(
        "tenantry_pool_bindings",
        "Checkouts, by whether the connection was new, bound anew, or bound already",
        bindings,
    )?;
    families.gauge(
        "tenantry_pool_tenants_touched",
        "Tenants that the open connections have seen, added up over connections",
        each(|pool| pool.touched.total.figure()),
    )?;
    families.gauge(
        "tenantry_pool_tenants_touched_max",
        "Tenants that the connection has seen which has seen most",
        each(|pool| pool.touched.most.figure()),
    )
}

fn database(families: &mut Families<'_>, pools: &[PoolReport]) -> fmt::Result {
    // The lanes are alike: eight times as many figures would tell no more.
    let of = |name: &'static str| {
        let some = pools.iter().filter(move |pool| match name {
            "lanes" => pool.name.starts_with("lane_"),
            _ => pool.name == name,
        });
        (name, some.map(|pool| pool.timings).collect::<Vec<_>>())
    };
    let groups = ["lanes", "catalog", "owner", "bulk"].map(of);
    let sum = |timings: &[PoolTimings], one: fn(&PoolTimings) -> TimingFigures| {
        timings.iter().fold(TimingFigures::default(), |sum, timings| sum.plus(&one(timings)))
    };
    families.histogram(
        "tenantry_database_wait_seconds",
        "Time that callers waited for the right to a connection",
        groups.iter().map(|(pool, timings)| (labels! {pool: *pool}, sum(timings, |it| it.wait))),
    )?;
    families.histogram(
        "tenantry_database_held_seconds",
        "Time that a connection was held for one statement that reads, one that may write, or a transaction",
        groups.iter().flat_map(|(pool, timings)| {
            [
                ("read", sum(timings, |it| it.read)),
                ("write", sum(timings, |it| it.write)),
                ("transaction", sum(timings, |it| it.transaction)),
            ]
            .map(|(work, time)| (labels! {pool: *pool, work: work}, time))
        }),
    )
}

/// What is remembered, and how often that helped.
fn memory(families: &mut Families<'_>, app: &App) -> fmt::Result {
    let (tenants, tokens) = (app.tenancy.resolver().figures(), app.tokens.figures());
    let lookups = [("hit", tenants.hits), ("query", tenants.queries)];
    families.counter(
        "tenantry_resolver_lookups",
        "Names of tenants that were looked for, by whether they were remembered",
        lookups.map(|(result, count)| (labels! {result: result}, count.figure())),
    )?;
    let entries = [("tenants", tenants.tenants), ("names", tenants.names), ("unknown", tenants.unknown)];
    families.gauge(
        "tenantry_resolver_entries",
        "What is remembered of tenants and their names",
        entries.map(|(kind, count)| (labels! {kind: kind}, count.figure())),
    )?;
    let checks = [("remembered", tokens.hits), ("verified", tokens.checked)];
    families.counter(
        "tenantry_token_checks",
        "Access tokens looked at, by whether they were remembered or their signature was checked",
        checks.map(|(result, count)| (labels! {result: result}, count.figure())),
    )?;
    families.gauge("tenantry_token_entries", "Access tokens remembered", only(tokens.remembered.figure()))?;
    families.counter(
        "tenantry_signing_key_loads",
        "Loads of the signing keys",
        only(tokens.loads.figure()),
    )?;
    families.gauge(
        "tenantry_listening",
        "Whether it is heard what other processes change in the catalog; else nothing is remembered for long",
        only(if app.tenancy.signals().is_listening() { 1.0 } else { 0.0 }),
    )
}

fn hashing(families: &mut Families<'_>, app: &App) -> fmt::Result {
    let hashing = app.hasher.figures();
    families.gauge("tenantry_hashing_running", "Passwords being hashed", only(hashing.running.figure()))?;
    families.gauge(
        "tenantry_hashing_waiting",
        "Passwords that wait for it",
        only(hashing.waiting.figure()),
    )?;
    families.histogram("tenantry_hashing_wait_seconds", "Time that they waited", [(vec![], hashing.wait)])?;
    families.histogram("tenantry_hashing_duration_seconds", "Time that it took", [(vec![], hashing.time)])
}

fn work(families: &mut Families<'_>, app: &App) -> fmt::Result {
    let metrics = app.metrics();
    families.counter(
        "tenantry_job_attempts",
        "Attempts at jobs, by kind and outcome",
        counts_by_kind(&metrics.jobs),
    )?;
    families.histogram(
        "tenantry_job_duration_seconds",
        "Time that they took",
        times_by_kind(&metrics.jobs),
    )?;
    families.counter(
        "tenantry_mail_attempts",
        "Attempts to deliver a mail, by outcome",
        metrics.mails.counts().map(|(_, outcome, count)| (labels! {outcome: outcome}, count.figure())),
    )?;
    families.histogram(
        "tenantry_mail_duration_seconds",
        "Time that they took",
        metrics.mails.times().map(|(_, time)| (vec![], time)),
    )?;
    families.counter(
        "tenantry_operation_attempts",
        "Attempts at operations, by kind and outcome",
        counts_by_kind(&metrics.operations),
    )?;
    families.histogram(
        "tenantry_operation_duration_seconds",
        "Time that they took",
        times_by_kind(&metrics.operations),
    )?;
    let provisioned = app.tenancy.provisioned();
    families.histogram(
        "tenantry_provisioning_duration_seconds",
        "Time from the first statement to the commit of tenants that were made",
        [(vec![], provisioned.made())],
    )?;
    families.counter(
        "tenantry_provisionings_given_up",
        "Tenants that were begun and not made",
        only(provisioned.given_up().figure()),
    )
}

fn counts_by_kind<O: Outcome>(tally: &Tally<O>) -> impl Iterator<Item = Sample<'_, f64>> {
    tally.counts().map(|(kind, outcome, count)| (labels! {kind: kind, outcome: outcome}, count.figure()))
}

fn times_by_kind<O: Outcome>(tally: &Tally<O>) -> impl Iterator<Item = Sample<'_, TimingFigures>> {
    let some = tally.times().filter(|(_, time)| time.count() > 0);
    some.map(|(kind, time)| (labels! {kind: kind}, time))
}

/// The same on every process: it is the installation's.
fn backlog(families: &mut Families<'_>, backlog: &Backlog) -> fmt::Result {
    let Backlog { jobs, operations, tenants, .. } = backlog;
    families.gauge(
        "tenantry_jobs",
        "Jobs that are not done, by kind and status",
        jobs.iter().map(|it| (labels! {kind: &*it.kind, status: &*it.status}, it.jobs.figure())),
    )?;
    let waiting = jobs.iter().filter(|it| it.status == "queued");
    families.gauge(
        "tenantry_jobs_oldest_due_seconds",
        "For how long the oldest job is due that nobody has taken, by kind",
        waiting.map(|it| (labels! {kind: &*it.kind}, it.oldest_seconds.max(0.0))),
    )?;
    families.gauge(
        "tenantry_operations",
        "Operations that wait or go on, by kind and status",
        operations.iter().map(|it| (labels! {kind: &*it.kind, status: &*it.status}, it.operations.figure())),
    )?;
    families.gauge(
        "tenantry_tenants",
        "Tenants, by status",
        tenants.iter().map(|it| (labels! {status: &*it.status}, it.tenants.figure())),
    )?;
    let behind: i64 = tenants.iter().map(|it| it.behind).sum();
    families.gauge(
        "tenantry_tenants_behind",
        "Tenants whose schema is older than this program's",
        only(behind.figure()),
    )
}

fn run(families: &mut Families<'_>, backlog: &Backlog, app: &App) -> fmt::Result {
    let run = backlog.run.as_ref();
    families.gauge(
        "tenantry_migration_run",
        "The status of the latest migration run: 1 for that which it has",
        run.into_iter().flat_map(|run| {
            let is = |status| if run.status == status { 1.0 } else { 0.0 };
            RUN_STATES.map(move |status| (labels! {status: status}, is(status)))
        }),
    )?;
    let results = run.into_iter().flat_map(|run| {
        [("pending", run.pending()), ("done", run.done), ("failed", run.failed), ("skipped", run.skipped)]
    });
    families.gauge(
        "tenantry_migration_run_tenants",
        "What became of the tenants of the latest migration run",
        results.map(|(result, count)| (labels! {result: result}, count.figure())),
    )?;
    let took = run.map(|run| {
        let end = run.finished_at.unwrap_or_else(|| app.clock.now());
        (end - run.started_at).as_seconds_f64().max(0.0)
    });
    families.gauge(
        "tenantry_migration_run_duration_seconds",
        "How long the latest migration run took, or takes",
        known(took),
    )
}

fn busiest(families: &mut Families<'_>, app: &App) -> fmt::Result {
    let busiest = app.tenancy.busiest();
    let ids: Vec<_> = busiest.iter().map(|busy| busy.tenant.to_string()).collect();
    let each = |value: fn(&tenants::Busy) -> f64| {
        let some = ids.iter().zip(&busiest);
        some.map(move |(id, busy)| (labels! {tenant: id.as_str()}, value(busy)))
    };
    families.gauge(
        "tenantry_busiest_requests",
        "Requests to the busiest tenants within the window",
        each(|busy| busy.requests.figure()),
    )?;
    families.gauge(
        "tenantry_busiest_errors",
        "Those of them that the service failed at",
        each(|busy| busy.errors.figure()),
    )?;
    families.gauge(
        "tenantry_busiest_throttled",
        "Those of them that were one too many",
        each(|busy| busy.throttled.figure()),
    )?;
    families.gauge(
        "tenantry_busiest_database_seconds",
        "Time that connections were held for them within the window",
        each(|busy| busy.database_micros.figure() / 1e6),
    )?;
    families.gauge("tenantry_busiest_window_seconds", "The window", only(BUSIEST_WINDOW.as_secs_f64()))
}

fn runtime(families: &mut Families<'_>) -> fmt::Result {
    let runtime = tokio::runtime::Handle::current().metrics();
    families.gauge("tenantry_runtime_workers", "Threads that serve", only(runtime.num_workers().figure()))?;
    families.gauge("tenantry_runtime_tasks", "Tasks that live", only(runtime.num_alive_tasks().figure()))?;
    families.gauge(
        "tenantry_runtime_queue",
        "Tasks that wait for a thread and are nobody's yet",
        only(runtime.global_queue_depth().figure()),
    )
}

fn process(families: &mut Families<'_>, process: Process) -> fmt::Result {
    families.counter("process_cpu_seconds", "CPU time, user's and system's", known(process.cpu_seconds))?;
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Memory in use", process.resident_bytes),
        ("process_virtual_memory_bytes", "Memory mapped", process.virtual_bytes),
        ("process_open_fds", "Open files", process.open_files),
        ("process_max_fds", "Files that may be open", process.most_files),
        ("process_threads", "Threads", process.threads),
    ] {
        families.gauge(name, help, known(value.map(Figure::figure)))?;
    }
    let started = known(process.started_seconds);
    families.gauge("process_start_time_seconds", "When the process was started, since 1970", started)
}
