//! Which pods feed which series: recognises duplicates, and numbers streams for the frames.
//!
//! May not know: sled, files. Invariant: a sample is admitted once per series, pod and time, as
//! long as its slot is open.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::open_slot::OpenSlots;
use crate::slot::Slot;
use crate::{Sample, SeriesId, Timestamp};

/// One pod's share of a series.
#[derive(Clone, Copy, Debug)]
struct Stream {
    /// Its number in memory, for as long as an open slot has a row of it.
    id: u32,
    /// The latest sample that was admitted.
    last: Timestamp,
    /// The epoch in which it was last numbered for the frames, and its number there.
    epoch: u64,
    index: u32,
}

/// All streams with samples in open slots.
#[derive(Clone, Debug, Default)]
pub(crate) struct Streams {
    map: HashMap<(SeriesId, u64), Stream>,
    next: u32,
    epoch: u64,
    next_index: u32,
}

/// Samples of the tick in hand that came out of order; filled only when one does.
#[derive(Debug, Default)]
pub(crate) struct TickMemory {
    admitted: Vec<(u32, Timestamp)>,
    set: Option<HashSet<(u32, Timestamp)>>,
}

impl TickMemory {
    fn contains(&mut self, key: (u32, Timestamp)) -> bool {
        let admitted = &self.admitted;
        self.set.get_or_insert_with(|| admitted.iter().copied().collect()).contains(&key)
    }

    fn insert(&mut self, key: (u32, Timestamp)) {
        match &mut self.set {
            Some(set) => drop(set.insert(key)),
            None => self.admitted.push(key),
        }
    }
}

/// What a sample's stream is called, in memory and in the frames.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Admitted {
    pub(crate) stream: u32,
    pub(crate) index: u32,
    /// This frame has to say what `index` stands for.
    pub(crate) is_new: bool,
}

impl Streams {
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The number that the next stream named in this epoch gets.
    pub(crate) fn next_index(&self) -> u32 {
        self.next_index
    }

    /// Begins an epoch: every stream is named again before its number is used.
    pub(crate) fn start_epoch(&mut self, epoch: u64) {
        self.epoch = epoch;
        self.next_index = 0;
    }

    /// Admits a sample of an open slot, or not when it was admitted before.
    pub(crate) fn admit(
        &mut self,
        sample: &Sample,
        slot: Slot,
        open: &OpenSlots,
        tick: &mut TickMemory,
    ) -> Option<Admitted> {
        let (epoch, next_index) = (self.epoch, self.next_index);
        let stream = self.stream(sample.series, sample.pod);
        let key = (stream.id, sample.at);
        if sample.at == stream.last {
            return None;
        }
        if sample.at < stream.last && (tick.contains(key) || is_stored(open, slot, sample, stream.id)) {
            return None;
        }
        tick.insert(key);
        stream.last = stream.last.max(sample.at);
        let is_new = stream.epoch != epoch;
        if is_new {
            (stream.epoch, stream.index) = (epoch, next_index);
        }
        let admitted = Admitted { stream: stream.id, index: stream.index, is_new };
        self.next_index += u32::from(is_new);
        Some(admitted)
    }

    /// Takes a stored sample from disk; its stream's number in memory.
    pub(crate) fn restore(&mut self, series: SeriesId, pod: u64, at: Timestamp) -> u32 {
        let stream = self.stream(series, pod);
        stream.last = stream.last.max(at);
        stream.id
    }

    fn stream(&mut self, series: SeriesId, pod: u64) -> &mut Stream {
        self.map.entry((series, pod)).or_insert_with(|| {
            let id = self.next;
            self.next = self.next.wrapping_add(1); // two of a number meet only within a series and twelve minutes
            Stream { id, last: Timestamp(i64::MIN), epoch: u64::MAX, index: 0 }
        })
    }

    /// Takes back what was admitted but could not be stored: only what open slots hold counts. The
    /// rewrite that follows a failure starts an epoch of its own.
    pub(crate) fn forget_unstored(&mut self, open: &OpenSlots) {
        let mut last: HashMap<u32, Timestamp> = HashMap::new();
        for slot in open.values() {
            for row in slot.iter().flat_map(|(_, rows)| rows) {
                let at = row.at(slot.slot());
                last.entry(row.stream).and_modify(|l| *l = at.max(*l)).or_insert(at);
            }
        }
        self.map.retain(|_, stream| {
            stream.last = last.get(&stream.id).copied().unwrap_or(Timestamp(i64::MIN));
            stream.last > Timestamp(i64::MIN)
        });
    }

    /// Forgets streams without a sample at or after `oldest`, the start of the oldest open slot.
    pub(crate) fn forget_before(&mut self, oldest: Timestamp) {
        self.map.retain(|_, stream| stream.last >= oldest);
    }

    /// Every stream's series and pod by its number in memory.
    pub(crate) fn by_number(&self) -> BTreeMap<u32, (SeriesId, u64)> {
        self.map.iter().map(|(key, stream)| (stream.id, *key)).collect()
    }
}

fn is_stored(open: &OpenSlots, slot: Slot, sample: &Sample, stream: u32) -> bool {
    let rows = open.get(&slot.start).map(|open| open.rows(sample.series)).unwrap_or_default();
    rows.iter().any(|row| row.stream == stream && row.at(slot) == sample.at)
}
