//! The slots that still take samples: raw rows in memory, by series.
//!
//! May not know: files, sled. Invariant: every row lies within its slot's span.

use std::collections::BTreeMap;
use std::iter;
use std::sync::Arc;

use crate::codec::value24;
use crate::entry::SlotEntry;
use crate::sketch::{AnySketch, SketchKind};
use crate::slot::{Slot, SlotKind};
use crate::{SeriesId, Timestamp};

/// Open slots by their start.
/// Sealing and rewriting read a slot without holding the lock that readers share.
pub(crate) type OpenSlots = BTreeMap<Timestamp, Arc<OpenSlot>>;

/// Streams are numbered modulo this; two numbers meet only in the check for duplicates, within
/// one series and twelve minutes.
pub(crate) const STREAM_NUMBERS: u32 = 1 << 29;

/// Rows in one piece of memory, which goes back to the system as a whole when the slot is sealed.
const CHUNK: usize = 1 << 16;

/// One sample in twelve bytes: 19 bits of milliseconds since the slot's start, 29 bits of the
/// stream's number and 24 bits for each value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row([u32; 3]);

impl Row {
    pub(crate) fn new(slot: Slot, at: Timestamp, stream: u32, cpu: u32, memory: u32) -> Self {
        let millis = u32::try_from(at.since(slot.start).as_millis()).unwrap_or(0) & 0x7_ffff;
        Self([millis << 13 | (stream >> 16) & 0x1fff, cpu << 8 | (stream >> 8) & 0xff, memory << 8 | stream & 0xff])
    }

    pub(crate) fn at(self, slot: Slot) -> Timestamp {
        let [time, _, _] = self.0;
        Timestamp(slot.start.0.saturating_add(i64::from(time >> 13)))
    }

    pub(crate) fn stream(self) -> u32 {
        let [time, cpu, memory] = self.0;
        (time & 0x1fff) << 16 | (cpu & 0xff) << 8 | memory & 0xff
    }

    pub(crate) fn cpu(self) -> u32 {
        let [_, cpu, _] = self.0;
        cpu >> 8
    }

    pub(crate) fn memory(self) -> u32 {
        let [_, _, memory] = self.0;
        memory >> 8
    }
}

/// A row, and one more than the place of its series' row before it; 0 where there is none.
#[derive(Clone, Copy, Debug)]
struct Link {
    row: Row,
    before: u32,
}

/// A 5-minute slot that takes samples: rows in the order in which they came, each series' rows
/// linked from the last to the first. A list of its own for each series would take as much again
/// in ends of lists and holes between them.
#[derive(Clone, Debug)]
pub(crate) struct OpenSlot {
    slot: Slot,
    chunks: Vec<Vec<Link>>,
    /// One more than the place of each series' last row; 0 where there is none.
    last: Vec<u32>,
}

