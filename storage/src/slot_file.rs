//! One sealed slot as one immutable file: blocks, then the names of new series, then the index.
//!
//! The index stands at the end, so that a roll-up writes blocks as it merges them. May not know:
//! sled, which files there should be. Invariant: nothing is given out whose checksum does not
//! match; a file under its final name is complete and durable.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::codec::{DecodeError, Reader, put_varint};
use crate::entry::{self, SlotEntry};
use crate::record::Version;
use crate::slot::{Slot, SlotKind};
use crate::table::{self, MAX_ID, SeriesRecord};
use crate::{SeriesId, Timestamp};

pub(crate) const MAGIC: [u8; 8] = *b"OPTISLOT";
/// `magic | version u16 | kind u8 | start i64`
pub(crate) const HEADER: usize = 8 + 2 + 1 + 8;
/// `length of the index u32 | crc32 of header and index u32 | magic`
const FOOTER: usize = 4 + 4 + 8;

/// Why a slot file could not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Damaged(#[from] DecodeError),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BlockMeta {
    pub(crate) first: SeriesId,
    pub(crate) last: SeriesId,
    pub(crate) offset: u64,
    pub(crate) len: u32,
    pub(crate) crc: u32,
}

/// The file name of a slot, such as `1h-1700000000.slot` (Unix seconds of its start).
pub(crate) fn file_name(slot: Slot) -> String {
    format!("{}-{}.slot", kind_name(slot.kind), slot.start.0 / 1000)
}

fn kind_name(kind: SlotKind) -> &'static str {
    match kind {
        SlotKind::FiveMinutes => "5m",
        SlotKind::Hour => "1h",
        SlotKind::Day => "1d",
    }
}

pub(crate) fn kind_code(kind: SlotKind) -> u8 {
    match kind {
        SlotKind::FiveMinutes => 0,
        SlotKind::Hour => 1,
        SlotKind::Day => 2,
    }
}

pub(crate) fn kind_from_code(code: u8) -> Option<SlotKind> {
    SlotKind::ALL.into_iter().find(|kind| kind_code(*kind) == code)
}

pub(crate) fn header(slot: Slot) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER);
    out.extend(MAGIC);
    out.extend(Version::CURRENT.bytes());
    out.push(kind_code(slot.kind));
    out.extend(slot.start.0.to_le_bytes());
    out
}

