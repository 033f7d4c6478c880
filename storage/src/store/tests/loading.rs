//! What a store answers and takes between `open_sealed` and `load`.

use std::fs;

use super::{NOW, count, key, open, samples};
use crate::store::{Store, StoreOptions};
use crate::{AppendError, OpenError, StoreError, Timestamp};
use std::path::Path;
use std::time::Duration;

const TICKS: u64 = 40;

fn at(tick: u64) -> Timestamp {
    NOW + Duration::from_secs(15 * tick)
}

/// A store of three series with one sealed slot of sixteen ticks (NOW is a minute into it) and open
/// ones; the fourth series came with the last tick.
fn prepared(dir: &Path) {
    let store = open(dir);
    for tick in 0..TICKS {
        let series = if tick + 1 == TICKS { 4 } else { 3 };
        store.append(at(tick), &samples(&store, series, at(tick))).unwrap();
        store.maintain(at(tick)).unwrap();
    }
    assert_eq!(store.shared().catalog.slots().count(), 1);
}

fn open_sealed(dir: &Path) -> Store {
    Store::open_sealed(dir, StoreOptions::default()).unwrap()
}

#[test]
fn sealed_slots_are_answered_before_the_open_ones_are_read() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    let store = open_sealed(dir.path());
    assert_eq!([count(&store, 0), count(&store, 2)], [16, 16]);
    for unknown in [3, 9] {
        let error = store.usage(&key(unknown), Duration::from_hours(1), at(TICKS)).unwrap_err();
        assert!(matches!(error, StoreError::Loading), "series {unknown}: {error}");
    }
    store.load(at(TICKS)).unwrap();
    assert_eq!([count(&store, 0), count(&store, 3), count(&store, 9)], [TICKS, 1, 0]);
}

#[test]
fn a_series_asked_for_before_loading_is_the_same_afterwards() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    let store = open_sealed(dir.path());
    let early = samples(&store, 6, at(TICKS)); // three that are sealed, one that is not, two new ones
    let late = samples(&store, 6, at(TICKS + 1));
    store.load(at(TICKS)).unwrap();
    assert_eq!(store.append(at(TICKS), &early).unwrap().accepted, 6);
    assert_eq!(store.append(at(TICKS + 1), &late).unwrap().accepted, 6);
    assert_eq!(store.append(at(TICKS + 1), &samples(&store, 6, at(TICKS + 1))).unwrap().duplicates, 6);
    drop(store);
    let store = open(dir.path());
    assert_eq!([0, 3, 5, 6].map(|n| count(&store, n)), [TICKS + 2, 3, 2, 0]);
}

#[test]
fn a_volume_that_takes_nothing_leaves_the_sealed_slots_served_and_is_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    let obstacle = dir.path().join("probe.tmp");
    fs::create_dir(&obstacle).unwrap(); // writing there fails, as on a full volume
    let store = open_sealed(dir.path());
    let tick = samples(&store, 4, at(TICKS));
    for _ in 0..2 {
        assert!(matches!(store.load(at(TICKS)).unwrap_err(), OpenError::Io { .. }));
        assert!(matches!(store.append(at(TICKS), &tick).unwrap_err(), AppendError::NotLoaded { .. }));
        assert!(matches!(store.maintain(at(TICKS)).unwrap_err(), StoreError::NotLoaded { .. }));
        assert_eq!(count(&store, 0), 16);
    }
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(store.append(at(TICKS), &tick).unwrap().accepted, 4);
    assert_eq!([count(&store, 0), count(&store, 3)], [TICKS + 1, 2]);
    assert_eq!(store.status(at(TICKS)).problems, Vec::<String>::new());
}

