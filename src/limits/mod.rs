//! What a tenant may have and do, and what becomes of what is too much.
//!
//! | limit | where it holds | how |
//! | --- | --- | --- |
//! | requests a second, burst | the gate, before the first query | each process by itself, in memory |
//! | concurrency | the gate, the workers, the tenant's share of its lane | each process by itself, in memory |
//! | statement timeout | the binding of a connection | PostgreSQL |
//! | users | whoever lets somebody join: [`room_for_users`] | exactly, under a lock |
//! | storage | whoever adds rows for people: [`room_for_rows`] | by the last measurement ([`crate::usage`]) |
//! | mails a day | the worker that sends them: `mails` | exactly, counted in the catalog |
//!
//! Limits are changed here too, those of a tenant and those of plans.

pub mod api;
mod error;
mod input;
pub(crate) mod mails;
mod room;
mod service;
mod visit;

pub use api::{PlanOut, PlansApi};
pub use error::{LimitReached, PlanError};
pub(crate) use input::check;
pub use input::{ChosenPlan, LimitsIn, LimitsPatch};
pub use room::{room_for_rows, room_for_users};
pub use service::{Change, change, create_plan, delete_plan, set_plan};
pub(crate) use visit::{WAIT, enter};
