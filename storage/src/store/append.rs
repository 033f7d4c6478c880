//! One tick: admit its samples, make them durable, let readers see them.
//!
//! Invariant: readers and the duplicate check know a sample if and only if it is durable.

use std::collections::BTreeMap;

use super::keys::{Head, Key};
use super::{Broken, Frame, Shared, Store, Writer};
use crate::chunk::{self, FrameId, MAX_VALUE, Part};
use crate::codec::code24;
use crate::frame::{FrameRow, StreamFrame, TickFrame};
use crate::open_slot::OpenSlot;
use crate::run::{NewRow, Row};
use crate::sketch::is_valid;
use crate::sled_part::{Pair, PartError};
use crate::slot::{LATENESS, Slot, SlotKind};
use crate::streams::TickMemory;
use crate::table::{self, SeriesRecord, SeriesTable};
use crate::{AppendError, Appended, Sample, SeriesId, Timestamp};

/// What one append will store.
#[derive(Debug, Default)]
struct Tick {
    done: Appended,
    /// Where each row goes in memory.
    rows: Vec<NewRow>,
    frame_rows: Vec<FrameRow>,
    streams: Vec<(SeriesId, u64)>,
    first_stream: u32,
    /// Series that are not on disk yet, with their first sample.
    new_series: BTreeMap<SeriesId, Timestamp>,
}

impl Store {
    /// Counts the samples of one tick, in one durable frame: when it returns `Ok`, the accepted
    /// samples are found again after any crash. On an error none of them counts, and the same
    /// samples may be appended again.
    ///
    /// A sample goes into the 5-minute slot of its own time, which takes samples until two minutes
    /// after its end.
    pub fn append(&self, now: Timestamp, samples: &[Sample]) -> Result<Appended, AppendError> {
        let mut progress = self.progress();
        let loaded = self.loaded(&mut progress, now);
        let writer = loaded.map_err(|e| AppendError::NotLoaded { source: Box::new(e) })?;
        let not_durable = |e: PartError| AppendError::NotDurable { dir: self.paths.dir.clone(), reason: e.to_string() };
        self.heal(writer, now).map_err(not_durable)?;
        let mut tick = self.admit(writer, now, samples);
        if tick.rows.is_empty() {
            self.shared_mut().totals.add(tick.done);
            return Ok(tick.done);
        }
        let new_series = new_records(&self.table(), &tick.new_series);
        if let Err(e) = self.store_tick(writer, now, &mut tick, &new_series) {
            writer.broken = Some(Broken::Failed);
            writer.streams.forget_unstored(&self.shared().open);
            return Err(not_durable(e));
        }
        self.table_mut().mark_stored(&new_series);
        let done = tick.done;
        self.shared_mut().take(now, tick);
        Ok(done)
    }

    /// Sorts the samples into those to store and those to count only.
    fn admit(&self, writer: &mut Writer, now: Timestamp, samples: &[Sample]) -> Tick {
        let epoch_slot = SlotKind::FiveMinutes.slot_at(now);
        if writer.epoch_slot.replace(epoch_slot) != Some(epoch_slot) {
            writer.streams.start_epoch(writer.streams.epoch() + 1);
        }
        let (early, table, shared) = (self.early(), self.table(), self.shared());
        let mut admission =
            Admission { now, table: &table, shared: &shared, memory: TickMemory::default(), last_slot: None };
        let mut tick = Tick { first_stream: writer.streams.next_index(), ..Tick::default() };
        for sample in samples {
            let series = early.number(sample.series);
            admission.admit(writer, &mut tick, &Sample { series, ..*sample });
        }
        tick
    }

    fn store_tick(
        &self,
        writer: &mut Writer,
        now: Timestamp,
        tick: &mut Tick,
        new_series: &[SeriesRecord],
    ) -> Result<(), PartError> {
        let epoch = writer.streams.epoch();
        let mut puts = Vec::new();
        let rows = TickFrame { now, epoch, rows: std::mem::take(&mut tick.frame_rows) };
        let mut frame = Frame { epoch, slots: tick.slots(), ..Frame::default() };
        let seq = writer.next_seq;
        writer.next_seq += 1;
        frame.rows = writer.put_chunks(&mut puts, (seq, Part::Rows), &rows.encode());
        if !tick.streams.is_empty() {
            let (first, streams) = (tick.first_stream, std::mem::take(&mut tick.streams));
            let streams = StreamFrame { epoch, first, streams };
            frame.streams = writer.put_chunks(&mut puts, (seq, Part::Streams), &streams.encode());
        }
        writer.put_series(&mut puts, new_series);
        writer.frames.insert(seq, frame);
        writer.live_peak = writer.live_peak.max(writer.live_bytes());
        self.apply(writer, puts, Vec::new())?;
        writer.witness.note(seq);
        Ok(())
    }

    /// Makes changes of the sled part durable, with the head that matches them.
    pub(super) fn apply(&self, writer: &Writer, mut puts: Vec<Pair>, removes: Vec<Vec<u8>>) -> Result<(), PartError> {
        puts.push(Key::Head.pair(&self.head(writer).encode()));
        writer.part()?.apply(puts, removes)
    }

