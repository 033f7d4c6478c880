//! Merges of sealed slots, kept for the next question about the same window.
//!
//! They are kept encoded, as in a slot's file: decoded ones of 300,000 series would take more memory
//! than the store. Invariant: what is found is what was put, of the same slots.

use std::collections::{BTreeMap, HashMap};

use crate::codec::{DecodeError, Reader, put_signed, put_varint};
use crate::entry::SlotEntry;
use crate::sketch::{AnySketch, Sketch};
use crate::slot::Slot;
use crate::{SeriesId, Timestamp};

/// The sealed slots of one series in a window, merged.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Sealed {
    pub(super) merged: Option<SlotEntry>,
    /// Filled 5-minute slots of the oldest slot, which may reach beyond the window.
    pub(super) edge: u32,
    /// Filled 5-minute slots of all.
    pub(super) filled: u32,
}

impl Sealed {
    /// `edge | filled`, and where there is something, `first | last | length of cpu | cpu | memory`
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(512);
        put_varint(&mut out, u64::from(self.edge));
        put_varint(&mut out, u64::from(self.filled));
        if let Some(entry) = &self.merged {
            put_signed(&mut out, entry.first.0);
            put_signed(&mut out, entry.last.0);
            let mut cpu = Vec::with_capacity(256);
            entry.cpu.encode(&mut cpu);
            put_varint(&mut out, cpu.len() as u64);
            out.extend(cpu);
            entry.memory.encode(&mut out);
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let edge = reader.varint32("the filled slots of a window's edge")?;
        let filled = reader.varint32("the filled slots of a window")?;
        if reader.remaining() == 0 {
            return Ok(Self { merged: None, edge, filled });
        }
        let first = Timestamp(reader.signed("a window's first sample")?);
        let last = Timestamp(reader.signed("a window's last sample")?);
        let cpu = reader.count(1, "the length of a sketch")?;
        let cpu = AnySketch::decode(reader.bytes(cpu, "a sketch")?)?;
        let memory = AnySketch::decode(reader.bytes(reader.remaining(), "a sketch")?)?;
        Ok(Self { merged: Some(SlotEntry { first, last, filled, cpu, memory }), edge, filled })
    }
}

/// Which sealed slots a merge is of: the catalog's generation, the first of them and how many.
pub(super) type Signature = (u64, Option<Slot>, usize);

/// Bytes in one piece of memory.
const CHUNK: usize = 1 << 16;

/// Merges by the window's length. Those of other slots than the last question's are forgotten;
/// when they take too many bytes, all are.
#[derive(Debug, Default)]
pub(super) struct WindowCache {
    windows: BTreeMap<i64, (Signature, Merges)>,
}

/// The merges of one window. A box for each would take another 40 bytes a series.
#[derive(Debug, Default)]
struct Merges {
    /// Where the series' bytes are: the number of the chunk, then the place in it.
    places: HashMap<SeriesId, [u16; 2]>,
    chunks: Vec<Vec<u8>>,
}

impl WindowCache {
    pub(super) fn get(&self, series: SeriesId, window: i64, signature: Signature) -> Option<Sealed> {
        let (_, merges) = self.windows.get(&window).filter(|(known, _)| *known == signature)?;
        Sealed::decode(merges.get(series)?).ok()
    }

    pub(super) fn put(&mut self, series: SeriesId, window: i64, signature: Signature, bytes: &[u8], limit: usize) {
        self.windows.retain(|_, (known, _)| known.0 == signature.0);
        if self.bytes() + CHUNK > limit {
            self.windows.clear();
        }
        let (known, merges) = self.windows.entry(window).or_insert_with(|| (signature, Merges::default()));
        if *known != signature {
            (*known, *merges) = (signature, Merges::default());
        }
        if limit >= CHUNK {
            merges.put(series, bytes);
        }
    }

    fn bytes(&self) -> usize {
        self.windows.values().map(|(_, merges)| merges.bytes()).sum()
    }
}

