//! The regular work: seal, roll up, expire, retire; a bounded amount a call.
//!
//! Each change goes file first, manifest second, removal last, so that a crash between any two
//! leaves something that opening completes. Invariant: readers see a sample in exactly one place.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::keys::{Key, manifest_record};
use super::{Frame, Store, Writer, free_name, rewrite};
use crate::catalog::{Catalog, RollUpChoice};
use crate::entry::{BLOCK_SERIES, SlotEntry};
use crate::open_slot::{self, OpenSlot};
use crate::rollup::RollUp;
use crate::sketch::SketchKind;
use crate::sled_part::PartError;
use crate::slot::{LATENESS, Slot};
use crate::slot_file::{self, ReadError, SlotFile};
use crate::slot_writer::{self, SlotFileWriter};
use crate::snapshot;
use crate::table::Named;
use crate::{Maintained, SeriesId, StoreError, Timestamp};

/// Roll-up blocks a call at least; an hour of 300,000 series has 2,344.
const MIN_BLOCKS: usize = 10;
/// ... and enough to finish within this many calls: half an hour of 15-second ticks.
const CALLS_PER_ROLL_UP: usize = 120;
/// Series looked at for retiring a call, and how many of them may need reads.
const SWEEP: u32 = 4096;
const SWEEP_READS: u32 = 8;

/// Before any slot.
const EVER: Timestamp = Timestamp(i64::MIN);

impl Store {
    /// Seals at most one slot that no longer takes samples, merges a few blocks of slots that are
    /// old enough, removes what the retention no longer covers. Call it once a tick; where
    /// [`Maintained::pending`] says so, another call finds more to do.
    pub fn maintain(&self, now: Timestamp) -> Result<Maintained, StoreError> {
        self.maintain_with(now, (!self.are_roll_ups_held()).then_some(EVER))
    }

    /// The same; it rolls up only hours and days that begin at `roll_up_from` or later, if any.
    pub(super) fn maintain_with(
        &self,
        now: Timestamp,
        roll_up_from: Option<Timestamp>,
    ) -> Result<Maintained, StoreError> {
        let mut progress = self.progress();
        let writer = self.loaded(&mut progress, now).map_err(|e| StoreError::NotLoaded { source: Box::new(e) })?;
        let mut done = Maintained::default();
        let healed = self.heal(writer, now);
        healed.map_err(|e| self.database("rewrite the tables", &e))?;
        done.sealed = u64::from(self.seal_one(writer, now)?);
        done.expired = self.expire(writer, now)?;
        if let Some(from) = roll_up_from {
            self.roll_up(writer, from, now, &mut done)?;
        }
        done.retired = self.sweep(writer, now)?;
        let rewritten = self.rewrite_if_large(writer, now);
        done.rewritten = rewritten.map_err(|e| self.database("rewrite the tables", &e))?;
        done.pending = self.is_work_due(writer, now, roll_up_from);
        Ok(done)
    }

    fn is_work_due(&self, writer: &Writer, now: Timestamp, roll_up_from: Option<Timestamp>) -> bool {
        let shared = self.shared();
        let due = shared.open.values().any(|open| is_due(open, now));
        let open = shared.open.keys().copied().collect();
        let choose = |from| shared.catalog.choose_roll_up(&open, from, shared.aged(now));
        due || roll_up_from.is_some_and(|from| writer.rollup.is_some() || choose(from).is_some())
    }

    pub(super) fn database(&self, action: &'static str, error: &PartError) -> StoreError {
        StoreError::Database { action, dir: self.paths.dir.clone(), reason: error.to_string() }
    }

    /// Seals the oldest slot that is due, if any.
    fn seal_one(&self, writer: &mut Writer, now: Timestamp) -> Result<bool, StoreError> {
        let due = self.shared().open.values().find(|open| is_due(open, now)).cloned();
        let Some(open) = due else { return Ok(false) };
        let slot = open.slot();
        let names = self.table().records(Named::Nowhere);
        let written = write_slot(&self.paths.slots(), &open, self.options.sketch).and_then(|file| file.finish(&names));
        let file = written.map_err(|e| failed("write", &self.slot_path(slot), e))?;
        drop(open);
        self.commit(writer, Some(file), &[])?;
        self.table_mut().mark_named(&names, Named::InSlotFile);
        let oldest = self.shared().open.keys().next().copied();
        writer.streams.forget_before(oldest.unwrap_or(slot.end()));
        let freed = self.free_frames(writer);
        freed.map_err(|e| self.database("free a slot's frames", &e))?;
        Ok(true)
    }

