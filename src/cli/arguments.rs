//! Arguments that clap cannot judge: all that is wrong with them is told at once.

use std::{
    fmt,
    io::{self, IsTerminal as _},
};

use secrecy::ExposeSecret as _;

use super::{password, run::Failure};
use crate::{http::input::Wrong, users::identity::Password};

/// What the password is called, which is no argument.
const PASSWORD: &str = "the password";

/// What is wrong with the arguments of a command.
#[derive(Debug, Default)]
pub(super) struct WrongArguments(Vec<(&'static str, Wrong)>);

impl WrongArguments {
    /// Takes what was read, or notes why it cannot be.
    pub(super) fn take<T>(&mut self, argument: &'static str, read: Result<T, Wrong>) -> Option<T> {
        read.map_err(|wrong| self.0.push((argument, wrong))).ok()
    }

    /// A new password from standard input. Nobody is asked for one in vain: where a person sits and something is wrong
    /// already, none is read.
    pub(super) fn read_password(&mut self) -> Option<Password> {
        if !self.0.is_empty() && io::stdin().is_terminal() {
            return None;
        }
        let read = password::read_new().map_err(|error| vec![error.to_string().into()]);
        self.take(PASSWORD, read.and_then(|password| Password::parse(password.expose_secret().to_owned())))
    }

    /// Goes on if what destroys was confirmed.
    pub(super) fn confirm(yes: bool, what: &str) -> Result<(), Failure> {
        if yes { Ok(()) } else { Err(format!("{what}; add --yes if that is meant").into()) }
    }

    /// A new password that is refused, which shows only when it is judged beside the names.
    pub(super) fn refused_password(wrong: Wrong) -> Failure {
        Self(vec![(PASSWORD, wrong)]).failure()
    }

    /// Fails with everything that was noted; with nothing noted, this is a defect of the caller's.
    pub(super) fn failure(self) -> Failure {
        Box::new(self)
    }
}

impl std::error::Error for WrongArguments {}

impl fmt::Display for WrongArguments {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.as_slice() {
            [_] => write!(f, "an argument is wrong")?,
            all => write!(f, "{} arguments are wrong", all.len())?,
        }
        for (argument, wrong) in &self.0 {
            write!(f, "\n  {argument}: {}", wrong.join(" "))?;
        }
        Ok(())
    }
}
