//! Taking in rows of another store, or of an export, as sealed slots.
//!
//! A slot goes series first, file second, manifest last: a file that a crash leaves without its
//! entry is adopted at the next opening, and its series must have their names then. Between slots
//! the regular work is done as of the time of the rows, so that there are never more files than if
//! the store had lived through it. May not know: where rows come from. Invariant: a slot that the
//! store has, whole, in part or within a longer one, stays as it is.

use std::collections::BTreeMap;

use super::maintain::failed;
use super::{Broken, RollUpsHeld, Store, Writer};
use crate::catalog::HOUR_AFTER;
use crate::entry::{BLOCK_SERIES, SlotEntry};
use crate::record::Version;
use crate::slot::{LATENESS, Slot, SlotKind};
use crate::slot_file::{ReadError, SlotFile};
use crate::slot_writer::SlotFileWriter;
use crate::table::{Named, SeriesRecord};
use crate::{ImportError, SeriesId, SeriesKey, SlotRow, StoreError, Timestamp};

/// What became of the rows of an import.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[non_exhaustive]
pub struct Imported {
    /// Slots written.
    pub slots: u64,
    /// Series in them, one for each slot.
    pub rows: u64,
    /// Slots left as they are, because the store has them or a part of their time.
    pub kept: u64,
    /// Slots left out, because the store's retention does not cover them any more.
    pub expired: u64,
    /// Slots left out, because they may still take samples of their own.
    pub open: u64,
    /// Samples counted.
    pub samples: u64,
    /// Samples left out: same series, pod and time as one before.
    pub duplicates: u64,
    /// Samples left out: a value is missing, NaN, infinite, negative or above 1e37.
    pub invalid: u64,
}

/// An import under way. Rows count once their slot is followed by another or the import is
/// finished; until then one that is dropped leaves them out, and can be repeated.
#[derive(Debug)]
pub struct Import<'a> {
    store: &'a Store,
    now: Timestamp,
    hand: Option<Hand>,
    /// The hour, or the day, that the first row is of.
    first: Option<Timestamp>,
    pub(super) done: Imported,
    _held: RollUpsHeld,
}

/// The slot whose rows are coming in.
#[derive(Debug)]
struct Hand {
    slot: Slot,
    is_wanted: bool,
    rows: BTreeMap<SeriesKey, Row>,
}

/// A row as it will be written, which takes a tenth of it decoded.
#[derive(Debug)]
struct Row {
    first: Timestamp,
    last: Timestamp,
    bytes: Vec<u8>,
}

impl Store {
    /// Begins an import at `now`. The store may take samples meanwhile; that its regular work
    /// rolls up nothing keeps it from a day of which only some hours are in. One at a time: of two,
    /// each may find an hour rolled up that it has more of.
    pub fn import(&self, now: Timestamp) -> Import<'_> {
        Import { store: self, now, hand: None, first: None, done: Imported::default(), _held: self.hold_roll_ups() }
    }
}

