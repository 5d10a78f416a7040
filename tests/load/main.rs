//! A load test: what a request costs, with one tenant and with thousands.
//!
//! ```text
//! cargo test --release --test load
//! cargo test --release --test load -- --tenants 1,10,1000,10000 --seconds 5 --connections 16
//! cargo test --release --test load -- --tenants 100 --only current_user --rounds 1 --streams 2000
//! cargo test --release --test load -- --noisy
//! cargo test --release --test load -- --pooling --tenants 100
//! cargo test --release --test load -- --soak 60 --tenants 200
//! ```
//!
//! It starts the real `tenantry serve` on an embedded PostgreSQL in a directory of its own, fills it with tenants, and
//! loads it over keep-alive connections of the loopback interface. Every answer is checked for its status and for
//! something only the right tenant's answer has in it; the first wrong one ends the run with a failure. How to read
//! what it prints:
//!
//! - **CPU per request** is what counts. Requests per second depend on what else the machine does, and the generator
//!   takes its share of the same cores; the processor time that the server and PostgreSQL used hardly does. It comes
//!   from `/proc`: the server's own, and PostgreSQL's with all of its processes, those that have ended included.
//! - **pgbench** is the floor below which no server on PostgreSQL can go: the CPU of PostgreSQL for the same statements
//!   with the same values, prepared, on one schema that is never changed, by as many connections. The statements are
//!   not written down here but read from PostgreSQL's log while the service answers, so they are the service's own.
//!   **ratio** is server and PostgreSQL together over that.
//! - **CPU/1** and **req/s** in the last columns compare with the first table, that of one tenant: 1.2 is a fifth more.
//! - Each figure is the median of the rounds. In each round everything is measured in turn, pgbench right after its
//!   endpoint, so that what disturbs one disturbs the other too; ratios are made within a round.
//! - A login costs what the password hash costs, which is there to cost something. It is measured as the server does it,
//!   one on each core, and what a login or a sign-up takes **beside** it is what there is to improve.
//! - Streams of notifications are measured with the most tenants: their memory is what the server's grows by, the delay
//!   that from a commit in another process to the event at its reader.
//! - With `--noisy`, nothing of that, but how long a quiet tenant waits beside a noisy one that sends as fast as it is
//!   answered: on the same lane and on another, without limits and with them, over how long it waits alone.
//! - A backend's memory is its **private** memory: what it shares with the others counts once for all of them. It grows
//!   with the tenants that a lane's connection has seen.
//!
//! | file | |
//! | --- | --- |
//! | `service` | the server, its directory, and the end of both |
//! | `seed` | tenants, users and sessions, made by the library on the same database |
//! | `cases` | what is asked, and what must be in the answer |
//! | `client` | HTTP over raw sockets, as cheap as can be |
//! | `database` | the statements behind a request, and the backends |
//! | `floor` | pgbench |
//! | `processes` | CPU and memory from `/proc` |
//! | `archive` | what export and import of one tenant cost, with `--archive 1000000` |
//! | `fleet` | what a migration of all tenants costs, with `--fleet 1000` |
//! | `measure`, `sign_ups`, `storm`, `streams` | the run |
//! | `pooling` | what binding each transaction costs over binding a session, with `--pooling` |
//! | `soak` | hours of everything at a steady pace, with `--soak MINUTES`: see there |
//! | `noisy` | the other run: a noisy tenant beside a quiet one |
//! | `report` | what is printed |

use std::{error::Error, process::ExitCode};

use clap::Parser as _;
use tokio::signal::unix::{SignalKind, signal};

mod archive;
mod cases;
mod client;
mod database;
mod fleet;
mod floor;
mod measure;
mod noisy;
mod options;
#[expect(clippy::unwrap_used, reason = "the tests' own")]
#[path = "../support/pgbouncer.rs"]
mod pgbouncer;
mod pooling;
mod processes;
mod report;
#[expect(clippy::unwrap_used, reason = "the tests' own, which run the scripts too")]
#[path = "../support/scripts.rs"]
mod scripts;
mod seed;
mod service;
mod sign_ups;
mod soak;
mod storm;
mod streams;

use database::superuser_of;
use options::Options;
use report::say;
use scripts::psql;

/// Why it could not be measured; its text is for the person who wanted to know.
type Failure = Box<dyn Error>;

fn main() -> ExitCode {
    let options = Options::parse();
    if !cfg!(target_os = "linux") {
        report::say("the load test reads CPU and memory from /proc, which only Linux has");
        return ExitCode::FAILURE;
    }
    // One thread: the generator shall leave the cores to what it measures.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let outcome = runtime.map_err(Failure::from).and_then(|runtime| runtime.block_on(run(&options)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report::say(&format!("error: {error}"));
            ExitCode::FAILURE
        }
    }
}

/// Measures until done or told to stop. Either way the server and its directory are gone afterwards: they go with the
/// future that owns them.
async fn run(options: &Options) -> Result<(), Failure> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    tokio::select! {
        biased;
        _ = interrupt.recv() => Err("interrupted".into()),
        _ = terminate.recv() => Err("told to stop".into()),
        _ = hangup.recv() => Err("the terminal is gone".into()),
        measured = measured(options) => measured,
    }
}

async fn measured(options: &Options) -> Result<(), Failure> {
    match (options.fleet, options.archive) {
        (Some(tenants), _) => fleet::measure(tenants, options.rounds).await,
        (None, Some(rows)) => archive::measure(rows, options.rounds).await,
        (None, None) if let Some(minutes) = options.soak => {
            report::print(&soak::measure(minutes, options).await?, options.json)
        }
        (None, None) if options.pooling => report::print(&pooling::measure(options).await?, options.json),
        (None, None) if options.noisy => report::print(&noisy::measure(options).await?, options.json),
        (None, None) => report::print(&measure::everything(options).await?, options.json),
    }
}