#[test]
fn a_roll_up_that_a_crash_left_beside_its_inputs_counts_when_it_is_whole() {
    for is_damaged in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let hours = |n: u64| NOW + Duration::from_hours(n);
        store.append(NOW, &samples(&store, 3, NOW)).unwrap();
        store.append(hours(1), &samples(&store, 3, hours(1))).unwrap();
        store.maintain(hours(1)).unwrap();
        let slots = dir.path().join("slots");
        let inputs: Vec<_> = fs::read_dir(&slots).unwrap().map(|entry| entry.unwrap().path()).collect();
        let kept: Vec<_> = inputs.iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
        assert_eq!(kept.len(), 1);
        store.append(hours(4), &samples(&store, 3, hours(4))).unwrap();
        while store.maintain(hours(4)).unwrap().rolled_up == 0 {}
        drop(store);
        for (path, bytes) in &kept {
            fs::write(path, bytes).unwrap();
        }
        if is_damaged {
            let hour = fs::read_dir(&slots).unwrap().map(|e| e.unwrap().path()).find(|p| !inputs.contains(p)).unwrap();
            let mut bytes = fs::read(&hour).unwrap();
            bytes[25] ^= 1; // within its block
            fs::write(&hour, bytes).unwrap();
        }
        let store = open_sealed(dir.path());
        assert_eq!(count(&store, 0), 1, "once, damaged: {is_damaged}");
        store.load(hours(4)).unwrap();
        let all = |store: &Store| store.usage(&key(0), Duration::from_hours(9), hours(4)).unwrap().unwrap().cpu.count();
        assert_eq!((all(&store), kept[0].0.exists()), (3, is_damaged));
        assert_eq!(store.status(hours(4)).problems.is_empty(), !is_damaged);
    }
}

#[test]
fn a_damaged_roll_up_counts_where_its_inputs_are_gone_in_part() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let minutes = |n: u64| NOW + Duration::from_mins(n);
    for n in [0, 6] {
        store.append(minutes(n), &samples(&store, 200, minutes(n))).unwrap();
    }
    store.append(minutes(60), &samples(&store, 200, minutes(60))).unwrap();
    while store.maintain(minutes(60)).unwrap().pending {}
    let slots = dir.path().join("slots");
    let second = slots.join(format!("5m-{}.slot", NOW.0 / 1000 - 60 + 300));
    let kept = fs::read(&second).unwrap();
    store.append(minutes(240), &samples(&store, 200, minutes(240))).unwrap();
    while store.maintain(minutes(240)).unwrap().rolled_up == 0 {}
    drop(store);
    fs::write(&second, kept).unwrap();
    let hour = slots.join(format!("1h-{}.slot", NOW.0 / 1000 - 60));
    let mut bytes = fs::read(&hour).unwrap();
    bytes[25] ^= 1; // within the first of its two blocks
    fs::write(&hour, bytes).unwrap();

    let store = open_sealed(dir.path());
    let all = |n| store.usage(&key(n), Duration::from_hours(9), minutes(240)).unwrap().map(|usage| usage.cpu.count());
    assert_eq!([all(0), all(199)], [Some(2), Some(2)], "of the input that is left and of the hour after");
    store.load(minutes(240)).unwrap();
    assert_eq!([all(0), all(199)], [Some(2), Some(4)], "what the damaged block held is lost, and no more");
    assert!(!store.status(minutes(240)).problems.is_empty());
    assert!(!second.exists());
}

#[test]
fn a_question_before_loading_does_not_make_a_damaged_file_count() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    let copy = tempfile::tempdir().unwrap();
    {
        // As after a crash between the file's name and its entry in the manifest.
        let store = open(dir.path());
        let seal = Timestamp(NOW.0 - 60_000 + 600_000 + 120_000);
        let before: Vec<_> = fs::read_dir(dir.path().join("slots")).unwrap().map(|e| e.unwrap().file_name()).collect();
        drop(store);
        copy_dir(dir.path(), copy.path());
        let store = open(dir.path());
        assert_eq!(store.maintain(seal).unwrap().sealed, 1);
        let new = fs::read_dir(dir.path().join("slots"))
            .unwrap()
            .map(|e| e.unwrap())
            .find(|e| !before.contains(&e.file_name()));
        let new = new.unwrap();
        let mut bytes = fs::read(new.path()).unwrap();
        bytes[25] ^= 1;
        fs::write(copy.path().join("slots").join(new.file_name()), bytes).unwrap();
    }
    let store = open_sealed(copy.path());
    assert_eq!(count(&store, 0), 16, "the damaged slot is met, and left out");
    store.load(at(TICKS)).unwrap();
    assert_eq!(count(&store, 0), TICKS, "its samples are still in the frames");
}