impl Merges {
    fn get(&self, series: SeriesId) -> Option<&[u8]> {
        let [chunk, start] = *self.places.get(&series)?;
        let mut reader = Reader::new(self.chunks.get(usize::from(chunk))?.get(usize::from(start)..)?);
        let len = reader.count(1, "the length of a merge").ok()?;
        reader.bytes(len, "a merge").ok()
    }

    /// Keeps a merge; one beyond the last chunk that can be told is not kept.
    fn put(&mut self, series: SeriesId, bytes: &[u8]) {
        if self.chunks.last().is_none_or(|chunk| chunk.len() + bytes.len() + 10 > CHUNK) {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        let Ok(number) = u16::try_from(self.chunks.len() - 1) else { return }; // it has one at least
        let Some(chunk) = self.chunks.last_mut() else { return };
        let Ok(start) = u16::try_from(chunk.len()) else { return };
        put_varint(chunk, bytes.len() as u64);
        chunk.extend_from_slice(bytes);
        self.places.insert(series, [number, start]);
    }

    fn bytes(&self) -> usize {
        self.chunks.len() * CHUNK + self.places.capacity() * 10
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::slot::SlotKind;
    use proptest::prelude::*;

    fn signature(generation: u64) -> Signature {
        let start = Timestamp(0);
        (generation, Some(Slot { kind: SlotKind::Hour, start }), 24)
    }

    #[test]
    fn a_merge_is_found_until_its_slots_change() {
        let mut cache = WindowCache::default();
        let bytes = |n| Sealed { merged: None, edge: n, filled: 9 }.encode();
        for n in 0..100_000 {
            cache.put(SeriesId(n), 7, signature(1), &bytes(n), 128 << 20);
        }
        let found = |cache: &WindowCache, n, window, generation| {
            cache.get(SeriesId(n), window, signature(generation)).map(|sealed| sealed.edge)
        };
        assert!((0..100_000).all(|n| found(&cache, n, 7, 1) == Some(n)), "in whichever chunk it lies");
        assert_eq!([found(&cache, 1, 8, 1), found(&cache, 1, 7, 2), found(&cache, 100_000, 7, 1)], [None; 3]);
        cache.put(SeriesId(1), 8, signature(2), &bytes(5), 128 << 20);
        assert_eq!([found(&cache, 1, 7, 1), found(&cache, 1, 8, 2)], [None, Some(5)]);
        assert!(cache.bytes() < 2 * CHUNK, "merges of slots that are no more take memory");
    }

    #[test]
    fn it_keeps_to_its_bytes() {
        let mut cache = WindowCache::default();
        for n in 0..1000 {
            cache.put(SeriesId(n), 7, signature(1), &[1; 5000], 4 * CHUNK);
            assert!(cache.bytes() <= 4 * CHUNK + 1000 * 20);
        }
        cache.put(SeriesId(1), 7, signature(1), &[1; 50], 0);
        assert_eq!(cache.bytes(), 0, "none where none are wanted");
    }

    proptest! {
        #[test]
        fn merges_come_back_as_a_slot_would(values in prop::collection::vec(0.0..1e9, 1..300), edge: u32, filled: u32, first: i64, last: i64) {
            let sketch = |kind| AnySketch::from_values(kind, &mut values.clone()).unwrap();
            let [cpu, memory] = [crate::sketch::SketchKind::TDigest, crate::sketch::SketchKind::LogLinear].map(sketch);
            let entry = SlotEntry { first: Timestamp(first), last: Timestamp(last), filled, cpu, memory };
            let as_stored = Sealed::decode(&Sealed { merged: Some(entry), edge, filled }.encode()).unwrap();
            prop_assert_eq!(Sealed::decode(&as_stored.encode()).unwrap(), as_stored.clone());
            let entry = as_stored.merged.unwrap();
            let max = values.iter().copied().fold(0.0, f64::max);
            prop_assert_eq!((entry.first.0, entry.last.0, entry.filled, as_stored.edge), (first, last, filled, edge));
            prop_assert!((entry.cpu.max() - max).abs() <= max * 1e-4 && entry.memory.count() == values.len() as u64);
        }
    }
}
