//! What a store holds, as rows that another store takes in ([`super::import`]).
//!
//! May not know: how rows are written down. Invariant: rows come in the order of their slots'
//! starts, those of one slot together, and are the state at the call of [`Store::export`].

use std::collections::VecDeque;
use std::sync::Arc;

use super::Store;
use super::maintain::failed;
use crate::entry::{BLOCK_SERIES, SlotEntry};
use crate::open_slot::{OpenSlot, summarise};
use crate::record::Version;
use crate::rollup::block_damage;
use crate::run::Row;
use crate::sketch::AnySketch;
use crate::slot::{Slot, SlotKind};
use crate::slot_file::{ReadError, SlotFile};
use crate::table::unpack;
use crate::{SeriesId, SeriesKey, StoreError, Timestamp};

/// One series in one slot.
#[derive(Clone, Debug, PartialEq)]
pub struct SlotRow {
    /// The series.
    pub key: SeriesKey,
    /// How long the slot is.
    pub kind: SlotKind,
    /// When the slot starts.
    pub start: Timestamp,
    /// The series' first sample in the slot.
    pub first: Timestamp,
    /// Its last sample in the slot.
    pub last: Timestamp,
    /// How many 5-minute slots within had a sample.
    pub filled: u32,
    /// CPU, in cores.
    pub cpu: AnySketch,
    /// Memory, in bytes.
    pub memory: AnySketch,
}

impl SlotRow {
    pub(super) fn new(key: SeriesKey, slot: Slot, entry: SlotEntry) -> Self {
        let SlotEntry { first, last, filled, cpu, memory } = entry;
        Self { key, kind: slot.kind, start: slot.start, first, last, filled, cpu, memory }
    }

    pub(super) fn into_parts(self) -> (SeriesKey, SlotEntry) {
        let Self { key, first, last, filled, cpu, memory, .. } = self;
        (key, SlotEntry { first, last, filled, cpu, memory })
    }
}

/// Where a slot's rows are.
#[derive(Debug)]
enum Source {
    File(Arc<SlotFile>),
    Open(Arc<OpenSlot>),
}

impl Source {
    fn slot(&self) -> Slot {
        match self {
            Self::File(file) => file.slot(),
            Self::Open(open) => open.slot(),
        }
    }
}

/// The rows of a store, at most 128 at a time; ends after an error.
///
/// While it is alive the first tick into each open slot copies that slot.
#[derive(Debug)]
pub struct Export<'a> {
    store: &'a Store,
    sources: VecDeque<Source>,
    /// Blocks of the first source that were given out.
    blocks: usize,
    /// The series of the first source that is next.
    next: u32,
}

impl Store {
    /// Everything that is known now, slot by slot. An open slot is told as it would be sealed now.
    ///
    /// Damaged blocks are left out, and told by [`Store::status`]. Files that a roll-up removes
    /// meanwhile stay readable.
    ///
    /// # Errors
    /// [`StoreError::Loading`] before the store is loaded.
    pub fn export(&self) -> Result<Export<'_>, StoreError> {
        if !self.is_loaded() {
            return Err(StoreError::Loading);
        }
        let shared = self.shared();
        let files = shared.catalog.files().cloned().map(Source::File);
        let open = shared.open.values().cloned().map(Source::Open);
        let mut sources: Vec<Source> = files.chain(open).collect();
        drop(shared);
        sources.sort_by_key(|source| (source.slot().start, source.slot().kind));
        Ok(Export { store: self, sources: sources.into(), blocks: 0, next: 0 })
    }
}

impl Iterator for Export<'_> {
    type Item = Result<Vec<SlotRow>, StoreError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let slot = self.sources.front()?.slot();
            match self.part() {
                Ok(Some(entries)) => {
                    let rows = self.named(slot, entries);
                    if !rows.is_empty() {
                        return Some(Ok(rows));
                    }
                }
                Ok(None) => {
                    self.sources.pop_front();
                    (self.blocks, self.next) = (0, 0);
                }
                Err(error) => {
                    self.sources.clear();
                    return Some(Err(error));
                }
            }
        }
    }
}

impl Export<'_> {
    /// The next entries of the first source; `None` at its end.
    fn part(&mut self) -> Result<Option<Vec<(SeriesId, SlotEntry)>>, StoreError> {
        match self.sources.front() {
            Some(Source::File(file)) if self.blocks < file.block_count() => {
                self.blocks += 1;
                match file.block(self.blocks - 1) {
                    Ok(entries) => Ok(Some(entries)),
                    Err(ReadError::Damaged(e)) => {
                        self.store.report(block_damage(file, e));
                        Ok(Some(Vec::new()))
                    }
                    Err(e) => Err(failed("read", file.path(), e)),
                }
            }
            Some(Source::Open(open)) => {
                let rows: Vec<_> = open.iter_from(SeriesId(self.next)).take(BLOCK_SERIES).collect();
                let Some((last, _)) = rows.last() else { return Ok(None) };
                self.next = last.0 + 1;
                let kind = self.store.options.sketch;
                let entry = |(id, rows): (SeriesId, Vec<Row>)| {
                    Some((id, rounded(open.slot(), &summarise(open.slot(), &rows, kind)?)?))
                };
                Ok(Some(rows.into_iter().filter_map(entry).collect()))
            }
            _ => Ok(None),
        }
    }

    /// Entries of series that are still known.
    fn named(&self, slot: Slot, entries: Vec<(SeriesId, SlotEntry)>) -> Vec<SlotRow> {
        let table = self.store.table();
        let row = |(id, entry)| Some(SlotRow::new(unpack(table.key(id)?), slot, entry));
        entries.into_iter().filter_map(row).collect()
    }
}

/// An entry as it comes back from a file.
fn rounded(slot: Slot, entry: &SlotEntry) -> Option<SlotEntry> {
    let mut bytes = Vec::new();
    entry.encode(slot, &mut bytes);
    SlotEntry::decode(Version::CURRENT, slot, &bytes).ok()
}
