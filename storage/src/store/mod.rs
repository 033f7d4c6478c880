//! The store: open slots in memory, their frames in the sled part, sealed slots in files.
//!
//! [`open`] serves what is sealed, [`load`] adds the open slots and makes a writer. [`append`],
//! [`maintain`], [`rewrite`] and [`import`] write, one at a time under its lock; [`query`],
//! [`export`] and [`backup`] read beside them. A lock that readers share is never held over an
//! fsync. May not know: how anything is encoded.

mod append;
mod backfill;
mod backup;
mod compare;
mod early;
mod examine;
mod export;
mod hold;
mod import;
pub(crate) mod keys;
mod load;
mod maintain;
mod open;
mod query;
mod records;
mod replay;
mod restore;
mod rewrite;
mod status;
#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
mod windows;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use crate::catalog::Catalog;
use crate::chunk::RingSpace;
use crate::open_slot::OpenSlots;
use crate::rollup::RollUp;
use crate::series::make_room;
use crate::sketch::SketchKind;
use crate::sled_part::SledPart;
use crate::slot::{LATENESS, Slot};
use crate::streams::Streams;
use crate::table::SeriesTable;
use crate::witness::Witness;
use crate::{Appended, SeriesId, SeriesKey, Timestamp};
pub use backfill::{Backfill, PastSample};
pub use backup::BackedUp;
use early::Early;
pub use examine::{Examination, SlotExamination};
pub use export::{Export, SlotRow};
pub use hold::RollUpsHeld;
pub use import::{Import, Imported};
use open::Opening;
pub use restore::{RestoreOptions, Restored};
use windows::WindowCache;

/// How a store is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// How long samples are kept; 30 days by default.
    pub retention: Duration,
    /// How many bytes of merged sealed slots are kept in memory until the next seal, about 300 for
    /// each series and window that was asked for; 128 MiB by default.
    pub cache_bytes: usize,
    /// Which sketch new samples are counted in; t-digest by default. What is stored already stays
    /// as it is: a window over both kinds is answered by a t-digest of all values.
    pub sketch: SketchKind,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self { retention: Duration::from_hours(30 * 24), cache_bytes: 128 << 20, sketch: SketchKind::default() }
    }
}

/// A percentile store in one folder. All methods may be called from several threads.
#[derive(Debug)]
pub struct Store {
    paths: Paths,
    options: StoreOptions,
    table: RwLock<SeriesTable>,
    early: RwLock<Early>,
    /// The open slots were read; early numbers are given out no more.
    is_loaded: AtomicBool,
    shared: RwLock<Shared>,
    progress: Mutex<Progress>,
    /// How many hold back the regular roll-ups.
    holds: Arc<AtomicUsize>,
    problems: Mutex<Vec<String>>,
    cache: Mutex<WindowCache>,
    /// Held, locked, as long as the store is open; dropped last.
    _lock: File,
}

/// Where things stand in the store's folder.
#[derive(Clone, Debug)]
struct Paths {
    dir: PathBuf,
}

impl Paths {
    fn sled(&self) -> PathBuf {
        self.dir.join("sled")
    }

    fn slots(&self) -> PathBuf {
        self.dir.join("slots")
    }

    fn snapshots(&self) -> PathBuf {
        self.dir.join("series")
    }

    fn witness(&self) -> PathBuf {
        self.dir.join("last-tick")
    }

    fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    fn probe(&self) -> PathBuf {
        self.dir.join("probe.tmp")
    }

    fn quarantine(&self) -> PathBuf {
        self.dir.join("quarantine")
    }

    /// A free name for a damaged sled part.
    fn damaged_sled(&self, now: Timestamp) -> PathBuf {
        free_name(&self.dir, &format!("sled.damaged-{}", now.0))
    }
}

/// The name in the folder, or one with a number behind it where there is something already.
fn free_name(dir: &Path, name: &str) -> PathBuf {
    let numbered = (1..1000).map(|n| dir.join(format!("{name}-{n}")));
    let last = dir.join(format!("{name}-1000"));
    std::iter::once(dir.join(name))
        .chain(numbered)
        .find(|path| path.try_exists().is_ok_and(|there| !there))
        .unwrap_or(last)
}

/// In the place of a time.
const NEVER: Timestamp = Timestamp(i64::MIN);

/// What readers see; writers change it in one step.
#[derive(Debug, Default)]
struct Shared {
    open: OpenSlots,
    catalog: Arc<Catalog>,
    /// The last sample of each series, as far as it was seen since the store was opened.
    last: Vec<Timestamp>,
    last_tick: Option<Timestamp>,
    totals: Appended,
}

