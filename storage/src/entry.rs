//! What a sealed slot keeps of one series, and blocks of up to 128 of them.
//!
//! May not know: files. Invariant: `first <= last`, both within the slot; series in a block ascend.

use crate::codec::{DecodeError, Reader, put_varint};
use crate::record::Version;
use crate::sketch::{AnySketch, Sketch, SketchError};
use crate::slot::{Slot, SlotKind};
use crate::{SeriesId, Timestamp};

/// Series in one block.
pub(crate) const BLOCK_SERIES: usize = 128;

/// One series in one slot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct SlotEntry {
    /// Its first sample in the slot.
    pub(crate) first: Timestamp,
    /// Its last sample in the slot.
    pub(crate) last: Timestamp,
    /// How many 5-minute slots within had a sample.
    pub(crate) filled: u32,
    pub(crate) cpu: AnySketch,
    pub(crate) memory: AnySketch,
}

impl SlotEntry {
    /// Several slots' entries of one series as one.
    pub(crate) fn merged(parts: &[Self], compression: f64) -> Result<Self, SketchError> {
        let cpu: Vec<&AnySketch> = parts.iter().map(|p| &p.cpu).collect();
        let memory: Vec<&AnySketch> = parts.iter().map(|p| &p.memory).collect();
        Ok(Self {
            first: parts.iter().map(|p| p.first).min().ok_or(SketchError::Empty)?,
            last: parts.iter().map(|p| p.last).max().ok_or(SketchError::Empty)?,
            filled: parts.iter().map(|p| p.filled).sum(),
            cpu: AnySketch::merged_with(&cpu, compression)?,
            memory: AnySketch::merged_with(&memory, compression)?,
        })
    }

    /// `first - start | end - last | filled | length of cpu | cpu | memory`
    pub(crate) fn encode(&self, slot: Slot, out: &mut Vec<u8>) {
        put_varint(out, millis_between(slot.start, self.first));
        put_varint(out, millis_between(self.last, slot.end()));
        put_varint(out, u64::from(self.filled));
        let mut cpu = Vec::with_capacity(128);
        self.cpu.encode(&mut cpu);
        put_varint(out, cpu.len() as u64);
        out.extend(cpu);
        self.memory.encode(out);
    }

    pub(crate) fn decode(version: Version, slot: Slot, bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let first = offset(slot.start, reader.varint("a first sample")?)?;
        let last = reader.varint("a last sample")?;
        let last = match version {
            Version::Zero => offset(first, last)?,
            Version::One => before(slot.end(), last)?,
        };
        if last < first || last >= slot.end() {
            return Err(DecodeError::Invalid("a last sample"));
        }
        let filled = match version {
            Version::Zero => five_minute_slots(first, last),
            Version::One => reader.varint32("the number of filled slots")?,
        };
        let cpu_len = reader.count(1, "the length of a sketch")?;
        Ok(Self {
            first,
            last,
            filled,
            cpu: AnySketch::decode(reader.bytes(cpu_len, "a sketch")?)?,
            memory: AnySketch::decode(reader.bytes(reader.remaining(), "a sketch")?)?,
        })
    }
}

/// How many 5-minute slots lie from that of `first` to that of `last`.
fn five_minute_slots(first: Timestamp, last: Timestamp) -> u32 {
    let [first, last] = [first, last].map(|at| SlotKind::FiveMinutes.slot_at(at).start);
    let between = last.since(first).as_secs() / SlotKind::FiveMinutes.length().as_secs();
    u32::try_from(between).unwrap_or(u32::MAX).saturating_add(1)
}

fn millis_between(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.since(from).as_millis()).unwrap_or(0)
}

fn offset(from: Timestamp, millis: u64) -> Result<Timestamp, DecodeError> {
    let at = i64::try_from(millis).ok().and_then(|m| from.0.checked_add(m));
    at.map(Timestamp).ok_or(DecodeError::Invalid("a sample's time"))
}

fn before(end: Timestamp, millis: u64) -> Result<Timestamp, DecodeError> {
    let at = i64::try_from(millis).ok().and_then(|m| end.0.checked_sub(m));
    at.map(Timestamp).ok_or(DecodeError::Invalid("a sample's time"))
}

