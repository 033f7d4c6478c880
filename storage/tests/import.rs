//! Export, import and backfill: another store gives the same answers, and what it has it keeps.
#![allow(clippy::unwrap_used, missing_docs)]
// Counts of a few weeks are far from any limit.
#![allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]

mod support;

use std::fs;
use std::path::Path;
use std::time::Duration;

use optipod_storage::{
    ImportError, Imported, PastSample, SketchKind, SlotKind, SlotRow, Store, StoreOptions, Timestamp,
};
use support::*;

const SERIES: usize = 5;

/// Nine days of a sample every half hour, and every minute at the end; all of it sealed.
fn lived(dir: &Path, sketch: SketchKind) -> (Store, Timestamp) {
    let store = Store::open(dir, StoreOptions { sketch, ..StoreOptions::default() }, START).unwrap();
    let dense = START + hours(9 * 24 + 1);
    let mut now = START;
    for n in 0_u64.. {
        // Series 1 is quiet on every other day, so that coverage differs.
        let quiet = n / 48 % 2 == 1;
        let mut samples = Vec::new();
        for series in (0..SERIES).filter(|series| *series != 1 || !quiet) {
            let value = |pod| ((n * 37 + pod * 11 + series as u64 * 5) % 100) as f64 / 50.0 + 0.01;
            samples.extend((0..2).map(|pod| sample(&store, series, pod, now, value(pod))));
        }
        store.append(now, &samples).unwrap();
        maintain_all(&store, now);
        now = now + if now < dense { mins(30) } else { mins(1) };
        if now > dense + mins(40) {
            break;
        }
    }
    let now = now + mins(10);
    maintain_all(&store, now);
    assert_eq!(store.status(now).open_slots, 0);
    assert_eq!(store.status(now).sealed_slots.len(), 3, "slots of each length");
    (store, now)
}

fn rows(store: &Store) -> Vec<SlotRow> {
    store.export().unwrap().flat_map(Result::unwrap).collect()
}

fn take_in(store: &Store, rows: &[SlotRow], now: Timestamp) -> Imported {
    let mut import = store.import(now);
    for row in rows {
        import.row(row.clone()).unwrap();
    }
    import.finish().unwrap()
}

fn assert_same_answers(a: &Store, b: &Store, now: Timestamp) {
    assert_eq!(a.series(None, 100), b.series(None, 100));
    for series in 0..SERIES {
        for window in [mins(30), hours(1), hours(5), hours(24), hours(24 * 7), hours(24 * 30)] {
            let (one, other) = (a.usage(&key(series), window, now), b.usage(&key(series), window, now));
            assert_eq!(one.unwrap(), other.unwrap(), "series {series}, {window:?}");
        }
        let range = |store: &Store| store.query_range(&key(series), START, now, hours(6)).unwrap();
        assert_eq!(range(a), range(b));
        assert!(range(a).len() > 10);
    }
}

fn files(dir: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(dir.join("slots")).unwrap().map(Result::unwrap);
    let mut all: Vec<_> =
        entries.map(|e| (e.file_name().to_string_lossy().into_owned(), fs::read(e.path()).unwrap())).collect();
    all.sort();
    all
}

#[test]
fn an_export_taken_into_an_empty_store_gives_the_same_answers_also_after_reopening() {
    for sketch in [SketchKind::TDigest, SketchKind::LogLinear] {
        let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (original, now) = lived(from.path(), sketch);
        let rows = rows(&original);
        let store = open(to.path(), now);
        let done = take_in(&store, &rows, now);
        assert_eq!((done.rows, done.kept, done.open, done.expired), (rows.len() as u64, 0, 0, 0));
        assert_same_answers(&original, &store, now);
        drop(store);
        let store = open(to.path(), now);
        assert_eq!(store.status(now).problems, Vec::<String>::new());
        assert_same_answers(&original, &store, now);
    }
}

