//! Parsers under coverage-guided fuzzing, each with an oracle: what must hold of whatever it takes or refuses.
//!
//! ```text
//! tests/fuzz/run                 each target for some seconds, as .ci/run does
//! tests/fuzz/run host 600        one of them for ten minutes
//! tests/fuzz/run host FILE       one input again, one that a run left in tests/fuzz/found/ say
//! ```
//!
//! A part of the package, though it is no test of `cargo test`: so it shares every dependency with the tests, already
//! built. Our own crates are built once more, with the counters that guide libFuzzer (`tests/fuzz/rustc`).
//!
//! Inputs to begin with are in `seeds/`, a directory for each target. What a run finds interesting is kept beside the build,
//! and what it finds wrong in `found/`; put the latter into `seeds/` when it is mended.

// libFuzzer has the main function.
#![no_main]

mod archive;
mod lists;
mod names;
mod texts;
mod token;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;

/// Which parser is tried, by its name in `TENANTRY_FUZZ`.
static TARGET: LazyLock<fn(&[u8])> = LazyLock::new(|| {
    let name = std::env::var("TENANTRY_FUZZ").unwrap_or_default();
    let target: fn(&[u8]) = match name.as_str() {
        "slug" => names::slug,
        "host" => names::host,
        "token" => token::token,
        "body" => texts::body,
        "table" => texts::table,
        "archive" => archive::archive,
        "etag" => lists::etag,
        "page" => lists::page,
        other => panic!("TENANTRY_FUZZ names no target: {other:?}"),
    };
    target
});

fuzz_target!(|input: &[u8]| TARGET(input));
