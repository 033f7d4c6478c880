//! Taking in past samples, from wherever somebody kept them, as sealed slots.
//!
//! May not know: files. Invariant: a sample counts once per series, pod and time.

use std::collections::{BTreeMap, HashMap};

use super::Store;
use super::import::{Import, Imported, check_key};
use crate::codec::code24;
use crate::open_slot::summarise;
use crate::run::Row;
use crate::sketch::is_valid;
use crate::slot::{Slot, SlotKind};
use crate::{ImportError, SeriesKey, SlotRow, Timestamp};

/// One measurement of the past.
#[derive(Clone, PartialEq, Debug)]
pub struct PastSample {
    /// The series.
    pub key: SeriesKey,
    /// A hash of the pod's name: samples of the same series, pod and time count once.
    pub pod: u64,
    /// When it was measured.
    pub at: Timestamp,
    /// CPU in use, in cores.
    pub cpu: f64,
    /// Memory in use, in bytes.
    pub memory: f64,
}

/// An import of samples under way; as [`Import`] for what counts when. It holds five minutes of
/// samples in memory.
#[derive(Debug)]
pub struct Backfill<'a> {
    import: Import<'a>,
    /// The 5-minute slot whose samples are coming in.
    slot: Option<Slot>,
    series: BTreeMap<SeriesKey, Vec<Row>>,
    /// Pods of the slot by the order in which they came.
    pods: HashMap<u64, u32>,
}

impl Store {
    /// Begins taking in past samples at `now`; as [`Store::import`] for what goes on meanwhile.
    pub fn backfill(&self, now: Timestamp) -> Backfill<'_> {
        Backfill { import: self.import(now), slot: None, series: BTreeMap::new(), pods: HashMap::new() }
    }
}

impl Backfill<'_> {
    /// Takes one sample. They may come in any order within five minutes of the clock, but none
    /// may lie in an earlier 5-minute slot than the one before.
    ///
    /// # Errors
    /// When it is not in order, its series has no proper name, or the store cannot be written.
    pub fn sample(&mut self, sample: PastSample) -> Result<(), ImportError> {
        check_key(&sample.key)?;
        let slot = SlotKind::FiveMinutes.slot_at(sample.at);
        match self.slot {
            Some(before) if before.start > slot.start => return Err(ImportError::NotSorted { at: sample.at }),
            Some(before) if before == slot => {}
            _ => self.put_down()?,
        }
        self.slot = Some(slot);
        if !(is_valid(sample.cpu) && is_valid(sample.memory)) {
            self.import.done.invalid += 1;
            return Ok(());
        }
        let next = u32::try_from(self.pods.len()).unwrap_or(u32::MAX);
        let pod = *self.pods.entry(sample.pod).or_insert(next);
        let row = Row::new(slot, sample.at, pod, code24(sample.cpu), code24(sample.memory));
        self.series.entry(sample.key).or_default().push(row);
        Ok(())
    }

    /// Writes the last slot; what became of everything.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub fn finish(mut self) -> Result<Imported, ImportError> {
        self.put_down()?;
        self.import.finish()
    }

    fn put_down(&mut self) -> Result<(), ImportError> {
        let Some(slot) = self.slot.take() else { return Ok(()) };
        self.pods.clear();
        let kind = self.import.store().options.sketch;
        for (key, mut rows) in std::mem::take(&mut self.series) {
            let all = rows.len();
            rows.sort_by_key(|row| (row.stream, row.at(slot)));
            rows.dedup_by_key(|row| (row.stream, row.at(slot)));
            self.import.done.duplicates += (all - rows.len()) as u64;
            let Some(entry) = summarise(slot, &rows, kind) else { continue };
            if self.import.row(SlotRow::new(key, slot, entry))? {
                self.import.done.samples += rows.len() as u64;
            }
        }
        Ok(())
    }
}
