//! Accuracy on real traces, each recorded point taken as one 15-second sample. The traces are not
//! part of the project: without them this says so and passes.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, missing_docs)]

mod shapes;

use shapes::measure::{Errors, KINDS};
use shapes::traces;

/// Windows looked at in each file and resource, evenly spread where there are more: the time budget.
const WINDOWS: usize = 300;

#[test]
fn quantiles_of_real_windows_are_within_the_bars() {
    let mut all = [Errors::default(); 2];
    for path in traces::files() {
        let columns = traces::columns(&path).unwrap_or_else(|| panic!("{} cannot be read", path.display()));
        for (column, resource) in columns.iter().zip(["CPU", "memory"]) {
            let (windows, there) = traces::windows(column, WINDOWS);
            println!("{}, {resource}: {} of {there} windows", path.display(), windows.len());
            for window in windows {
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
