//! The command line: what can be typed. What each command does is in a module of its own.

mod api;
mod api_key;
mod archive;
mod archive_file;
mod arguments;
mod audit;
mod completions;
mod disk;
mod doctor;
mod export_schedule;
mod health;
mod impersonation;
mod jobs;
mod key_files;
mod keys;
mod limits;
mod master_key;
mod mend;
mod migrate;
mod operation;
mod operator;
pub mod output;
mod owner;
pub mod password;
pub mod provision;
mod purge;
mod run;
mod seed;
mod serve;
mod tenant;
mod tenant_changes;
mod tenant_users;
mod usage;

pub use run::run;

use std::path::PathBuf;

use clap::builder::Styles;
use clap::builder::styling::AnsiColor;
use clap::{Args, Parser, Subcommand, ValueEnum};

use tenants::Slug;
use uuid::Uuid;

pub use self::{
    api_key::{ApiKey, ApiKeyCreate, ApiKeyDelete},
    archive::{Archive, ArchiveDelete, TenantClone, TenantExport, TenantImport, TenantRestoreFrom},
    audit::Audit,
    completions::Completions,
    doctor::Doctor,
    export_schedule::{ExportSchedule, ExportScheduleRemove, ExportScheduleSet},
    health::Health,
    impersonation::{TenantEndImpersonation, TenantImpersonate},
    limits::{LimitArguments, Plan, PlanName, PlanSet, TenantLimits},
    master_key::KeysRotateMaster,
    migrate::{Migrate, Migrations, MigrationsList, MigrationsShow},
    operation::{OperationList, OperationName, OperationStatus, Operations},
    operator::{Operator, OperatorCreate, OperatorDelete, OperatorPassword},
    owner::TenantInviteOwner,
    provision::TenantProvision,
    purge::{TenantCertificate, TenantPurge},
    tenant_changes::{TenantDelete, TenantRename},
    tenant_users::TenantUsers,
    usage::{TenantUsage, Usage, UsageBy},
};
use crate::config::settings_help;

/// The backend of a SaaS product whose every customer organization has a PostgreSQL schema of its own.
#[derive(Debug, Parser)]
#[command(
    version,
    disable_help_subcommand = true,
    max_term_width = 100,
    styles = STYLES,
    subcommand_value_name = "COMMAND",
    after_help = EXAMPLES,
)]
pub struct Cli {
    /// What all commands take.
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    command: Option<Command>,
}

impl Cli {
    /// The command that was typed; `serve`, if none was.
    #[must_use]
    pub fn into_parts(self) -> (Global, Command) {
        (self.global, self.command.unwrap_or(Command::Serve))
    }
}

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

const EXAMPLES: &str = "\
Examples:
  tenantry                                  Start, on an embedded PostgreSQL
  tenantry tenant create --name \"Acme Ltd\" --owner-email ada@acme.example
  tenantry tenant list --status suspended
  tenantry --json doctor                    For a program to read

Settings are TENANTRY_… variables or lines of tenantry.toml; `tenantry serve --help` explains them.";

/// What all commands take.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Read the settings from this file.
    #[arg(
        long,
        value_name = "FILE",
        help = "Read the settings from this file [default: tenantry.toml, if there is one]",
        global = true
    )]
    pub config: Option<PathBuf>,
    /// Keep the embedded database, keys and mails here.
    #[arg(
        long,
        value_name = "DIR",
        help = "Keep the embedded database, keys and mails here [default: .tenantry]",
        global = true
    )]
    pub data_dir: Option<PathBuf>,
    /// Print JSON, for programs
    #[arg(long, global = true)]
    pub json: bool,
}

