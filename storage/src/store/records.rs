//! The sled part's records, decoded.
//!
//! May not know: sled, files. Invariant: a record whose checksum does not match is counted and
//! left out.

use std::collections::BTreeMap;

use super::keys::{self, Head, Key};
use crate::chunk::{Assembled, Assembler, FrameId};
use crate::codec::DecodeError;
use crate::record::{self, Version};
use crate::sled_part::Pair;
use crate::slot::Slot;
use crate::table::{self, SeriesRecord};

/// What the sled part says.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) head: Head,
    pub(super) has_head: bool,
    /// There was nothing at all.
    pub(super) is_empty: bool,
    pub(super) frames: BTreeMap<FrameId, Assembled>,
    pub(super) table: BTreeMap<u32, Vec<SeriesRecord>>,
    pub(super) table_bytes: u64,
    /// Bytes of all records.
    pub(super) bytes: u64,
    pub(super) manifest: BTreeMap<Slot, u64>,
    /// One at least is of an older format.
    pub(super) is_old: bool,
    /// Records that were left out.
    pub(super) damaged: u64,
}

impl Records {
    /// Decodes all records.
    ///
    /// # Errors
    /// [`DecodeError::Newer`] when one is of a newer format, and nothing else.
    pub(super) fn parse(pairs: Vec<Pair>) -> Result<Self, DecodeError> {
        let is_empty = pairs.is_empty();
        let mut records = Self { is_empty, ..Self::default() };
        let mut chunks = Assembler::default();
        for (key, value) in pairs {
            records.bytes += (key.len() + value.len()) as u64;
            match records.take(&mut chunks, &key, &value) {
                Ok(()) => {}
                Err(newer @ DecodeError::Newer { .. }) => return Err(newer),
                Err(_) => records.damaged += 1,
            }
        }
        records.frames = chunks.finish();
        Ok(records)
    }

    fn take(&mut self, chunks: &mut Assembler, key: &[u8], value: &[u8]) -> Result<(), DecodeError> {
        let (version, payload) = record::open(key, value)?;
        self.is_old |= version < Version::CURRENT;
        match Key::parse(key).ok_or(DecodeError::Invalid("a record's key"))? {
            Key::Head => {
                self.head = Head::decode(version, payload)?;
                self.has_head = true;
            }
            Key::Chunk(position) => chunks.add(position, payload)?,
            Key::Series(number) => {
                self.table_bytes += payload.len() as u64;
                self.table.insert(number, table::decode_records(payload)?);
            }
            Key::Manifest(slot) => {
                let size = keys::decode_manifest_entry(payload)?;
                self.manifest.insert(slot, size);
            }
        }
        Ok(())
    }
}
