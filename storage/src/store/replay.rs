//! Frames back into open slots.
//!
//! May not know: sled's records, files. Invariant: a row of a sealed slot is left out, because the
//! slot's file counts it.

use std::collections::{BTreeMap, BTreeSet};

use super::keys::Head;
use super::{Frame, Shared};
use crate::catalog::Catalog;
use crate::chunk::{Assembled, FrameId, Part};
use crate::frame::{FrameRow, StreamFrame, TickFrame};
use crate::open_slot::OpenSlot;
use crate::run::{NewRow, Row};
use crate::slot::{Slot, SlotKind};
use crate::streams::Streams;
use crate::table::{MAX_ID, SeriesTable};
use crate::{SeriesId, Timestamp};

/// What the frames told.
#[derive(Debug, Default)]
pub(super) struct Replayed {
    pub(super) shared: Shared,
    pub(super) streams: Streams,
    pub(super) frames: BTreeMap<u64, Frame>,
    pub(super) next_seq: u64,
    /// Positions of the ring that hold something worth keeping.
    pub(super) used: BTreeSet<u32>,
    /// ... and those that hold leftovers.
    pub(super) leftovers: Vec<u32>,
    pub(super) problems: Vec<String>,
}

/// What a stream's number in an epoch stands for, and what was read of it so far.
#[derive(Clone, Copy, Debug)]
struct Name {
    series: SeriesId,
    pod: u64,
    /// Its number in memory, once a row of an open slot named it, and the last such row.
    stream: Option<u32>,
    last: Timestamp,
}

/// The streams of each epoch by their number; there are as many lookups as samples.
type Names = BTreeMap<u64, Vec<Option<Name>>>;

/// Whether a slot is sealed, remembered for the rows that follow in the same.
struct Sealed<'a> {
    catalog: &'a Catalog,
    last: Option<(Slot, bool)>,
}

impl Sealed<'_> {
    /// The slot of a row, and whether a file counts it.
    fn slot_at(&mut self, at: Timestamp) -> (Slot, bool) {
        match self.last {
            Some(last @ (slot, _)) if slot.start <= at && at < slot.end() => last,
            _ => {
                let slot = SlotKind::FiveMinutes.slot_at(at);
                *self.last.insert((slot, self.catalog.covers(slot)))
            }
        }
    }
}

/// Replays all frames. The head tells which ticks must be there: a broken frame that is not among
/// them was never acknowledged.
pub(super) fn replay(
    frames: BTreeMap<FrameId, Assembled>,
    head: &Head,
    catalog: &Catalog,
    table: &SeriesTable,
) -> Replayed {
    let mut out = Replayed::default();
    let highest = frames.keys().map(|(seq, _)| *seq).max();
    out.next_seq = highest.map_or(0, |seq| seq.saturating_add(1)).max(head.next_seq);
    let expected = &head.ticks;
    let (rows, streams): (Vec<_>, Vec<_>) = frames.into_iter().partition(|((_, part), _)| *part == Part::Rows);
    let mut names = out.read_streams(streams, table);
    let mut sealed = Sealed { catalog, last: None };
    let found: BTreeSet<u64> = rows.iter().map(|((seq, _), _)| *seq).collect();
    for missing in expected.iter().filter(|seq| !found.contains(seq)) {
        out.problems.push(format!("tick {missing} of the open slots is missing; its samples are lost"));
    }
    for ((seq, _), frame) in rows {
        let is_expected = expected.contains(&seq);
        out.read_tick(seq, frame, is_expected, &mut names, &mut sealed);
    }
    for name in names.into_values().flatten().flatten().filter(|name| name.stream.is_some()) {
        out.streams.restore(name.series, name.pod, name.last);
        out.shared.note_last(name.series, name.last);
    }
    out
}

impl Replayed {
    /// The names of all streams, but of series that nobody knows. Their frames are kept as long as
    /// their epoch has rows, which is known after the next seal.
    fn read_streams(&mut self, frames: Vec<(FrameId, Assembled)>, table: &SeriesTable) -> Names {
        let mut names = Names::new();
        for ((seq, _), frame) in frames {
            let decoded = frame.bytes.as_deref().map(StreamFrame::decode);
            let Some(Ok(StreamFrame { epoch, first: first @ ..=MAX_ID, streams })) = decoded else {
                self.leftovers.extend(frame.positions); // rows that need it will say so
                continue;
            };
            let of_epoch = names.entry(epoch).or_default();
            let first = first as usize; // a frame before it may be lost
            of_epoch.resize(of_epoch.len().max(first + streams.len()), None);
            for (name, (series, pod)) in of_epoch.iter_mut().skip(first).zip(streams) {
                let found = Name { series, pod, stream: None, last: Timestamp(i64::MIN) };
                *name = table.contains(series).then_some(found);
            }
            self.used.extend(&frame.positions);
            let kept = self.frames.entry(seq).or_default();
            (kept.epoch, kept.streams) = (epoch, frame.positions);
            self.streams.start_epoch(self.streams.epoch().max(epoch));
        }
        names
    }

    fn read_tick(&mut self, seq: u64, frame: Assembled, is_expected: bool, names: &mut Names, sealed: &mut Sealed<'_>) {
        let Some(Ok(tick)) = frame.bytes.as_deref().map(TickFrame::decode) else {
            self.leftovers.extend(frame.positions);
            if is_expected {
                self.problems.push(format!("tick {seq} of the open slots is damaged; its samples are lost"));
            } else {
                tracing::warn!(seq, "left out a tick that was cut off before it was acknowledged");
            }
            return;
        };
        let names = names.entry(tick.epoch).or_default();
        let mut slots: Vec<Timestamp> = Vec::new();
        let mut lost = 0;
        let mut rows = Vec::with_capacity(tick.rows.len());
        for row in &tick.rows {
            let (slot, is_sealed) = sealed.slot_at(row.at);
            if slots.last() != Some(&slot.start) {
                slots.push(slot.start);
            }
            if !is_sealed {
                let read = self.read_row(slot, *row, names);
                lost += u64::from(read.is_none());
                rows.extend(read);
            }
        }
        OpenSlot::add(&mut self.shared.open, rows);
        if lost > 0 {
            self.problems
                .push(format!("{lost} samples of tick {seq} are lost: the names of their series or pods are damaged"));
        }
        self.shared.last_tick = self.shared.last_tick.max(Some(tick.now));
        self.streams.start_epoch(self.streams.epoch().max(tick.epoch));
        self.used.extend(&frame.positions);
        let kept = self.frames.entry(seq).or_default();
        (kept.epoch, kept.rows) = (tick.epoch, frame.positions);
        slots.sort_unstable();
        slots.dedup();
        kept.slots = slots;
    }

    /// A row of an open slot; `None` where its stream has no name.
    fn read_row(&mut self, slot: Slot, row: FrameRow, names: &mut [Option<Name>]) -> Option<NewRow> {
        let name = names.get_mut(row.stream as usize)?.as_mut()?;
        let stream = *name.stream.get_or_insert_with(|| self.streams.restore(name.series, name.pod, row.at));
        name.last = name.last.max(row.at);
        let row = Row::new(slot, row.at, stream, row.cpu, row.memory);
        Some(NewRow { slot, series: name.series, row })
    }
}
