//! The log-linear histogram against exact quantiles of the same values, and against itself.
#![allow(clippy::unwrap_used, missing_docs)]
#![allow(clippy::float_cmp)] // what must be exact is compared exactly

mod shapes;

use optipod_storage::{LogLinear, LogLinearBuilder, Sketch, SketchError};
use proptest::prelude::*;
use shapes::{SHAPES, distance_to_nearest, nearest_rank, shape, sorted};

/// Half a bucket, relative to its lower edge, and what an `f64` rounds.
const HALF_BUCKET: f64 = 1.0 / 128.0 + 1e-12;

fn built(values: &[f64]) -> LogLinear {
    let mut builder = LogLinearBuilder::default();
    for value in values {
        builder.insert(*value).unwrap();
    }
    builder.build().unwrap()
}

fn bytes(histogram: &LogLinear) -> Vec<u8> {
    let mut out = Vec::new();
    histogram.encode(&mut out);
    out
}

/// As the store does it: each slot summarised, encoded and decoded, then merged.
fn through_slots(values: &[f64], slots: usize) -> LogLinear {
    let stored = |slot: &[f64]| LogLinear::decode(&bytes(&LogLinear::from_values(slot).unwrap())).unwrap();
    let parts: Vec<LogLinear> = values.chunks(values.len().div_ceil(slots)).map(stored).collect();
    LogLinear::merged(&parts.iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn every_quantile_of_every_shape_is_within_half_a_bucket() {
    for name in SHAPES {
        let values = shape(name, 5760, 7);
        let exact = sorted(&values);
        for histogram in [built(&values), through_slots(&values, 24)] {
            assert_eq!(histogram.count(), 5760, "{name}");
            for step in 0..=1000 {
                let q = f64::from(step) / 1000.0;
                let (want, got) = (nearest_rank(&exact, q), histogram.quantile(q));
                // The extremes are stored to 16 bits.
                assert!((got - want).abs() <= want * HALF_BUCKET.max(1.6e-5), "{name} q={q}: {got} for {want}");
            }
            let (sum, total) = (histogram.sum(), values.iter().sum::<f64>());
            assert!((sum - total).abs() <= total * HALF_BUCKET, "{name}: {sum} for {total}");
        }
    }
}

#[test]
fn what_is_not_a_usage_is_refused_and_changes_nothing() {
    let mut builder = LogLinearBuilder::default();
    assert_eq!(builder.build(), Err(SketchError::Empty));
    builder.insert(1.0).unwrap();
    for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -0.1, 1e38] {
        assert!(matches!(builder.insert(bad), Err(SketchError::InvalidValue(_))), "{bad}");
        assert!(LogLinear::from_values(&[1.0, bad]).is_err());
    }
    assert_eq!(builder.build(), LogLinear::from_values(&[1.0]));
    // Too large by itself, though its counter is there already.
    builder.insert(1e37).unwrap();
    assert!(builder.insert(1.01e37).is_err());
    builder.insert(-0.0).unwrap();
    builder.insert(-0.0).unwrap();
    assert_eq!(builder.build(), LogLinear::from_values(&[1.0, 1e37, 0.0, 0.0]));
    assert_eq!(LogLinear::from_values(&[]), Err(SketchError::Empty));
    assert_eq!(LogLinear::merged(&[]), Err(SketchError::Empty));
}

#[test]
fn an_hour_of_four_samples_a_minute_is_small() {
    for (name, limit) in [("lognormal", 190), ("idle-with-bursts", 60), ("constant", 12)] {
        let histogram = LogLinear::from_values(&shape(name, 240, 5)).unwrap();
        let len = bytes(&histogram).len();
        assert!(len <= limit, "{name}: {len} bytes, {} buckets", histogram.bucket_count());
    }
}

#[test]
fn a_claimed_size_beyond_the_bytes_is_refused() {
    let mut claimed = vec![0x10];
    claimed.extend([0xff, 0xff, 0xff, 0xff, 0x0f, 1, 2, 3]);
    assert!(LogLinear::decode(&claimed).is_err());
    assert!(LogLinear::decode(&[]).is_err());
    // Two buckets of 2^50 - 1 values each are more than can be counted.
    let full = [0x0f, 0xf0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01];
    let head = [0x10, 2, 0, 0, 63];
    assert!(LogLinear::decode(&[&head[..], &full, &full, &[0]].concat()).is_err());
}

fn usage_values(max: usize) -> impl Strategy<Value = Vec<f64>> {
    let value =
        prop_oneof![Just(0.0), Just(0.25), 1e-7..1e-5, 0.0..4.0, 1e6..1e11, Just(1e-300), Just(1e-39), Just(1e37)];
    prop::collection::vec(value, 1..max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_merge_is_the_histogram_of_all_values(chunks in prop::collection::vec(usage_values(16), 1..6)) {
        let parts: Vec<LogLinear> = chunks.iter().map(|c| LogLinear::from_values(c).unwrap()).collect();
        let all = LogLinear::from_values(&chunks.concat()).unwrap();
        prop_assert_eq!(&LogLinear::merged(&parts.iter().collect::<Vec<_>>()).unwrap(), &all);
        prop_assert_eq!(&LogLinear::merged(&parts.iter().rev().collect::<Vec<_>>()).unwrap(), &all);
        prop_assert_eq!(&built(&chunks.concat()), &all);
    }

    #[test]
    fn quantiles_are_monotone_near_a_sample_and_within_the_extremes(values in usage_values(60)) {
        let (histogram, exact) = (LogLinear::from_values(&values).unwrap(), sorted(&values));
        prop_assert_eq!(histogram.count(), exact.len() as u64);
        prop_assert_eq!((histogram.min(), histogram.max()), (exact[0], *exact.last().unwrap()));
        prop_assert_eq!((histogram.quantile(0.0), histogram.quantile(1.0)), (histogram.min(), histogram.max()));
        prop_assert_eq!(histogram.quantile(f64::NAN), histogram.max());
        let mut before = histogram.min();
        for i in 0..=200 {
            let q = f64::from(i) / 200.0;
            let (got, want) = (histogram.quantile(q), nearest_rank(&exact, q));
            prop_assert!(got >= before && got <= histogram.max());
            prop_assert!((got - want).abs() <= want * HALF_BUCKET + 1.2e-38, "q={}: {} for {}", q, got, want);
            prop_assert!(distance_to_nearest(&exact, got) <= HALF_BUCKET);
            before = got;
        }
    }

    #[test]
    fn encoding_keeps_every_count_and_is_stable(values in usage_values(60)) {
        let histogram = LogLinear::from_values(&values).unwrap();
        let stored = bytes(&histogram);
        let back = LogLinear::decode(&stored).unwrap();
        prop_assert_eq!((back.count(), back.bucket_count()), (histogram.count(), histogram.bucket_count()));
        prop_assert!(back.max() >= histogram.max() && back.max() <= histogram.max() * 1.00002 + 1.2e-38);
        prop_assert!(back.min() <= histogram.min() && back.min() >= histogram.min() * 0.99998 - 1.2e-38);
        for q in [0.01, 0.5, 0.9, 0.99] {
            let (a, b) = (histogram.quantile(q), back.quantile(q));
            prop_assert!((a - b).abs() <= a * 2e-5 + 1.2e-38, "{} {}", a, b); // clamped to other extremes
        }
        prop_assert_eq!(bytes(&back), stored);
    }

    #[test]
    fn arbitrary_bytes_err_or_give_a_sound_histogram(mut stored in prop::collection::vec(any::<u8>(), 0..80), head: bool) {
        if let (true, Some(first)) = (head, stored.first_mut()) {
            *first = 0x10;
        }
        if let Ok(histogram) = LogLinear::decode(&stored) {
            prop_assert!(histogram.bucket_count() <= stored.len());
            prop_assert!(histogram.min() <= histogram.quantile(0.5) && histogram.quantile(0.5) <= histogram.max());
            prop_assert_eq!(bytes(&histogram).len(), stored.len());
        }
    }

    #[test]
    fn a_damaged_histogram_errs_or_stays_sound(values in usage_values(40), at: prop::sample::Index, bit in 0_u8..8) {
        let mut stored = bytes(&LogLinear::from_values(&values).unwrap());
        let at = at.index(stored.len());
        stored[at] ^= 1_u8 << bit;
        if let Ok(histogram) = LogLinear::decode(&stored) {
            prop_assert!(histogram.min() <= histogram.quantile(0.9) && histogram.quantile(0.9) <= histogram.max());
        }
    }
}
