//! The keys of the sled part, and its small records: the head and the manifest's entries.
//!
//! May not know: sled. Invariant: a key parses back to what it was made of.

use crate::Timestamp;
use crate::codec::{DecodeError, Reader, put_varint};
use crate::record::{self, Version};
use crate::sled_part::Pair;
use crate::slot::Slot;
use crate::slot_file::{SlotFile, kind_code, kind_from_code};

/// What stands under a key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Key {
    /// The one record that tells what else there must be.
    Head,
    /// A chunk of a frame, by its position in the ring.
    Chunk(u32),
    /// A value of the series table.
    Series(u32),
    /// A sealed slot.
    Manifest(Slot),
}

impl Key {
    pub(crate) fn bytes(self) -> Vec<u8> {
        match self {
            Self::Head => b"h".to_vec(),
            Self::Chunk(position) => prefixed(b'f', &position.to_be_bytes()),
            Self::Series(number) => prefixed(b's', &number.to_be_bytes()),
            Self::Manifest(slot) => {
                let mut key = vec![b'm', kind_code(slot.kind)];
                key.extend(slot.start.0.to_be_bytes());
                key
            }
        }
    }

    pub(crate) fn parse(key: &[u8]) -> Option<Self> {
        match *key {
            [b'h'] => Some(Self::Head),
            [b'f', a, b, c, d] => Some(Self::Chunk(u32::from_be_bytes([a, b, c, d]))),
            [b's', a, b, c, d] => Some(Self::Series(u32::from_be_bytes([a, b, c, d]))),
            [b'm', kind, ref start @ ..] => {
                let kind = kind_from_code(kind)?;
                let start = Timestamp(i64::from_be_bytes(start.try_into().ok()?));
                Some(Self::Manifest(Slot { kind, start }))
            }
            _ => None,
        }
    }

    /// The record to store under this key.
    pub(crate) fn pair(self, payload: &[u8]) -> Pair {
        let key = self.bytes();
        let value = record::seal(&key, payload);
        (key, value)
    }
}

fn prefixed(prefix: u8, rest: &[u8]) -> Vec<u8> {
    let mut key = vec![prefix];
    key.extend(rest);
    key
}

/// What must be found beside it. sled may drop records without a word; this is how we notice.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Head {
    /// The number that the next tick gets.
    pub(crate) next_seq: u64,
    /// Series numbers below this were given out.
    pub(crate) next_id: u32,
    /// The series table has this many values.
    pub(crate) table_values: u32,
    /// Ticks whose frames are in the ring.
    pub(crate) ticks: Vec<u64>,
    /// Entries in the manifest; version 0 did not tell.
    pub(crate) slots: Option<u32>,
}

impl Head {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + self.ticks.len() * 2);
        out.extend(self.next_seq.to_le_bytes());
        for number in [self.next_id, self.table_values, self.slots.unwrap_or_default()] {
            out.extend(number.to_le_bytes());
        }
        put_varint(&mut out, self.ticks.len() as u64);
        let mut before = 0;
        for tick in &self.ticks {
            put_varint(&mut out, tick.wrapping_sub(before));
            before = *tick;
        }
        out
    }

    pub(crate) fn decode(version: Version, bytes: &[u8]) -> Result<Self, DecodeError> {
        let what = "the head record";
        let mut reader = Reader::new(bytes);
        let next_seq = reader.u64(what)?;
        let (next_id, table_values) = (reader.u32(what)?, reader.u32(what)?);
        let slots = match version {
            Version::Zero => None,
            Version::One => Some(reader.u32(what)?),
        };
        let count = reader.count(1, what)?;
        let mut ticks = Vec::with_capacity(count);
        let mut tick = 0_u64;
        for _ in 0..count {
            tick = tick.wrapping_add(reader.varint(what)?);
            ticks.push(tick);
        }
        reader.end(what)?;
        Ok(Self { next_seq, next_id, table_values, ticks, slots })
    }
}

/// A sealed slot's entry: how long its file is.
pub(crate) fn encode_manifest_entry(size: u64) -> Vec<u8> {
    size.to_le_bytes().to_vec()
}

/// A sealed slot's record in the manifest.
pub(super) fn manifest_record(file: &SlotFile) -> Pair {
    Key::Manifest(file.slot()).pair(&encode_manifest_entry(file.size()))
}

pub(crate) fn decode_manifest_entry(bytes: &[u8]) -> Result<u64, DecodeError> {
    let mut reader = Reader::new(bytes);
    let size = reader.u64("a manifest entry")?;
    reader.end("a manifest entry")?;
    Ok(size)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::slot::SlotKind;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn keys_and_heads_come_back(a: u32, start: i64, ticks: Vec<u64>, bytes: Vec<u8>) {
            let slot = Slot { kind: SlotKind::Hour, start: Timestamp(start) };
            for key in [Key::Head, Key::Chunk(a), Key::Series(a), Key::Manifest(slot)] {
                prop_assert_eq!(Key::parse(&key.bytes()), Some(key));
            }
            let head = Head {
                next_seq: u64::from(a),
                next_id: a, table_values: 1, ticks, slots: Some(3) };
            prop_assert_eq!(Head::decode(Version::One, &head.encode()).unwrap(), head);
            let _ = (Key::parse(&bytes), Head::decode(Version::Zero, &bytes), Head::decode(Version::One, &bytes));
        }
    }
}