impl OpenSlot {
    fn new(start: Timestamp) -> Self {
        let kind = SlotKind::FiveMinutes;
        Self { slot: Slot { kind, start }, chunks: Vec::new(), last: Vec::new() }
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Adds a row to the slot that starts at `slot.start`, which is opened by its first row. No
    /// one but a writer, an export or a backup keeps a slot beyond a lock, so it is hardly ever
    /// copied here.
    pub(crate) fn add(open: &mut OpenSlots, slot: Slot, series: SeriesId, row: Row) {
        let entry = open.entry(slot.start);
        let open = entry.or_insert_with(|| Arc::new(Self::new(slot.start)));
        Arc::make_mut(open).push(series, row);
    }

    fn push(&mut self, series: SeriesId, row: Row) {
        let index = series.0 as usize;
        if self.last.len() <= index {
            self.last.resize(index + 1, 0);
        }
        if self.chunks.last().is_none_or(|chunk| chunk.len() >= CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let full = self.chunks.len().saturating_sub(1) * CHUNK;
        let (Some(chunk), Some(last)) = (self.chunks.last_mut(), self.last.get_mut(index)) else {
            return;
        };
        chunk.push(Link { row, before: *last });
        *last = u32::try_from(full + chunk.len()).unwrap_or(0); // four billion rows take 64 GB
    }

    fn link(&self, after: u32) -> Option<Link> {
        let place = (after as usize).checked_sub(1)?;
        self.chunks.get(place / CHUNK)?.get(place % CHUNK).copied()
    }

    /// The rows of a series, in the order in which they came.
    pub(crate) fn rows(&self, series: SeriesId) -> Vec<Row> {
        let last = self.last.get(series.0 as usize).copied().unwrap_or(0);
        let links = iter::successors(self.link(last), |link| self.link(link.before));
        let mut rows: Vec<Row> = links.map(|link| link.row).collect();
        rows.reverse();
        rows
    }

    /// All series with samples, by number.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (SeriesId, Vec<Row>)> {
        self.iter_from(SeriesId(0))
    }

    /// ... and those from a number on.
    pub(crate) fn iter_from(&self, from: SeriesId) -> impl Iterator<Item = (SeriesId, Vec<Row>)> {
        let rest = self.last.get(from.0 as usize..).unwrap_or_default();
        let series = (from.0..).zip(rest).filter(|(_, last)| **last > 0);
        series.map(|(id, _)| (SeriesId(id), self.rows(SeriesId(id))))
    }

    /// The summary of one series; `None` when it has no sample here.
    pub(crate) fn entry(&self, series: SeriesId, kind: SketchKind) -> Option<SlotEntry> {
        summarise(self.slot, &self.rows(series), kind)
    }
}

/// What a sealed slot keeps of a series' rows.
pub(crate) fn summarise(slot: Slot, rows: &[Row], kind: SketchKind) -> Option<SlotEntry> {
    let sketch = |code: fn(Row) -> u32| {
        let mut values: Vec<f64> = rows.iter().filter_map(|r| value24(code(*r))).collect();
        AnySketch::from_values(kind, &mut values).ok()
    };
    Some(SlotEntry {
        first: rows.iter().map(|r| r.at(slot)).min()?,
        last: rows.iter().map(|r| r.at(slot)).max()?,
        filled: 1,
        cpu: sketch(Row::cpu)?,
        memory: sketch(Row::memory)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_keep_all_their_bits(millis in 0_i64..300_000, stream in 0..STREAM_NUMBERS, cpu in 0_u32..1 << 24, memory in 0_u32..1 << 24) {
            let slot = Slot { kind: SlotKind::FiveMinutes, start: Timestamp(-600_000) };
            let at = Timestamp(slot.start.0 + millis);
            let row = Row::new(slot, at, stream, cpu, memory);
            prop_assert_eq!((row.at(slot), row.stream(), row.cpu(), row.memory()), (at, stream, cpu, memory));
        }
    }

    #[test]
    fn each_series_gets_its_rows_back_in_their_order() {
        let slot = Slot { kind: SlotKind::FiveMinutes, start: Timestamp(0) };
        let mut open = OpenSlot::new(slot.start);
        let mut expected: BTreeMap<SeriesId, Vec<Row>> = BTreeMap::new();
        for n in 0..3 * u32::try_from(CHUNK).unwrap_or(0) {
            let series = SeriesId(n % 1000 * (n % 7)); // some have many, some have none
            let row = Row::new(slot, Timestamp(i64::from(n % 300_000)), n % 5, n % 999, n % 99);
            open.push(series, row);
            expected.entry(series).or_default().push(row);
        }
        assert_eq!(open.iter().collect::<BTreeMap<_, _>>(), expected);
        let from = SeriesId(2500);
        assert_eq!(open.iter_from(from).map(|(id, _)| id).min(), expected.range(from..).next().map(|(id, _)| *id));
        assert_eq!(open.rows(SeriesId(999_999)), Vec::new());
    }
}