#[test]
fn an_import_repeated_changes_nothing() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (original, now) = lived(from.path(), SketchKind::TDigest);
    let rows = rows(&original);
    let store = open(to.path(), now);
    let first = take_in(&store, &rows, now);
    let before = files(to.path());
    let again = take_in(&store, &rows, now);
    assert_eq!((again.slots, again.rows, again.kept), (0, 0, first.slots));
    assert!(files(to.path()) == before);
    assert_same_answers(&original, &store, now);
}

/// A row of `kind`, moved to another slot.
fn row(store: &Store, kind: SlotKind, start: Timestamp) -> SlotRow {
    let row = rows(store).into_iter().find(|row| row.kind == kind).unwrap();
    let moved = |at: Timestamp| start + at.since(row.start);
    SlotRow { start, first: moved(row.first), last: moved(row.last), ..row }
}

#[test]
fn what_a_store_has_it_keeps_whole_in_part_or_within_a_longer_slot() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (original, now) = lived(from.path(), SketchKind::TDigest);
    let store = open(to.path(), START);
    // An hour slot at START, a sealed 5-minute slot 3 hours later, an open one in the hour after.
    tick(&store, 1, START, 7.0);
    tick(&store, 1, START + hours(3), 7.0);
    maintain_all(&store, START + hours(3) + mins(10));
    tick(&store, 1, START + hours(4), 7.0);
    let before = store.status(now).sealed_slots;
    assert_eq!(before.into_iter().collect::<Vec<_>>(), [(SlotKind::FiveMinutes, 1), (SlotKind::Hour, 1)]);
    let at = START + hours(4) + mins(3);
    for (kind, start) in [
        (SlotKind::Hour, START),
        (SlotKind::FiveMinutes, START + mins(30)),
        (SlotKind::Hour, START + hours(3)),
        (SlotKind::FiveMinutes, START + hours(3)),
    ] {
        let done = take_in(&store, &[row(&original, kind, start)], at);
        assert_eq!((done.slots, done.kept), (0, 1), "{kind:?} at {start}");
    }
    let still_open = row(&original, SlotKind::FiveMinutes, START + hours(4));
    let done = take_in(&store, std::slice::from_ref(&still_open), at);
    assert_eq!((done.slots, done.open), (0, 1), "it may still take samples");
    let done = take_in(&store, &[row(&original, SlotKind::Hour, START + hours(4))], START + hours(6));
    assert_eq!((done.slots, done.kept), (0, 1), "a part of it is an open slot");
    assert_eq!(count(&store, 0, hours(6), at), 3);
    let done = take_in(&store, &[row(&original, SlotKind::FiveMinutes, START + mins(60))], at);
    assert_eq!((done.slots, done.kept), (1, 0), "between them there is room");
    let done = take_in(&store, &[row(&original, SlotKind::Day, START)], START + hours(24 * 40));
    assert_eq!(done.expired, 1);
}

#[test]
fn a_store_goes_on_after_an_import_and_remembers_when_its_series_began() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (original, now) = lived(from.path(), SketchKind::TDigest);
    let mut store = open(to.path(), now);
    tick(&store, SERIES + 1, now, 1.5);
    take_in(&store, &rows(&original), now);
    let later = now + mins(20);
    tick(&store, SERIES + 1, later, 2.5);
    maintain_all(&store, later);
    let expected = |n: usize| count(&original, n, hours(24 * 30), now) + 2;
    for _ in 0..2 {
        for n in 0..SERIES {
            assert_eq!(count(&store, n, hours(24 * 30), later), expected(n));
        }
        assert_eq!(count(&store, SERIES, hours(24 * 30), later), 2);
        let known = store.series(None, 100);
        assert_eq!(known.len(), SERIES + 1);
        let began = known.iter().find(|info| info.key == key(0)).unwrap();
        assert_eq!((began.first, began.last), (START, later));
        drop(store);
        store = open(to.path(), later);
        assert_eq!(store.status(later).problems, Vec::<String>::new());
    }
}