fn copy_dir(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir_all(to.join(entry.file_name())).unwrap();
            copy_dir(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Reading it fails with EIO at its beginning, as a device that fails does.
const FAILING: &str = "/proc/self/mem";

fn load_after(store: &Store, minutes: u64) -> Result<(), OpenError> {
    store.load(at(TICKS) + Duration::from_mins(minutes))
}

/// Puts what fails to be read in the place of a file; what was there.
fn break_device(path: &Path) -> std::path::PathBuf {
    let kept = path.with_extension("kept");
    fs::rename(path, &kept).unwrap();
    std::os::unix::fs::symlink(FAILING, path).unwrap();
    kept
}

fn a_slot(dir: &Path) -> std::path::PathBuf {
    fs::read_dir(dir.join("slots")).unwrap().next().unwrap().unwrap().path()
}

#[test]
fn what_a_device_fails_to_read_for_some_minutes_is_there_afterwards() {
    for file in ["slots", "last-tick", "sled/db"] {
        let dir = tempfile::tempdir().unwrap();
        prepared(dir.path());
        let path = if file == "slots" { a_slot(dir.path()) } else { dir.path().join(file) };
        let kept = break_device(&path);
        let store = open_sealed(dir.path());
        match file {
            "slots" => assert!(store.usage(&key(0), Duration::from_hours(1), at(TICKS)).is_err(), "it has no name yet"),
            _ => assert_eq!(count(&store, 0), 16, "{file}"),
        }
        for minutes in [0, 9] {
            load_after(&store, minutes).unwrap_err();
        }
        fs::rename(&kept, &path).unwrap();
        load_after(&store, 9).unwrap();
        assert_eq!([count(&store, 0), count(&store, 3)], [TICKS, 1], "{}", path.display());
        assert_eq!(store.status(at(TICKS)).problems, Vec::<String>::new());
    }
}

#[test]
fn one_unreadable_file_that_turns_out_damaged_does_not_hinder_the_others() {
    let dir = tempfile::tempdir().unwrap();
    prepared(dir.path());
    let (damaged, failing) = (dir.path().join("slots/5m-300.slot"), dir.path().join("slots/5m-600.slot"));
    for path in [&damaged, &failing] {
        std::os::unix::fs::symlink(FAILING, path).unwrap();
    }
    let store = open_sealed(dir.path());
    load_after(&store, 0).unwrap_err();
    fs::remove_file(&damaged).unwrap();
    fs::write(&damaged, b"no slot").unwrap();
    for minutes in [1, 2] {
        let error = load_after(&store, minutes).unwrap_err().to_string();
        assert!(error.contains("5m-600.slot") && error.contains("os error 5"), "{error}");
    }
    load_after(&store, 10).unwrap();
    assert_eq!(count(&store, 0), TICKS);
    assert_eq!(store.status(at(TICKS)).problems.len(), 2, "{:?}", store.status(at(TICKS)).problems);
}

#[test]
fn what_a_device_fails_to_read_for_ten_minutes_is_done_without_and_told() {
    for (file, samples, set_aside) in [("slots", TICKS - 16, 1), ("last-tick", TICKS, 0), ("sled/db", 16, 1)] {
        let dir = tempfile::tempdir().unwrap();
        prepared(dir.path());
        let path = if file == "slots" { a_slot(dir.path()) } else { dir.path().join(file) };
        break_device(&path);
        let store = open_sealed(dir.path());
        for minutes in [0, 9] {
            load_after(&store, minutes).unwrap_err();
        }
        load_after(&store, 10).unwrap();
        assert_eq!(count(&store, 0), samples, "{}", path.display());
        let name = if file == "sled/db" { "the database" } else { path.file_name().unwrap().to_str().unwrap() };
        let problems = store.status(at(TICKS)).problems;
        assert!(problems.iter().any(|problem| problem.contains(name)), "{problems:?}");
        assert_eq!(store.examine_open().unwrap().set_aside.len(), set_aside);
    }
}