/// A command with its arguments.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Command {
    /// Answer requests until stopped (the default)
    #[command(after_long_help = settings_help())]
    Serve,
    /// Bring the database's catalog and all tenants to this version
    Migrate(Migrate),
    /// Show the migrations of all tenants, and what became of each tenant in them
    #[command(subcommand)]
    Migrations(Migrations),
    /// Create, list and manage tenants
    #[command(subcommand)]
    Tenant(Tenant),
    /// Manage the people who may use the admin API
    #[command(subcommand)]
    Operator(Operator),
    /// Manage the keys by which programs use the admin API
    #[command(subcommand)]
    ApiKey(ApiKey),
    /// Manage the limits that many tenants have in common
    #[command(subcommand)]
    Plan(Plan),
    /// Show who used how much on a day, the busiest first
    Usage(Usage),
    /// Show what operators did
    Audit(Audit),
    /// Rotate the keys that sign access tokens, and the one that wraps all others
    #[command(subcommand)]
    Keys(Keys),
    /// List jobs, mails among them, and retry what failed for good
    #[command(subcommand)]
    Jobs(Jobs),
    /// List what outlasts a request, and take it up again
    #[command(subcommand)]
    Operation(Operations),
    /// List the archives of tenants, and delete them
    #[command(subcommand)]
    Archive(Archive),
    /// Export tenants regularly
    #[command(subcommand)]
    ExportSchedule(ExportSchedule),
    /// Print the OpenAPI document
    Openapi,
    /// List every route with its methods
    Routes,
    /// Print what makes a shell complete these commands
    Completions(Completions),
    /// Check settings, database and tenants, and say what to do
    Doctor(Doctor),
    /// Ask the running server whether it is alive; what containers' health checks run
    Health(Health),
}

/// What can be done with tenants.
#[derive(Debug, PartialEq, Eq, Subcommand)]
pub enum Tenant {
    /// Create a tenant and its owner, whose password is read from standard input
    Create(TenantCreate),
    /// Create many tenants, whose owners get invitations by mail, from a table
    Provision(TenantProvision),
    /// List the tenants
    List(TenantList),
    /// Fill a tenant with made-up users, to develop against
    Seed(TenantSeed),
    /// Set for how many days what happened in a tenant is kept
    Retention(TenantRetention),
    /// Refuse a tenant's users from the next request on, everywhere
    Suspend(TenantName),
    /// Let the users of a suspended tenant in again
    Resume(TenantName),
    /// Show a tenant and how much it has
    Show(TenantName),
    /// Show or change what a tenant may have and do
    Limits(TenantLimits),
    /// Show what a tenant used, day by day
    Usage(TenantUsage),
    /// List the users of a tenant; that somebody looked stands in its log
    Users(TenantUsers),
    /// Give a tenant another slug or name
    #[command(after_help = "\
Examples:
  tenantry tenant rename acme --slug acme-labs
  tenantry tenant rename acme --name \"Acme Labs\"")]
    Rename(TenantRename),
    /// Invite the owner of a tenant that has none yet; an invitation before is void
    InviteOwner(TenantInviteOwner),
    /// Delete a tenant: nobody finds it any more, and until it is purged it can be restored
    Delete(TenantDelete),
    /// Open a tenant again that was deleted, or that its owner closed
    Restore(TenantName),
    /// Get a token that works in a user's name for 15 minutes
    Impersonate(TenantImpersonate),
    /// List who works in the names of a tenant's users
    Impersonations(TenantName),
    /// End a session in a user's name
    EndImpersonation(TenantEndImpersonation),
    /// Write a tenant into an archive
    Export(TenantExport),
    /// Make a tenant of an archive; its mails wait until it is resumed
    Import(TenantImport),
    /// Make a tenant like another; its mails wait until it is resumed
    Clone(TenantClone),
    /// Put what an archive holds in the place of a tenant, which is kept aside
    RestoreFrom(TenantRestoreFrom),
    /// Drop everything of a tenant that was deleted
    Purge(TenantPurge),
    /// Show and check the certificate of a tenant that was purged
    Certificate(TenantCertificate),
}

/// The arguments of `tenant create`.
#[derive(Args, Debug, PartialEq, Eq)]
#[command(after_help = "\
Examples:
  tenantry tenant create --name \"Acme Ltd\" --owner-email ada@acme.example
  tenantry tenant create --name Acme --slug acme --owner-email ada@acme.example < password.txt")]
