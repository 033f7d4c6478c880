//! The state of the store, told without waiting for a writer.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::PoisonError;

use super::Store;
use crate::slot::Slot;
use crate::{StoreStatus, Timestamp};

impl Store {
    /// The end of the newest sealed slot.
    pub fn sealed_until(&self) -> Option<Timestamp> {
        self.shared().catalog.slots().map(Slot::end).max()
    }

    /// The state of the store at `now`. It looks at each file's size, so not more than once a
    /// second or so.
    pub fn status(&self, now: Timestamp) -> StoreStatus {
        let series = self.table().stored();
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let disk_bytes = size(&self.paths.dir);
        let shared = self.shared();
        let mut sealed_slots = BTreeMap::new();
        for slot in shared.catalog.slots() {
            *sealed_slots.entry(slot.kind).or_insert(0) += 1;
        }
        StoreStatus {
            series,
            is_loaded: self.is_loaded(),
            open_slots: shared.open.len() as u64,
            sealed_slots,
            last_tick: shared.last_tick,
            last_tick_age: shared.last_tick.map(|at| now.since(at)),
            disk_bytes,
            problems,
            totals: shared.totals,
        }
    }
}

/// Bytes of all files in a folder; what cannot be looked at counts as nothing.
fn size(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let sizes = entries.filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        Some(if metadata.is_dir() { size(&entry.path()) } else { metadata.len() })
    });
    sizes.sum()
}
