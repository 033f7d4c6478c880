//! From values to buckets, and buckets of several histograms together.
//!
//! May not know: bytes. Invariant: what goes in is finite and not negative.

use super::{BELOW, Cell, FIRST_NORMAL, LogLinear, bucket_of, middle};
use crate::sketch::build::is_valid;
use crate::sketch::{Sketch, SketchError};

/// Buckets that room is made for at first; few windows fill more.
const MOST_FILLED: usize = 256;

/// Counters are added by the octave, from one power of two to the next.
const OCTAVE: u16 = FIRST_NORMAL;

impl LogLinear {
    /// The histogram of some values.
    ///
    /// # Errors
    /// [`SketchError::InvalidValue`] for the first value that is NaN, infinite, negative or above
    /// 1e37; [`SketchError::Empty`] when there is none.
    pub fn from_values(values: &[f64]) -> Result<Self, SketchError> {
        if let Some(&bad) = values.iter().find(|v| !is_valid(**v)) {
            return Err(SketchError::InvalidValue(bad));
        }
        let mut buckets: Vec<u16> = values.iter().map(|v| bucket_of(*v)).collect();
        buckets.sort_unstable();
        let runs = buckets.chunk_by(|a, b| a == b);
        let cells = runs.filter_map(|run| Some(Cell::new(*run.first()?, run.len() as u64))).collect();
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(0.0, f64::max);
        Self::from_cells(cells, min.abs(), max.abs()) // -0.0 becomes 0.0
    }
}

/// The buckets of all `parts`, added up. Zeros are counted apart: they lie far below the others.
pub(super) fn merged_cells(parts: &[&LogLinear]) -> Vec<Cell> {
    let positive = |part: &&LogLinear| part.cells.iter().find(|c| c.bucket() > 0).map(|c| c.bucket());
    let low = parts.iter().filter_map(positive).min().unwrap_or(0);
    let high = parts.iter().filter_map(|p| p.cells.last()).map(|c| c.bucket()).max().unwrap_or(0);
    let mut zeros = 0_u64;
    let mut counts = vec![0_u64; usize::from(high.saturating_sub(low)) + 1];
    let mut add = |cell: &Cell| {
        // Counts are below 2^50: what would wrap are 2^14 parts, each as full as can be.
        match counts.get_mut(usize::from(cell.bucket()).wrapping_sub(usize::from(low))) {
            Some(count) => *count = count.wrapping_add(cell.count()),
            None => zeros = zeros.wrapping_add(cell.count()),
        }
    };
    for part in parts {
        // Unrolled: the loop costs as much as what it does.
        let (fours, rest) = part.cells.as_chunks::<4>();
        for four in fours {
            four.iter().for_each(&mut add);
        }
        rest.iter().for_each(&mut add);
    }
    filled_cells(zeros, low, counts.iter().copied())
}

/// The buckets from `low` on that hold values, after the zeros.
fn filled_cells(zeros: u64, low: u16, counts: impl ExactSizeIterator<Item = u64>) -> Vec<Cell> {
    let mut cells = Vec::with_capacity(counts.len().min(MOST_FILLED));
    if zeros > 0 {
        cells.push(Cell::new(0, zeros));
    }
    for (bucket, count) in (low..).zip(counts) {
        if count > 0 {
            cells.push(Cell::new(bucket, count));
        }
    }
    cells
}

/// The bucket of a positive value by another count, which costs less to tell: `f64`'s own bits.
#[inline]
#[allow(clippy::cast_possible_truncation)] // 18 bits are left
fn counter_of(value: f64) -> usize {
    (value.to_bits() >> BELOW) as usize
}

/// Counts values one by one, in an array of counters over the range that they span.
#[derive(Clone, Debug)]
pub struct LogLinearBuilder {
    /// The bucket of the first counter, and its [`counter_of`].
    low: u16,
    base: usize,
    counts: Vec<u32>,
    zeros: u64,
    min: f64,
    max: f64,
    /// What was counted when a counter was full.
    before: Option<Box<LogLinear>>,
}

impl Default for LogLinearBuilder {
    fn default() -> Self {
        Self { low: 0, base: usize::MAX, counts: Vec::new(), zeros: 0, min: f64::INFINITY, max: 0.0, before: None }
    }
}

