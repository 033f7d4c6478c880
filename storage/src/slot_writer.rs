//! Writing a sealed slot's file: blocks as they come, then names, index and footer.
//!
//! May not know: sled, which slot is due. Invariant: a file gets its final name when it is
//! complete and on the disk.

use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use crate::SeriesId;
use crate::entry::{self, SlotEntry};
use crate::slot::Slot;
use crate::slot_file::{
    BlockMeta, HEADER, MAGIC, ReadError, SlotFile, encode_index, file_name, header, index_checksum, sync_parent,
};
use crate::table::{self, SeriesRecord};

/// Writes a slot file under a temporary name; [`SlotFileWriter::finish`] makes it real.
#[derive(Debug)]
pub(crate) struct SlotFileWriter {
    slot: Slot,
    path: PathBuf,
    file: BufWriter<File>,
    offset: u64,
    blocks: Vec<BlockMeta>,
}

impl SlotFileWriter {
    /// Starts the file of `slot` in `dir`.
    pub(crate) fn create(dir: &Path, slot: Slot) -> io::Result<Self> {
        let path = dir.join(file_name(slot));
        let mut file = BufWriter::with_capacity(1 << 16, File::create(temporary(&path))?);
        file.write_all(&header(slot))?;
        Ok(Self { slot, path, file, offset: HEADER as u64, blocks: Vec::new() })
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    /// Appends one block; its series follow those of the blocks before.
    pub(crate) fn push(&mut self, entries: &[(SeriesId, SlotEntry)]) -> io::Result<()> {
        let (Some((first, _)), Some((last, _))) = (entries.first(), entries.last()) else {
            return Ok(());
        };
        let bytes = entry::encode_block(self.slot, entries);
        let meta = self.write(&bytes, (*first, *last))?;
        self.blocks.push(meta);
        Ok(())
    }

    fn write(&mut self, bytes: &[u8], (first, last): (SeriesId, SeriesId)) -> io::Result<BlockMeta> {
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        self.file.write_all(bytes)?;
        let offset = self.offset;
        self.offset += u64::from(len);
        let crc = crc32fast::hash(bytes);
        Ok(BlockMeta { first, last, offset, len, crc })
    }

    /// Completes the file with the names of series that no older file or snapshot tells: index,
    /// fsync, rename, fsync of the folder. Opens it for reading.
    pub(crate) fn finish(mut self, names: &[SeriesRecord]) -> Result<SlotFile, ReadError> {
        let names = table::encode_records(names);
        let names = self.write(&names, (SeriesId(0), SeriesId(0)))?;
        let index = encode_index(&self.blocks, names);
        let len = u32::try_from(index.len()).map_err(io::Error::other)?;
        self.file.write_all(&index)?;
        self.file.write_all(&len.to_le_bytes())?;
        self.file.write_all(&index_checksum(&header(self.slot), &index).to_le_bytes())?;
        self.file.write_all(&MAGIC)?;
        let file = self.file.into_inner().map_err(io::IntoInnerError::into_error)?;
        file.sync_all()?;
        fs::rename(temporary(&self.path), &self.path)?;
        sync_parent(&self.path)?;
        SlotFile::open(&self.path)
    }
}

/// Removes what an unfinished writer of `slot` left.
pub(crate) fn discard_temporary(dir: &Path, slot: Slot) -> io::Result<()> {
    match fs::remove_file(temporary(&dir.join(file_name(slot)))) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn temporary(path: &Path) -> PathBuf {
    path.with_extension("tmp")
}
