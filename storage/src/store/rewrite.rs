//! Rewriting the sled part from memory: when it has grown too large, failed, or was damaged.
//!
//! Invariant: the new part tells what memory holds, which is what was acknowledged.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::keys::{Head, Key, manifest_record};
use super::{Broken, Frame, Store, Writer};
use crate::catalog::Catalog;
use crate::chunk::{Part, RingSpace};
use crate::frame::{FrameRow, StreamFrame, TickFrame};
use crate::open_slot::OpenSlots;
use crate::sled_folder;
use crate::sled_part::{self, Pair, PartError};
use crate::table::{Named, SeriesRecord};
use crate::{SeriesId, Timestamp};

/// Below this size a rewrite is not worth its while: a new part takes three of sled's segments of
/// 512 KiB, whatever is in it, and this is one more and a bit.
const MIN_BYTES: u64 = 9 << 18;
/// The part may take this many times its live data.
const MAX_RATIO: u64 = 3;
/// Rows in one frame of a rewritten part.
const FRAME_ROWS: usize = 500_000;

impl Store {
    /// Rewrites the sled part when a write to it has failed.
    pub(super) fn heal(&self, writer: &mut Writer, now: Timestamp) -> Result<(), PartError> {
        match writer.broken {
            Some(_) => self.rewrite(writer, now),
            None => Ok(()),
        }
    }

    /// Rewrites the sled part when it has grown beyond three times what was ever live in it; a
    /// seal frees most of that at once, which is no reason.
    pub(super) fn rewrite_if_large(&self, writer: &mut Writer, now: Timestamp) -> Result<bool, PartError> {
        let size = sled_folder::disk_bytes(&self.paths.sled());
        let large = size > MIN_BYTES && size > MAX_RATIO * writer.live_peak;
        if large {
            self.rewrite(writer, now)?;
        }
        Ok(large)
    }

    /// Builds a new sled part from memory and swaps it in. The writer is as before on an error,
    /// but marked as broken.
    pub(super) fn rewrite(&self, writer: &mut Writer, now: Timestamp) -> Result<(), PartError> {
        let broken = writer.broken.replace(writer.broken.unwrap_or(Broken::Failed));
        let dir = self.paths.sled();
        let keep = (broken == Some(Broken::Damaged)).then(|| self.paths.damaged_sled(now));
        let pairs = self.contents(&self.held(), writer);
        // It writes to its folder when it closes, so it must close before the folder is swapped.
        drop(writer.part.take());
        sled_folder::finish_swap(&dir)?;
        let rewritten = sled_part::rewrite(&dir, pairs, keep.as_deref());
        if rewritten.is_err() && keep.is_some_and(|kept| kept.exists()) {
            writer.broken = Some(Broken::Failed); // what the next try finds is new, and not to keep
        }
        writer.part = Some(rewritten?);
        writer.live_peak = writer.live_bytes();
        writer.broken = None;
        tracing::info!(store = %self.paths.dir.display(), ?broken, "rewrote the sled part");
        Ok(())
    }

    /// What memory holds now; whoever has the writer sees all that was acknowledged.
    pub(super) fn held(&self) -> Held {
        let table = self.table();
        let (records, next_id) = (table.records(Named::InSnapshot), table.next_id());
        drop(table);
        let shared = self.shared();
        let (catalog, open) = (shared.catalog.clone(), shared.open.clone());
        Held { records, next_id, catalog, open, last_tick: shared.last_tick }
    }

    /// All records of a sled part that holds what memory held; the writer's account of it matches
    /// afterwards.
    pub(super) fn contents(&self, held: &Held, writer: &mut Writer) -> Vec<Pair> {
        let mut puts = Vec::new();
        (writer.table_values, writer.table_bytes) = (0, 0);
        writer.put_series(&mut puts, &held.records);
        puts.extend(held.catalog.files().map(|file| manifest_record(file)));
        writer.manifest_len = len(&held.catalog);
        writer.space = RingSpace::default();
        writer.frames = BTreeMap::new();
        writer.put_open_slots(held, &mut puts);
        let tells = Head { next_id: held.next_id, ..self.head(writer) };
        puts.push(Key::Head.pair(&tells.encode()));
        puts
    }
}

/// What memory held at one moment.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) records: Vec<SeriesRecord>,
    pub(super) next_id: u32,
    pub(super) catalog: Arc<Catalog>,
    open: OpenSlots,
    pub(super) last_tick: Option<Timestamp>,
}

impl Writer {
    /// The open slots' rows, in frames of an epoch of their own.
    fn put_open_slots(&mut self, held: &Held, puts: &mut Vec<Pair>) {
        let epoch = self.streams.epoch() + 1;
        self.streams.start_epoch(epoch + 1);
        self.epoch_slot = None;
        let streams = self.streams.by_number();
        let now = held.last_tick.unwrap_or_default();
        let mut named = Some(streams.values().copied().collect::<Vec<(SeriesId, u64)>>());
        // Numbers in the frames count on from zero in the order of the numbers in memory.
        let numbers: BTreeMap<u32, u32> = streams.into_keys().zip(0..).collect();
        for (start, open) in &held.open {
            let slot = open.slot();
            let rows: Vec<FrameRow> = open
                .iter()
                .flat_map(|(_, rows)| rows)
                .filter_map(|row| {
                    let (at, cpu, memory) = (row.at(slot), row.cpu, row.memory);
                    let stream = *numbers.get(&row.stream)?;
                    Some(FrameRow { stream, at, cpu, memory })
                })
                .collect();
            for rows in rows.chunks(FRAME_ROWS) {
                let frame = TickFrame { now, epoch, rows: rows.to_vec() };
                self.put_rewritten(puts, &frame, *start, named.take());
            }
        }
    }

    fn put_rewritten(
        &mut self,
        puts: &mut Vec<Pair>,
        tick: &TickFrame,
        slot: Timestamp,
        streams: Option<Vec<(SeriesId, u64)>>,
    ) {
        let seq = self.next_seq;
        self.next_seq += 1;
        let epoch = tick.epoch;
        let mut frame = Frame { epoch, slots: vec![slot], ..Frame::default() };
        frame.rows = self.put_chunks(puts, (seq, Part::Rows), &tick.encode());
        if let Some(streams) = streams {
            let streams = StreamFrame { epoch, first: 0, streams };
            frame.streams = self.put_chunks(puts, (seq, Part::Streams), &streams.encode());
        }
        self.frames.insert(seq, frame);
    }
}

/// How many entries the manifest of a catalog has.
pub(super) fn len(catalog: &Catalog) -> u32 {
    u32::try_from(catalog.slots().count()).unwrap_or(u32::MAX)
}
