//! How a run is to go about it, as clients write it: in the words of the command line.

use serde_json::Value;
use tenants::{Canaries, MOST_PARALLEL, RunPlan, StopAfter};

use crate::http::input::{Field, Wrong, string, string_type, wrong};

/// Who comes first.
#[derive(Debug)]
pub struct CanariesIn(pub Canaries);

impl Field for CanariesIn {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        text(value)?.parse().map(Self).or_else(|error: tenants::NoCanaries| wrong(error.to_string()))
    }
}

string_type!([] CanariesIn, "canaries", |schema| {
    schema.description = Some("A number of tenants, or their slugs with commas between them.");
    schema.example = Some("acme,beta".into());
});

/// How many failures are enough.
#[derive(Debug)]
pub struct StopAfterIn(pub StopAfter);

impl Field for StopAfterIn {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        text(value)?.parse().map(Self).or_else(|error: tenants::NoThreshold| wrong(error.to_string()))
    }
}

string_type!([] StopAfterIn, "stop_after", |schema| {
    schema.description = Some("A number of failures, or a percentage.");
    schema.example = Some("5%".into());
});

/// A number may be written as one.
fn text(value: Value) -> Result<String, Wrong> {
    match value {
        Value::Number(number) => Ok(number.to_string()),
        value => string(value),
    }
}

crate::input! {
    /// How a run goes about it. All of it may be left out.
    pub struct MigrationRunIn {
        /// Who is migrated first; if one of them fails, nobody else is touched. Left out, it is the youngest who is behind.
        pub canaries: Option<CanariesIn>,
        /// How many tenants a wave has; one begins when the one before has ended. Left out, one wave has all.
        pub wave: Option<u32>,
        /// How many may fail before the others are left alone: 10, if left out.
        pub stop_after: Option<StopAfterIn>,
        /// How many are migrated at once: 2, if left out, and at most 16.
        pub parallel: Option<u16>,
    }
}

impl MigrationRunIn {
    /// The plan that is meant.
    ///
    /// # Errors
    /// The field that is out of bounds.
    pub(super) fn plan(self) -> Result<RunPlan, crate::http::Problem> {
        let mut plan = RunPlan::default();
        if let Some(CanariesIn(canaries)) = self.canaries {
            plan.canaries = canaries;
        }
        if let Some(StopAfterIn(most)) = self.stop_after {
            plan.stop_after = most;
        }
        if let Some(parallel) = self.parallel {
            let sentence = || format!("Ensure this value is between 1 and {MOST_PARALLEL}.");
            let bounded =
                u8::try_from(parallel).ok().filter(|parallel| (1..=MOST_PARALLEL).contains(parallel));
            plan.parallel = bounded.ok_or_else(|| crate::http::Problem::field("parallel", sentence()))?;
        }
        if self.wave == Some(0) {
            return Err(crate::http::Problem::field(
                "wave",
                "Ensure this value is greater than or equal to 1.",
            ));
        }
        plan.wave = self.wave;
        Ok(plan)
    }
}
