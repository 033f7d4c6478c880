//! Damage anywhere: no panic, it is reported, and what is answered was really stored.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use optipod_storage::{OpenError, Store, StoreError, StoreOptions, Timestamp};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use support::*;

/// Two blocks.
const SERIES: usize = 140;
/// One sample each three minutes, for a bit over three hours.
const TICKS: u64 = 65;
const EVERY: u64 = 3;

fn minute(n: u64) -> Timestamp {
    START + mins(n)
}

/// The value of every sample of a series tells which series it is.
fn value(series: usize) -> f64 {
    0.5 + 0.25 * series as f64
}

/// Hour, 5-minute and open slots of [`SERIES`] series with a sample each tick.
fn build(dir: &Path) -> Timestamp {
    let store = open(dir, minute(0));
    for n in 0..TICKS {
        let at = minute(n * EVERY);
        let samples: Vec<_> = (0..SERIES).map(|s| sample(&store, s, 1, at, value(s))).collect();
        assert_eq!(store.append(at, &samples).unwrap().accepted, SERIES as u64);
        store.maintain(at).unwrap();
    }
    let now = minute(TICKS * EVERY);
    maintain_all(&store, now);
    assert_eq!(store.status(now).sealed_slots.len(), 2);
    now
}

/// Every answer is of samples that were stored; how many samples are missing.
fn check_answers(store: &Store, now: Timestamp) -> u64 {
    let mut missing = 0;
    for series in 0..SERIES {
        let usage = store.usage(&key(series), hours(24), now).unwrap();
        let found = usage.as_ref().map_or(0, |u| u.cpu.count());
        assert!(found <= TICKS, "series {series}: {found}");
        missing += TICKS - found;
        for value_found in usage.iter().flat_map(|u| [u.cpu.min(), u.cpu.quantile(0.5), u.cpu.max()]) {
            let off = (value_found - value(series)).abs() / value(series);
            assert!(off < 1e-3, "series {series}: {value_found}");
        }
    }
    missing
}

/// Opens what is left, checks it, and goes on with it; the problems and the missing samples.
fn survive(dir: &Path, now: Timestamp) -> (Vec<String>, u64) {
    let store = open(dir, now);
    let missing = check_answers(&store, now);
    let problems = store.status(now).problems;
    tick(&store, SERIES, now, 1.0);
    let later = now + mins(20);
    maintain_all(&store, later);
    drop(store);
    let store = open(dir, later);
    let usage = store.usage(&key(0), hours(24), later).unwrap().unwrap();
    assert_eq!(usage.to, now, "what came after the damage is there");
    (problems, missing)
}

fn flip(path: &Path, rng: &mut SmallRng) {
    let mut bytes = fs::read(path).unwrap();
    let at = rng.random_range(0..bytes.len());
    bytes[at] ^= 1 << rng.random_range(0..8);
    fs::write(path, bytes).unwrap();
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    files
}

/// Damages copies of a store with `damage`, `times` times.
fn trials(times: u64, mut damage: impl FnMut(&Path, &mut SmallRng)) -> (u64, u64) {
    let root = tempfile::tempdir().unwrap();
    let original = root.path().join("original");
    let now = build(&original);
    let (mut reported, mut lossy) = (0, 0);
    for n in 0..times {
        let mut rng = SmallRng::seed_from_u64(n);
        let dir = root.path().join(n.to_string());
        copy_dir(&original, &dir);
        damage(&dir, &mut rng);
        let (problems, missing) = survive(&dir, now);
        assert!(missing == 0 || !problems.is_empty(), "trial {n}: {missing} samples vanished without a word");
        reported += u64::from(!problems.is_empty());
        lossy += u64::from(missing > 0);
        fs::remove_dir_all(&dir).unwrap();
    }
    (reported, lossy)
}

#[test]
fn flipped_bits_in_slot_files_are_reported_and_never_served() {
    let (reported, lossy) = trials(16, |dir, rng| {
        let files = files(&dir.join("slots"));
        flip(&files[rng.random_range(0..files.len())], rng);
    });
    assert!(lossy > 12, "a flip costs a block or a file: {lossy}");
    assert!(reported >= lossy);
}

#[test]
fn flipped_bits_in_sled_are_reported_and_never_served() {
    let (_, lossy) = trials(16, |dir, rng| {
        let files = files(&dir.join("sled"));
        for _ in 0..3 {
            flip(&files[rng.random_range(0..files.len())], rng);
        }
    });
    assert!(lossy > 0, "the flips met something");
}

#[test]
fn a_lost_or_cut_sled_part_is_rebuilt_from_the_slot_files() {
    let mut kind = 0;
    let (reported, lossy) = trials(4, |dir, _| {
        let db = dir.join("sled/db");
        match kind {
            0 => fs::remove_dir_all(dir.join("sled")).unwrap(),
            1 => fs::write(db, b"").unwrap(),
            2 => fs::write(db, vec![0xa5; 300_000]).unwrap(),
            _ => {
                let bytes = fs::read(&db).unwrap();
                fs::write(&db, &bytes[..bytes.len() / 3]).unwrap();
            }
        }
        kind += 1;
    });
    assert_eq!((reported, lossy), (4, 4), "only the open slots are lost, and it is said");
}

