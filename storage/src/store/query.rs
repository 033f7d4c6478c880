//! Answers: which slots count, and merging them.
//!
//! A window `[now - window, now]` counts every slot that ends after its start and starts by its
//! end, whole: its edge is exact to the slot's length there, five minutes within the last two
//! hours. Invariant: the cache changes no answer.

use std::collections::BTreeMap;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use super::maintain::failed;
use super::windows::{Sealed, WindowCache};
use super::{Shared, Store};
use crate::entry::SlotEntry;
use crate::rollup::block_damage;
use crate::sketch::{SketchKind, WINDOW_COMPRESSION};
use crate::slot::{Slot, SlotKind};
use crate::slot_file::{ReadError, SlotFile};
use crate::table::unpack;
use crate::time::millis;
use crate::{Distribution, SeriesId, SeriesInfo, SeriesKey, StoreError, Timestamp, Usage};

/// One series in one slot, on its way into an answer.
#[derive(Clone, Debug)]
struct Piece {
    slot: Slot,
    entry: SlotEntry,
}

/// What readers took from the shared state in one step.
struct View {
    files: Vec<Arc<SlotFile>>,
    open: Vec<Piece>,
    generation: u64,
}

impl Shared {
    /// The slots of a series that end after `from` and start at or before `to`.
    fn view(&self, series: SeriesId, from: Timestamp, to: Timestamp, kind: SketchKind) -> View {
        let open = self.open.range(..=to).filter(|(_, open)| open.slot().end() > from);
        let piece = |slot: Slot, entry: Option<SlotEntry>| Some(Piece { slot, entry: entry? });
        View {
            files: self.catalog.overlapping(from, to),
            open: open.filter_map(|(_, open)| piece(open.slot(), open.entry(series, kind))).collect(),
            generation: self.catalog.generation(),
        }
    }
}

impl Store {
    /// What a series used in the `window` before `now`; `None` when the series is unknown or has
    /// no sample there.
    ///
    /// Slots count whole when they overlap the window: [`Usage::from`] and [`Usage::to`] tell the
    /// samples that really counted, which can lie before `now - window` by less than the length of
    /// a slot, and after `now` by up to two minutes.
    pub fn usage(&self, key: &SeriesKey, window: Duration, now: Timestamp) -> Result<Option<Usage>, StoreError> {
        let was_loaded = self.is_loaded();
        let Some(series) = self.table().get(key) else {
            return found_or_loading(None, was_loaded);
        };
        let from = now - window;
        let view = self.shared().view(series, from, now, self.options.sketch);
        let sealed = self.sealed(series, window, &view)?;
        let oldest = view.files.first().map(|file| file.slot());
        let edge = oldest.map_or(Duration::ZERO, |slot| within(slot, sealed.edge, from));
        let open = view.open.iter().map(|piece| covered_so_far(piece, from, now));
        let covered = edge + five_minutes(sealed.filled - sealed.edge) + open.sum::<Duration>();
        let parts: Vec<SlotEntry> =
            sealed.merged.into_iter().chain(view.open.into_iter().map(|piece| piece.entry)).collect();
        let covered_from = |first: Timestamp| covered.min(window).min(now.since(first));
        found_or_loading(
            answer(&parts, covered).map(|usage| Usage { covered: covered_from(usage.from), ..usage }),
            was_loaded,
        )
    }

    /// The merge of the window's sealed slots, from the cache where it is still of the same slots.
    fn sealed(&self, series: SeriesId, window: Duration, view: &View) -> Result<Sealed, StoreError> {
        let first = view.files.first().map(|file| file.slot());
        let signature = (view.generation, first, view.files.len());
        let window = millis(window);
        if let Some(sealed) = self.cache().get(series, window, signature) {
            return Ok(sealed);
        }
        let sealed = self.merge_sealed(series, view)?;
        let bytes = sealed.encode();
        self.cache().put(series, window, signature, &bytes, self.options.cache_bytes);
        Ok(Sealed::decode(&bytes).unwrap_or(sealed)) // the first answer is that of the next ones
    }

