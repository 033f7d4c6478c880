//! The kind of sketch is a choice that can be changed: what was stored before still answers.
#![allow(clippy::unwrap_used, missing_docs)]

mod shapes;
mod support;

use optipod_storage::{AnySketch, LogLinear, Sketch, SketchKind, Store, StoreOptions, Timestamp, Usage};
use proptest::prelude::*;
use shapes::{SHAPES, distance_to_nearest, nearest_rank, shape, sorted};
use support::{START, hours, key, maintain_all, mins, sample};

fn of(kind: SketchKind, values: &[f64]) -> AnySketch {
    AnySketch::from_values(kind, &mut values.to_vec()).unwrap()
}

#[test]
fn bytes_tell_the_kind() {
    for kind in [SketchKind::TDigest, SketchKind::LogLinear] {
        let mut bytes = Vec::new();
        of(kind, &[0.1, 0.2, 3.0]).encode(&mut bytes);
        assert_eq!(AnySketch::decode(&bytes).unwrap().kind(), kind);
        bytes[0] = 0x20;
        assert!(AnySketch::decode(&bytes).is_err(), "an unknown kind");
    }
}

#[test]
fn one_kind_stays_and_both_become_a_t_digest_of_all_values() {
    for name in SHAPES {
        let values = shape(name, 960, 3);
        let (early, late) = values.split_at(480);
        let (digest, histogram) = (of(SketchKind::TDigest, early), of(SketchKind::LogLinear, late));
        let same = AnySketch::merged(&[&histogram, &of(SketchKind::LogLinear, early)]).unwrap();
        assert_eq!(same, AnySketch::LogLinear(LogLinear::from_values(&values).unwrap()));
        let (mixed, exact) = (AnySketch::merged(&[&digest, &histogram]).unwrap(), sorted(&values));
        assert_eq!((mixed.kind(), mixed.count()), (SketchKind::TDigest, 960), "{name}");
        assert!((mixed.min(), mixed.max()) == (exact[0], exact[959]), "{name}");
        for q in [0.1_f64, 0.5, 0.9, 0.99] {
            // The digest's own error is in ranks: some per cent of all at the median.
            let slack = (0.1 * q * (1.0 - q)).max(0.003);
            let (low, high) = (nearest_rank(&exact, q - slack), nearest_rank(&exact, q + slack));
            let got = mixed.quantile(q);
            assert!(got >= low * 0.992 && got <= high * 1.008, "{name} q={q}: {got} is not in [{low}, {high}]");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_invented_where_kinds_mix(
        early in prop::collection::vec(prop_oneof![Just(0.0), Just(0.002), 0.5..2.0, 1e6..1e9], 1..40),
        late in prop::collection::vec(prop_oneof![Just(0.0), Just(0.002), 0.5..2.0, 1e6..1e9], 1..40),
    ) {
        let parts = [of(SketchKind::LogLinear, &early), of(SketchKind::TDigest, &late)];
        let mixed = AnySketch::merged(&[&parts[0], &parts[1]]).unwrap();
        let exact = sorted(&[early, late].concat());
        prop_assert_eq!(mixed.count(), exact.len() as u64);
        let mut before = mixed.min();
        for i in 0..=100 {
            let got = mixed.quantile(f64::from(i) / 100.0);
            prop_assert!(got >= before && got <= mixed.max());
            prop_assert!(distance_to_nearest(&exact, got) <= 0.06, "{} invented", got);
            before = got;
        }
    }
}

fn open(dir: &std::path::Path, kind: SketchKind, now: Timestamp) -> Store {
    Store::open(dir, StoreOptions { sketch: kind, ..StoreOptions::default() }, now).unwrap()
}

/// Three hours of samples every five minutes, the hour's number of cores.
fn fill(store: &Store, from: Timestamp) -> Timestamp {
    let mut now = from;
    for step in 0..36 {
        now = from + mins(5 * step);
        let cpu = (1 + step / 12) as f64;
        assert_eq!(store.append(now, &[sample(store, 0, 1, now, cpu)]).unwrap().accepted, 1);
        maintain_all(store, now);
    }
    now
}

#[test]
fn a_store_opened_with_the_other_kind_answers_over_both() {
    for (first, second) in [(SketchKind::TDigest, SketchKind::LogLinear), (SketchKind::LogLinear, SketchKind::TDigest)]
    {
        let dir = tempfile::tempdir().unwrap();
        let now = fill(&open(dir.path(), first, START), START);
        let store = open(dir.path(), second, now);
        let ask = |now: Timestamp| -> Usage { store.usage(&key(0), hours(24), now).unwrap().unwrap() };
        let before = ask(now);
        assert_eq!((before.cpu.count(), before.cpu.max()), (36, 3.0), "{first:?} read with {second:?}");
        let now = fill(&store, now + mins(5));
        let now = now + hours(4);
        maintain_all(&store, now); // hours, one of them of both kinds
        let both = ask(now);
        assert_eq!((both.cpu.count(), both.cpu.min(), both.cpu.max()), (72, 1.0, 3.0));
        for (q, cores) in [(0.2, 1.0), (0.5, 2.0), (0.9, 3.0)] {
            let got = both.cpu.quantile(q);
            assert!((got - cores).abs() <= cores * 0.008, "q={q}: {got}");
        }
        assert!((both.memory.mean() - 2e9).abs() <= 2e9 * 0.008);
    }
}