impl Shared {
    fn note_last(&mut self, series: SeriesId, at: Timestamp) {
        let index = series.0 as usize;
        if self.last.len() <= index {
            make_room(&mut self.last, index + 1);
            self.last.resize(index + 1, NEVER);
        }
        if let Some(last) = self.last.get_mut(index) {
            *last = at.max(*last);
        }
    }

    /// The time by which slots are merged and expire: that of the newest slot, where `now` is later.
    /// A clock that runs far ahead for a tick then costs no history, and a store that takes no
    /// samples keeps what it has. It does not protect where the clocks of the nodes, which date the
    /// samples, leap together with ours: a slot of that time is the newest then.
    fn aged(&self, now: Timestamp) -> Timestamp {
        let open = self.open.values().next_back().map(|open| open.slot().end());
        let newest = self.catalog.slots().map(Slot::end).max().max(open);
        newest.map_or(now, |end| now.min(end + LATENESS))
    }

    fn last(&self, series: SeriesId) -> Option<Timestamp> {
        self.last.get(series.0 as usize).copied().filter(|last| *last > NEVER)
    }
}

/// How far opening has come.
#[derive(Debug)]
struct Progress {
    opening: Opening,
    /// There once the store is loaded.
    writer: Option<Writer>,
}

/// What only the one who writes needs.
#[derive(Debug)]
struct Writer {
    /// `None` between a failed rewrite and the next try.
    part: Option<SledPart>,
    witness: Witness,
    space: RingSpace,
    /// Frames in the ring by their tick.
    frames: BTreeMap<u64, Frame>,
    streams: Streams,
    /// The 5-minute slot that `now` was in when the streams' epoch began.
    epoch_slot: Option<Slot>,
    next_seq: u64,
    /// Values of the series table written so far, and their bytes.
    table_values: u32,
    table_bytes: u64,
    /// Entries of the manifest in the sled part.
    manifest_len: u32,
    rollup: Option<RollUp>,
    /// The next series to look at for retiring.
    sweep: u32,
    /// The sled part failed, is damaged or old; it is rewritten before the next append.
    broken: Option<Broken>,
    /// The most bytes of live values since the last rewrite.
    live_peak: u64,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Broken {
    /// A write failed.
    Failed,
    /// Records were damaged: the old part is kept aside.
    Damaged,
    /// Records are of an older format.
    Old,
}

/// A tick's records in the ring.
#[derive(Clone, Debug, Default)]
struct Frame {
    epoch: u64,
    /// Starts of the slots that its rows lie in.
    slots: Vec<Timestamp>,
    rows: Vec<u32>,
    streams: Vec<u32>,
}

impl Store {
    fn table(&self) -> RwLockReadGuard<'_, SeriesTable> {
        self.table.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn table_mut(&self) -> RwLockWriteGuard<'_, SeriesTable> {
        self.table.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared(&self) -> RwLockReadGuard<'_, Shared> {
        self.shared.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn shared_mut(&self) -> RwLockWriteGuard<'_, Shared> {
        self.shared.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn early(&self) -> RwLockReadGuard<'_, Early> {
        self.early.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn early_mut(&self) -> RwLockWriteGuard<'_, Early> {
        self.early.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, problem: String) {
        tracing::error!(store = %self.paths.dir.display(), problem, "damage in the store");
        let mut problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner);
        if problems.len() < MAX_PROBLEMS && !problems.contains(&problem) {
            problems.push(problem);
        }
    }

    /// The number of a series, given out at its first call; before the store is loaded, one that
    /// will mean the same.
    ///
    /// It is known in memory at once, and durable with the next tick that uses it. A number stays
    /// valid while the series has samples; one whose last sample the retention removed is
    /// forgotten, unless it was interned since, and its samples are then counted as invalid.
    pub fn intern(&self, key: &SeriesKey) -> SeriesId {
        if !self.is_loaded()
            && let Some(early) = self.early_mut().intern(key)
        {
            return early;
        }
        if let Some(id) = self.table().want(key) {
            return id;
        }
        self.table_mut().intern(key)
    }

    /// Closes the store. Dropping it does the same; every acknowledged tick is durable already.
    pub fn close(self) {
        drop(self);
    }

    /// The store's folder.
    pub fn dir(&self) -> &Path {
        &self.paths.dir
    }
}

/// More say nothing new, and memory is bounded.
const MAX_PROBLEMS: usize = 200;
