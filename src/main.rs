//! The `tenantry` program.

use std::process::ExitCode;

use clap::Parser as _;
use mimalloc::MiMalloc;

/// A fifth of the time of a request went into glibc's allocator, which also keeps what threads have freed.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    // mimalloc asks for huge pages, most of which stay empty in a service this small: 15 MB of them.
    #[cfg(target_os = "linux")]
    rustix::thread::disable_transparent_huge_pages(true).ok();
    tenantry::cli::run(tenantry::cli::Cli::parse())
}
