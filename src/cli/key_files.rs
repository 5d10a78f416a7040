//! The files with the master key: who can read them, and what a killed process left of them.

use std::{io, path::Path};

use tenants::doctor::Finding;

use crate::{
    config::Config,
    master_key::{self, Readers},
};

const CHECK: &str = "key file";

pub(super) fn check(config: &Config) -> Vec<Finding> {
    let Some(path) = config.master_key_path().filter(|path| path.exists()) else { return Vec::new() };
    let mut findings = Vec::new();
    match master_key::readers(&path) {
        Ok(None) => {}
        Ok(Some(readers)) => {
            let advice = format!("chmod 600 {}", path.display());
            findings.push(match readers {
                Readers::Everybody => {
                    Finding::problem(CHECK, "master_key_open", told(&path, readers), advice)
                }
                Readers::Group => Finding::warning(CHECK, "master_key_open", told(&path, readers), advice),
            });
        }
        Err(error) => findings.push(unread(&path, &error)),
    }
    match drafts(config, &path, master_key::abandoned) {
        Ok(drafts) if drafts.is_empty() => {}
        Ok(drafts) => findings.push(Finding::warning(
            CHECK,
            "master_key_drafts",
            format!("a process that was killed left keys behind: {}", drafts.join(", ")),
            "`tenantry doctor --fix` removes them, and so does the next change of the key",
        )),
        Err(error) => findings.push(unread(&path, &error)),
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, format!("{} is for its owner alone", path.display())));
    }
    findings
}

/// Removes what is left behind, and closes the key that this program made. One that the settings name may be meant to be as
/// it is. Returns what was done.
pub(super) fn mend(config: &Config) -> io::Result<Vec<String>> {
    let Some(path) = config.master_key_path().filter(|path| path.exists()) else { return Ok(Vec::new()) };
    let mut done = Vec::new();
    if config.master_key.is_none() && master_key::readers(&path)?.is_some() {
        master_key::close(&path)?;
        done.push(format!("chmod 600 {}", path.display()));
    }
    let dropped = drafts(config, &path, master_key::drop_abandoned)?;
    done.extend(dropped.into_iter().map(|path| format!("rm {path}")));
    Ok(done)
}

/// For the log, when a server starts.
pub(super) fn warn(config: &Config) {
    let Some(path) = config.master_key_path() else { return };
    match master_key::readers(&path) {
        Ok(Some(readers)) => tracing::warn!("{}: chmod 600 {}", told(&path, readers), path.display()),
        Ok(None) => {}
        Err(error) => {
            tracing::warn!(%error, path = %path.display(), "the master key's file cannot be looked at");
        }
    }
}

fn told(path: &Path, readers: Readers) -> String {
    let who = match readers {
        Readers::Everybody => "everybody on this machine",
        Readers::Group => "its group",
    };
    format!("the master key in {} is open to {who}", path.display())
}

/// The drafts of this file and, where it is this program's own, of the one that comes after it.
fn drafts(
    config: &Config,
    path: &Path,
    find: impl Fn(&Path) -> io::Result<Vec<std::path::PathBuf>>,
) -> io::Result<Vec<String>> {
    let mut drafts = find(path)?;
    if config.master_key.is_none() {
        drafts.extend(find(&master_key::next_in(&config.data_dir))?);
    }
    Ok(drafts.iter().map(|path| path.display().to_string()).collect())
}

fn unread(path: &Path, error: &io::Error) -> Finding {
    let found = format!("{} cannot be looked at: {error}", path.display());
    Finding::problem(CHECK, "master_key_unreadable", found, "see who owns it and its directory")
}
