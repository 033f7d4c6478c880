//! Helpers of the store's tests.
#![allow(clippy::unwrap_used, dead_code, missing_docs)]

use std::fs;
use std::path::Path;
use std::time::Duration;

use optipod_storage::{Maintained, Sample, SeriesKey, Store, StoreOptions, Timestamp};

/// A Monday at midnight UTC.
pub const START: Timestamp = Timestamp(1_699_833_600_000);

pub const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub const fn mins(n: u64) -> Duration {
    Duration::from_secs(60 * n)
}

pub const fn hours(n: u64) -> Duration {
    Duration::from_secs(3600 * n)
}

pub fn key(n: usize) -> SeriesKey {
    SeriesKey {
        namespace: format!("ns-{}", n % 3),
        kind: "Deployment".to_owned(),
        workload: format!("app-{n}"),
        container: "main".to_owned(),
    }
}

pub fn open(dir: &Path, now: Timestamp) -> Store {
    Store::open(dir, StoreOptions::default(), now).unwrap()
}

pub fn sample(store: &Store, series: usize, pod: u64, at: Timestamp, cpu: f64) -> Sample {
    let series = store.intern(&key(series));
    Sample { series, pod, at, cpu, memory: cpu * 1e9 }
}

/// Appends one sample of each of `series`, at `now`.
pub fn tick(store: &Store, series: usize, now: Timestamp, cpu: f64) {
    let samples: Vec<Sample> = (0..series).map(|n| sample(store, n, 1, now, cpu)).collect();
    assert_eq!(store.append(now, &samples).unwrap().accepted, series as u64);
}

pub fn maintain_all(store: &Store, now: Timestamp) -> Maintained {
    let mut total = Maintained::default();
    for _ in 0..10_000 {
        let done = store.maintain(now).unwrap();
        total.sealed += done.sealed;
        total.rolled_up += done.rolled_up;
        total.expired += done.expired;
        total.retired += done.retired;
        if !done.pending {
            return total;
        }
    }
    unreachable!("maintain never finished");
}

/// What a crash at this moment would leave (the page cache survives a killed process).
pub fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

pub fn count(store: &Store, series: usize, window: Duration, now: Timestamp) -> u64 {
    store.usage(&key(series), window, now).unwrap().map_or(0, |u| u.cpu.count())
}
