//! The store under kills, damage, full and failing disks and power cuts.
//!
//! The process that writes is this binary itself (`torture write`, as in `examples/torture.rs`), so
//! that it can die; so is the one that checks what is left. Counts come from the environment and
//! are small unless it says more: `OPTIPOD_TORTURE_KILLS`, `_FLIPS`, `_EIO`, `_CUTS`. A failure
//! comes again with its `OPTIPOD_TORTURE_SEED` and counts.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "in a test a broken expectation is the failure"
)]
#![allow(clippy::print_stdout, missing_docs)]
#![allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, clippy::cast_sign_loss)]

mod damage;
mod disk;
mod driver;
mod fault;
mod kill;
mod migration;
mod phase;
mod tool;
mod trials;

use libtest_mimic::{Arguments, Trial};
use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if matches!(arguments.first().map(String::as_str), Some("write" | "verify" | "open" | "tell")) {
        return tool::run(&arguments);
    }
    let trials = vec![
        trial("a_killed_writer_loses_nothing_that_it_acknowledged", kill::anywhere),
        trial("a_call_that_fails_costs_nothing_that_was_acknowledged", fault::eio_at_each_call),
        trial("damage_is_told_and_nothing_wrong_is_served", damage::anywhere),
        where_possible("a_full_disk_refuses_ticks_clearly_and_resumes_by_itself", disk::no_tmpfs, disk::full_disk),
        where_possible("a_power_cut_loses_nothing_that_was_acknowledged", disk::no_loop, disk::power_cut),
    ];
    let mut arguments = Arguments::from_args();
    // Each test takes all cores by itself.
    arguments.test_threads = Some(1);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn trial(name: &str, test: fn()) -> Trial {
    Trial::test(name, move || {
        test();
        Ok(())
    })
}

/// A test that shows as ignored, with the reason, where the machine does not allow it.
fn where_possible(name: &str, obstacle: fn() -> Option<String>, test: fn()) -> Trial {
    match obstacle() {
        None => trial(name, test),
        Some(reason) => {
            println!("{name} is ignored: {reason}");
            trial(name, test).with_ignored_flag(true)
        }
    }
}