impl Import<'_> {
    /// Takes one row; whether its slot is wanted. They must come in the order of [`crate::Export`]: slots by start, then
    /// length, each slot's rows together.
    ///
    /// # Errors
    /// When it is not in order, contradicts itself or repeats a series, or the store cannot be
    /// written.
    pub fn row(&mut self, row: SlotRow) -> Result<bool, ImportError> {
        let slot = checked_slot(&row)?;
        self.turn_to(slot)?;
        let Some(hand) = self.hand.as_mut().filter(|hand| hand.is_wanted) else {
            return Ok(false);
        };
        let (key, entry) = row.into_parts();
        let mut bytes = Vec::new();
        entry.encode(slot, &mut bytes);
        let row = Row { first: entry.first, last: entry.last, bytes };
        match hand.rows.insert(key.clone(), row) {
            None => Ok(true),
            Some(_) => Err(ImportError::Repeated { key, start: slot.start }),
        }
    }

    /// Writes the last slot; what became of everything.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn finish(mut self) -> Result<Imported, ImportError> {
        self.put_down()?;
        Ok(self.done)
    }

    pub(super) fn store(&self) -> &Store {
        self.store
    }

    fn turn_to(&mut self, slot: Slot) -> Result<(), ImportError> {
        let before = self.hand.as_ref().map(|hand| hand.slot);
        if before == Some(slot) {
            return Ok(());
        }
        if before.is_some_and(|before| (before.start, before.kind) > (slot.start, slot.kind)) {
            return Err(ImportError::NotSorted { at: slot.start });
        }
        self.put_down()?;
        let lived_until = self.now.min(slot.start + HOUR_AFTER);
        // What begins before is not this import's to roll up: an earlier one may have been killed in the middle of it.
        let first = *self.first.get_or_insert(slot.within(SlotKind::Hour).start);
        while self.store.maintain_with(lived_until, Some(first))?.pending {}
        let is_wanted = self.is_wanted(slot);
        self.hand = Some(Hand { slot, is_wanted, rows: BTreeMap::new() });
        Ok(())
    }

    /// Whether to take a slot; counts it where not.
    fn is_wanted(&mut self, slot: Slot) -> bool {
        let oldest = self.now - self.store.options.retention;
        let refused = if slot.end() + LATENESS > self.now {
            &mut self.done.open
        } else if slot.end() <= oldest {
            &mut self.done.expired
        } else if self.store.has_some_of(slot) {
            &mut self.done.kept
        } else {
            return true;
        };
        *refused += 1;
        false
    }

    fn put_down(&mut self) -> Result<(), ImportError> {
        let Some(Hand { slot, is_wanted: true, rows }) = self.hand.take() else {
            return Ok(());
        };
        self.done.rows += rows.len() as u64;
        self.done.slots += 1;
        self.store.take_in(slot, rows, self.now)?;
        Ok(())
    }
}

impl Store {
    fn has_some_of(&self, slot: Slot) -> bool {
        let in_work = self.progress().writer.as_ref().and_then(|writer| Some(writer.rollup.as_ref()?.target()));
        let shared = self.shared();
        let mut open = shared.open.keys().map(|start| SlotKind::FiveMinutes.slot_at(*start).within(slot.kind));
        in_work.is_some_and(|target| slot.within(target.kind) == target)
            || shared.catalog.overlaps(slot)
            || open.any(|open| open == slot)
    }

    /// Writes one slot.
    fn take_in(&self, slot: Slot, rows: BTreeMap<SeriesKey, Row>, now: Timestamp) -> Result<(), StoreError> {
        let mut progress = self.progress();
        let writer = self.loaded(&mut progress, now).map_err(|e| StoreError::NotLoaded { source: Box::new(e) })?;
        self.heal(writer, now).map_err(|e| self.database("rewrite the tables", &e))?;
        let rows: BTreeMap<SeriesId, Row> = rows.into_iter().map(|(key, row)| (self.intern(&key), row)).collect();
        self.name(writer, &rows)?;
        let names = self.table().records(Named::Nowhere);
        let file = self.write_rows(slot, &rows, &names).map_err(|e| failed("write", &self.slot_path(slot), e))?;
        self.commit(writer, Some(file), &[])?;
        self.table_mut().mark_named(&names, Named::InSlotFile);
        let mut shared = self.shared_mut();
        for (id, row) in rows {
            // Where the last sample is not known, it may be later, in a file.
            if shared.last(id).is_some() {
                shared.note_last(id, row.last);
            }
        }
        Ok(())
    }

    /// Makes the names, and earlier first samples, of series durable.
    fn name(&self, writer: &mut Writer, rows: &BTreeMap<SeriesId, Row>) -> Result<(), StoreError> {
        let table = self.table();
        let is_news = |(id, row): &(&SeriesId, &Row)| table.first(**id).is_none_or(|first| row.first < first);
        let news = rows.iter().filter(is_news);
        let news: Vec<SeriesRecord> = news.filter_map(|(id, row)| table.record(*id, row.first)).collect();
        drop(table);
        if news.is_empty() {
            return Ok(());
        }
        let mut puts = Vec::new();
        writer.put_series(&mut puts, &news);
        self.apply(writer, puts, Vec::new()).map_err(|e| {
            writer.broken = writer.broken.or(Some(Broken::Failed));
            self.database("enter series", &e)
        })?;
        self.table_mut().mark_stored(&news);
        Ok(())
    }

