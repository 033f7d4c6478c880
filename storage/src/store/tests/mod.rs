//! What needs a look inside: failing writes, rewriting the sled part, other versions.

mod loading;
mod migration;
mod versions;

use std::path::Path;
use std::time::Duration;

use super::keys::Key;
use super::{Store, StoreOptions};
use crate::sled_part::SledPart;
use crate::{AppendError, Sample, SeriesKey, Timestamp};

const NOW: Timestamp = Timestamp(1_699_833_660_000);

fn key(n: u64) -> SeriesKey {
    SeriesKey {
        namespace: "shop".to_owned(),
        kind: "Deployment".to_owned(),
        workload: format!("app-{n}"),
        container: "main".to_owned(),
    }
}

fn open(dir: &Path) -> Store {
    Store::open(dir, StoreOptions::default(), NOW).unwrap()
}

fn samples(store: &Store, series: u64, at: Timestamp) -> Vec<Sample> {
    let sample = |n| Sample { series: store.intern(&key(n)), pod: n * 7, at, cpu: 1.5, memory: 2e8 };
    (0..series).map(sample).collect()
}

fn count(store: &Store, n: u64) -> u64 {
    let usage = store.usage(&key(n), Duration::from_hours(1), NOW + Duration::from_mins(20)).unwrap();
    usage.map_or(0, |u| u.cpu.count())
}

#[test]
fn a_tick_that_could_not_be_stored_can_be_appended_again_and_counts_once() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let first = samples(&store, 3, NOW);
    store.append(NOW, &first).unwrap();
    let tick = samples(&store, 5, NOW + Duration::from_secs(15));
    store.progress().writer.as_mut().unwrap().part = None; // as after a failed rewrite: the next write fails
    let error = store.append(NOW, &tick).unwrap_err();
    assert!(matches!(error, AppendError::NotDurable { .. }));
    assert_eq!([count(&store, 0), count(&store, 4)], [1, 0], "nothing of it is visible");

    let done = store.append(NOW, &[first, tick].concat()).unwrap();
    assert_eq!((done.accepted, done.duplicates), (5, 3));
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.status(NOW).problems, Vec::<String>::new());
    assert_eq!([count(&store, 0), count(&store, 4)], [2, 1]);
}

#[test]
fn a_rewritten_sled_part_tells_the_same_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..30 {
        let at = NOW + Duration::from_secs(15 * n);
        store.append(at, &samples(&store, 40, at)).unwrap();
    }
    let later = NOW + Duration::from_secs(450);
    assert_eq!(store.maintain(later).unwrap().sealed, 1);
    store.rewrite(store.progress().writer.as_mut().unwrap(), later).unwrap();
    let at = later + Duration::from_secs(15);
    store.append(at, &samples(&store, 41, at)).unwrap();
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.status(later).problems, Vec::<String>::new());
    assert_eq!([count(&store, 0), count(&store, 39), count(&store, 40)], [31, 31, 1]);
    let done = store.append(at, &samples(&store, 41, at)).unwrap();
    assert_eq!(done.duplicates, 41);
}

#[test]
fn frames_of_sealed_slots_are_freed_and_their_places_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut places = 0;
    for n in 0..200 {
        let at = NOW + Duration::from_secs(30 * n);
        store.append(at, &samples(&store, 20, at)).unwrap();
        store.maintain(at).unwrap();
        let progress = store.progress();
        let writer = progress.writer.as_ref().unwrap();
        let used: usize = writer.frames.values().map(|f| f.rows.len() + f.streams.len()).sum();
        places = places.max(used);
    }
    assert!(places < 60, "{places} chunks for seven open minutes of small ticks");
}

#[test]
fn a_clock_that_runs_ahead_for_a_tick_costs_no_history_and_only_its_own_samples() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let minute = |n: u64| NOW + Duration::from_mins(n);
    let append = |now, at| store.append(now, &samples(&store, 2, at)).unwrap();
    for n in 0..200 {
        assert_eq!(append(minute(n), minute(n)).accepted, 2);
        store.maintain(minute(n)).unwrap();
    }
    let ahead = minute(200) + Duration::from_hours(50 * 24);
    assert_eq!(append(ahead, minute(200)).late, 2);
    while store.maintain(ahead).unwrap().pending {}
    // Its slots were sealed early: up to seven minutes of samples come too late.
    for n in 208..300 {
        assert_eq!(append(minute(n), minute(n)).accepted, 2, "minute {n}");
        store.maintain(minute(n)).unwrap();
    }
    let usage = store.usage(&key(0), Duration::from_hours(9), minute(300)).unwrap().unwrap();
    assert_eq!((usage.from, usage.cpu.count()), (NOW, 292));
}

