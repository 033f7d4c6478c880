//! Cutting frames into values small enough for sled's leaves, and putting them together again.
//!
//! May not know: what a frame holds, nor sled. Invariant: a frame comes back whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::codec::{DecodeError, Reader};
use crate::record;

/// The largest value: a leaf of sled holds up to 16 values, and one above 128 KiB would become a
/// blob file, which fdatasync of the database does not cover.
pub(crate) const MAX_VALUE: usize = 7 * 1024;

const HEADER: usize = 8 + 1 + 4 + 4 + 4;
const BODY: usize = MAX_VALUE - HEADER - record::OVERHEAD;

/// What a frame's bytes are.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) enum Part {
    /// The samples of one tick.
    Rows = 0,
    /// Streams that this tick's rows name by number for the first time.
    Streams = 1,
}

/// Names one frame: the tick's number, and which part of it.
pub(crate) type FrameId = (u64, Part);

/// Cuts a frame into payloads of `seq u64 | part u8 | index u32 | count u32 | crc32 u32 | bytes`.
pub(crate) fn split((seq, part): FrameId, bytes: &[u8]) -> Vec<Vec<u8>> {
    let crc = crc32fast::hash(bytes);
    let count = u32::try_from(bytes.len().div_ceil(BODY).max(1)).unwrap_or(u32::MAX);
    let empty = bytes.is_empty().then_some(bytes);
    let cut = |(index, body): (u32, &[u8])| {
        let mut out = Vec::with_capacity(HEADER + body.len());
        out.extend(seq.to_le_bytes());
        out.push(part as u8);
        out.extend(index.to_le_bytes());
        out.extend(count.to_le_bytes());
        out.extend(crc.to_le_bytes());
        out.extend(body);
        out
    };
    (0..).zip(bytes.chunks(BODY).chain(empty)).map(cut).collect()
}

/// A frame that was put together, or what is left of one.
#[derive(Debug, Default)]
pub(crate) struct Assembled {
    /// Where its chunks stand in the ring.
    pub(crate) positions: Vec<u32>,
    /// Its bytes; `None` when a chunk is missing or the checksum of the whole does not match.
    pub(crate) bytes: Option<Vec<u8>>,
}

/// Collects chunks in any order.
#[derive(Debug, Default)]
pub(crate) struct Assembler {
    frames: BTreeMap<FrameId, Pieces>,
}

#[derive(Debug, Default)]
struct Pieces {
    count: u32,
    crc: u32,
    mixed: bool,
    positions: Vec<u32>,
    bodies: BTreeMap<u32, Vec<u8>>,
}

impl Assembler {
    /// Takes one chunk's payload, found at `position` of the ring.
    pub(crate) fn add(&mut self, position: u32, payload: &[u8]) -> Result<(), DecodeError> {
        let what = "a chunk";
        let mut reader = Reader::new(payload);
        let seq = reader.u64(what)?;
        let part = match reader.u8(what)? {
            0 => Part::Rows,
            1 => Part::Streams,
            _ => return Err(DecodeError::Invalid(what)),
        };
        let (index, count, crc) = (reader.u32(what)?, reader.u32(what)?, reader.u32(what)?);
        let body = reader.bytes(reader.remaining(), what)?;
        let pieces = self.frames.entry((seq, part)).or_default();
        let first = pieces.positions.is_empty();
        pieces.mixed |= !first && (pieces.count, pieces.crc) != (count, crc);
        (pieces.count, pieces.crc) = (count, crc);
        pieces.positions.push(position);
        pieces.mixed |= index >= count || pieces.bodies.insert(index, body.to_vec()).is_some();
        Ok(())
    }

    /// All frames, whole or not, in order.
    pub(crate) fn finish(self) -> BTreeMap<FrameId, Assembled> {
        let assemble = |(id, pieces): (FrameId, Pieces)| (id, pieces.assemble());
        self.frames.into_iter().map(assemble).collect()
    }
}

