//! How much room there is on the disk. Of a database elsewhere only its size can be asked, not what is left to it.

use std::path::Path;

use tenants::doctor::Finding;

use crate::config::{Config, Database, Mail};

const CHECK: &str = "disk";
const GIB: u64 = 1 << 30;
/// PostgreSQL stops where it cannot write its log, whose files alone take a gigabyte at default settings.
const LITTLE: u64 = GIB;
/// Nothing else fits then either.
const NOTHING: u64 = GIB / 10;

pub(super) fn check(config: &Config) -> Vec<Finding> {
    // What is kept here: the embedded database, or mails as files.
    let keeps =
        matches!(config.database(), Database::Embedded { .. }) || matches!(config.mail(), Mail::Files(_));
    let Some(directory) = keeps.then(|| existing(&config.data_dir)).flatten() else { return Vec::new() };
    // Where it is, wherever this is read.
    let shown = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    match rustix::fs::statvfs(directory) {
        Ok(disk) => vec![judged(&shown, disk.f_bavail.saturating_mul(disk.f_frsize))],
        Err(error) => {
            let found = format!("{} cannot be asked: {error}", directory.display());
            vec![Finding::warning(CHECK, "disk_unknown", found, "look at the data directory yourself")]
        }
    }
}

/// The directory, or the nearest above it that is there.
fn existing(path: &Path) -> Option<&Path> {
    let path = if path.is_relative() && !path.exists() { Path::new(".") } else { path };
    path.ancestors().find(|path| path.exists())
}

fn judged(directory: &Path, bytes: u64) -> Finding {
    #[expect(clippy::cast_precision_loss, reason = "shown with one digit behind the point")]
    let left = format!("{:.1} GiB are free where {} is", bytes as f64 / GIB as f64, directory.display());
    let advice = "make room there, or choose another data directory";
    match bytes {
        ..NOTHING => Finding::problem(CHECK, "disk_full", left, advice),
        NOTHING..LITTLE => Finding::warning(CHECK, "disk_nearly_full", left, advice),
        _ => Finding::ok(CHECK, left),
    }
}

#[cfg(test)]
mod tests {
    use tenants::doctor::Level;

    use super::*;

    #[test]
    fn a_full_disk_is_told_before_it_is_full() {
        let level = |bytes| judged(Path::new("/srv"), bytes).level;
        assert_eq!(level(50 * GIB), Level::Ok);
        assert_eq!(level(GIB - 1), Level::Warning);
        assert_eq!(level(NOTHING - 1), Level::Problem);
        assert_eq!(judged(Path::new("/srv"), 3 * GIB / 2).found, "1.5 GiB are free where /srv is");
    }
}