#[test]
fn a_frame_that_was_cut_off_before_it_was_acknowledged_is_left_out_quietly() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.append(NOW, &samples(&store, 3, NOW)).unwrap();
    {
        let progress = store.progress();
        let writer = progress.writer.as_ref().unwrap();
        let torn = crate::chunk::split((writer.next_seq, crate::chunk::Part::Rows), &vec![1; 20_000]);
        let puts = torn.iter().take(2).zip(900..).map(|(chunk, at)| Key::Chunk(at).pair(chunk));
        writer.part().unwrap().apply(puts.collect(), Vec::new()).unwrap();
    }
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.status(NOW).problems, Vec::<String>::new());
    assert_eq!(count(&store, 0), 1);
    let at = NOW + Duration::from_secs(15);
    store.append(at, &samples(&store, 3, at)).unwrap();
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.status(NOW).problems, Vec::<String>::new());
    assert_eq!(count(&store, 0), 2, "the number of the torn tick is not used again");
    drop(store);
    let (_part, pairs) = SledPart::open(&dir.path().join("sled")).unwrap();
    let chunk = Key::Chunk(900).bytes();
    assert!(pairs.iter().all(|(key, _)| *key != chunk), "its chunks are gone");
}

#[test]
fn series_are_retired_when_the_retention_removed_their_last_sample() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let old = samples(&store, 2, NOW);
    store.append(NOW, &old).unwrap();
    let mut now = NOW;
    for _ in 0..40 {
        now = now + Duration::from_hours(24);
        store.append(now, &samples(&store, 1, now)).unwrap();
        while store.maintain(now).unwrap().pending {}
    }
    let keys: Vec<SeriesKey> = store.series(None, 10).into_iter().map(|info| info.key).collect();
    assert_eq!(keys, [key(0)]);
    assert_eq!(store.status(now).series, 1);
    let stale = Sample { at: now, ..old[1] };
    assert_eq!(store.append(now, &[stale]).unwrap().invalid, 1, "its number is gone");
    assert_eq!(store.append(now, &samples(&store, 2, now)).unwrap().accepted, 1);
    drop(store);
    let store = Store::open(dir.path(), StoreOptions::default(), now).unwrap();
    let usage = store.usage(&key(1), Duration::from_hours(1), now).unwrap();
    assert_eq!(usage.map(|u| u.cpu.count()), Some(1), "the new number counts after reopening");
}

#[test]
fn a_database_is_not_moved_aside_while_the_volume_takes_no_writes() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let conf = dir.path().join("sled/conf");
    let sound = std::fs::read(&conf).unwrap();
    std::fs::write(&conf, b"what a failing volume reads").unwrap();
    // In place of a full volume: nothing can be written here.
    let probe = dir.path().join("probe.tmp");
    std::fs::create_dir(&probe).unwrap();
    let error = Store::open(dir.path(), StoreOptions::default(), NOW).unwrap_err();
    assert!(error.to_string().contains("cannot write in"), "{error}");
    std::fs::remove_dir(&probe).unwrap();
    std::fs::write(&conf, sound).unwrap();
    let store = open(dir.path());
    assert_eq!(store.status(NOW).problems, Vec::<String>::new());
}

#[test]
fn a_damaged_record_of_any_kind_is_reported_and_the_rest_is_served() {
    let root = tempfile::tempdir().unwrap();
    let minute = |n: u64| NOW + Duration::from_mins(n);
    for (n, prefix) in [b'h', b'f', b's', b'm'].into_iter().enumerate() {
        let dir = root.path().join(n.to_string());
        let store = open(&dir);
        for n in 0..8 {
            store.append(minute(n), &samples(&store, 2, minute(n))).unwrap();
        }
        assert_eq!(store.maintain(minute(8)).unwrap().sealed, 1);
        drop(store);
        let (part, pairs) = SledPart::open(&dir.join("sled")).unwrap();
        let (key, mut value) = pairs.into_iter().rfind(|(key, _)| key[0] == prefix).unwrap();
        *value.last_mut().unwrap() ^= 1;
        part.apply(vec![(key, value)], Vec::new()).unwrap();
        drop(part);

        let store = open(&dir);
        let problems = store.status(minute(8)).problems;
        assert!(problems.iter().any(|p| p.starts_with("1 records")), "{problems:?}");
        let lost = u64::from(prefix == b'f');
        assert_eq!([count(&store, 0), count(&store, 1)], [8 - lost, 8 - lost], "{}", char::from(prefix));
        drop(store);
        assert_eq!(open(&dir).status(minute(8)).problems, Vec::<String>::new(), "it was repaired");
        assert!(
            std::fs::read_dir(&dir)
                .unwrap()
                .any(|e| { e.unwrap().file_name().to_string_lossy().starts_with("sled.damaged") })
        );
    }
}
