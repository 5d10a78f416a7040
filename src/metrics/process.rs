//! What the operating system says of this process, by the names that Prometheus' own libraries give it.

use std::fs;

/// What is known of the process; of what this system does not tell, nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) cpu_seconds: Option<f64>,
    pub(super) resident_bytes: Option<u64>,
    pub(super) virtual_bytes: Option<u64>,
    pub(super) open_files: Option<u64>,
    pub(super) most_files: Option<u64>,
    pub(super) threads: Option<u64>,
    /// Since 1970.
    pub(super) started_seconds: Option<f64>,
}

impl Process {
    /// Looks into `/proc`, where there is one.
    pub(super) fn look() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").ok();
        let boot = fs::read_to_string("/proc/stat").ok();
        let stat = stat.as_deref().and_then(Stat::parse);
        let open_files = fs::read_dir("/proc/self/fd").ok().map(|files| files.count() as u64);
        let Some(stat) = stat else { return Self { open_files, ..Self::default() } };
        let boot_time = boot.as_deref().and_then(|text| number_after(text, "btime "));
        Self {
            cpu_seconds: Some(seconds(stat.cpu_ticks)),
            resident_bytes: Some(stat.resident_pages * rustix::param::page_size() as u64),
            virtual_bytes: Some(stat.virtual_bytes),
            open_files,
            most_files: rustix::process::getrlimit(rustix::process::Resource::Nofile).current,
            threads: Some(stat.threads),
            started_seconds: boot_time.map(|boot| float(boot) + seconds(stat.start_ticks)),
        }
    }
}

/// What stands in `/proc/self/stat`; see proc(5).
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    cpu_ticks: u64,
    threads: u64,
    start_ticks: u64,
    virtual_bytes: u64,
    resident_pages: u64,
}

impl Stat {
    fn parse(text: &str) -> Option<Self> {
        // The second field is the program's name in brackets, in which anything may stand.
        let (_, rest) = text.rsplit_once(") ")?;
        // Numbered as the manual does, from 1; this begins at the third.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            cpu_ticks: field(14)? + field(15)?,
            threads: field(20)?,
            start_ticks: field(22)?,
            virtual_bytes: field(23)?,
            resident_pages: field(24)?,
        })
    }
}

fn number_after(text: &str, word: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(word))?.trim().parse().ok()
}

fn seconds(ticks: u64) -> f64 {
    float(ticks) / float(rustix::param::clock_ticks_per_second())
}

#[expect(clippy::cast_precision_loss, reason = "exact for the next hundred million years")]
fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_shifts_nothing() {
        let text = "7 (a) b) S 1 7 7 0 -1 4194560 1 2 3 4 250 50 5 6 20 0 9 0 12345 1048576 256 18446744073709551615";
        let expected = Stat {
            cpu_ticks: 300,
            threads: 9,
            start_ticks: 12345,
            virtual_bytes: 1_048_576,
            resident_pages: 256,
        };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("7 (a"), None);
        assert_eq!(number_after("cpu 1\nbtime 1700000000\n", "btime "), Some(1_700_000_000));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_alive() {
        let process = Process::look();
        assert!(process.resident_bytes.unwrap() > 1 << 20 && process.threads.unwrap() >= 1, "{process:?}");
        assert!(process.started_seconds.unwrap() > 1.7e9 && process.open_files.unwrap() >= 3, "{process:?}");
    }
}