    fn write_rows(
        &self,
        slot: Slot,
        rows: &BTreeMap<SeriesId, Row>,
        names: &[SeriesRecord],
    ) -> Result<SlotFile, ReadError> {
        let mut file = SlotFileWriter::create(&self.paths.slots(), slot)?;
        let mut block: Vec<(SeriesId, SlotEntry)> = Vec::with_capacity(BLOCK_SERIES);
        for (id, row) in rows {
            block.push((*id, SlotEntry::decode(Version::CURRENT, slot, &row.bytes)?));
            if block.len() == BLOCK_SERIES {
                file.push(&block)?;
                block.clear();
            }
        }
        file.push(&block)?;
        file.finish(names)
    }
}

/// Kubernetes allows no name longer than this.
const MAX_NAME: usize = 253;

pub(super) fn check_key(key: &SeriesKey) -> Result<(), ImportError> {
    let SeriesKey { namespace, kind, workload, container } = key;
    let is_name = |part: &&String| !part.is_empty() && part.len() <= MAX_NAME && !part.contains('\0');
    let is_valid = [namespace, kind, workload, container].iter().all(is_name);
    if is_valid { Ok(()) } else { Err(ImportError::Key { key: key.clone() }) }
}

/// The slot of a row that may be as it says.
fn checked_slot(row: &SlotRow) -> Result<Slot, ImportError> {
    check_key(&row.key)?;
    let slot = row.kind.slot_at(row.start);
    let contradiction = |what| ImportError::Contradiction { key: row.key.clone(), start: row.start, what };
    let most = slot.kind.length().as_secs() / SlotKind::FiveMinutes.length().as_secs();
    if slot.start != row.start {
        return Err(contradiction("a slot of its length does not start then"));
    }
    if row.first < slot.start || row.first > row.last || row.last >= slot.end() {
        return Err(contradiction("its first and last sample are not in order within the slot"));
    }
    if !(1..=most).contains(&u64::from(row.filled)) {
        return Err(contradiction("the slot does not have that many 5-minute slots"));
    }
    Ok(slot)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::StoreOptions;
    use crate::sketch::{AnySketch, SketchKind};
    use std::time::Duration;

    #[test]
    fn a_crash_before_the_manifest_leaves_a_slot_whose_series_have_their_names() {
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp(1_699_833_600_000);
        let slot = SlotKind::Hour.slot_at(now - Duration::from_hours(5));
        let parts = ["shop", "Deployment", "cart", "app"].map(str::to_owned);
        let [namespace, kind, workload, container] = parts;
        let key = SeriesKey { namespace, kind, workload, container };
        let value = AnySketch::from_values(SketchKind::TDigest, &mut [1.0, 2.0]).unwrap();
        let entry = SlotEntry { first: slot.start, last: slot.start, filled: 1, cpu: value.clone(), memory: value };
        let mut bytes = Vec::new();
        entry.encode(slot, &mut bytes);

        let store = Store::open(dir.path(), StoreOptions::default(), now).unwrap();
        let row = Row { first: slot.start, last: slot.start, bytes };
        let rows = BTreeMap::from([(store.intern(&key), row)]);
        store.name(store.progress().writer.as_mut().unwrap(), &rows).unwrap();
        let names = store.table().records(Named::Nowhere);
        store.write_rows(slot, &rows, &names).unwrap();
        drop(store);
        let store = Store::open(dir.path(), StoreOptions::default(), now).unwrap();
        assert_eq!(store.status(now).problems, Vec::<String>::new());
        let usage = store.usage(&key, Duration::from_hours(6), now).unwrap();
        assert_eq!(usage.map(|usage| usage.cpu.count()), Some(2));
    }
}