pub struct TenantCreate {
    /// The organization's name
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Its host is `SLUG.<base domain>`.
    #[arg(long, value_name = "SLUG", help = "Its host is SLUG.<base domain> [default: made from the name]")]
    pub slug: Option<String>,
    /// The owner's e-mail address
    #[arg(long, value_name = "EMAIL")]
    pub owner_email: String,
    /// The owner's username.
    #[arg(long, value_name = "USERNAME", help = "The owner's username [default: what stands before the @]")]
    pub owner_username: Option<String>,
    /// Send the owner an invitation by mail instead of reading a password
    #[arg(long, conflicts_with = "owner_username")]
    pub invite: bool,
    /// Its plan.
    #[arg(long, value_name = "PLAN", help = "Its plan [default: none]")]
    pub plan: Option<tenants::PlanName>,
}

/// The arguments of `tenant list`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantList {
    /// Only those with this status
    #[arg(long, value_name = "STATUS")]
    pub status: Option<TenantStatus>,
    /// Only those with all these words in name or slug
    #[arg(long, value_name = "WORDS")]
    pub search: Option<String>,
}

/// A status that `tenant list` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TenantStatus {
    /// In use.
    Active,
    /// Closed for the time being.
    Suspended,
    /// On its way out; can still be restored.
    Deleting,
    /// Being dropped.
    Purging,
}

/// The arguments of `tenant seed`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantSeed {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// How many users to add
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub users: u32,
}

/// The arguments of `tenant retention`.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantRetention {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
    /// What happened so many days ago is removed, up to a hundred years
    #[arg(value_name = "DAYS", value_parser = clap::value_parser!(u16).range(1..=36_500))]
    pub days: u16,
}

/// The tenant that a command is about.
#[derive(Args, Debug, PartialEq, Eq)]
pub struct TenantName {
    /// The tenant
    #[arg(value_name = "SLUG")]
    pub slug: Slug,
}

/// What can be done with the keys.
#[derive(Clone, Debug, PartialEq, Eq, Subcommand)]
pub enum Keys {
    /// Make a new signing key; the old one verifies until its tokens have expired
    Rotate(KeysRotate),
    /// List the signing keys
    List,
    /// Wrap the keys in the catalog with another master key
    RotateMaster(KeysRotateMaster),
}

/// The arguments of `keys rotate`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeysRotate {
    /// Sign with it at once. Without this it is published first, for as long as others may keep the published keys.
    #[arg(
        long,
        help = "Sign with it at once, before everybody who checks tokens has had the time to fetch it"
    )]
    pub now: bool,
}

/// What can be done with jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub enum Jobs {
    /// List the jobs that are not done
    List(JobsList),
    /// Have parked jobs tried again now
    Retry(JobsRetry),
}

/// The arguments of `jobs list`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
pub struct JobsList {
    /// Only those with this status.
    #[arg(long, value_name = "STATUS", help = "Only those with this status [default: all but done]")]
    pub status: Option<JobsStatus>,
    /// How many to list at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
}

/// A status that `jobs list` can be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum JobsStatus {
    /// Waiting for its time.
    Queued,
    /// Under way.
    Running,
    /// Failed for good, until an operator retries it.
    Parked,
    /// Done.
    Done,
}

/// The arguments of `jobs retry`.
#[derive(Args, Clone, Copy, Debug, PartialEq, Eq)]
#[group(required = true, multiple = false)]
#[command(after_help = "\
Examples:
  tenantry jobs list --status parked
  tenantry jobs retry 0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41
  tenantry jobs retry --all-failed")]
pub struct JobsRetry {
    /// The job
    #[arg(value_name = "ID")]
    pub id: Option<Uuid>,
    /// All that failed: the parked ones, and those that wait for their next attempt
    #[arg(long)]
    pub all_failed: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;
    use clap::error::ErrorKind;
    use tenants::StopAfter;

    use super::*;

    fn parse(line: &str) -> Result<(Global, Command), ErrorKind> {
        Cli::try_parse_from(line.split(' ')).map(Cli::into_parts).map_err(|error| error.kind())
    }

    #[test]
    fn the_definitions_are_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_is_what_happens_without_a_command() {
        assert_eq!(parse("tenantry"), parse("tenantry serve"));
        let (global, command) = parse("tenantry --data-dir /srv").unwrap();
        assert_eq!(command, Command::Serve);
        assert_eq!(global.data_dir, Some("/srv".into()));
    }

    #[test]
    fn global_options_may_stand_before_or_behind_the_command() {
        assert_eq!(parse("tenantry --json tenant list"), parse("tenantry tenant list --json"));
    }