/// `count | (id step, length) of each | entries`
pub(crate) fn encode_block(slot: Slot, entries: &[(SeriesId, SlotEntry)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 128);
    let mut bodies = Vec::with_capacity(entries.len() * 128);
    put_varint(&mut out, entries.len() as u64);
    let mut before = 0;
    for (id, entry) in entries {
        let start = bodies.len();
        entry.encode(slot, &mut bodies);
        put_varint(&mut out, u64::from(id.0.saturating_sub(before)));
        put_varint(&mut out, (bodies.len() - start) as u64); // it only grew
        before = id.0;
    }
    out.extend(bodies);
    out
}

/// The series of a block with their bytes, undecoded.
fn directory(block: &[u8]) -> Result<Vec<(SeriesId, &[u8])>, DecodeError> {
    let mut reader = Reader::new(block);
    let count = reader.count(2, "a block's size")?;
    let mut heads = Vec::with_capacity(count);
    let mut id = 0_u32;
    for _ in 0..count {
        let step = reader.varint32("a series' number")?;
        id = id.checked_add(step).ok_or(DecodeError::Invalid("a series' number"))?;
        heads.push((SeriesId(id), reader.varint32("an entry's length")? as usize));
    }
    let mut out = Vec::with_capacity(count);
    for (id, len) in heads {
        out.push((id, reader.bytes(len, "an entry")?));
    }
    reader.end("the end of a block")?;
    Ok(out)
}

/// All entries of a block.
pub(crate) fn decode_block(
    version: Version,
    slot: Slot,
    block: &[u8],
) -> Result<Vec<(SeriesId, SlotEntry)>, DecodeError> {
    let entries = directory(block)?.into_iter();
    entries.map(|(id, bytes)| Ok((id, SlotEntry::decode(version, slot, bytes)?))).collect()
}

/// One series' entry of a block, without decoding the others.
pub(crate) fn find_in_block(
    version: Version,
    slot: Slot,
    block: &[u8],
    series: SeriesId,
) -> Result<Option<SlotEntry>, DecodeError> {
    let found = directory(block)?.into_iter().find(|(id, _)| *id == series);
    found.map(|(_, bytes)| SlotEntry::decode(version, slot, bytes)).transpose()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::sketch::SketchKind;
    use crate::slot::SlotKind;
    use proptest::prelude::*;

    const SLOT: Slot = Slot { kind: SlotKind::Hour, start: Timestamp(3_600_000) };

    fn entry(values: &[f64], first: i64) -> SlotEntry {
        let stored = |kind| {
            let mut bytes = Vec::new();
            AnySketch::from_values(kind, &mut values.to_vec()).unwrap().encode(&mut bytes);
            AnySketch::decode(&bytes).unwrap() // rounded as it will be stored
        };
        let (cpu, memory) = (stored(SketchKind::TDigest), stored(SketchKind::LogLinear));
        let (first, last) = (Timestamp(3_600_000 + first), Timestamp(3_600_000 + 2 * first));
        SlotEntry { first, last, filled: 3, cpu, memory }
    }

    proptest! {
        #[test]
        fn blocks_come_back(values in prop::collection::vec(prop::collection::vec(0.0..1e9_f64, 1..30), 0..20)) {
            let entries: Vec<_> = (0..).zip(&values).map(|(i, v)| (SeriesId(i * 3), entry(v, i64::from(i)))).collect();
            let block = encode_block(SLOT, &entries);
            prop_assert_eq!(decode_block(Version::One, SLOT, &block).unwrap(), entries.clone());
            for (id, entry) in entries {
                prop_assert_eq!(find_in_block(Version::One, SLOT, &block, id).unwrap(), Some(entry));
                prop_assert_eq!(find_in_block(Version::One, SLOT, &block, SeriesId(id.0 + 1)).unwrap(), None);
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            for version in [Version::Zero, Version::One] {
                let _ = decode_block(version, SLOT, &bytes);
                let _ = SlotEntry::decode(version, SLOT, &bytes);
            }
        }
    }
}
