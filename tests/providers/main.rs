//! Usage providers against what they ask: real programs, and servers that misbehave.
//!
//! Where a program is not installed, its tests show as *ignored* with the command that installs it; with
//! `OPTIPOD_REQUIRE_CLUSTER=1`, which CI sets, that is a failure. `cargo test --test providers -- NAME` runs some.
//!
//! To add a test, write `pub async fn what_it_shows() -> harness::Result` beside those there are and name it in its
//! module's list.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the failure"
)]

mod backfill;
#[path = "../system/harness.rs"]
mod cluster;
mod custom;
mod faults;
mod harness;
mod import;
mod prometheus;
mod same;
mod sources;
mod usage_double;

fn main() -> std::process::ExitCode {
    if let Some(done) = backfill::child() {
        done.unwrap();
        return std::process::ExitCode::SUCCESS;
    }
    let mut tests = prometheus::tests();
    tests.extend(backfill::tests());
    tests.extend(custom::tests());
    tests.extend(import::tests());
    tests.extend(same::tests());
    tests.extend(faults::tests());
    let code = harness::run(tests);
    prometheus::stop();
    code
}
