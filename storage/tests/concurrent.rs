//! Readers beside the writer: each sample is seen once, from the moment it is acknowledged.
#![allow(clippy::unwrap_used, missing_docs)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use optipod_storage::Store;
use support::*;

#[test]
fn a_store_can_be_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Store>();
}

#[test]
fn readers_see_every_acknowledged_sample_once_while_slots_are_sealed_and_rolled_up() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path(), START);
    tick(&store, 3, START, 1.0);
    let (acknowledged, begun, done) = (AtomicU64::new(1), AtomicU64::new(1), AtomicBool::new(false));
    let end = START + hours(30);
    thread::scope(|scope| {
        for series in 0..3 {
            let (store, acknowledged, begun, done) = (&store, &acknowledged, &begun, &done);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    let before = acknowledged.load(Ordering::SeqCst);
                    let found = count(store, series, hours(48), end);
                    let after = begun.load(Ordering::SeqCst);
                    assert!((before..=after).contains(&found), "{found} not in {before}..={after}");
                }
            });
        }
        for n in 1..400 {
            let now = START + mins(n);
            begun.fetch_add(1, Ordering::SeqCst);
            tick(&store, 3, now, 1.0);
            acknowledged.fetch_add(1, Ordering::SeqCst);
            store.maintain(now).unwrap();
        }
        done.store(true, Ordering::SeqCst);
    });
    assert!(store.status(end).sealed_slots.len() == 2, "hours were rolled up meanwhile");
}
