//! How much a tenant may have and do, and who says so: the tenant's own limits, over those of its plan, over those of the
//! plan `default`, over what the installation is set to.

use std::{fmt, ops::RangeInclusive, str::FromStr};

use serde::Serialize;
use serde_json::{Map, Value};

/// One thing that is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Limit {
    /// How many requests a second it may send in the long run, to each process.
    RequestsPerSecond,
    /// How many it may send at once after a pause.
    Burst,
    /// How many requests and jobs are worked on at once, by each process.
    Concurrency,
    /// After how many milliseconds PostgreSQL gives up a statement.
    StatementTimeoutMs,
    /// How many users it may have, deactivated ones included.
    Users,
    /// How many bytes its tables and their indexes may take.
    StorageBytes,
    /// How many mails it may send in a day of UTC.
    MailsPerDay,
}

impl Limit {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 7] = [
        Self::RequestsPerSecond,
        Self::Burst,
        Self::Concurrency,
        Self::StatementTimeoutMs,
        Self::Users,
        Self::StorageBytes,
        Self::MailsPerDay,
    ];

    /// Its name in the catalog and in the API.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestsPerSecond => "requests_per_second",
            Self::Burst => "burst",
            Self::Concurrency => "concurrency",
            Self::StatementTimeoutMs => "statement_timeout_ms",
            Self::Users => "users",
            Self::StorageBytes => "storage_bytes",
            Self::MailsPerDay => "mails_per_day",
        }
    }

    /// What it can be set to. Nothing that would shut everybody out for good: for that, a tenant is suspended.
    #[must_use]
    pub fn bounds(self) -> RangeInclusive<u64> {
        match self {
            // A thousandth of a second is a million nanoseconds: within these, the arithmetic is exact.
            Self::RequestsPerSecond | Self::Burst => 1..=1_000_000,
            Self::Concurrency => 1..=10_000,
            // None, to PostgreSQL, is 0. Less than a few milliseconds fails what is in order, an hour is a day's report.
            Self::StatementTimeoutMs => 10..=3_600_000,
            Self::Users | Self::StorageBytes => 1..=i64::MAX.unsigned_abs(),
            Self::MailsPerDay => 0..=i64::MAX.unsigned_abs(),
        }
    }
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The limits that somebody has set. What is `None` is said by whoever comes after him, and in the end by nobody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "each is documented where `Limit` names it")]
pub struct Limits {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub concurrency: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement_timeout_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub users: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mails_per_day: Option<u64>,
}

/// How many requests are let through: so many a second, and so many at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// A second, in the long run.
    pub per_second: u64,
    /// At once, after a pause.
    pub burst: u64,
}

impl Limits {
    /// As the catalog has them. What makes no sense there is no limit: it must not keep a tenant from being served.
    #[must_use]
    pub fn of(value: &Value) -> Self {
        let mut limits = Self::default();
        for limit in Limit::ALL {
            let set = value.get(limit.as_str()).and_then(Value::as_u64);
            limits.set(limit, set.filter(|set| limit.bounds().contains(set)));
        }
        limits
    }

    /// As the catalog has them, and as an audit log shows them.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let set = Limit::ALL.into_iter().filter_map(|limit| Some((limit, self.get(limit)?)));
        Value::Object(
            set.map(|(limit, value)| (limit.as_str().to_owned(), value.into())).collect::<Map<_, _>>(),
        )
    }

    /// What is said of one of them.
    #[must_use]
    pub fn get(&self, limit: Limit) -> Option<u64> {
        let mut copy = *self;
        *copy.place(limit)
    }

    /// Says something of one of them.
    pub fn set(&mut self, limit: Limit, to: Option<u64>) {
        *self.place(limit) = to;
    }

    fn place(&mut self, limit: Limit) -> &mut Option<u64> {
        match limit {
            Limit::RequestsPerSecond => &mut self.requests_per_second,
            Limit::Burst => &mut self.burst,
            Limit::Concurrency => &mut self.concurrency,
            Limit::StatementTimeoutMs => &mut self.statement_timeout_ms,
            Limit::Users => &mut self.users,
            Limit::StorageBytes => &mut self.storage_bytes,
            Limit::MailsPerDay => &mut self.mails_per_day,
        }
    }

    /// These, and those below where these say nothing.
    #[must_use]
    pub fn over(mut self, below: &Self) -> Self {
        for limit in Limit::ALL {
            let value = self.get(limit).or(below.get(limit));
            self.set(limit, value);
        }
        self
    }

    /// How many requests are let through; `None`: all. Where nobody says how many at once, those of one second.
    #[must_use]
    pub fn rate(&self) -> Option<Rate> {
        let per_second = self.requests_per_second?;
        Some(Rate { per_second, burst: self.burst.unwrap_or(per_second) })
    }
}

/// The name of a plan: 1 to 40 of `a-z`, `0-9`, `-` and `_`, beginning with a letter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PlanName(String);

/// The plan that says what no other limit of a tenant does.
pub(crate) const DEFAULT_PLAN: &str = "default";

impl PlanName {
    /// The most characters it has.
    pub const MOST: usize = 40;

    /// The name itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PlanName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that names no plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a plan's name has 1 to 40 characters, lower-case letters, digits, - and _, and begins with a letter"
)]
pub struct PlanNameError;

impl FromStr for PlanName {
    type Err = PlanNameError;

    fn from_str(text: &str) -> Result<Self, PlanNameError> {
        let fits = (1..=Self::MOST).contains(&text.len())
            && text.starts_with(|first: char| first.is_ascii_lowercase())
            && text.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'));
        if fits { Ok(Self(text.to_owned())) } else { Err(PlanNameError) }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_nearer_says_it_first() {
        let own = Limits { users: Some(5), ..Limits::default() };
        let plan = Limits { users: Some(10), burst: Some(7), ..Limits::default() };
        let both = own.over(&plan);
        assert_eq!(both, Limits { users: Some(5), burst: Some(7), ..Limits::default() });
        assert_eq!(both.to_value(), json!({"users": 5, "burst": 7}));
        assert_eq!(serde_json::to_value(both).unwrap(), both.to_value());
    }

    #[test]
    fn the_catalog_is_taken_at_its_word_where_it_makes_sense() {
        let value = json!({"users": 3, "burst": 0, "mails_per_day": 0, "concurrency": "many", "x": 1});
        let expected = Limits { users: Some(3), mails_per_day: Some(0), ..Limits::default() };
        assert_eq!(Limits::of(&value), expected);
        assert_eq!(Limits::of(&Value::Null), Limits::default());
    }

    #[test]
    fn a_rate_is_set_by_what_it_is_in_the_long_run() {
        let burst = Limits { burst: Some(7), ..Limits::default() };
        assert_eq!(burst.rate(), None);
        let rate = Limits { requests_per_second: Some(3), ..Limits::default() };
        assert_eq!(rate.rate(), Some(Rate { per_second: 3, burst: 3 }));
        assert_eq!(rate.over(&burst).rate(), Some(Rate { per_second: 3, burst: 7 }));
    }

    #[test]
    fn a_plan_has_a_plain_name() {
        for name in ["a", "default", "pro-2_eu", &"x".repeat(40)] {
            assert_eq!(name.parse::<PlanName>().unwrap().as_str(), name);
        }
        for name in ["", "2x", "-a", "Pro", "a b", "ä", &"x".repeat(41)] {
            assert_eq!(name.parse::<PlanName>(), Err(PlanNameError), "{name}");
        }
    }
}
