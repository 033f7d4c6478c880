//! A roll-up in progress: merges the blocks of several slots into those of one longer slot, a few
//! at a time.
//!
//! May not know: sled, which roll-up is due. Invariant: the result depends on the inputs only, not
//! on how the work was divided.

use std::collections::VecDeque;
use std::io;
use std::path::Path;
use std::sync::Arc;

use crate::SeriesId;
use crate::codec::DecodeError;
use crate::entry::{BLOCK_SERIES, SlotEntry};
use crate::sketch::SLOT_COMPRESSION;
use crate::slot::Slot;
use crate::slot_file::{ReadError, SlotFile};
use crate::slot_writer::SlotFileWriter;

/// Reads one input's entries in the order of their numbers.
#[derive(Debug)]
struct Cursor {
    file: Arc<SlotFile>,
    next_block: usize,
    entries: VecDeque<(SeriesId, SlotEntry)>,
}

impl Cursor {
    /// The number of the next entry; `None` at the end. Damaged blocks are left out and told.
    fn peek(&mut self, damage: &mut Vec<String>) -> io::Result<Option<SeriesId>> {
        while self.entries.is_empty() && self.next_block < self.file.block_count() {
            match self.file.block(self.next_block) {
                Ok(entries) => self.entries = entries.into(),
                Err(ReadError::Io(e)) => return Err(e),
                Err(ReadError::Damaged(e)) => damage.push(block_damage(&self.file, e)),
            }
            self.next_block += 1;
        }
        Ok(self.entries.front().map(|(id, _)| *id))
    }

    fn take(&mut self, series: SeriesId) -> Option<SlotEntry> {
        self.entries.pop_front_if(|(id, _)| *id == series).map(|(_, entry)| entry)
    }
}

/// The sentence that reports a damaged block.
pub(crate) fn block_damage(file: &SlotFile, error: DecodeError) -> String {
    format!("{}: {error}; up to {BLOCK_SERIES} series lack this slot, the rest is served", file.path().display())
}

/// A roll-up that has begun.
#[derive(Debug)]
pub(crate) struct RollUp {
    cursors: Vec<Cursor>,
    writer: SlotFileWriter,
}

impl RollUp {
    /// Begins merging `inputs` into a new file of `target` in `dir`.
    pub(crate) fn start(dir: &Path, target: Slot, inputs: Vec<Arc<SlotFile>>) -> io::Result<Self> {
        let cursor = |file| Cursor { file, next_block: 0, entries: VecDeque::new() };
        Ok(Self { writer: SlotFileWriter::create(dir, target)?, cursors: inputs.into_iter().map(cursor).collect() })
    }

    pub(crate) fn target(&self) -> Slot {
        self.writer.slot()
    }

    pub(crate) fn inputs(&self) -> impl Iterator<Item = &Arc<SlotFile>> {
        self.cursors.iter().map(|cursor| &cursor.file)
    }

    /// Blocks that the result will have, about.
    pub(crate) fn expected_blocks(&self) -> usize {
        self.inputs().map(|file| file.block_count()).max().unwrap_or(0)
    }

    /// Writes at most `blocks` blocks; how many it wrote. Fewer than asked means done.
    pub(crate) fn step(&mut self, blocks: usize, damage: &mut Vec<String>) -> io::Result<usize> {
        for done in 0..blocks {
            let block = self.next_block(damage)?;
            if block.is_empty() {
                return Ok(done);
            }
            self.writer.push(&block)?;
        }
        Ok(blocks)
    }

    fn next_block(&mut self, damage: &mut Vec<String>) -> io::Result<Vec<(SeriesId, SlotEntry)>> {
        let mut block = Vec::with_capacity(BLOCK_SERIES);
        while block.len() < BLOCK_SERIES {
            let mut next: Option<SeriesId> = None;
            for cursor in &mut self.cursors {
                let id = cursor.peek(damage)?;
                next = id.into_iter().chain(next).min();
            }
            let Some(series) = next else { break };
            let taken = self.cursors.iter_mut().filter_map(|cursor| cursor.take(series));
            let parts: Vec<SlotEntry> = taken.collect();
            if let Ok(entry) = SlotEntry::merged(&parts, SLOT_COMPRESSION) {
                block.push((series, entry));
            }
        }
        Ok(block)
    }

    /// Makes the file real.
    pub(crate) fn finish(self) -> Result<SlotFile, ReadError> {
        self.writer.finish(&[])
    }
}