    /// Enters a file into the manifest and takes others out, durably; then readers see it so.
    pub(super) fn commit(&self, writer: &mut Writer, add: Option<SlotFile>, remove: &[Slot]) -> Result<(), StoreError> {
        let add = add.map(Arc::new);
        let sealed = add.as_ref().map(|file| file.slot());
        let catalog = Arc::new(self.shared().catalog.changed(add.clone(), remove));
        writer.manifest_len = rewrite::len(&catalog);
        let puts = add.iter().map(|file| manifest_record(file)).collect();
        let removes = remove.iter().map(|slot| Key::Manifest(*slot).bytes()).collect();
        let applied = self.apply(writer, puts, removes);
        applied.map_err(|e| {
            writer.broken = writer.broken.or(Some(super::Broken::Failed));
            self.database("enter a slot", &e)
        })?;
        let mut shared = self.shared_mut();
        shared.catalog = catalog;
        sealed.map(|slot| shared.open.remove(&slot.start));
        Ok(())
    }

    /// Frees the frames all of whose slots are sealed. Not durable by itself: frames that come
    /// back after a crash are of sealed slots, and opening leaves them out.
    fn free_frames(&self, writer: &mut Writer) -> Result<(), PartError> {
        let open: BTreeSet<Timestamp> = self.shared().open.keys().copied().collect();
        let mut freed = Vec::new();
        for frame in writer.frames.values_mut() {
            if !frame.slots.iter().any(|slot| open.contains(slot)) {
                freed.append(&mut frame.rows);
            }
        }
        let has_rows = |frame: &&Frame| !frame.rows.is_empty();
        let mut epochs: BTreeSet<u64> = writer.frames.values().filter(has_rows).map(|f| f.epoch).collect();
        epochs.insert(writer.streams.epoch());
        writer.frames.retain(|_, frame| {
            if !epochs.contains(&frame.epoch) {
                freed.append(&mut frame.streams);
            }
            !frame.rows.is_empty() || !frame.streams.is_empty()
        });
        writer.space.give_back(&freed);
        let removes: Vec<Vec<u8>> = freed.into_iter().map(|position| Key::Chunk(position).bytes()).collect();
        // The head first: a tick that it tells and that is not there would be taken for lost.
        let head = Key::Head.pair(&self.head(writer).encode());
        writer.part()?.apply_lazily(vec![head], Vec::new())?;
        writer.part()?.remove_lazily(&removes)
    }

    /// Goes on with the roll-up in progress, or begins the one that is due.
    fn roll_up(
        &self,
        writer: &mut Writer,
        from: Timestamp,
        now: Timestamp,
        done: &mut Maintained,
    ) -> Result<(), StoreError> {
        let rollup = match writer.rollup.take() {
            Some(rollup) => Some(rollup),
            None => self.begin_roll_up(from, now)?,
        };
        let Some(mut rollup) = rollup else {
            return Ok(());
        };
        let budget = MIN_BLOCKS.max(rollup.expected_blocks() / CALLS_PER_ROLL_UP + 1);
        let mut damage = Vec::new();
        let written = rollup.step(budget, &mut damage);
        for problem in damage {
            self.report(problem);
        }
        let written = written.map_err(|e| failed("merge slots into", &self.slot_path(rollup.target()), e.into()))?;
        done.blocks += written as u64;
        if written == budget {
            writer.rollup = Some(rollup);
            return Ok(());
        }
        self.finish_roll_up(writer, rollup)?;
        done.rolled_up += 1;
        Ok(())
    }

    fn begin_roll_up(&self, from: Timestamp, now: Timestamp) -> Result<Option<RollUp>, StoreError> {
        let shared = self.shared();
        let open = shared.open.keys().copied().collect();
        let due = shared.catalog.choose_roll_up(&open, from, shared.aged(now));
        let Some(RollUpChoice { target, inputs }) = due else {
            return Ok(None);
        };
        let inputs = inputs.iter().filter_map(|slot| shared.catalog.get(*slot).cloned()).collect();
        let begun = RollUp::start(&self.paths.slots(), target, inputs);
        begun.map(Some).map_err(|e| failed("create", &self.slot_path(target), e.into()))
    }

    fn finish_roll_up(&self, writer: &mut Writer, rollup: RollUp) -> Result<(), StoreError> {
        self.snapshot_names()?;
        let path = self.slot_path(rollup.target());
        let inputs: Vec<Arc<SlotFile>> = rollup.inputs().cloned().collect();
        let file = rollup.finish().map_err(|e| failed("write", &path, e))?;
        let slots: Vec<Slot> = inputs.iter().map(|file| file.slot()).collect();
        self.commit(writer, Some(file), &slots)?;
        self.remove_files(&inputs)
    }

    /// The inputs of a roll-up may be the only files with the names of some series: these are
    /// written down before the inputs go.
    fn snapshot_names(&self) -> Result<(), StoreError> {
        let (records, next_id) = {
            let table = self.table();
            if table.records(Named::InSlotFile).is_empty() {
                return Ok(());
            }
            (table.records(Named::InSnapshot), table.next_id())
        };
        let dir = self.paths.snapshots();
        snapshot::write(&dir, next_id, &records).map_err(|e| failed("write a snapshot in", &dir, e.into()))?;
        self.table_mut().mark_named(&records, Named::InSnapshot);
        Ok(())
    }

