//! Both sketches against exact quantiles on every distribution and on the burst sweeps; the figures
//! themselves are in ACCURACY.md.
#![allow(clippy::unwrap_used, missing_docs)]

mod shapes;

use optipod_storage::{Sketch, SketchKind};
use proptest::prelude::*;
use shapes::measure::{KINDS, stored, window};
use shapes::{Burst, SHAPES, SLOT, burst_sweep, distance_to_nearest, nearest_rank, shape, sorted};

/// The values that may be answered for `q`: exact to half a bucket, or within half of the digest's
/// largest cluster, a share of `q (1 - q) / 2.2` of a slot, and a step of its means.
fn allowed(kind: SketchKind, exact: &[f64], q: f64) -> (f64, f64) {
    let (slack, step) = match kind {
        SketchKind::TDigest => ((0.25 * q * (1.0 - q)).max(0.001) + 1.0 / exact.len() as f64, 0.004),
        SketchKind::LogLinear => (0.0, 1.0 / 128.0 + 1e-9),
    };
    (nearest_rank(exact, q - slack) * (1.0 - step), nearest_rank(exact, q + slack) * (1.0 + step))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantiles_of_every_distribution_are_near_the_exact_ones(seed: u64, slots in 1_usize..25, len in 1_usize..241) {
        for name in SHAPES {
            let values = shape(name, slots * len, seed);
            let exact = sorted(&values);
            for (kind, _) in KINDS {
                let parts: Vec<_> = values.chunks(len).map(|slot| stored(kind, slot).0).collect();
                let sketch = optipod_storage::AnySketch::merged(&parts.iter().collect::<Vec<_>>()).unwrap();
                prop_assert_eq!(sketch.count(), exact.len() as u64);
                // A digest of one value stores it once, rounded up.
                prop_assert!(sketch.min() <= exact[0] * 1.00002 && sketch.max() >= exact[exact.len() - 1]);
                for q in [0.5, 0.9, 0.95, 0.99] {
                    let ((low, high), got) = (allowed(kind, &exact, q), sketch.quantile(q));
                    prop_assert!(got >= low && got <= high, "{} {:?} q={}: {} is not in [{}, {}]", name, kind, q, got, low, high);
                    prop_assert!(distance_to_nearest(&exact, got) <= 0.055, "{} {:?} invented {}", name, kind, got);
                }
            }
        }
    }
}

/// The furthest that an answer lies from a sample: over whole windows and their first hours.
fn worst(kind: SketchKind, burst: Burst) -> (f64, usize) {
    let (mut worst, mut answers) = (0.0_f64, 0);
    for (q, values) in burst_sweep(burst) {
        for values in [&values[..], &values[..SLOT]] {
            let got = window(kind, values).0.quantile(q);
            worst = worst.max(distance_to_nearest(&sorted(values), got));
            answers += 1;
        }
    }
    (worst, answers)
}

#[test]
fn no_value_is_invented_on_the_burst_sweep() {
    let ((digest, answers), (histogram, _)) =
        (worst(SketchKind::TDigest, Burst::One), worst(SketchKind::LogLinear, Burst::One));
    assert_eq!(answers, 2 * 360);
    assert!(digest <= 1e-4, "both values are extremes, which are stored to 16 bits: {digest}");
    assert!(histogram <= 0.008, "{histogram}");
}

#[test]
fn no_answer_is_five_percent_from_a_real_sample_on_lognormal_bursts() {
    for (kind, name) in KINDS {
        let (worst, _) = worst(kind, Burst::Lognormal);
        assert!(worst <= 0.05, "{name}: {worst}");
    }
}
