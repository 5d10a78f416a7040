//! Who writes the log: a thread of its own, so that a reader that stands still (a terminal that was stopped, a pager, a log
//! driver with a full disk) stops nobody who has something to say. What it does not take in time is lost, and counted.

use std::{
    io,
    sync::{OnceLock, mpsc},
    thread,
    time::Duration,
};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// How many lines wait to be written: 4 MB of them, of half a kilobyte each, and some seconds of a busy process.
const KEPT_LINES: usize = 8_192;
/// How long the last lines have to be written in. The writer gives itself a second of it.
const LAST_LINES: Duration = Duration::from_millis(1_500);
/// How often it is looked whether lines were lost.
const LOOK: Duration = Duration::from_secs(1);

/// How many lines were lost since the start.
static LOST: OnceLock<ErrorCounter> = OnceLock::new();

/// The log of a process. Its end writes the last lines, or gives them up when nobody takes them.
#[derive(Debug)]
pub struct Log(Option<WorkerGuard>);

impl Log {
    /// Has lines written there, whatever time that takes.
    pub(super) fn to(writer: impl io::Write + Send + 'static) -> (NonBlocking, ErrorCounter, Self) {
        let builder = NonBlockingBuilder::default().buffered_lines_limit(KEPT_LINES).thread_name("log");
        let (lines, guard) = builder.lossy(true).finish(writer);
        let lost = lines.error_counter();
        (lines, lost, Self(Some(guard)))
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let guard = self.0.take();
        let (sender, written) = mpsc::channel::<()>();
        // On a thread that nobody has to wait for: it may say on standard output that it was in vain.
        let last = move || {
            drop(guard);
            drop(sender);
        };
        if thread::Builder::new().name("log-end".to_owned()).spawn(last).is_ok() {
            written.recv_timeout(LAST_LINES).ok();
        }
    }
}

/// From here on, these are the lines that were lost.
pub(super) fn count_lost(lost: ErrorCounter) {
    LOST.set(lost).ok();
}

/// How many lines of the log were lost, because nobody took them in time.
pub(crate) fn lost_lines() -> u64 {
    LOST.get().map_or(0, |lost| u64::try_from(lost.dropped_lines()).unwrap_or(u64::MAX))
}

/// Never ends: says how many lines were lost, once lines come through again.
pub async fn tell_of_lost_lines() {
    let mut told = 0;
    loop {
        tokio::time::sleep(LOOK).await;
        let lost = lost_lines();
        if lost > told {
            tracing::warn!(lines = lost - told, "lines of the log were lost: nobody took them in time");
            // Else this one is among them.
            if lost_lines() == lost {
                told = lost;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write as _, time::Instant};

    use super::*;

    /// Takes nothing.
    struct Stuck;

    impl io::Write for Stuck {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            loop {
                thread::park();
            }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_takes_nothing_holds_nobody_up_and_what_is_lost_is_counted() {
        let begun = Instant::now();
        let (mut lines, lost, log) = Log::to(Stuck);
        for _ in 0..KEPT_LINES + 100 {
            lines.write_all(b"a line\n").unwrap();
        }
        // One may be with who takes nothing.
        assert!((99..=100).contains(&lost.dropped_lines()), "{}", lost.dropped_lines());
        drop(log);
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}