    /// Removes files that are no longer in the manifest; damaged ones are kept aside.
    pub(super) fn remove_files(&self, files: &[Arc<SlotFile>]) -> Result<(), StoreError> {
        for file in files {
            let path = file.path();
            let removed =
                if file.has_damage() { quarantine(path, &self.paths.quarantine()) } else { fs::remove_file(path) };
            removed.or_else(absent_is_fine).map_err(|e| failed("remove", path, e.into()))?;
        }
        Ok(())
    }

    /// Removes slots that ended before the retention, counted back from [`Shared::aged`].
    fn expire(&self, writer: &mut Writer, now: Timestamp) -> Result<u64, StoreError> {
        let (catalog, aged) = {
            let shared = self.shared();
            (shared.catalog.clone(), shared.aged(now))
        };
        let expired = catalog.expired(aged - self.options.retention);
        if expired.is_empty() {
            return Ok(0);
        }
        if let Some(rollup) = writer.rollup.take_if(|r| r.inputs().any(|f| expired.contains(&f.slot()))) {
            let target = rollup.target();
            drop(rollup);
            let discarded = slot_writer::discard_temporary(&self.paths.slots(), target);
            discarded.map_err(|e| failed("remove", &self.slot_path(target), e.into()))?;
        }
        self.commit(writer, None, &expired)?;
        let files: Vec<Arc<SlotFile>> = expired.iter().filter_map(|s| catalog.get(*s).cloned()).collect();
        self.remove_files(&files)?;
        Ok(expired.len() as u64)
    }

    /// Forgets series that no slot holds any more; looks at some of them each call.
    fn sweep(&self, writer: &mut Writer, now: Timestamp) -> Result<u64, StoreError> {
        let oldest = self.shared().aged(now) - self.options.retention;
        let end = self.table().next_id();
        let (mut reads, mut retired) = (0, 0);
        for _ in 0..SWEEP.min(end) {
            let id = SeriesId(writer.sweep);
            writer.sweep = if writer.sweep + 1 < end { writer.sweep + 1 } else { 0 };
            let recent = self.shared().last(id).is_some_and(|last| last >= oldest);
            if recent || self.table().first(id).is_none() {
                continue;
            }
            reads += 1;
            if self.last_sample(id)?.is_none() && self.table_mut().retire(id) {
                retired += 1;
            }
            if reads == SWEEP_READS {
                break;
            }
        }
        Ok(retired)
    }

    pub(super) fn slot_path(&self, slot: Slot) -> std::path::PathBuf {
        self.paths.slots().join(slot_file::file_name(slot))
    }
}

/// Writes an open slot's blocks.
fn write_slot(dir: &Path, open: &OpenSlot, kind: SketchKind) -> Result<SlotFileWriter, ReadError> {
    let slot = open.slot();
    let mut file = SlotFileWriter::create(dir, slot)?;
    let mut block: Vec<(SeriesId, SlotEntry)> = Vec::with_capacity(BLOCK_SERIES);
    for (series, rows) in open.iter() {
        block.extend(open_slot::summarise(slot, &rows, kind).map(|entry| (series, entry)));
        if block.len() == BLOCK_SERIES {
            file.push(&block)?;
            block.clear();
        }
    }
    file.push(&block)?;
    Ok(file)
}

fn is_due(open: &OpenSlot, now: Timestamp) -> bool {
    open.slot().end() + LATENESS <= now
}

pub(super) fn absent_is_fine(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) }
}

/// Moves a damaged file where nobody reads it but people, beside earlier ones of its name.
pub(super) fn quarantine(path: &Path, dir: &Path) -> io::Result<()> {
    let Some(name) = path.file_name() else {
        return Ok(());
    };
    fs::rename(path, free_name(dir, &name.to_string_lossy()))
}

/// A [`StoreError`] for a file.
pub(super) fn failed(action: &'static str, path: &Path, error: ReadError) -> StoreError {
    let source = match error {
        ReadError::Io(e) => e,
        ReadError::Damaged(e) => io::Error::new(io::ErrorKind::InvalidData, e),
    };
    StoreError::Io { action, path: path.to_owned(), source }
}

/// Used by [`Store::open`] to tell what the manifest of `catalog` should be.
pub(super) fn manifest_changes(catalog: &Catalog, told: &BTreeSet<Slot>) -> (Vec<Slot>, Vec<Slot>) {
    let there: BTreeSet<Slot> = catalog.slots().collect();
    (there.difference(told).copied().collect(), told.difference(&there).copied().collect())
}
