//! Runs a property over random cases: on nothing, or each on a paused timeline of its own.
//!
//! A failure prints the smallest input that shows it and the seed; `OPTIPOD_SEED=n` runs the same cases again, and
//! `OPTIPOD_CASES=n` another number of them. Nothing is written to disk.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use std::cell::Cell;

/// How many cases each property is tried on.
pub const CASES: u32 = 256;

fn setting<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::env::var(name).ok()?.parse().ok()
}

/// Tries `test` on random cases of `strategy`; it panics where the property does not hold.
pub fn for_all<S: Strategy>(strategy: S, test: impl Fn(S::Value)) {
    let seed = setting("OPTIPOD_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    let cases = setting("OPTIPOD_CASES").unwrap_or(CASES);
    // A planted bug only has to be noticed; the smallest input that shows it interests nobody.
    let shrinks = if std::env::var_os("OPTIPOD_PLANT").is_some() { 0 } else { 200 };
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: shrinks,
        rng_seed: RngSeed::Fixed(seed),
        ..Config::default()
    };
    let (tried, failed_at) = (Cell::new(0u32), Cell::new(None));
    let outcome = TestRunner::new(config).run(&strategy, |case| {
        tried.set(tried.get() + 1);
        let number = tried.get();
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| test(case)));
        if let Err(panic) = failed {
            failed_at.set(failed_at.get().or(Some(number)));
            std::panic::resume_unwind(panic);
        }
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("failed in case {} with OPTIPOD_SEED={seed}: {error}", failed_at.get().unwrap_or_default());
    }
    assert!(tried.get() >= cases, "{} cases are too few", tried.get());
}

/// The same with a timeline of its own for every case, which stands still while anything can be done.
pub fn simulate_all<S: Strategy>(strategy: S, test: impl AsyncFn(S::Value)) {
    for_all(strategy, |case| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(test(case));
    });
}
