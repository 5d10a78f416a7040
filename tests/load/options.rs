//! What can be asked for.

use clap::{Parser, value_parser};

use crate::cases::Case;

/// Measures what requests cost, with few tenants and with many.
#[derive(Debug, Parser)]
#[command(name = "load", bin_name = "cargo test --release --test load --")]
pub(crate) struct Options {
    /// With how many tenants to measure, one after the other; at most 10000.
    #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "1,10,1000", value_parser = value_parser!(u32).range(1..=10_000))]
    tenants: Vec<u32>,
    /// How many users each tenant has.
    #[arg(long, value_name = "N", default_value = "50", value_parser = value_parser!(u32).range(50..=1_000))]
    pub(crate) users: u32,
    /// How long one measurement takes.
    #[arg(long, value_name = "N", default_value = "3", value_parser = value_parser!(u32).range(1..=60))]
    pub(crate) seconds: u32,
    /// How often everything is measured.
    #[arg(long, value_name = "N", default_value = "3", value_parser = value_parser!(u32).range(1..=20))]
    pub(crate) rounds: u32,
    /// How many connections load the server, and pgbench's database.
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u32).range(1..=64))]
    pub(crate) connections: u32,
    /// How many organizations sign up over HTTP, each time.
    #[arg(long, value_name = "N", default_value = "50", value_parser = value_parser!(u32).range(0..=500))]
    pub(crate) sign_ups: u32,
    /// How many connections a storm of logins comes over, while people are at work; none for 0.
    #[arg(long, value_name = "N", default_value = "16", value_parser = value_parser!(u32).range(0..=64))]
    pub(crate) storm: u32,
    /// How many streams of notifications are open at once, of the users of the most tenants; none for 0.
    #[arg(long, value_name = "N", default_value = "0", value_parser = value_parser!(u32).range(0..=10_000))]
    pub(crate) streams: u32,
    /// Measures instead what a migration of so many tenants costs, which adds a column.
    #[arg(long, value_name = "N", value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) fleet: Option<u32>,
    /// Measures instead what the export and the import of one tenant of so many rows cost.
    #[arg(long, value_name = "ROWS", value_parser = value_parser!(u32).range(1_000..=10_000_000))]
    pub(crate) archive: Option<u32>,
    /// Measures only these.
    #[arg(long, value_name = "CASE,…", value_delimiter = ',')]
    only: Vec<Case>,
    /// Measures how a quiet tenant fares beside a noisy one, and nothing else.
    #[arg(long)]
    pub(crate) noisy: bool,
    /// Measures what binding each transaction costs over binding a session, and nothing else.
    #[arg(long)]
    pub(crate) pooling: bool,
    /// Serves everything at a steady pace for so many minutes, and looks at what grows, and nothing else.
    #[arg(long, value_name = "MINUTES", value_parser = value_parser!(u32).range(1..=1_440))]
    pub(crate) soak: Option<u32>,
    /// With `--soak`: how many requests a second.
    #[arg(long, value_name = "N", default_value = "200", value_parser = value_parser!(u32).range(1..=10_000))]
    pub(crate) pace: u32,
    /// With `--soak`: how much memory the server may have, in MiB.
    #[arg(long, value_name = "MIB", default_value = "150", value_parser = value_parser!(u32).range(1..))]
    pub(crate) ceiling: u32,
    /// Prints JSON instead of tables.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Options {
    /// The numbers of tenants, fewest first: tenants are only added.
    pub(crate) fn tenants(&self) -> Vec<u32> {
        let mut tenants = self.tenants.clone();
        tenants.sort_unstable();
        tenants.dedup();
        tenants
    }

    /// What is measured, in the order it is printed in.
    pub(crate) fn cases(&self) -> Vec<Case> {
        Case::ALL.into_iter().filter(|case| self.only.is_empty() || self.only.contains(case)).collect()
    }
}
