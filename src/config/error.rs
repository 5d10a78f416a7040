//! What is wrong with the configuration, all of it at once.

use std::fmt;
use std::path::PathBuf;

use super::settings::Setting;
use crate::printable::Printable;

/// Everything that is wrong with the configuration. Never shows a secret.
#[derive(Debug)]
pub struct ConfigError {
    /// The problems, in the order in which they were found.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConfigError {}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => write!(f, "a setting is wrong")?,
            count => write!(f, "{count} settings are wrong")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}

/// One wrong setting.
#[derive(Debug)]
pub struct Problem {
    /// Its name, as it is written where it comes from.
    pub setting: String,
    /// Where it comes from.
    pub origin: Origin,
    /// What is wrong.
    pub wrong: String,
    /// What would be right.
    pub right: String,
}

impl Problem {
    /// A problem of a setting that came from `origin`.
    pub(super) fn new(
        setting: &Setting,
        origin: &Origin,
        wrong: impl Into<String>,
        right: impl Into<String>,
    ) -> Self {
        let name = match origin {
            Origin::File { .. } => setting.key.to_owned(),
            Origin::Environment | Origin::Unset => setting.variable(),
        };
        Self { setting: name, origin: origin.clone(), wrong: wrong.into(), right: right.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { setting, origin, wrong, right } = self;
        write!(f, "{} ({origin}): {}; {}", Printable(setting), Printable(wrong), Printable(right))
    }
}

/// Where a setting comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// An environment variable.
    Environment,
    /// The configuration file.
    File {
        /// The file.
        path: PathBuf,
        /// The line, counted from 1; none if the file could not be read.
        line: Option<usize>,
    },
    /// Nobody set it.
    Unset,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => write!(f, "environment"),
            Self::File { path, line: None } => write!(f, "{}", Printable(path.display())),
            Self::File { path, line: Some(line) } => write!(f, "{}, line {line}", Printable(path.display())),
            Self::Unset => write!(f, "not set"),
        }
    }
}

/// Why a text is no value of its setting; without the text, which may be secret.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong {
    /// Follows the value: `is not …`.
    pub is: String,
    /// What would be right, as an advice: `give …`.
    pub right: String,
}

impl Wrong {
    pub(super) fn new(is: impl Into<String>, right: impl Into<String>) -> Self {
        Self { is: is.into(), right: right.into() }
    }
}
