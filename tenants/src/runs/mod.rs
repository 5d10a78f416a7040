//! Bringing the schemas of all tenants to the program's version: the one way it is done.
//!
//! A *run* is a row of the catalog with an *item* for each tenant that is behind. Whoever works on one holds the fleet: a
//! session's advisory lock on a connection of its own, by which everything is written that the run notes of itself. So
//! there is one run at a time over all processes; a lock is no lease that somebody has to wait for, because it is gone with
//! its process; and a process that lost it is told so by the next thing it notes. A run whose row says `running` while
//! nobody holds the fleet was *interrupted*, and can be resumed.
//!
//! A tenant is migrated by one batch in one round trip, which is one transaction: the migrations it lacks, its row of the
//! catalog, its item, and the announcement. Killed at any moment, it was migrated and is noted, or neither. Should two
//! come to one tenant after all, the second fails at its version rows, and then sees that there is nothing left to do.
//!
//! Suspended tenants and those on their way out are migrated like all others: both can come back at any moment, and then
//! have to be what the program expects. Those made while a run goes on are at its program's version by themselves; those
//! that an older program made meanwhile are appended before the run ends.

mod desk;
mod hold;
mod pace;
mod plan;
mod store;
mod work;
mod worker;

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use uuid::Uuid;

pub use hold::HeldFleet;
pub use pace::{Figures, Pace, Pass};
pub use plan::{Canaries, MOST_PARALLEL, NoCanaries, NoThreshold, PARALLEL, RunPlan, StopAfter};
pub use store::ItemFilter;

/// A run as operators see it.
#[derive(Clone, Debug, PartialEq, FromQueryResult, serde::Serialize)]
pub struct Run {
    /// Its id.
    pub id: Uuid,
    /// The schema version it leads to.
    pub target: i32,
    /// `running`; `interrupted`, when its process is gone; `succeeded`; `failed`, when some tenants did; `stopped`, when
    /// so many did that the others were left alone; `abandoned`, when another run began before it was resumed.
    pub status: String,
    /// Why it stopped.
    pub reason: Option<String>,
    /// How many canaries it has.
    pub canaries: i64,
    /// How many tenants a wave has; `None`: all.
    pub wave_size: Option<i64>,
    /// How many failures stop it: a number or a percentage.
    pub stop_after: String,
    /// How many tenants are migrated at once.
    pub parallel: i16,
    /// Who started it.
    pub actor: String,
    /// The number of the process that works on it, or did last.
    pub process: i64,
    /// How many tenants it is for.
    pub total: i64,
    /// How many are migrated.
    pub done: i64,
    /// How many failed.
    pub failed: i64,
    /// How many had nothing left to do, or are gone.
    pub skipped: i64,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// When it ended; `None` while it goes on.
    pub finished_at: Option<DateTime<Utc>>,
}

impl Run {
    /// How many it has not come to yet.
    #[must_use]
    pub fn pending(&self) -> i64 {
        (self.total - self.done - self.failed - self.skipped).max(0)
    }

    /// Whether every tenant of it is at its version.
    #[must_use]
    pub fn is_success(&self) -> bool {
        self.status == "succeeded"
    }

    /// Whether somebody works on it.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.status == "running"
    }
}

/// What became of one tenant in a run.
#[derive(Clone, Debug, PartialEq, FromQueryResult, serde::Serialize)]
pub struct Item {
    /// The tenant's id. It may be gone.
    pub tenant_id: Uuid,
    /// Its slug when the run began.
    pub tenant_slug: String,
    /// 0 for the canaries.
    pub wave: i64,
    /// `pending`, `running`, `done`, `failed` or `skipped`.
    pub status: String,
    /// Its schema version before.
    pub from_version: i32,
    /// The schema version it is brought to.
    pub to_version: i32,
    /// How often it was tried.
    pub attempts: i32,
    /// Why the last attempt failed.
    pub error: Option<String>,
    /// How long the last attempt took, in milliseconds.
    pub duration_ms: Option<f64>,
}

/// Where a tenant of a run is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemStatus {
    /// Yet to come.
    Pending,
    /// Taken.
    Running,
    /// Migrated.
    Done,
    /// Not migrated, and unchanged.
    Failed,
    /// There was nothing to do any more.
    Skipped,
}

impl ItemStatus {
    /// As the catalog has it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Why a run cannot be started or gone on with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RunRefused {
    /// Somebody is at one.
    #[error("{0}")]
    UnderWay(String),
    /// There is none of this id, or none at all.
    #[error("there is no such migration run")]
    Unknown,
    /// It leads to another version than this program's.
    #[error(
        "the run was to version {run}, and this program's is {program}: `tenantry migrate` starts one to that"
    )]
    OtherVersion {
        /// The run's.
        run: i32,
        /// The program's.
        program: i32,
    },
    /// Nothing of it is left to do.
    #[error("nothing is left to do in this run: it {0}")]
    NothingPending(String),
    /// None of its tenants failed.
    #[error("no tenant has failed in this run")]
    NothingFailed,
}