#[test]
fn rows_that_cannot_be_are_refused() {
    let (from, to) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (original, now) = lived(from.path(), SketchKind::TDigest);
    let good = row(&original, SlotKind::Hour, START + hours(1));
    let store = open(to.path(), now);
    let refused = |row: &SlotRow| store.import(now).row(row.clone()).unwrap_err().to_string();
    assert!(refused(&SlotRow { start: good.start + mins(1), ..good.clone() }).contains("does not start then"));
    assert!(refused(&SlotRow { last: good.start + hours(1), ..good.clone() }).contains("not in order"));
    assert!(refused(&SlotRow { first: good.last + mins(1), ..good.clone() }).contains("not in order"));
    for filled in [0, 13] {
        assert!(refused(&SlotRow { filled, ..good.clone() }).contains("that many 5-minute slots"));
    }
    for name in [String::new(), "a\0b".to_owned(), "x".repeat(254)] {
        let mut row = good.clone();
        row.key.workload = name;
        assert!(refused(&row).contains("1 to 253 bytes"));
    }
    let mut import = store.import(now);
    import.row(good.clone()).unwrap();
    assert!(matches!(import.row(good.clone()), Err(ImportError::Repeated { .. })));
    let mut import = store.import(now);
    import.row(row(&original, SlotKind::Hour, START + hours(2))).unwrap();
    assert!(matches!(import.row(good), Err(ImportError::NotSorted { .. })));
    drop(store);
    assert_eq!(files(to.path()), [], "nothing of it was taken in");
}

fn past(series: usize, pod: u64, at: Timestamp, cpu: f64) -> PastSample {
    PastSample { key: key(series), pod, at, cpu, memory: cpu * 1e9 }
}

#[test]
fn the_past_of_a_store_that_has_a_present_is_taken_in_whole() {
    let dir = tempfile::tempdir().unwrap();
    let now = START + hours(24 * 20);
    let store = open(dir.path(), now);
    tick(&store, 1, now, 1.0);
    let mut backfill = store.backfill(now);
    for n in 0..48 {
        backfill.sample(past(0, 1, START + mins(30 * n), 2.0)).unwrap();
    }
    let done = backfill.finish().unwrap();
    assert_eq!((done.samples, done.slots, done.kept), (48, 48, 0), "no day was merged before all of it was in");
    maintain_all(&store, now);
    assert_eq!(count(&store, 0, hours(24 * 30), now), 49);
    assert_eq!(store.status(now).sealed_slots.into_iter().collect::<Vec<_>>(), [(SlotKind::Day, 1)]);
}

#[test]
fn the_present_goes_on_while_the_past_comes_in_part_by_part() {
    let dir = tempfile::tempdir().unwrap();
    let now = START + hours(24 * 20);
    let store = open(dir.path(), now);
    let held = store.hold_roll_ups();
    let mut ticks = 0;
    // Three days, the latest first, each in parts of which one ends in the middle of a day.
    for day in (0..3).rev() {
        for part in [12..24, 0..12] {
            let mut backfill = store.backfill(now);
            for n in part.clone() {
                backfill.sample(past(1, 1, START + hours(24 * day + n), 2.0)).unwrap();
                ticks += 1;
                tick(&store, 1, now + mins(ticks), 1.0);
                maintain_all(&store, now + mins(ticks));
            }
            let done = backfill.finish().unwrap();
            assert_eq!((done.samples, done.kept), (12, 0), "day {day}, {part:?}");
        }
    }
    drop(held);
    let now = now + mins(ticks);
    maintain_all(&store, now);
    assert_eq!(count(&store, 1, hours(24 * 30), now), 3 * 24);
    assert_eq!(count(&store, 0, hours(24 * 30), now), ticks);
    assert_eq!(store.status(now).sealed_slots.get(&SlotKind::Day), Some(&3), "what was held back is done");
}

