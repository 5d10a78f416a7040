//! Limits as they come in.

use poem_openapi::types::MaybeUndefined;
use serde_json::Value;
use tenants::{Limit, Limits, PlanName};

use crate::http::{
    Field,
    error::Sentence,
    input::{Wrong, nested, string, string_type, wrong},
};

crate::input! {
    /// Limits. What is left out stays; null takes the limit away, so that what is said elsewhere counts: by the plan, by
    /// the plan `default`, by the installation. Any other member is refused.
    pub struct LimitsIn {
        /// Requests a second in the long run, to each process; 1 to 1,000,000.
        pub requests_per_second: MaybeUndefined<u64>,
        /// Requests at once after a pause; as many as in a second if nothing says more. 1 to 1,000,000.
        pub burst: MaybeUndefined<u64>,
        /// Requests and jobs worked on at once, by each process; 1 to 10,000.
        pub concurrency: MaybeUndefined<u64>,
        /// Milliseconds after which PostgreSQL gives up a statement; 10 to 3,600,000.
        pub statement_timeout_ms: MaybeUndefined<u64>,
        /// Users, the deactivated ones included; at least 1.
        pub users: MaybeUndefined<u64>,
        /// Bytes of the organization's tables and their indexes; at least 1.
        pub storage_bytes: MaybeUndefined<u64>,
        /// Mails in a day of UTC; at least 0.
        pub mails_per_day: MaybeUndefined<u64>,
    }
}

impl LimitsIn {
    fn get(&self, limit: Limit) -> &MaybeUndefined<u64> {
        match limit {
            Limit::RequestsPerSecond => &self.requests_per_second,
            Limit::Burst => &self.burst,
            Limit::Concurrency => &self.concurrency,
            Limit::StatementTimeoutMs => &self.statement_timeout_ms,
            Limit::Users => &self.users,
            Limit::StorageBytes => &self.storage_bytes,
            Limit::MailsPerDay => &self.mails_per_day,
        }
    }

    /// What they change.
    #[must_use]
    pub fn patch(&self) -> LimitsPatch {
        let said = |limit: Limit| match self.get(limit) {
            MaybeUndefined::Undefined => None,
            MaybeUndefined::Null => Some((limit, None)),
            MaybeUndefined::Value(value) => Some((limit, Some(*value))),
        };
        LimitsPatch(Limit::ALL.into_iter().filter_map(said).collect())
    }
}

/// As a member of another input. A misspelt limit would be one that nobody has set.
impl Field for LimitsIn {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let Value::Object(mut object) = value else { return nested(value) };
        let unknown =
            object.keys().filter(|name| Limit::ALL.iter().all(|limit| limit.as_str() != name.as_str()));
        let mut sentences: Wrong =
            unknown.map(|name| format!("{name}: There is no such limit.").into()).collect();
        for limit in Limit::ALL {
            // Before its type sees it, which knows other bounds. What is no integer is for the type to refuse.
            let number = object.get(limit.as_str()).and_then(integer);
            if let Some(Err(sentence)) = number.map(|number| check(limit, number)) {
                sentences.push(format!("{limit}: {sentence}").into());
                object.remove(limit.as_str());
            }
        }
        match nested(Value::Object(object)) {
            Ok(limits) if sentences.is_empty() => Ok(limits),
            Ok(_) => Err(sentences),
            Err(found) => {
                sentences.extend(found);
                Err(sentences)
            }
        }
    }
}

fn integer(value: &Value) -> Option<i128> {
    value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from))
}

/// What a limit is set to by this number.
///
/// # Errors
/// The sentence that names the bound.
pub(crate) fn check(limit: Limit, value: i128) -> Result<u64, Sentence> {
    let (least, most) = limit.bounds().into_inner();
    if value < i128::from(least) {
        return Err(format!("Ensure this value is greater than or equal to {least}.").into());
    }
    u64::try_from(value)
        .ok()
        .filter(|value| *value <= most)
        .ok_or_else(|| format!("Ensure this value is less than or equal to {most}.").into())
}

/// What to change of limits: each to this, or to what is said elsewhere.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitsPatch(pub Vec<(Limit, Option<u64>)>);

impl LimitsPatch {
    /// The limits after that.
    #[must_use]
    pub fn apply(&self, mut limits: Limits) -> Limits {
        for (limit, value) in &self.0 {
            limits.set(*limit, *value);
        }
        limits
    }
}

/// The name of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChosenPlan(pub PlanName);

impl Field for ChosenPlan {
    fn from_value(value: Value) -> Result<Self, Wrong> {
        let name = string(value)?.parse::<PlanName>();
        name.map(Self).or_else(|_| {
            wrong(
                "Enter a name of 1 to 40 lower-case letters, digits, hyphens and underscores that begins with a letter.",
            )
        })
    }
}

string_type!([] ChosenPlan, "plan_name", |schema| {
    schema.min_length = Some(1);
    schema.max_length = Some(PlanName::MOST);
    schema.pattern = Some("^[a-z][a-z0-9_-]*$".to_owned());
});
