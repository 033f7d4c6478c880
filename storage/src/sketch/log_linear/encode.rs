//! The bytes of a histogram: see FORMAT.md, "Histogram". One byte for most buckets, so that a
//! merge from bytes costs little more than one from counts.
//!
//! Invariant: decoding what `encode` wrote gives the same histogram with its minimum rounded down
//! and its maximum up; encoding that again gives the same bytes.

use super::{Cell, FIRST_NORMAL, LogLinear, MANTISSA, MAX_COUNT};
use crate::codec::{DecodeError, Reader, code24, code24_down, put_u24, put_varint, value24};
use crate::sketch::HEAD_LOG_LINEAR;

/// Bits of a `code24` below those of its bucket.
const FINE: u32 = 16 - MANTISSA;
/// In a nibble: the number follows as a varint.
const LONG: u64 = 15;
/// The largest code of what counts as zero, and one more: the smallest normal `f32`.
const ZERO_END: u32 = 1 << (MANTISSA + FINE);

/// Head, number of buckets, minimum, then for each bucket the empty ones before it and its count
/// less one, a nibble each or a varint after them, then how far the maximum lies above the last
/// bucket's lower edge.
pub(super) fn encode(histogram: &LogLinear, out: &mut Vec<u8>) {
    out.push(HEAD_LOG_LINEAR);
    put_varint(out, histogram.cells.len() as u64);
    let Some((first, last)) = histogram.cells.first().zip(histogram.cells.last()) else {
        return; // never: there is a bucket at least
    };
    put_u24(out, zero_or(code24_down(histogram.min)));
    let mut next = first.bucket();
    for cell in &histogram.cells {
        let (skipped, more) = (u64::from(cell.bucket().saturating_sub(next)), cell.count() - 1); // counts are positive
        let (high, low) = (skipped.min(LONG), more.min(LONG));
        out.extend(u8::try_from(high << 4 | low)); // two nibbles
        if high == LONG {
            put_varint(out, skipped - LONG);
        }
        if low == LONG {
            put_varint(out, more - LONG);
        }
        next = cell.bucket() + 1;
    }
    let edge = u32::from(last.bucket()) << FINE;
    put_varint(out, u64::from(code24(histogram.max).saturating_sub(edge)));
}

/// A minimum's code, where what counts as zero is zero.
fn zero_or(code: u32) -> u32 {
    if code < ZERO_END { 0 } else { code }
}

pub(super) fn decode(bytes: &[u8]) -> Result<LogLinear, DecodeError> {
    let mut reader = Reader::new(bytes);
    if reader.u8("a histogram's head")? != HEAD_LOG_LINEAR {
        return Err(DecodeError::Invalid("a histogram's head"));
    }
    let n = reader.count(1, "a histogram's size")?;
    let low = reader.u24("a histogram's minimum")?;
    let min = value24(low).ok_or(DecodeError::Invalid("a histogram's minimum"))?;
    if zero_or(low) != low {
        return Err(DecodeError::Invalid("a histogram's minimum"));
    }
    let (cells, last) = read_cells(&mut reader, n, low >> FINE)?;
    let above = reader.varint32("a histogram's maximum")?;
    reader.end("the end of a histogram")?;
    let widest = if last == 0 { ZERO_END } else { 1 << FINE };
    let high = (last << FINE).saturating_add(above);
    let max = value24(high).filter(|max| above <= widest && *max >= min);
    let max = max.ok_or(DecodeError::Invalid("a histogram's maximum"))?;
    LogLinear::from_cells(cells, min, max).map_err(|_| DecodeError::Invalid("a histogram's size"))
}

/// The buckets, the first of which is `first`, and the number of the last.
fn read_cells(reader: &mut Reader<'_>, n: usize, first: u32) -> Result<(Vec<Cell>, u32), DecodeError> {
    let invalid = DecodeError::Invalid("a histogram's bucket");
    let mut cells = Vec::with_capacity(n);
    let (mut next, mut total) = (first, 0_u64);
    for _ in 0..n {
        let nibbles = reader.u8("a histogram's bucket")?;
        let (mut skipped, mut more) = (u64::from(nibbles >> 4), u64::from(nibbles & 15));
        if skipped == LONG {
            skipped += reader.varint32("a histogram's bucket").map(u64::from)?;
        }
        if more == LONG {
            more = reader.varint("a histogram's count")?.saturating_add(LONG);
        }
        total = total.saturating_add(more).saturating_add(1);
        let bucket = u64::from(next) + skipped;
        // Buckets below the first normal one but zero are never written.
        let is_sound = bucket < 1 << 14 && (bucket == 0 || bucket >= u64::from(FIRST_NORMAL)) && total <= MAX_COUNT;
        let at = u16::try_from(bucket).ok().filter(|_| is_sound && (skipped == 0 || !cells.is_empty()));
        cells.push(Cell::new(at.ok_or(invalid)?, more + 1));
        next = u32::from(at.ok_or(invalid)?) + 1;
    }
    Ok((cells, next.saturating_sub(1)))
}