#[test]
fn an_hour_of_which_a_part_is_in_waits_for_the_rest_while_later_ones_come() {
    let dir = tempfile::tempdir().unwrap();
    let now = START + hours(24 * 20);
    let store = open(dir.path(), now);
    let _held = store.hold_roll_ups();
    let take_in = |minutes: std::ops::Range<u64>| {
        let mut backfill = store.backfill(now);
        minutes.for_each(|n| backfill.sample(past(0, 1, START + mins(n), 2.0)).unwrap());
        backfill.finish().unwrap()
    };
    assert_eq!(take_in(0..40).slots, 8);
    assert_eq!(take_in(60..180).slots, 24);
    let done = take_in(0..60);
    assert_eq!((done.slots, done.kept), (4, 8));
    assert_eq!(count(&store, 0, hours(24 * 30), now), 180);
}

/// The value that a share `q` does not exceed, exactly.
fn exact(values: &mut [f64], q: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() as f64 * q).ceil() as usize).clamp(1, values.len()) - 1]
}

#[test]
fn past_samples_count_once_each_and_answer_as_their_exact_quantiles_do() {
    let dir = tempfile::tempdir().unwrap();
    let now = START + hours(24 * 20);
    let store = open(dir.path(), now);
    let mut backfill = store.backfill(now);
    let (mut all, mut last_day) = (Vec::new(), Vec::new());
    let mut given = 0;
    for n in (0..20 * 288).filter(|n| n % 6 == 5) {
        let start = START + mins(5 * n);
        // Within five minutes in any order, each pod's first sample twice.
        for step in [3, 0, 4, 2, 1, 0] {
            for pod in 0..2 {
                let at = start + mins(step);
                let cpu = 0.1 + ((n * 7 + step * 13 + pod * 3) % 997) as f64 / 100.0;
                backfill.sample(past(0, pod, at, cpu)).unwrap();
                given += 1;
            }
        }
        for step in 0..5 {
            for pod in 0..2 {
                let cpu = 0.1 + ((n * 7 + step * 13 + pod * 3) % 997) as f64 / 100.0;
                let counts = start + mins(5) + mins(2) <= now;
                all.extend(counts.then_some(cpu));
                last_day.extend((counts && start + mins(5) > now - hours(24)).then_some(cpu));
            }
        }
    }
    backfill.sample(past(0, 9, now - mins(1), f64::NAN)).unwrap();
    backfill.sample(past(0, 9, now + hours(1), 1.0)).unwrap();
    let error = backfill.sample(past(0, 9, now, 1.0)).unwrap_err();
    assert!(error.to_string().contains("sort the input by time"), "{error}");
    let done = backfill.finish().unwrap();
    assert_eq!((done.samples, done.invalid), (all.len() as u64, 1));
    assert_eq!(done.duplicates, given / 6, "also in the slots that were left out");
    assert_eq!(done.open, 2, "the last five minutes and the future");
    let slots = store.status(now).sealed_slots;
    assert!(slots.values().sum::<u64>() < 230, "rolled up on the way: {slots:?}");
    for (window, values) in [(hours(24 * 30), &mut all), (hours(24), &mut last_day)] {
        let usage = store.usage(&key(0), window, now).unwrap().unwrap();
        assert_eq!(usage.cpu.count(), values.len() as u64);
        for q in [0.5, 0.9, 0.99] {
            let (found, exact) = (usage.cpu.quantile(q), exact(values, q));
            assert!((found - exact).abs() <= exact * 0.02, "P{q} of {window:?}: {found} for {exact}");
        }
        assert!((usage.cpu.max() / exact(values, 1.0) - 1.0).abs() < 1e-4);
    }
    let maintained = maintain_all(&store, now + Duration::from_hours(1));
    assert_eq!(maintained.retired, 0);
}
