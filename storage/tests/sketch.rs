//! The t-digest against exact quantiles of the same values, which are the only oracle here.
#![allow(clippy::unwrap_used, missing_docs)]
// Ranks are small, and what must be exact is compared exactly.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::float_cmp)]

mod shapes;

use optipod_storage::{Sketch, SketchError, TDigest, TDigestBuilder};
use proptest::prelude::*;
use shapes::{SHAPES, distance_to_nearest, shape, sorted};

const QS: [f64; 7] = [0.0, 0.01, 0.5, 0.9, 0.95, 0.99, 1.0];

/// The values at the ranks around `q`, widened by `slack` ranks to both sides.
fn exact_range(sorted: &[f64], q: f64, slack: f64) -> (f64, f64) {
    let n = sorted.len() as f64;
    let at = |rank: f64| sorted[(rank.clamp(0.0, n - 1.0)) as usize];
    (at((q * n - slack).floor() - 1.0), at((q * n + slack).ceil()))
}

fn build(values: &[f64], compression: f64) -> TDigest {
    let mut builder = TDigestBuilder::new(compression);
    for value in values {
        builder.insert(*value).unwrap();
    }
    builder.build().unwrap()
}

/// As the store does it: each slot summarised, encoded and decoded, then merged.
fn through_slots(values: &[f64], slots: usize) -> TDigest {
    let parts: Vec<TDigest> = values
        .chunks(values.len().div_ceil(slots))
        .map(|chunk| {
            let mut bytes = Vec::new();
            TDigest::from_values(&mut chunk.to_vec(), 50.0).unwrap().encode(&mut bytes);
            TDigest::decode(&bytes).unwrap()
        })
        .collect();
    TDigest::merged(&parts.iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn quantiles_are_near_the_exact_ones_on_every_shape() {
    for name in SHAPES {
        let values = shape(name, 5760, 7);
        let exact = sorted(&values);
        for digest in [build(&values, 100.0), through_slots(&values, 24)] {
            assert_eq!(digest.count(), 5760, "{name}");
            for q in QS {
                // In ranks, as the scale function is: 1 % of all at the median, less at the tails.
                let slack = 5760.0 * (0.04 * q * (1.0 - q)).max(0.001);
                let (low, high) = exact_range(&exact, q, slack);
                let got = digest.quantile(q);
                assert!(got >= low * 0.996 && got <= high * 1.004, "{name} q={q}: {got} is not in [{low}, {high}]");
            }
        }
    }
}

#[test]
fn constants_and_two_values_are_answered_exactly() {
    for name in ["constant", "two-valued"] {
        let values = shape(name, 2400, 3);
        let exact = sorted(&values);
        let digest = build(&values, 50.0);
        for rank in [1, 700, 2000, 2160, 2161, 2399, 2400] {
            let q = (rank as f64 - 0.5) / 2400.0;
            assert_eq!(digest.quantile(q), exact[rank - 1], "{name} rank {rank}");
        }
    }
}

#[test]
fn what_is_not_a_usage_is_refused_and_changes_nothing() {
    let mut builder = TDigestBuilder::default();
    builder.insert(1.0).unwrap();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, 1e38] {
        assert!(matches!(builder.insert(bad), Err(SketchError::InvalidValue(_))), "{bad}");
        assert!(TDigest::from_values(&mut [1.0, bad], 50.0).is_err());
    }
    assert_eq!(builder.build().unwrap().count(), 1);
    assert_eq!(TDigestBuilder::default().build(), Err(SketchError::Empty));
    assert_eq!(TDigest::merged(&[]), Err(SketchError::Empty));
}

#[test]
fn centroids_are_capped_however_many_gaps_there_are() {
    let mut values: Vec<f64> = (0..600).map(|i| 1e-6 * 1.15_f64.powi(i % 500)).collect();
    let digest = TDigest::from_values(&mut values, 50.0).unwrap();
    assert!(digest.centroid_count() <= 384, "{}", digest.centroid_count());
    assert_eq!(digest.count(), 600);
}

#[test]
fn an_hour_of_four_samples_a_minute_is_small() {
    let values = shape("lognormal", 240, 5);
    let digest = TDigest::from_values(&mut values.clone(), 50.0).unwrap();
    let mut bytes = Vec::new();
    digest.encode(&mut bytes);
    assert!(bytes.len() <= 66, "{} bytes, {} centroids", bytes.len(), digest.centroid_count());
}

fn usage_values(max: usize) -> impl Strategy<Value = Vec<f64>> {
    prop::collection::vec(prop_oneof![Just(0.0), Just(0.25), 1e-7..1e-5, 0.0..4.0, 1e6..1e11], 1..max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn quantiles_are_monotone_and_within_the_extremes(
        chunks in prop::collection::vec(usage_values(60), 1..12),
    ) {
        let parts: Vec<TDigest> =
            chunks.iter().map(|c| TDigest::from_values(&mut c.clone(), 50.0).unwrap()).collect();
        let digest = TDigest::merged(&parts.iter().collect::<Vec<_>>()).unwrap();
        let exact = sorted(&chunks.concat());
        prop_assert_eq!(digest.count(), exact.len() as u64);
        prop_assert_eq!(digest.min(), exact[0]);
        prop_assert_eq!(digest.max(), *exact.last().unwrap());
        let total: f64 = exact.iter().sum();
        prop_assert!((digest.sum() - total).abs() <= total * 1e-9);
        let mut before = digest.min();
        for i in 0..=200 {
            let got = digest.quantile(f64::from(i) / 200.0);
            prop_assert!(got >= before && got <= digest.max());
            prop_assert!(distance_to_nearest(&exact, got) <= 0.051, "{} invented", got);
            before = got;
        }
    }

    #[test]
    fn the_order_of_merging_changes_nothing(
        chunks in prop::collection::vec(usage_values(60), 2..12), by: prop::sample::Index,
    ) {
        let parts: Vec<TDigest> =
            chunks.iter().map(|c| TDigest::from_values(&mut c.clone(), 50.0).unwrap()).collect();
        let mut other: Vec<&TDigest> = parts.iter().rev().collect();
        other.rotate_left(by.index(parts.len()));
        let merged = TDigest::merged(&parts.iter().collect::<Vec<_>>()).unwrap();
        prop_assert_eq!(merged, TDigest::merged(&other).unwrap());
    }

    #[test]
    fn encoding_keeps_count_gaps_and_extremes_and_is_stable(values in usage_values(400)) {
        let digest = TDigest::from_values(&mut values.clone(), 50.0).unwrap();
        let mut bytes = Vec::new();
        digest.encode(&mut bytes);
        let back = TDigest::decode(&bytes).unwrap();
        prop_assert_eq!(back.count(), digest.count());
        prop_assert!(back.max() >= digest.max() && back.max() <= digest.max() * 1.00002);
        prop_assert!(back.min() <= digest.min() * 1.00002 && back.min() >= digest.min() * 0.99998);
        for q in QS {
            let (a, b) = (digest.quantile(q), back.quantile(q));
            prop_assert!((a - b).abs() <= a * 2e-3, "{} {}", a, b); // 8 bits of mantissa
        }
        let mut again = Vec::new();
        back.encode(&mut again);
        prop_assert_eq!(again, bytes);
    }

    #[test]
    fn arbitrary_bytes_err_or_give_a_sound_digest(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(digest) = TDigest::decode(&bytes) {
            prop_assert!(digest.centroid_count() <= 8 * bytes.len());
            prop_assert!(digest.min() <= digest.quantile(0.5) && digest.quantile(0.5) <= digest.max());
        }
    }

    #[test]
    fn a_damaged_digest_errs_or_stays_sound(values in usage_values(100), at: prop::sample::Index, bit in 0_u8..8) {
        let mut bytes = Vec::new();
        TDigest::from_values(&mut values.clone(), 50.0).unwrap().encode(&mut bytes);
        let at = at.index(bytes.len());
        bytes[at] ^= 1_u8 << bit;
        if let Ok(digest) = TDigest::decode(&bytes) {
            prop_assert!(digest.min() <= digest.quantile(0.9) && digest.quantile(0.9) <= digest.max());
        }
    }
}
