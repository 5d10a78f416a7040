//! How a run goes about it: who comes first, in how large waves, and when it is enough.

use std::{fmt, str::FromStr};

use crate::Slug;

/// Who is migrated first: if one of them fails, nobody else is touched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Canaries {
    /// So many of the youngest, who are behind: fewest people depend on them.
    Count(u32),
    /// These, as far as they are behind.
    Named(Vec<Slug>),
}

impl Default for Canaries {
    fn default() -> Self {
        Self::Count(1)
    }
}

impl fmt::Display for Canaries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Named(slugs) => {
                let slugs: Vec<&str> = slugs.iter().map(Slug::as_str).collect();
                f.write_str(&slugs.join(","))
            }
        }
    }
}

/// A text that is no [`Canaries`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("A number of tenants, or their slugs with commas between them, is required.")]
pub struct NoCanaries;

impl FromStr for Canaries {
    type Err = NoCanaries;

    /// Digits alone are a number: no slug begins with one.
    fn from_str(text: &str) -> Result<Self, NoCanaries> {
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Count).map_err(|_| NoCanaries);
        }
        let slugs = text.split(',').map(|slug| slug.trim().parse());
        slugs.collect::<Result<_, _>>().map(Self::Named).map_err(|_| NoCanaries)
    }
}

/// How many tenants may fail before the others are left alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopAfter {
    /// So many.
    Failures(u32),
    /// So many of a hundred of those who are planned up to the end of the present wave.
    Percent(u8),
}

impl Default for StopAfter {
    /// What is wrong with ten is wrong with most.
    fn default() -> Self {
        Self::Failures(10)
    }
}

impl StopAfter {
    /// Whether it is enough.
    pub(super) fn is_reached(self, failed: u64, planned: u64) -> bool {
        match self {
            _ if failed == 0 => false,
            Self::Failures(most) => failed >= u64::from(most),
            Self::Percent(most) => failed * 100 >= planned * u64::from(most),
        }
    }
}

impl fmt::Display for StopAfter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failures(most) => write!(f, "{most}"),
            Self::Percent(most) => write!(f, "{most}%"),
        }
    }
}

/// A text that is no [`StopAfter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("A number of failures from 1 on, or a percentage from 1% to 100%, is required.")]
pub struct NoThreshold;

impl FromStr for StopAfter {
    type Err = NoThreshold;

    fn from_str(text: &str) -> Result<Self, NoThreshold> {
        let number = |text: &str| {
            text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten()
        };
        match text.strip_suffix('%') {
            None => number(text).filter(|most| *most > 0).map(Self::Failures).ok_or(NoThreshold),
            Some(text) => number(text)
                .and_then(|most| u8::try_from(most).ok())
                .filter(|most| (1..=100).contains(most))
                .map(Self::Percent)
                .ok_or(NoThreshold),
        }
    }
}

/// How many tenants are migrated at once, if nobody says.
pub const PARALLEL: u8 = 2;
/// How many at most: each is a connection.
pub const MOST_PARALLEL: u8 = 16;

/// How a run goes about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunPlan {
    /// Who comes first.
    pub canaries: Canaries,
    /// How many tenants a wave has; `None`: all that are left. A wave begins when the one before has ended.
    pub wave: Option<u32>,
    /// When it is enough.
    pub stop_after: StopAfter,
    /// How many tenants are migrated at once.
    pub parallel: u8,
}

impl Default for RunPlan {
    fn default() -> Self {
        Self {
            canaries: Canaries::default(),
            wave: None,
            stop_after: StopAfter::default(),
            parallel: PARALLEL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canaries_are_so_many_or_these() {
        let slugs =
            |slugs: &[&str]| Canaries::Named(slugs.iter().map(|slug| slug.parse().unwrap()).collect());
        for (text, canaries) in [
            ("0", Canaries::Count(0)),
            ("12", Canaries::Count(12)),
            ("acme", slugs(&["acme"])),
            ("acme, beta", slugs(&["acme", "beta"])),
        ] {
            assert_eq!(text.parse(), Ok(canaries), "{text}");
        }
        for text in ["", ",", "-1", "acme,,beta", "Acme!", "99999999999"] {
            assert_eq!(text.parse::<Canaries>(), Err(NoCanaries), "{text:?}");
        }
        assert_eq!(slugs(&["acme", "beta"]).to_string(), "acme,beta");
    }

    #[test]
    fn a_threshold_is_a_number_or_a_percentage() {
        for text in ["1", "10", "1%", "100%"] {
            assert_eq!(text.parse::<StopAfter>().map(|most| most.to_string()).as_deref(), Ok(text));
        }
        for text in ["", "0", "0%", "101%", "+1", "%", "1.5%", "ten", "-1"] {
            assert_eq!(text.parse::<StopAfter>(), Err(NoThreshold), "{text:?}");
        }
    }

    #[test]
    fn it_is_enough_when_so_many_failed() {
        let reached =
            |text: &str, failed, planned| text.parse::<StopAfter>().unwrap().is_reached(failed, planned);
        assert!(!reached("3", 2, 1_000) && reached("3", 3, 1_000));
        assert!(!reached("5%", 4, 100) && reached("5%", 5, 100));
        assert!(!reached("5%", 0, 0));
    }
}
