//! CPU and memory of processes, as Linux tells them in `/proc`.

use std::{fs, time::Duration};

use crate::Failure;

/// The key of the clock's ticks per second in `/proc/self/auxv` (`getauxval(3)`).
const AT_CLKTCK: usize = 17;

/// The server and its PostgreSQL.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Processes {
    server: u32,
    postmaster: u32,
    pooler: Option<u32>,
    ticks_per_second: u32,
}

/// The CPU time that was used up to a moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cpu {
    pub(crate) server: Duration,
    pub(crate) postgres: Duration,
    pub(crate) pooler: Duration,
}

impl Cpu {
    /// What was used since then.
    pub(crate) fn since(self, before: Self) -> Self {
        Self {
            server: self.server.saturating_sub(before.server),
            postgres: self.postgres.saturating_sub(before.postgres),
            pooler: self.pooler.saturating_sub(before.pooler),
        }
    }
}

impl Processes {
    /// The server of this id, and the PostgreSQL that has this backend.
    pub(crate) fn new(server: u32, backend: u32) -> Result<Self, Failure> {
        let postmaster = Stat::read(backend).ok_or("PostgreSQL's backend is gone")?.parent;
        Ok(Self { server, postmaster, pooler: None, ticks_per_second: ticks_per_second()? })
    }

    /// With this pooler between them.
    pub(crate) fn with_pooler(self, pooler: u32) -> Self {
        Self { pooler: Some(pooler), ..self }
    }

    pub(crate) fn postmaster(&self) -> u32 {
        self.postmaster
    }

    pub(crate) fn cpu(&self) -> Result<Cpu, Failure> {
        let server = Stat::read(self.server).ok_or("the server is gone")?.own;
        let pooler = match self.pooler {
            Some(pooler) => Stat::read(pooler).ok_or("the pooler is gone")?.own,
            None => 0,
        };
        let [server, postgres, pooler] =
            [server, self.postgres_ticks()?, pooler].map(|ticks| self.duration(ticks));
        Ok(Cpu { server, postgres, pooler })
    }

    /// What a process has used is added to its parent's count of ended children once it has ended, so nothing is lost,
    /// unless one ends while it is looked at: then everything is looked at again.
    fn postgres_ticks(&self) -> Result<u64, Failure> {
        loop {
            let postmaster = Stat::read(self.postmaster).ok_or("PostgreSQL is gone")?;
            let children: u64 = fs::read_dir("/proc")?
                .filter_map(|entry| Stat::read(entry.ok()?.file_name().to_str()?.parse().ok()?))
                .filter(|stat| stat.parent == self.postmaster)
                .map(|stat| stat.own + stat.ended_children)
                .sum();
            let after = Stat::read(self.postmaster).ok_or("PostgreSQL is gone")?;
            if after.ended_children == postmaster.ended_children {
                return Ok(after.own + after.ended_children + children);
            }
        }
    }

    /// What this process, the load test itself, has used.
    pub(crate) fn own_cpu(&self) -> Result<Duration, Failure> {
        Ok(self.duration(Stat::read(std::process::id()).ok_or("/proc is gone")?.own))
    }

    /// The resident and the proportional memory of the server, in KiB.
    pub(crate) fn server_memory(&self) -> (Option<u32>, Option<u32>) {
        (kibibytes(self.server, "status", &["VmRSS:"]), kibibytes(self.server, "smaps_rollup", &["Pss:"]))
    }

    fn duration(&self, ticks: u64) -> Duration {
        Duration::from_millis(ticks * 1_000 / u64::from(self.ticks_per_second))
    }
}

/// The memory of a process that it shares with no other, in KiB; `None` where that may not be read.
pub(crate) fn private_memory(process: u32) -> Option<u32> {
    kibibytes(process, "smaps_rollup", &["Private_Clean:", "Private_Dirty:"])
}

/// The most that a process has had resident so far, in KiB.
pub(crate) fn peak_memory(process: u32) -> Option<u32> {
    kibibytes(process, "status", &["VmHWM:"])
}

fn kibibytes(process: u32, file: &str, names: &[&str]) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/{file}")).ok()?;
    let value = |line: &str| line.split_whitespace().nth(1)?.parse::<u32>().ok();
    let lines = text.lines().filter(|line| names.iter().any(|name| line.starts_with(name)));
    lines.map(value).sum()
}

/// The parts of `/proc/<id>/stat` that count here. Times are in ticks.
struct Stat {
    parent: u32,
    own: u64,
    ended_children: u64,
}

impl Stat {
    fn read(process: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // The name, in parentheses, may have anything in it. The third field is the first behind it.
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(14)? + ticks(15)?,
            ended_children: ticks(16)? + ticks(17)?,
        })
    }
}

fn ticks_per_second() -> Result<u32, Failure> {
    let words = fs::read("/proc/self/auxv")?;
    let mut words = words.chunks_exact(size_of::<usize>()).filter_map(|word| {
        let word = word.try_into().ok()?;
        Some(usize::from_ne_bytes(word))
    });
    while let (Some(key), Some(value)) = (words.next(), words.next()) {
        if key == AT_CLKTCK && value > 0 {
            return Ok(u32::try_from(value)?);
        }
    }
    Err("/proc/self/auxv does not tell how long a tick is".into())
}
