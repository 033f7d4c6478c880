//! Accuracy on real traces, each recorded point taken as one 15-second sample. The traces are not
//! part of the project: without them this says so and passes.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod shapes;

use shapes::measure::{Errors, KINDS};
use shapes::traces;

/// Windows looked at in each file and resource, and bytes of the largest file: the time budget.
const WINDOWS: usize = 25;
const LARGEST: u64 = 2_000_000;

#[test]
fn quantiles_of_real_windows_are_within_the_bars() {
    let mut all = [Errors::default(); 2];
    for path in traces::files(LARGEST) {
        for column in traces::columns(&path).unwrap_or_default() {
            for window in traces::windows(&column, WINDOWS) {
                all.iter_mut().zip(KINDS).for_each(|(errors, (kind, _))| errors.add(kind, window));
            }
        }
    }
    let [digest, histogram] = all;
    if digest.count == 0 {
        println!("skipped: no traces in {} (set OPTIPOD_TRACES; gzip must be there)", traces::folder().display());
        return;
    }
    println!("t-digest mean {:.3} %, log-linear max {:.3} %", digest.mean() * 100.0, histogram.max * 100.0);
    assert!(digest.mean() <= 0.008, "mean error {}", digest.mean());
    assert!(histogram.max <= 0.008, "max error {}", histogram.max);
}
