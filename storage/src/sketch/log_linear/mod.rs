//! The log-linear histogram: whole numbers in buckets whose width is 1/64 of their power of two.
//!
//! After HdrHistogram's layout (<https://hdrhistogram.org>), on the bits of the value itself. It
//! answers a bucket's middle, which is at most 1/128 = 0.78 % from every value in it; between
//! buckets it never interpolates, so nothing is invented. May not know: slots, files. Invariant:
//! at least one bucket, buckets ascend, counts are positive; the minimum lies in the first bucket,
//! the maximum in the last or, rounded up, on its upper edge.

mod build;
mod encode;

pub use build::LogLinearBuilder;

use super::{Sketch, SketchError};
use crate::codec::DecodeError;

/// Bits of mantissa that tell buckets apart.
const MANTISSA: u32 = 6;
/// Bits of an `f64` below those of its bucket.
const BELOW: u32 = f64::MANTISSA_DIGITS - 1 - MANTISSA;
/// What an exponent of `f64` counts more than one of `f32`, in buckets.
const BIAS: u64 = (1023 - 127) << MANTISSA;
/// The first bucket of normal `f32`s; what is smaller (1.2e-38) counts as zero.
const FIRST_NORMAL: u16 = 1 << MANTISSA;
/// The largest count, of a bucket and of all: it fits beside the bucket and is exact as `f64`.
const MAX_COUNT: u64 = (1 << 50) - 1;

/// Buckets that are added up at a time.
const GROUP: usize = 16;

/// The bucket of a value from 0 to 1e37: the top 14 bits of an `f32` without its sign, rounded
/// down.
#[inline]
fn bucket_of(value: f64) -> u16 {
    let code = (value.abs().to_bits() >> BELOW).saturating_sub(BIAS);
    // Values up to 1e37 have codes below 1 << 14.
    u16::try_from(code).map_or(u16::MAX, |code| if code < FIRST_NORMAL { 0 } else { code })
}

/// The middle of a bucket, in the values' unit.
fn middle(bucket: u16) -> f64 {
    if bucket == 0 {
        return 0.0;
    }
    f64::from_bits((u64::from(bucket) + BIAS) << BELOW | 1 << (BELOW - 1))
}

/// One bucket that holds values, in eight bytes: `bucket << 50 | count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Cell(u64);

impl Cell {
    /// Counts beyond [`MAX_COUNT`] stay there.
    fn new(bucket: u16, count: u64) -> Self {
        Self(u64::from(bucket) << 50 | count.min(MAX_COUNT))
    }

    #[allow(clippy::cast_possible_truncation)] // what is left are the bucket's bits
    fn bucket(self) -> u16 {
        (self.0 >> 50) as u16
    }

    fn count(self) -> u64 {
        self.0 & MAX_COUNT
    }
}

/// A summary of values, immutable; build one with [`LogLinearBuilder`] or by merging.
#[derive(Clone, Debug, PartialEq)]
pub struct LogLinear {
    cells: Vec<Cell>,
    count: u64,
    min: f64,
    max: f64,
}

impl LogLinear {
    /// The caller upholds the invariant in the module's head, except that an empty list is given
    /// back as [`SketchError::Empty`].
    fn from_cells(cells: Vec<Cell>, min: f64, max: f64) -> Result<Self, SketchError> {
        if cells.is_empty() {
            return Err(SketchError::Empty);
        }
        let count = cells.iter().fold(0_u64, |sum, cell| sum.saturating_add(cell.count()));
        Ok(Self { cells, count: count.min(MAX_COUNT), min, max })
    }

    /// Buckets that hold values; what the histogram costs in memory is 8 bytes each.
    pub fn bucket_count(&self) -> usize {
        self.cells.len()
    }

    /// Each bucket's answer, its middle within the extremes, and its count; answers ascend.
    pub(super) fn weighted_values(&self) -> impl Iterator<Item = (f64, u64)> {
        self.cells.iter().map(|cell| (self.answer(*cell), cell.count()))
    }

    fn answer(&self, cell: Cell) -> f64 {
        middle(cell.bucket()).clamp(self.min, self.max)
    }

    /// The answer for the value at `rank`, from 1 to the count.
    fn at_rank(&self, rank: u64) -> f64 {
        let mut before = 0;
        // Whole groups first, whose counts add up side by side.
        for group in self.cells.chunks(GROUP) {
            let upto = before + group.iter().map(|cell| cell.count()).sum::<u64>();
            if upto >= rank {
                let mut counts = group.iter().scan(before, |upto, cell| {
                    *upto += cell.count();
                    Some((*upto, *cell))
                });
                return counts.find(|(upto, _)| *upto >= rank).map_or(self.max, |(_, cell)| self.answer(cell));
            }
            before = upto;
        }
        self.max
    }
}

impl Sketch for LogLinear {
    fn merged(parts: &[&Self]) -> Result<Self, SketchError> {
        let min = parts.iter().map(|p| p.min).fold(f64::INFINITY, f64::min);
        let max = parts.iter().map(|p| p.max).fold(0.0, f64::max);
        Self::from_cells(build::merged_cells(parts), min, max)
    }

    /// The middle of the bucket that holds the value of rank `ceil(q * count)`; the extremes
    /// themselves at 0 and 1.
    fn quantile(&self, q: f64) -> f64 {
        if q.is_nan() || q >= 1.0 {
            return self.max;
        }
        if q <= 0.0 {
            return self.min;
        }
        // 0.07 of 100 values is a hair above 7 in binary: a hair less, so that it is the 7th.
        let rank = (q * self.count as f64 * (1.0 - 2.0 * f64::EPSILON)).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a whole number up to the count
        self.at_rank(rank as u64)
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn min(&self) -> f64 {
        self.min
    }

    fn max(&self) -> f64 {
        self.max
    }

    /// From the buckets' middles: within 0.8 %.
    fn sum(&self) -> f64 {
        self.weighted_values().map(|(value, count)| value * count as f64).sum()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        encode::encode(self, out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        encode::decode(bytes)
    }
}