/// Makes a name in a folder durable.
pub(crate) fn sync_parent(path: &Path) -> io::Result<()> {
    match path.parent() {
        // A relative path of one part.
        Some(dir) if dir.as_os_str().is_empty() => File::open(".")?.sync_all(),
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

pub(crate) fn index_checksum(header: &[u8], index: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(header);
    hasher.update(index);
    hasher.finalize()
}

/// `count | (first step, last - first, length, crc32) of each block | length, crc32 of the names`
pub(crate) fn encode_index(blocks: &[BlockMeta], names: BlockMeta) -> Vec<u8> {
    let mut out = Vec::with_capacity(16 + blocks.len() * 12);
    put_varint(&mut out, blocks.len() as u64);
    let mut before = 0;
    for block in blocks {
        put_varint(&mut out, u64::from(block.first.0.saturating_sub(before)));
        put_varint(&mut out, u64::from(block.last.0.saturating_sub(block.first.0)));
        put_varint(&mut out, u64::from(block.len));
        out.extend(block.crc.to_le_bytes());
        before = block.last.0;
    }
    put_varint(&mut out, u64::from(names.len));
    out.extend(names.crc.to_le_bytes());
    out
}

fn decode_index(bytes: &[u8]) -> Result<(Vec<BlockMeta>, BlockMeta), DecodeError> {
    let what = "the index of a slot file";
    let mut reader = Reader::new(bytes);
    let count = reader.count(7, what)?;
    let mut blocks = Vec::with_capacity(count);
    let (mut before, mut offset) = (0_u32, HEADER as u64);
    for _ in 0..count {
        let first = before.checked_add(reader.varint32(what)?);
        let first = first.ok_or(DecodeError::Invalid(what))?;
        let last = first.checked_add(reader.varint32(what)?).filter(|id| *id <= MAX_ID);
        let last = last.ok_or(DecodeError::Invalid(what))?;
        let (len, crc) = (reader.varint32(what)?, reader.u32(what)?);
        let (first, last) = (SeriesId(first), SeriesId(last));
        blocks.push(BlockMeta { first, last, offset, len, crc });
        offset = offset.saturating_add(u64::from(len));
        before = last.0;
    }
    let (len, crc) = (reader.varint32(what)?, reader.u32(what)?);
    let (first, last) = (SeriesId(0), SeriesId(0));
    reader.end(what)?;
    Ok((blocks, BlockMeta { first, last, offset, len, crc }))
}

/// A complete slot file, open for reading.
#[derive(Debug)]
pub(crate) struct SlotFile {
    version: Version,
    slot: Slot,
    path: PathBuf,
    file: File,
    size: u64,
    blocks: Vec<BlockMeta>,
    names: BlockMeta,
    /// Blocks that turned out damaged.
    damaged: Mutex<BTreeSet<usize>>,
}

impl SlotFile {
    /// Opens a file and checks its index; its blocks are checked when they are read.
    pub(crate) fn open(path: &Path) -> Result<Self, ReadError> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        let mut head = [0; HEADER];
        read_at(&file, &mut head, 0)?;
        let mut footer = [0; FOOTER];
        let end = size.checked_sub(FOOTER as u64).ok_or(DecodeError::Truncated("a slot file"))?;
        read_at(&file, &mut footer, end)?;
        let (len, crc) = decode_footer(&footer)?;
        let start = end.checked_sub(u64::from(len)).ok_or(DecodeError::Truncated("a slot file"))?;
        let mut index = vec![0; len as usize]; // not longer than the file
        read_at(&file, &mut index, start)?;
        if index_checksum(&head, &index) != crc {
            return Err(DecodeError::Checksum("the index of a slot file").into());
        }
        // After the checksum: a damaged version is damage, not a newer program's file.
        let (version, slot) = decode_header(&head)?;
        let (blocks, names) = decode_index(&index)?;
        let has_its_name = path.file_name().and_then(|n| n.to_str()) == Some(&file_name(slot));
        if !has_its_name || names.offset.saturating_add(u64::from(names.len)) != start {
            return Err(DecodeError::Invalid("the layout or name of a slot file").into());
        }
        let path = path.to_owned();
        let damaged = Mutex::default();
        Ok(Self { version, slot, path, file, size, blocks, names, damaged })
    }

    pub(crate) fn slot(&self) -> Slot {
        self.slot
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn block_count(&self) -> usize {
        self.blocks.len()
    }

    /// Copies all bytes, durably but for the name; also when the file was removed meanwhile.
    pub(crate) fn copy_to(&self, path: &Path) -> io::Result<()> {
        let mut copy = File::create_new(path)?;
        let mut part = vec![0; 1 << 20];
        let mut offset = 0;
        loop {
            let read = self.file.read_at(&mut part, offset)?;
            if read == 0 {
                return copy.sync_all();
            }
            copy.write_all(part.get(..read).unwrap_or_default())?;
            offset += read as u64;
        }
    }

    /// One past the highest series number in the file.
    pub(crate) fn end_id(&self) -> u32 {
        self.blocks.last().map_or(0, |b| b.last.0.saturating_add(1))
    }

    /// The entry of one series.
    ///
    /// A damaged block is named once as an error and holds nothing from then on.
    pub(crate) fn find(&self, series: SeriesId) -> Result<Option<SlotEntry>, ReadError> {
        let index = self.blocks.partition_point(|b| b.last < series);
        let within = self.blocks.get(index).is_some_and(|b| b.first <= series);
        if !within || self.is_damaged(index) {
            return Ok(None);
        }
        let bytes = self.read(index)?;
        Ok(self.noting_damage(index, entry::find_in_block(self.version, self.slot, &bytes, series))?)
    }

    /// All entries of one block; as [`SlotFile::find`] for damage.
    pub(crate) fn block(&self, index: usize) -> Result<Vec<(SeriesId, SlotEntry)>, ReadError> {
        if index >= self.blocks.len() || self.is_damaged(index) {
            return Ok(Vec::new());
        }
        let bytes = self.read(index)?;
        Ok(self.noting_damage(index, entry::decode_block(self.version, self.slot, &bytes))?)
    }

    fn read(&self, index: usize) -> Result<Vec<u8>, ReadError> {
        let meta = self.blocks.get(index).ok_or(DecodeError::Invalid("a block's number"))?;
        match self.read_meta(*meta) {
            Err(ReadError::Damaged(e)) => Ok(self.noting_damage(index, Err(e))?),
            other => other,
        }
    }

    /// The names of series that this file told first.
    pub(crate) fn names(&self) -> Result<Vec<SeriesRecord>, ReadError> {
        Ok(table::decode_records(&self.read_meta(self.names)?)?)
    }

    fn read_meta(&self, meta: BlockMeta) -> Result<Vec<u8>, ReadError> {
        let mut bytes = vec![0; meta.len as usize]; // checked against the file's size at open
        read_at(&self.file, &mut bytes, meta.offset)?;
        if crc32fast::hash(&bytes) != meta.crc {
            return Err(DecodeError::Checksum("a block").into());
        }
        Ok(bytes)
    }

    fn noting_damage<T>(&self, index: usize, result: Result<T, DecodeError>) -> Result<T, DecodeError> {
        if result.is_err() {
            self.damaged_set().insert(index);
        }
        result
    }

    fn is_damaged(&self, index: usize) -> bool {
        self.damaged_set().contains(&index)
    }

    /// Whether a block of it turned out damaged.
    pub(crate) fn has_damage(&self) -> bool {
        !self.damaged_set().is_empty()
    }

    fn damaged_set(&self) -> std::sync::MutexGuard<'_, BTreeSet<usize>> {
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file that ends early is damaged, not out of reach.
fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> Result<(), ReadError> {
    file.read_exact_at(bytes, offset).map_err(|e| match e.kind() {
        io::ErrorKind::UnexpectedEof => DecodeError::Truncated("a slot file").into(),
        _ => e.into(),
    })
}

fn decode_header(bytes: &[u8]) -> Result<(Version, Slot), DecodeError> {
    let what = "a slot file";
    let mut reader = Reader::new(bytes);
    if reader.array(what)? != MAGIC {
        return Err(DecodeError::Invalid("the head of a slot file"));
    }
    let version = Version::read(what, reader.u16(what)?)?;
    let kind = kind_from_code(reader.u8(what)?).ok_or(DecodeError::Invalid(what))?;
    let slot = Slot { kind, start: Timestamp(reader.i64(what)?) };
    if slot.within(kind) != slot {
        return Err(DecodeError::Invalid("the start of a slot file"));
    }
    Ok((version, slot))
}

fn decode_footer(bytes: &[u8]) -> Result<(u32, u32), DecodeError> {
    let what = "the foot of a slot file";
    let mut reader = Reader::new(bytes);
    let (len, crc) = (reader.u32(what)?, reader.u32(what)?);
    if reader.array(what)? != MAGIC {
        return Err(DecodeError::Truncated("a slot file"));
    }
    Ok((len, crc))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_folder_of_a_relative_path_of_one_part_is_the_current_one() {
        assert!(sync_parent(Path::new("store")).is_ok());
        assert!(sync_parent(Path::new("/")).is_ok());
        assert!(sync_parent(Path::new("not-there/store")).is_err());
    }
}