impl LogLinearBuilder {
    /// Counts one value, in whatever unit the caller uses throughout.
    ///
    /// # Errors
    /// [`SketchError::InvalidValue`] when it is NaN, infinite, negative or above 1e37; the builder
    /// is unchanged then.
    #[inline]
    pub fn insert(&mut self, value: f64) -> Result<(), SketchError> {
        if !(self.min <= value && value <= self.max) {
            self.reach(value)?; // NaN too
        }
        match self.counts.get_mut(counter_of(value).wrapping_sub(self.base)) {
            Some(count) if *count < u32::MAX => *count += 1,
            _ => self.insert_aside(bucket_of(value))?,
        }
        Ok(())
    }

    /// Widens the extremes to a value, if it is one. What lies between them was checked by that.
    #[cold]
    fn reach(&mut self, value: f64) -> Result<(), SketchError> {
        if !is_valid(value) {
            return Err(SketchError::InvalidValue(value));
        }
        self.min = self.min.min(value.abs()); // -0.0 becomes 0.0
        self.max = self.max.max(value);
        Ok(())
    }

    /// The histogram of everything inserted so far; inserting may go on.
    ///
    /// # Errors
    /// [`SketchError::Empty`] when nothing was inserted.
    pub fn build(&self) -> Result<LogLinear, SketchError> {
        let counts = self.counts.iter().map(|count| u64::from(*count));
        let cells = filled_cells(self.zeros, self.low, counts);
        let Some(before) = &self.before else {
            return LogLinear::from_cells(cells, self.min, self.max);
        };
        match LogLinear::from_cells(cells, self.min, self.max) {
            Ok(since) => LogLinear::merged(&[before, &since]),
            Err(_) => Ok(before.as_ref().clone()),
        }
    }

    /// Counts a zero, widens the range to a new bucket, or makes room in a full counter.
    #[cold]
    fn insert_aside(&mut self, bucket: u16) -> Result<(), SketchError> {
        if bucket == 0 {
            self.zeros += 1;
            return Ok(());
        }
        if self.counts.get(usize::from(bucket.wrapping_sub(self.low))) == Some(&u32::MAX) {
            self.before = Some(Box::new(self.build()?));
            self.counts.fill(0);
            self.zeros = 0;
        }
        self.cover(bucket);
        if let Some(count) = self.counts.get_mut(usize::from(bucket - self.low)) {
            *count += 1; // covered, and not full
        }
        Ok(())
    }

    /// Widens the range by whole octaves until it holds `bucket`.
    fn cover(&mut self, bucket: u16) {
        let octave = bucket - bucket % OCTAVE;
        if self.counts.is_empty() {
            self.low = octave;
        }
        if octave < self.low {
            let missing = usize::from(self.low - octave);
            self.counts.splice(0..0, std::iter::repeat_n(0, missing));
            self.low = octave;
        }
        self.base = counter_of(middle(self.low));
        let end = usize::from(octave - self.low) + usize::from(OCTAVE);
        if self.counts.len() < end {
            self.counts.reserve_exact(end - self.counts.len());
            self.counts.resize(end, 0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_full_counter_loses_nothing() {
        let mut builder = LogLinearBuilder::default();
        for value in [0.0, 1.0, 8.0] {
            builder.insert(value).unwrap();
        }
        let one = usize::from(bucket_of(1.0) - builder.low);
        builder.counts[one] = u32::MAX - 1;
        for value in [1.0, 1.0, 1.0, 0.0] {
            builder.insert(value).unwrap();
        }
        let built = builder.build().unwrap();
        assert_eq!(built.count(), u64::from(u32::MAX) + 2 + 1 + 2);
        let counts: Vec<u64> = built.weighted_values().map(|(_, count)| count).collect();
        assert_eq!(counts, [2, u64::from(u32::MAX) + 2, 1]);
    }

    #[test]
    fn counts_stop_at_their_largest_instead_of_wrapping() {
        let full = LogLinear::from_cells(vec![Cell::new(bucket_of(1.0), u64::MAX)], 1.0, 1.0).unwrap();
        let merged = LogLinear::merged(&[&full, &full, &LogLinear::from_values(&[2.0]).unwrap()]).unwrap();
        assert_eq!(merged.count(), (1 << 50) - 1);
        assert_eq!((merged.quantile(0.5), merged.max()), (1.0 + 1.0 / 128.0, 2.0));
    }
}