    fn cache(&self) -> MutexGuard<'_, WindowCache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn merge_sealed(&self, series: SeriesId, view: &View) -> Result<Sealed, StoreError> {
        let pieces = self.read_all(series, &view.files)?;
        let first = view.files.first().map(|file| file.slot());
        let edge = pieces.first().filter(|piece| Some(piece.slot) == first).map_or(0, |piece| piece.entry.filled);
        let entries: Vec<SlotEntry> = pieces.into_iter().map(|p| p.entry).collect();
        Ok(Sealed {
            merged: SlotEntry::merged(&entries, WINDOW_COMPRESSION).ok(),
            edge,
            filled: entries.iter().map(|entry| entry.filled).sum(),
        })
    }

    fn read_all(&self, series: SeriesId, files: &[Arc<SlotFile>]) -> Result<Vec<Piece>, StoreError> {
        let mut pieces = Vec::with_capacity(files.len());
        for file in files {
            let slot = file.slot();
            pieces.extend(self.read(file, series)?.map(|entry| Piece { slot, entry }));
        }
        Ok(pieces)
    }

    /// A series' entry of a file. Damage is reported once, and holds nothing from then on.
    fn read(&self, file: &SlotFile, series: SeriesId) -> Result<Option<SlotEntry>, StoreError> {
        match file.find(series) {
            Ok(entry) => Ok(entry),
            Err(ReadError::Damaged(e)) => {
                self.report(block_damage(file, e));
                Ok(None)
            }
            Err(e) => Err(failed("read", file.path(), e)),
        }
    }

    /// What a series used in each step of `step` from `from` up to (not including) `to`, for
    /// charts; steps without samples are left out.
    ///
    /// A slot counts whole in the step in which it starts, or in the first step when it starts
    /// before `from` and ends after it: with steps shorter than the slots, only the steps where
    /// slots start have an answer. `covered` may then exceed the step.
    ///
    /// # Errors
    /// [`StoreError::ZeroStep`] when `step` is below a millisecond; others when a file cannot be
    /// read.
    pub fn query_range(
        &self,
        key: &SeriesKey,
        from: Timestamp,
        to: Timestamp,
        step: Duration,
    ) -> Result<Vec<Usage>, StoreError> {
        let length = millis(step);
        if length == 0 {
            return Err(StoreError::ZeroStep);
        }
        let was_loaded = self.is_loaded();
        let found = self.table().get(key).filter(|_| from < to);
        let Some(series) = found_or_loading(found, was_loaded || from >= to)? else {
            return Ok(Vec::new());
        };
        let last = Timestamp(to.0.saturating_sub(1));
        let view = self.shared().view(series, from, last, self.options.sketch);
        let mut pieces = self.read_all(series, &view.files)?;
        pieces.extend(view.open);
        pieces.sort_by_key(|piece| piece.slot.start);
        let mut steps: BTreeMap<i64, Vec<Piece>> = BTreeMap::new();
        for piece in pieces {
            let offset = piece.slot.start.max(from).0.saturating_sub(from.0);
            steps.entry(offset / length).or_default().push(piece);
        }
        let steps: Vec<Usage> = steps.into_values().filter_map(|pieces| step_answer(&pieces, from)).collect();
        found_or_loading(Some(steps).filter(|steps| !steps.is_empty()), was_loaded).map(Option::unwrap_or_default)
    }

    /// At most `limit` series with samples, ordered by key, those after `after`.
    ///
    /// A series whose last sample lies in a file that cannot be read is left out.
    pub fn series(&self, after: Option<&SeriesKey>, limit: usize) -> Vec<SeriesInfo> {
        let mut found = Vec::new();
        let mut after = after.cloned();
        while found.len() < limit {
            let page: Vec<_> = self.table().ordered(after.as_ref()).take(limit - found.len()).collect();
            let Some(end) = page.last() else { break };
            after = Some(unpack(&end.key));
            found.extend(page.into_iter().filter_map(|record| {
                let last = self.last_sample(record.id).ok().flatten()?;
                let key = unpack(&record.key);
                let first = record.first.max(self.oldest()).min(last);
                Some(SeriesInfo { key, first, last })
            }));
        }
        found
    }

    /// The start of the oldest slot.
    fn oldest(&self) -> Timestamp {
        let shared = self.shared();
        let sealed = shared.catalog.slots().map(|slot| slot.start).min();
        sealed.into_iter().chain(shared.open.keys().next().copied()).min().unwrap_or_default()
    }

    /// The last sample of a series that a slot holds. It is known from memory, or looked for in
    /// the files from the newest to the oldest and remembered; where the clock was set back, a file
    /// may be of a later time than what memory saw since the store was opened.
    pub(super) fn last_sample(&self, series: SeriesId) -> Result<Option<Timestamp>, StoreError> {
        let (known, mut files, oldest) = {
            let shared = self.shared();
            let view = shared.catalog.overlapping(Timestamp(i64::MIN), Timestamp(i64::MAX));
            let open = shared.open.keys().next().copied();
            (shared.last(series), view, open)
        };
        let oldest = files.first().map(|f| f.slot().start).into_iter().chain(oldest).min();
        let known = known.filter(|known| oldest.is_some_and(|oldest| *known >= oldest));
        while let Some(file) = files.pop() {
            if known.is_some_and(|known| file.slot().start <= known) {
                break;
            }
            if let Some(entry) = self.read(&file, series)? {
                self.shared_mut().note_last(series, entry.last);
                return Ok(Some(entry.last));
            }
        }
        Ok(known)
    }
}

/// Nothing found may still become something while the open slots are being read.
fn found_or_loading<T>(found: Option<T>, was_loaded: bool) -> Result<Option<T>, StoreError> {
    if found.is_none() && !was_loaded { Err(StoreError::Loading) } else { Ok(found) }
}

fn five_minutes(slots: u32) -> Duration {
    SlotKind::FiveMinutes.length().saturating_mul(slots)
}

/// The covered time of a sealed slot after `from`.
fn within(slot: Slot, filled: u32, from: Timestamp) -> Duration {
    five_minutes(filled).min(slot.end().since(slot.start.max(from)))
}

/// The covered time of an open slot after `from`, up to `now`.
fn covered_so_far(piece: &Piece, from: Timestamp, now: Timestamp) -> Duration {
    piece.slot.end().min(now).since(piece.slot.start.max(from))
}

fn step_answer(pieces: &[Piece], from: Timestamp) -> Option<Usage> {
    let covered = pieces.iter().map(|p| within(p.slot, p.entry.filled, from)).sum();
    let entries: Vec<SlotEntry> = pieces.iter().map(|p| p.entry.clone()).collect();
    answer(&entries, covered)
}

fn answer(parts: &[SlotEntry], covered: Duration) -> Option<Usage> {
    let merged = SlotEntry::merged(parts, WINDOW_COMPRESSION).ok()?;
    Some(Usage {
        cpu: Distribution::new(merged.cpu),
        memory: Distribution::new(merged.memory),
        from: merged.first,
        to: merged.last,
        covered,
    })
}