#[test]
fn series_keep_their_names_and_new_ones_get_new_numbers_without_sled() {
    let dir = tempfile::tempdir().unwrap();
    let now = build(dir.path());
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let store = open(dir.path(), now);
    assert_eq!(store.series(None, 1000).len(), SERIES);
    let fresh = store.intern(&key(SERIES + 1));
    let sample = optipod_storage::Sample { series: fresh, pod: 1, at: now, cpu: 9.0, memory: 9.0 };
    assert_eq!(store.append(now, &[sample]).unwrap().accepted, 1);
    assert_eq!(count(&store, SERIES + 1, hours(24), now), 1);
    assert!(count(&store, SERIES - 1, hours(24), now) >= TICKS - 5, "only the open slots are lost");
    let problems = store.status(now).problems;
    assert!(problems.iter().any(|p| p.contains("lost")), "{problems:?}");
}

#[test]
fn a_missing_slot_file_is_reported() {
    let (reported, lossy) = trials(1, |dir, _| {
        fs::remove_file(&files(&dir.join("slots"))[3]).unwrap();
    });
    assert_eq!((reported, lossy), (1, 1));
}

#[test]
fn a_truncated_slot_file_is_moved_aside_and_reported() {
    let (reported, lossy) = trials(3, |dir, rng| {
        let path = &files(&dir.join("slots"))[2];
        let bytes = fs::read(path).unwrap();
        fs::write(path, &bytes[..rng.random_range(0..bytes.len())]).unwrap();
        assert!(files(&dir.join("quarantine")).is_empty());
    });
    assert_eq!((reported, lossy), (3, 3));
}

#[test]
fn a_file_set_aside_earlier_stays_and_hides_no_later_loss_of_its_name() {
    for is_cut in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let now = build(dir.path());
        let path = files(&dir.path().join("slots")).remove(2);
        let aside = dir.path().join("quarantine").join(path.file_name().unwrap());
        fs::write(&aside, b"earlier").unwrap();
        if is_cut {
            fs::write(&path, b"cut").unwrap();
        } else {
            fs::remove_file(&path).unwrap();
        }
        let problems = open(dir.path(), now).status(now).problems;
        assert_eq!(problems.len(), 1, "told once: {problems:?}");
        assert_eq!(problems[0].contains("is missing"), !is_cut, "{problems:?}");
        assert_eq!(fs::read(&aside).unwrap(), b"earlier");
        assert_eq!(aside.with_extension("slot-1").exists(), is_cut);
    }
}

#[test]
fn what_the_system_does_not_let_us_read_is_an_error_and_not_damage() {
    let dir = tempfile::tempdir().unwrap();
    let now = build(dir.path());
    let examine = || Store::examine(dir.path(), &dir.path().join("scratch"));
    // A folder in a file's place: reading it fails without a word about what is in the file.
    for (folder, name) in [("slots", "5m-0.slot"), ("series", "0000000001.table")] {
        let obstacle = dir.path().join(folder).join(name);
        fs::create_dir(&obstacle).unwrap();
        let error = examine().unwrap_err();
        assert!(matches!(&error, OpenError::Io { path, .. } if *path == obstacle), "{error}");
        fs::remove_dir(&obstacle).unwrap();
    }
    let store = open(dir.path(), now);
    let obstacle = dir.path().join("series/0000000001.table");
    fs::create_dir(&obstacle).unwrap();
    let error = store.examine_open().unwrap_err();
    assert!(matches!(&error, StoreError::Io { path, .. } if *path == obstacle), "{error}");
    fs::remove_dir(&obstacle).unwrap();
    assert_eq!(store.examine_open().unwrap().problems, Vec::<String>::new());
    let gone = files(&dir.path().join("slots")).remove(0);
    fs::remove_file(&gone).unwrap();
    let problems = store.examine_open().unwrap().problems;
    let name = gone.file_name().unwrap().to_str().unwrap();
    assert!(problems.len() == 1 && problems[0].contains(&format!("slots/{name} is missing")), "{problems:?}");
}

#[test]
fn looking_leaves_unfinished_files_where_they_are() {
    let dir = tempfile::tempdir().unwrap();
    let now = build(dir.path());
    // Names are read beside sled when that is lost.
    fs::remove_dir_all(dir.path().join("sled")).unwrap();
    let unfinished = ["slots/5m-1699833600.tmp", "series/0000000001.tmp"].map(|name| dir.path().join(name));
    for path in &unfinished {
        fs::write(path, b"half").unwrap();
    }
    let scratch = tempfile::tempdir().unwrap();
    let found = Store::examine(dir.path(), scratch.path()).unwrap();
    assert!(!found.problems.is_empty() && unfinished.iter().all(|path| path.exists()));
    drop(open(dir.path(), now));
    assert!(unfinished.iter().all(|path| !path.exists()), "opening removes them");
}

#[test]
fn a_slot_file_of_a_newer_format_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let now = build(dir.path());
    let path = files(&dir.path().join("slots")).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 7;
    let foot = bytes.len() - 16;
    let len = u32::from_le_bytes(bytes[foot..foot + 4].try_into().unwrap()) as usize;
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&bytes[..19]);
    hasher.update(&bytes[foot - len..foot]);
    bytes[foot + 4..foot + 8].copy_from_slice(&hasher.finalize().to_le_bytes());
    fs::write(&path, &bytes).unwrap();

    let error = Store::open(dir.path(), StoreOptions::default(), now).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found: 7, .. }), "{error}");
    assert!(error.to_string().contains("run the OptiPod that wrote it"));
    assert_eq!(fs::read(&path).unwrap(), bytes);
}
