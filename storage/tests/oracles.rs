//! Both sketches against the crates that do the same, on the samples of the tests against exact
//! quantiles: `tdigest` as a measure for the t-digest's ranks, `hdrhistogram` for the histogram's
//! values.
#![allow(clippy::unwrap_used, missing_docs)]
// Counts are small, and scaled values far below 2^53.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod shapes;

use hdrhistogram::Histogram;
use optipod_storage::{AnySketch, Sketch, SketchKind};
use proptest::prelude::*;
use proptest::test_runner::TestCaseResult;
use shapes::measure::stored;
use shapes::{SHAPES, SLOT, SLOTS, shape, sorted};

/// Centroids that the crate's digest of a slot may have: ours has 22 to 29 of a full slot's values
/// without gaps.
const CENTROIDS: usize = 25;
/// How often the crate's worst rank error ours may be where values lie close: ours keeps narrow
/// clusters at the tails and for gaps, and has wider ones at the median.
const FACTOR: f64 = 4.0;
/// Shapes whose values leave gaps, or lie evenly: there ours may be no worse at all.
const GAPS: [&str; 5] = ["idle-with-bursts", "constant", "two-valued", "ascending", "descending"];

/// As the store does it: each slot summarised, encoded and decoded, then merged.
fn own(kind: SketchKind, values: &[f64], slot: usize) -> AnySketch {
    let parts: Vec<AnySketch> = values.chunks(slot).map(|slot| stored(kind, slot).0).collect();
    AnySketch::merged(&parts.iter().collect::<Vec<_>>()).unwrap()
}

fn crate_digest(values: &[f64], slot: usize) -> tdigest::TDigest {
    let part = |slot: &[f64]| tdigest::TDigest::new_with_size(CENTROIDS).merge_unsorted(slot.to_vec());
    tdigest::TDigest::merge_digests(values.chunks(slot).map(part).collect())
}

/// Ranks between that of `q` and the nearest that the answer has. Values within 0.4 % are the same:
/// that is the step of our stored means.
fn rank_error(sorted: &[f64], q: f64, answer: f64) -> f64 {
    let below = sorted.partition_point(|v| *v < answer * 0.996) as f64;
    let up_to = sorted.partition_point(|v| *v <= answer * 1.004) as f64;
    let rank = q * sorted.len() as f64;
    (below - rank).max(rank - up_to).max(0.0)
}

/// The worst of P1 to P99.
fn worst_rank_error(sorted: &[f64], quantile: impl Fn(f64) -> f64) -> f64 {
    let each = (1..100).map(|percent| f64::from(percent) / 100.0);
    each.map(|q| rank_error(sorted, q, quantile(q))).fold(0.0, f64::max)
}

/// Ours is no worse than the crate's by the factor, and a rank for two ways to interpolate.
fn ranks_are_as_good(name: &str, values: &[f64], slot: usize) -> TestCaseResult {
    let (own, theirs, exact) = (own(SketchKind::TDigest, values, slot), crate_digest(values, slot), sorted(values));
    let ours = worst_rank_error(&exact, |q| own.quantile(q));
    let theirs = worst_rank_error(&exact, |q| theirs.estimate_quantile(q).unwrap());
    let factor = if GAPS.contains(&name) { 1.0 } else { FACTOR };
    prop_assert!(ours <= factor * theirs + 1.0, "{name}, slots of {slot}: {ours} ranks, the crate {theirs}");
    Ok(())
}

/// What one unit of the crate's histogram, which counts integers, stands for.
const UNIT: f64 = 1e-6;
/// Half a bucket of ours, and the crate's three significant digits.
const BOTH_ERRORS: f64 = 1.0 / 128.0 + 1e-3;

/// Every quantile of ours is the crate's, within both errors and a unit.
fn values_agree(name: &str, values: &[f64], slot: usize) -> TestCaseResult {
    let own = own(SketchKind::LogLinear, values, slot);
    let mut theirs = Histogram::<u64>::new(3).unwrap();
    for value in values {
        theirs.record((value / UNIT).round() as u64).unwrap();
    }
    prop_assert_eq!(own.count(), theirs.len(), "{}", name);
    let n = values.len();
    for rank in (0..n).step_by(n.div_ceil(500)) {
        let q = (rank as f64 + 0.5) / n as f64; // between two ranks both might round to another
        let (got, want) = (own.quantile(q), theirs.value_at_quantile(q) as f64 * UNIT);
        prop_assert!((got - want).abs() <= want * BOTH_ERRORS + UNIT, "{name} q={q}: {got}, the crate {want}");
    }
    Ok(())
}

#[test]
fn both_are_as_good_as_the_crates_on_whole_windows() {
    for name in SHAPES {
        for seed in 0..5 {
            let values = shape(name, SLOTS * SLOT, seed);
            ranks_are_as_good(name, &values, SLOT).unwrap();
            values_agree(name, &values, SLOT).unwrap();
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_digests_ranks_are_as_good_as_the_crates(seed: u64, slots in 1_usize..6, len in 1_usize..40) {
        for name in SHAPES {
            ranks_are_as_good(name, &shape(name, slots * len, seed), len)?;
        }
    }

    #[test]
    fn the_histogram_agrees_with_the_crates(seed: u64, slots in 1_usize..6, len in 1_usize..40) {
        for name in SHAPES {
            values_agree(name, &shape(name, slots * len, seed), len)?;
        }
    }
}
