//! A tick's rows of neighbouring series, packed: nine bytes for each, and names shared with other ticks.
//!
//! May not know: slots that are open, files, sled. Invariant: names ascend, and of each there is one
//! row at most.

use std::ops::Range;
use std::sync::Arc;

use crate::slot::Slot;
use crate::{SeriesId, Timestamp};

/// One sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// Since the slot's start, which is less than 2²⁴.
    millis: u32,
    /// The number of the pod's share of the series ([`crate::streams`]).
    pub(crate) stream: u32,
    /// In the 24 bits of [`crate::codec::code24`], as memory.
    pub(crate) cpu: u32,
    pub(crate) memory: u32,
}

impl Row {
    pub(crate) fn new(slot: Slot, at: Timestamp, stream: u32, cpu: u32, memory: u32) -> Self {
        let millis = u32::try_from(at.since(slot.start).as_millis()).unwrap_or(0);
        Self { millis, stream, cpu, memory }
    }

    pub(crate) fn at(self, slot: Slot) -> Timestamp {
        Timestamp(slot.start.0.saturating_add(i64::from(self.millis)))
    }

    fn packed(self) -> Packed {
        [self.millis, self.cpu, self.memory].map(|field| {
            let [low, middle, high, _] = field.to_le_bytes();
            [low, middle, high]
        })
    }

    fn unpacked(stream: u32, packed: Packed) -> Self {
        let [millis, cpu, memory] = packed.map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]));
        Self { millis, stream, cpu, memory }
    }
}

/// What differs from tick to tick: time, CPU and memory.
type Packed = [[u8; 3]; 3];

/// A row on its way into its slot.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NewRow {
    pub(crate) slot: Slot,
    pub(crate) series: SeriesId,
    pub(crate) row: Row,
}

impl NewRow {
    pub(crate) fn name(&self) -> Name {
        Name { series: self.series, stream: self.row.stream }
    }
}

/// Whose a row is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Name {
    pub(crate) series: SeriesId,
    pub(crate) stream: u32,
}

/// A tick's rows of the series of one span, one of a stream at most.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    /// Ascending; one list for many runs, in which most of the pods are the same.
    pub(crate) names: Arc<[Name]>,
    /// Of which names there is a row: the first of 64 in the lowest bit.
    present: Arc<[u64]>,
    /// The rows of these names, in their order.
    rows: Arc<[Packed]>,
}

impl Run {
    /// `None` when a row's name is not among `names`.
    pub(crate) fn new(names: &Arc<[Name]>, rows: &[NewRow]) -> Option<Self> {
        let mut present = vec![0_u64; names.len().div_ceil(64)];
        let mut places = (0_usize..).zip(names.iter());
        for new in rows {
            let (place, _) = places.find(|(_, name)| **name >= new.name()).filter(|(_, name)| **name == new.name())?;
            *present.get_mut(place / 64)? |= 1 << (place % 64);
        }
        let rows = rows.iter().map(|new| new.row.packed()).collect();
        Some(Self { names: names.clone(), present: present.into(), rows })
    }

    /// Where a series' names are.
    pub(crate) fn places(&self, series: SeriesId) -> Range<usize> {
        let start = self.names.partition_point(|name| name.series < series);
        let names = self.names.get(start..).unwrap_or_default();
        start..start + names.partition_point(|name| name.series == series)
    }

    fn has(&self, place: usize) -> bool {
        self.present.get(place / 64).is_some_and(|bits| bits >> (place % 64) & 1 == 1)
    }

    /// How many names before this one have a row.
    fn rank(&self, place: usize) -> usize {
        let before = self.present.iter().take(place / 64).map(|bits| bits.count_ones());
        let within = self.present.get(place / 64).map_or(0, |bits| (bits & ((1 << (place % 64)) - 1)).count_ones());
        (before.sum::<u32>() + within) as usize
    }

    pub(crate) fn rows(&self, places: Range<usize>) -> impl Iterator<Item = Row> {
        let rows = self.rows.get(self.rank(places.start)..).unwrap_or_default();
        let names = self.present_names(places);
        names.zip(rows).map(|(name, row)| Row::unpacked(name.stream, *row))
    }

    pub(crate) fn present_names(&self, places: Range<usize>) -> impl Iterator<Item = Name> {
        let names = self.names.get(places.clone()).unwrap_or_default();
        places.zip(names).filter(|(place, _)| self.has(*place)).map(|(_, name)| *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slot::SlotKind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_keep_all_their_bits(start in -2_i64..2, millis in 0_i64..300_000, stream: u32, cpu in 0_u32..1 << 24, memory in 0_u32..1 << 24) {
            let slot = Slot { kind: SlotKind::FiveMinutes, start: Timestamp(start * 300_000) };
            let at = Timestamp(slot.start.0 + millis);
            let row = Row::new(slot, at, stream, cpu, memory);
            prop_assert_eq!(row.at(slot), at);
            prop_assert_eq!(Row::unpacked(stream, row.packed()), row);
        }
    }
}
