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
use crate::open_slot::{OpenSlot, Row};
use crate::slot::SlotKind;
use crate::streams::Streams;
use crate::table::SeriesTable;
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

type StreamNames = BTreeMap<(u64, u32), (SeriesId, u64)>;

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
    let names = out.read_streams(streams);
    let found: BTreeSet<u64> = rows.iter().map(|((seq, _), _)| *seq).collect();
    for missing in expected.iter().filter(|seq| !found.contains(seq)) {
        out.problems.push(format!("tick {missing} of the open slots is missing; its samples are lost"));
    }
    for ((seq, _), frame) in rows {
        let is_expected = expected.contains(&seq);
        out.read_tick(seq, frame, is_expected, &names, (catalog, table));
    }
    out
}

impl Replayed {
    /// The names of all streams. Their frames are kept as long as their epoch has rows, which is
    /// known after the next seal.
    fn read_streams(&mut self, frames: Vec<(FrameId, Assembled)>) -> StreamNames {
        let mut names = StreamNames::new();
        for ((seq, _), frame) in frames {
            let decoded = frame.bytes.as_deref().map(StreamFrame::decode);
            let Some(Ok(StreamFrame { epoch, first, streams })) = decoded else {
                self.leftovers.extend(frame.positions); // rows that need it will say so
                continue;
            };
            let numbers = (first..=u32::MAX).map(|index| (epoch, index));
            names.extend(numbers.zip(streams));
            self.used.extend(&frame.positions);
            let kept = self.frames.entry(seq).or_default();
            (kept.epoch, kept.streams) = (epoch, frame.positions);
            self.streams.start_epoch(self.streams.epoch().max(epoch));
        }
        names
    }

    fn read_tick(
        &mut self,
        seq: u64,
        frame: Assembled,
        is_expected: bool,
        names: &StreamNames,
        context: (&Catalog, &SeriesTable),
    ) {
        let Some(Ok(tick)) = frame.bytes.as_deref().map(TickFrame::decode) else {
            self.leftovers.extend(frame.positions);
            if is_expected {
                self.problems.push(format!("tick {seq} of the open slots is damaged; its samples are lost"));
            } else {
                tracing::warn!(seq, "left out a tick that was cut off before it was acknowledged");
            }
            return;
        };
        let lost = tick.rows.iter().filter(|row| !self.read_row(&tick, **row, names, context)).count();
        if lost > 0 {
            self.problems
                .push(format!("{lost} samples of tick {seq} are lost: the names of their series or pods are damaged"));
        }
        self.shared.last_tick = self.shared.last_tick.max(Some(tick.now));
        self.streams.start_epoch(self.streams.epoch().max(tick.epoch));
        self.used.extend(&frame.positions);
        let kept = self.frames.entry(seq).or_default();
        (kept.epoch, kept.rows) = (tick.epoch, frame.positions);
        let starts = tick.rows.iter().map(|row| SlotKind::FiveMinutes.slot_at(row.at).start);
        kept.slots = starts.collect::<BTreeSet<Timestamp>>().into_iter().collect();
    }

    /// Puts a row where it belongs; whether it could be read.
    fn read_row(
        &mut self,
        tick: &TickFrame,
        row: FrameRow,
        names: &StreamNames,
        (catalog, table): (&Catalog, &SeriesTable),
    ) -> bool {
        let slot = SlotKind::FiveMinutes.slot_at(row.at);
        if catalog.covers(slot) {
            return true;
        }
        let known = names.get(&(tick.epoch, row.stream));
        let Some((series, pod)) = known.filter(|(series, _)| table.contains(*series)) else {
            return false;
        };
        let stream = self.streams.restore(*series, *pod, row.at);
        let row_in_memory = Row::new(slot, row.at, stream, row.cpu, row.memory);
        OpenSlot::add(&mut self.shared.open, slot, *series, row_in_memory);
        self.shared.note_last(*series, row.at);
        true
    }
}
