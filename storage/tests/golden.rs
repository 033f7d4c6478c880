//! Stores written by earlier programs, in `golden/`: this one must read them and answer the same.
//!
//! `golden/v1` was written by `write_anew`, run by hand at the freeze and never again; `golden/v0`
//! is the same store in the layout before it (`src/store/tests/migration.rs`).
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use optipod_storage::{
    AnySketch, Distribution, Sample, SeriesKey, Sketch as _, SketchKind, SlotRow, Store, StoreOptions, Timestamp, Usage,
};
use support::*;

fn golden(version: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(version)
}

#[test]
fn a_store_of_version_1_answers_as_it_did() {
    check("v1");
}

#[test]
fn a_store_of_version_0_answers_as_it_did() {
    check("v0");
}

fn check(version: &str) {
    let expected = fs::read_to_string(golden(version).join("answers.txt")).unwrap();
    let root = tempfile::tempdir().unwrap();
    copy_dir(&golden(version).join("store"), root.path());
    for opening in ["first", "second"] {
        let store = open(root.path(), START);
        assert_eq!(answers(&store), expected, "{version}, {opening} opening");
        assert_eq!(store.status(START).problems, Vec::<String>::new());
    }
}

/// Every slot's rows with the bytes of their sketches, and what does not depend on how sketches are
/// merged of each window.
fn answers(store: &Store) -> String {
    let mut out = String::new();
    let now = store.status(START).last_tick.unwrap();
    for info in store.series(None, 100) {
        writeln!(out, "{} first {} last {}", info.key, info.first, info.last).unwrap();
        for window in [mins(10), hours(1), hours(3), hours(24), hours(24 * 30)] {
            match store.usage(&info.key, window, now).unwrap() {
                Some(usage) => writeln!(out, "  {window:?}: {}", tell(&usage)).unwrap(),
                None => writeln!(out, "  {window:?}: nothing").unwrap(),
            }
        }
    }
    for row in store.export().unwrap().flat_map(Result::unwrap) {
        let (cpu, memory) = (hex(&row.cpu), hex(&row.memory));
        let SlotRow { key, kind, start, first, last, filled, .. } = row;
        writeln!(out, "{kind:?} {start} {key} {first} {last} {filled} {cpu} {memory}").unwrap();
    }
    out
}

fn tell(usage: &Usage) -> String {
    let one = |d: &Distribution| format!("{} of {} to {}", d.count(), d.min(), d.max());
    format!("{} to {}, covered {:?}; {}; {}", usage.from, usage.to, usage.covered, one(&usage.cpu), one(&usage.memory))
}

fn hex(sketch: &AnySketch) -> String {
    let mut bytes = Vec::new();
    sketch.encode(&mut bytes);
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// Two containers and one that came late; two pods; all kinds of slots, both kinds of sketches,
/// bursts, an idle one.
fn write(dir: &Path) {
    let series = |n: usize| SeriesKey { container: format!("main-{n}"), ..key(0) };
    let store = |sketch| Store::open(dir, StoreOptions { sketch, ..StoreOptions::default() }, START).unwrap();
    let fill = |store: &Store, from: Timestamp, minutes: u64, containers: usize| {
        let ids: Vec<_> = (0..containers).map(|n| store.intern(&series(n))).collect();
        for minute in 0..minutes {
            let now = from + mins(minute);
            let value = |n: usize, pod: u64| match n {
                0 if (minute + pod).is_multiple_of(7) => 1.0 + 0.01 * (minute % 13) as f64,
                0 => 0.002,
                1 => 0.1 + 0.37 * ((minute * 7919 + pod * 104_729) % 1000) as f64 / 1000.0,
                _ => 0.0,
            };
            let sample = |(n, pod)| Sample {
                series: ids[n],
                pod,
                at: now,
                cpu: value(n, pod),
                memory: 2e8 + 1e8 * value(n, pod),
            };
            let samples: Vec<Sample> = (0..containers).flat_map(|n| [(n, 1), (n, 2)]).map(sample).collect();
            store.append(now, &samples).unwrap();
            maintain_all(store, now);
        }
    };
    let first = store(SketchKind::TDigest);
    fill(&first, START, 70, 2);
    fill(&first, START + hours(9 * 24), 60, 2);
    drop(first);
    let second = store(SketchKind::LogLinear);
    fill(&second, START + hours(9 * 24 + 1), 100, 2);
    drop(second);
    let third = store(SketchKind::TDigest);
    fill(&third, START + hours(9 * 24 + 3), 138, 3);
}

/// `OPTIPOD_GOLDEN=DIR cargo test -p optipod-storage --test golden -- --ignored`
#[test]
#[ignore = "writes a new golden store to $OPTIPOD_GOLDEN, by hand only"]
fn write_anew() {
    let dir = PathBuf::from(std::env::var("OPTIPOD_GOLDEN").unwrap());
    fs::create_dir_all(&dir).unwrap();
    write(&dir.join("store"));
    fs::write(dir.join("answers.txt"), answers(&open(&dir.join("store"), START))).unwrap();
}