impl Pieces {
    fn assemble(self) -> Assembled {
        let complete = !self.mixed && self.bodies.len() as u64 == u64::from(self.count);
        let bytes = complete.then(|| self.bodies.into_values().flatten().collect::<Vec<u8>>());
        Assembled { positions: self.positions, bytes: bytes.filter(|bytes| crc32fast::hash(bytes) == self.crc) }
    }
}

/// Which positions of the ring are free. Positions are used again, the lowest first, so that the
/// key space does not grow.
#[derive(Debug, Default)]
pub(crate) struct RingSpace {
    next: u32,
    free: BTreeSet<u32>,
}

impl RingSpace {
    /// A ring in which exactly `used` is taken.
    pub(crate) fn with_used(used: &BTreeSet<u32>) -> Self {
        let next = used.last().map_or(0, |last| last.saturating_add(1));
        let free = (0..next).filter(|p| !used.contains(p)).collect();
        Self { next, free }
    }

    pub(crate) fn take(&mut self) -> u32 {
        self.free.pop_first().unwrap_or_else(|| {
            self.next = self.next.saturating_add(1);
            self.next - 1 // just incremented
        })
    }

    pub(crate) fn give_back(&mut self, positions: &[u32]) {
        self.free.extend(positions);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::cast_possible_truncation)]
mod tests {
    use super::*;

    fn assembled(chunks: &[Vec<u8>]) -> BTreeMap<FrameId, Assembled> {
        let mut assembler = Assembler::default();
        for (at, chunk) in (0..).zip(chunks) {
            assembler.add(at, chunk).unwrap();
        }
        assembler.finish()
    }

    #[test]
    fn frames_of_any_size_come_back_from_chunks_in_any_order() {
        for len in [0, 1, BODY - 1, BODY, BODY + 1, 5 * BODY + 17] {
            let bytes: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let mut chunks = split((7, Part::Rows), &bytes);
            assert!(chunks.iter().all(|c| c.len() + record::OVERHEAD <= MAX_VALUE));
            chunks.reverse();
            chunks.extend(split((8, Part::Streams), b"x"));
            let frames = assembled(&chunks);
            assert_eq!(frames[&(7, Part::Rows)].bytes.as_ref(), Some(&bytes));
            assert_eq!(frames[&(8, Part::Streams)].bytes.as_deref(), Some(&b"x"[..]));
        }
    }

    #[test]
    fn a_torn_frame_is_not_given_out() {
        let chunks = split((1, Part::Rows), &vec![5; 3 * BODY]);
        for missing in 0..3 {
            let mut torn = chunks.clone();
            torn.remove(missing);
            let frames = assembled(&torn);
            assert_eq!(frames[&(1, Part::Rows)].bytes, None);
            assert_eq!(frames[&(1, Part::Rows)].positions.len(), 2);
        }
    }

    #[test]
    fn chunks_of_two_attempts_at_one_frame_do_not_mix() {
        let old = split((1, Part::Rows), &vec![5; 3 * BODY]);
        let mut chunks = split((1, Part::Rows), &vec![6; 3 * BODY]);
        chunks[2] = old[2].clone();
        assert_eq!(assembled(&chunks)[&(1, Part::Rows)].bytes, None);
        let mut chunks = split((1, Part::Rows), &vec![6; 3 * BODY]);
        chunks[1][HEADER + 9] = 7;
        assert_eq!(assembled(&chunks)[&(1, Part::Rows)].bytes, None);
    }

    #[test]
    fn the_ring_uses_the_lowest_free_position_again() {
        let mut space = RingSpace::with_used(&BTreeSet::from([1, 3]));
        assert_eq!([space.take(), space.take(), space.take()], [0, 2, 4]);
        space.give_back(&[3, 1]);
        assert_eq!([space.take(), space.take(), space.take()], [1, 3, 5]);
    }
}
