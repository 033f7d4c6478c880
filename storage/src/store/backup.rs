//! A consistent copy of a store while it is written to.
//!
//! Under the writer's lock only what memory holds is taken down; encoding and files come after.
//! Everything is put into `<target>.partial`, which is renamed when it is complete and durable.
//! May not know: how anything is encoded. Invariant: a folder under the target's name opens as a
//! store with everything that was acknowledged before the backup began.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::PoisonError;

use super::open::lock;
use super::rewrite::Held;
use super::{Paths, Store, Writer};
use crate::chunk::RingSpace;
use crate::sled_part::{self, PartError};
use crate::slot_file::{SlotFile, sync_parent};
use crate::snapshot;
use crate::witness::Witness;
use crate::{BackupError, Timestamp};

/// What a backup holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BackedUp {
    /// Where it is.
    pub target: PathBuf,
    /// Series with a name.
    pub series: u64,
    /// The `now` of the last tick in it.
    pub last_tick: Option<Timestamp>,
    /// Sealed slots that share their bytes with the store, because they are on its volume.
    pub linked: u64,
    /// Sealed slots that were copied.
    pub copied: u64,
    /// Bytes of all sealed slots.
    pub slot_bytes: u64,
    /// Damage known of the store, one sentence each; the damaged slots are in the backup as they are.
    pub problems: Vec<String>,
}

impl Store {
    /// Copies the store to `target`, a folder that is empty or not there; ticks go on meanwhile.
    ///
    /// Sealed slots are hard links where the volume is the same: such a backup protects from
    /// mistakes, not from a failing disk.
    ///
    /// # Errors
    /// When the target holds something or cannot be written; nothing stands under its name then.
    pub fn backup(&self, target: &Path, now: Timestamp) -> Result<BackedUp, BackupError> {
        let target = free_target(target, &self.paths)?;
        let (partial, _lock) = begin(&target)?;
        let made = self.put_together(&partial, target, now);
        if made.is_err() {
            // It may be what filled the volume.
            drop(fs::remove_dir_all(&partial.dir));
        }
        made
    }

    fn put_together(&self, partial: &Paths, target: PathBuf, now: Timestamp) -> Result<BackedUp, BackupError> {
        let (held, mut writer) = self.moment(partial, now)?;
        let (catalog, last_tick) = (held.catalog.clone(), held.last_tick);
        let problems = self.problems.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let series = held.records.len() as u64;
        let mut done = BackedUp { target, series, last_tick, linked: 0, copied: 0, slot_bytes: 0, problems };
        self.write_tables(partial, held, &mut writer)?;
        for file in catalog.files() {
            let copy = partial.slots().join(file.path().file_name().unwrap_or_default());
            let linked = link_or_copy(file, &copy).map_err(|e| failed("copy a slot to", &copy, e))?;
            *(if linked { &mut done.linked } else { &mut done.copied }) += 1;
            done.slot_bytes += file.size();
        }
        complete(partial, &done.target)?;
        Ok(done)
    }

    /// What memory holds, and a writer of the new folder that goes on from there.
    fn moment(&self, to: &Paths, now: Timestamp) -> Result<(Held, Writer), BackupError> {
        let witness = Witness::open(&to.witness()).map_err(|e| failed("create", &to.witness(), e))?;
        let mut progress = self.progress();
        let writer = self.loaded(&mut progress, now).map_err(BackupError::Open)?;
        Ok((self.held(), writer.elsewhere(witness)))
    }

    /// The sled part, the snapshot of the series table and the witness.
    fn write_tables(&self, to: &Paths, held: Held, writer: &mut Writer) -> Result<(), BackupError> {
        let dir = to.snapshots();
        snapshot::write(&dir, held.next_id, &held.records).map_err(|e| failed("write the series to", &dir, e))?;
        let pairs = self.contents(&held, writer);
        drop(held); // a tick into an open slot that somebody holds copies it
        let dir = to.sled();
        let database = |e: PartError| BackupError::Database { dir: dir.clone(), reason: e.to_string() };
        sled_part::create(&dir, pairs).map_err(database)?;
        if let Some(last) = writer.next_seq.checked_sub(1) {
            writer.witness.note(last);
        }
        Ok(())
    }
}

impl Writer {
    /// A writer of another folder, without its sled part.
    fn elsewhere(&self, witness: Witness) -> Self {
        Self {
            part: None,
            witness,
            space: RingSpace::default(),
            frames: BTreeMap::new(),
            streams: self.streams.clone(),
            epoch_slot: None,
            next_seq: self.next_seq,
            table_values: 0,
            table_bytes: 0,
            manifest_len: 0,
            rollup: None,
            sweep: 0,
            broken: None,
            live_peak: 0,
        }
    }
}

/// The target as a full path, where a backup may go.
fn free_target(target: &Path, store: &Paths) -> Result<PathBuf, BackupError> {
    let name = target.file_name().ok_or_else(|| BackupError::NoName { target: target.to_owned() })?;
    let parent = target.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = parent.canonicalize().map_err(|e| failed("find the folder", parent, e))?;
    let target = parent.join(name);
    let inner = [store.sled(), store.slots(), store.snapshots(), store.quarantine()];
    let is_within = |dir: &PathBuf| dir.canonicalize().is_ok_and(|dir| target.starts_with(dir));
    if inner.iter().any(is_within) {
        return Err(BackupError::WithinStore { target });
    }
    match fs::read_dir(&target).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(target),
        Ok(false) => Err(BackupError::NotEmpty { target }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(target),
        Err(e) => Err(failed("look into", &target, e)),
    }
}

/// Makes the folder that the backup is put together in, locked; what an earlier one left half-made
/// goes.
fn begin(target: &Path) -> Result<(Paths, File), BackupError> {
    let mut name = target.file_name().unwrap_or_default().to_owned();
    name.push(".partial");
    let partial = Paths { dir: target.with_file_name(name) };
    if partial.dir.exists() {
        drop(lock(&partial).map_err(BackupError::Open)?);
        fs::remove_dir_all(&partial.dir).map_err(|e| failed("remove the half-made backup", &partial.dir, e))?;
    }
    for dir in [partial.dir.clone(), partial.slots(), partial.snapshots(), partial.quarantine()] {
        fs::create_dir(&dir).map_err(|e| failed("create", &dir, e))?;
    }
    let lock = lock(&partial).map_err(BackupError::Open)?;
    Ok((partial, lock))
}

/// Whether it is a link. A roll-up may have removed the file by now; it is still open.
pub(super) fn link_or_copy(file: &SlotFile, to: &Path) -> io::Result<bool> {
    if fs::hard_link(file.path(), to).is_ok() {
        return Ok(true);
    }
    file.copy_to(to)?;
    Ok(false)
}

/// Makes the names durable and gives the folder its own.
fn complete(partial: &Paths, target: &Path) -> Result<(), BackupError> {
    for dir in [partial.slots(), partial.snapshots(), partial.quarantine(), partial.dir.clone()] {
        File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|e| failed("sync", &dir, e))?;
    }
    fs::rename(&partial.dir, target).map_err(|e| failed("rename the backup to", target, e))?;
    sync_parent(target).map_err(|e| failed("sync the folder of", target, e))
}

fn failed(action: &'static str, path: &Path, source: io::Error) -> BackupError {
    BackupError::Io { action, path: path.to_owned(), source }
}