    /// What the sled part holds once the change in hand is done.
    pub(super) fn head(&self, writer: &Writer) -> Head {
        Head {
            next_seq: writer.next_seq,
            next_id: self.table().next_id(),
            table_values: writer.table_values,
            ticks: writer.frames.iter().filter(|(_, f)| !f.rows.is_empty()).map(|(seq, _)| *seq).collect(),
            slots: Some(writer.manifest_len),
        }
    }
}

/// The tick's samples are looked at one by one.
struct Admission<'a> {
    now: Timestamp,
    table: &'a SeriesTable,
    shared: &'a Shared,
    memory: TickMemory,
    last_slot: Option<(Slot, bool)>,
}

impl Admission<'_> {
    fn admit(&mut self, writer: &mut Writer, tick: &mut Tick, sample: &Sample) {
        let valid = is_valid(sample.cpu) && is_valid(sample.memory);
        if !valid || !self.table.contains(sample.series) {
            tick.done.invalid += 1;
            return;
        }
        if sample.at > self.now + LATENESS {
            tick.done.future += 1;
            return;
        }
        let slot = SlotKind::FiveMinutes.slot_at(sample.at);
        if !self.takes_samples(slot) {
            tick.done.late += 1;
            return;
        }
        let open = &self.shared.open;
        let Some(admitted) = writer.streams.admit(sample, slot, open, &mut self.memory) else {
            tick.done.duplicates += 1;
            return;
        };
        tick.done.accepted += 1;
        let (cpu, memory) = (code24(sample.cpu), code24(sample.memory));
        let row = Row::new(slot, sample.at, admitted.stream, cpu, memory);
        tick.rows.push(NewRow { slot, series: sample.series, row });
        let stream = admitted.index;
        tick.frame_rows.push(FrameRow { stream, at: sample.at, cpu, memory });
        if admitted.is_new {
            tick.streams.push((sample.series, sample.pod));
        }
        if self.table.first(sample.series).is_none() {
            let first = tick.new_series.entry(sample.series).or_insert(sample.at);
            *first = sample.at.min(*first);
        }
    }

    /// Whether a slot is open at `now` and was not sealed under an earlier, later-going clock.
    fn takes_samples(&mut self, slot: Slot) -> bool {
        match self.last_slot {
            Some((last, open)) if last == slot => open,
            _ => {
                let in_time = slot.end() + LATENESS > self.now;
                let open = in_time && !self.shared.catalog.covers(slot);
                self.last_slot = Some((slot, open));
                open
            }
        }
    }
}

fn new_records(table: &SeriesTable, new: &BTreeMap<SeriesId, Timestamp>) -> Vec<SeriesRecord> {
    new.iter().filter_map(|(id, first)| table.record(*id, *first)).collect()
}

impl Tick {
    fn slots(&self) -> Vec<Timestamp> {
        let mut slots = Vec::new();
        for new in &self.rows {
            if !slots.contains(&new.slot.start) {
                slots.push(new.slot.start);
            }
        }
        slots
    }
}

impl Shared {
    /// Lets readers see a durable tick.
    fn take(&mut self, now: Timestamp, tick: Tick) {
        for new in &tick.rows {
            self.note_last(new.series, new.row.at(new.slot));
        }
        OpenSlot::add(&mut self.open, tick.rows);
        self.last_tick = Some(now);
        self.totals.add(tick.done);
    }
}

impl Writer {
    /// Adds a frame's chunks to `puts`; where they will stand.
    pub(super) fn put_chunks(&mut self, puts: &mut Vec<Pair>, id: FrameId, bytes: &[u8]) -> Vec<u32> {
        let chunks = chunk::split(id, bytes).into_iter();
        let put = |payload: Vec<u8>| {
            let position = self.space.take();
            puts.push(Key::Chunk(position).pair(&payload));
            position
        };
        chunks.map(put).collect()
    }

    /// Adds series to the table in the sled part, packed into values of at most 7 KB.
    pub(super) fn put_series(&mut self, puts: &mut Vec<Pair>, records: &[SeriesRecord]) {
        let mut rest = records;
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = rest.iter().take_while(|r| {
                bytes += r.key.len() + 20; // number, time and length take at most 20
                bytes < MAX_VALUE - 64
            });
            let (part, later) = rest.split_at(fits.count().max(1)); // rest is not empty
            let value = table::encode_records(part);
            self.table_bytes += value.len() as u64;
            puts.push(Key::Series(self.table_values).pair(&value));
            self.table_values += 1;
            rest = later;
        }
    }

    /// The sled part, unless a rewrite failed half-way.
    pub(super) fn part(&self) -> Result<&crate::sled_part::SledPart, PartError> {
        self.part.as_ref().ok_or_else(PartError::closed)
    }

    /// Bytes of the values that count, about.
    pub(super) fn live_bytes(&self) -> u64 {
        let chunks: usize = self.frames.values().map(|f| f.rows.len() + f.streams.len()).sum();
        (chunks * MAX_VALUE) as u64 + self.table_bytes
    }
}