    #[test]
    fn commands_take_their_arguments() {
        let (_, command) = parse("tenantry tenant create --name Acme --owner-email a@b.c").unwrap();
        let (name, owner_email) = ("Acme".to_owned(), "a@b.c".to_owned());
        let (slug, owner_username, invite, plan) = (None, None, false, None);
        let expected = TenantCreate { name, slug, owner_email, owner_username, invite, plan };
        assert_eq!(command, Command::Tenant(Tenant::Create(expected)));

        let (_, command) = parse("tenantry tenant list --status suspended --search acme").unwrap();
        let expected = TenantList { status: Some(TenantStatus::Suspended), search: Some("acme".to_owned()) };
        assert_eq!(command, Command::Tenant(Tenant::List(expected)));

        let (_, command) = parse("tenantry tenant seed acme").unwrap();
        assert_eq!(
            command,
            Command::Tenant(Tenant::Seed(TenantSeed { slug: "acme".parse().unwrap(), users: 100 }))
        );

        let (_, command) = parse("tenantry tenant retention acme 36500").unwrap();
        let expected = TenantRetention { slug: "acme".parse().unwrap(), days: 36_500 };
        assert_eq!(command, Command::Tenant(Tenant::Retention(expected)));

        let (_, command) = parse("tenantry keys rotate --now").unwrap();
        assert_eq!(command, Command::Keys(Keys::Rotate(KeysRotate { now: true })));

        let (_, command) = parse("tenantry jobs list --status parked").unwrap();
        let expected = JobsList { status: Some(JobsStatus::Parked), limit: 100 };
        assert_eq!(command, Command::Jobs(Jobs::List(expected)));

        let (_, command) = parse("tenantry jobs retry --all-failed").unwrap();
        assert_eq!(command, Command::Jobs(Jobs::Retry(JobsRetry { id: None, all_failed: true })));

        let (_, command) = parse("tenantry migrate --check").unwrap();
        assert_eq!(command, Command::Migrate(Migrate { check: true, ..Migrate::default() }));

        let line = "tenantry migrate --canaries acme,beta --wave 50 --stop-after 5% --parallel 4";
        let (_, command) = parse(line).unwrap();
        let expected = Migrate {
            canaries: Some("acme,beta".parse().unwrap()),
            wave: Some(50),
            stop_after: Some(StopAfter::Percent(5)),
            parallel: Some(4),
            ..Migrate::default()
        };
        assert_eq!(command, Command::Migrate(expected));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert_eq!(parse("tenantry tenant suspend Acme!"), Err(ErrorKind::ValueValidation));
        assert_eq!(parse("tenantry tenant seed acme --users 0"), Err(ErrorKind::ValueValidation));
        assert_eq!(parse("tenantry tenant create --name Acme"), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse("tenantry operator create"), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse("tenantry jobs list --status lost"), Err(ErrorKind::InvalidValue));
        assert_eq!(parse("tenantry jobs retry"), Err(ErrorKind::MissingRequiredArgument));
        assert_eq!(parse("tenantry jobs retry 7"), Err(ErrorKind::ValueValidation));
        let both = "tenantry jobs retry --all-failed 0192f3a1-7c1e-7b7a-9f0e-3c5d8f2b6a41";
        assert_eq!(parse(both), Err(ErrorKind::ArgumentConflict));
        assert_eq!(parse("tenantry migrate --resume --retry"), Err(ErrorKind::ArgumentConflict));
        assert_eq!(parse("tenantry migrate --check --canaries 1"), Err(ErrorKind::ArgumentConflict));
        assert_eq!(parse("tenantry migrate --retry --wave 1"), Err(ErrorKind::ArgumentConflict));
        assert_eq!(parse("tenantry migrate --stop-after 0"), Err(ErrorKind::ValueValidation));
        assert_eq!(parse("tenantry migrate --parallel 17"), Err(ErrorKind::ValueValidation));
        assert_eq!(parse("tenantry srve"), Err(ErrorKind::InvalidSubcommand));
    }

    #[test]
    fn people_can_read_the_help() {
        insta::assert_snapshot!(Cli::command().term_width(100).render_help());
    }
}
