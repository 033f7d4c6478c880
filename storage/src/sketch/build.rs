//! From raw values to a digest: here, and only here, gaps are seen in the values themselves.
//!
//! May not know: bytes. Invariant: what goes in is finite and not negative.

use super::tdigest::{Centroid, MAX_CENTROIDS, SLOT_COMPRESSION, TDigest, is_wide};
use super::{SketchError, merge};

/// The largest value that counts as a usage: 1e37 cores or bytes. It leaves room to round up
/// within an `f32`.
pub(crate) const MAX_VALUE: f64 = 1e37;

/// Values held back until they are sorted and merged in.
const BUFFER: usize = 512;

/// Whether a value can be counted: finite, not negative, at most [`MAX_VALUE`].
pub(crate) fn is_valid(value: f64) -> bool {
    (0.0..=MAX_VALUE).contains(&value)
}

impl TDigest {
    /// The digest of some values, which are sorted in place; gap bits come from the values.
    ///
    /// # Errors
    /// [`SketchError::InvalidValue`] for the first value that is NaN, infinite, negative or above
    /// 1e37; [`SketchError::Empty`] when there is none.
    pub fn from_values(values: &mut [f64], compression: f64) -> Result<Self, SketchError> {
        if let Some(&bad) = values.iter().find(|v| !is_valid(**v)) {
            return Err(SketchError::InvalidValue(bad));
        }
        values.sort_unstable_by(f64::total_cmp);
        let mut rest = values.iter().peekable();
        let mut centroids = Vec::with_capacity(values.len().min(4 * MAX_CENTROIDS));
        while let Some(&value) = rest.next() {
            let mut weight = 1;
            while rest.next_if(|next| **next <= value).is_some() {
                weight += 1;
            }
            let gap = rest.peek().is_some_and(|next| is_wide(value, **next));
            centroids.push(Centroid::new(value.abs(), weight, gap)); // -0.0 becomes 0.0
        }
        Self::from_centroids(merge::compress(centroids, compression))
    }
}

/// Collects values one by one. Nothing is ever missing from [`TDigestBuilder::build`]: it merges
/// what is still held back.
#[derive(Clone, Debug)]
pub struct TDigestBuilder {
    compression: f64,
    held: Vec<f64>,
    merged: Option<TDigest>,
}

impl Default for TDigestBuilder {
    /// A builder with the slots' compression, δ = 50.
    fn default() -> Self {
        Self::new(SLOT_COMPRESSION)
    }
}

impl TDigestBuilder {
    /// An empty builder; `compression` is δ, clamped to 10..=1000 where it is used.
    pub fn new(compression: f64) -> Self {
        Self { compression, held: Vec::with_capacity(BUFFER), merged: None }
    }

    /// Counts one value, in whatever unit the caller uses throughout.
    ///
    /// # Errors
    /// [`SketchError::InvalidValue`] when it is NaN, infinite, negative or above 1e37; the builder
    /// is unchanged then.
    pub fn insert(&mut self, value: f64) -> Result<(), SketchError> {
        if !is_valid(value) {
            return Err(SketchError::InvalidValue(value));
        }
        self.held.push(value);
        if self.held.len() >= BUFFER {
            self.merge_held()?;
        }
        Ok(())
    }

    /// The digest of everything inserted so far; inserting may go on.
    ///
    /// # Errors
    /// [`SketchError::Empty`] when nothing was inserted.
    pub fn build(&mut self) -> Result<TDigest, SketchError> {
        if !self.held.is_empty() {
            self.merge_held()?;
        }
        self.merged.clone().ok_or(SketchError::Empty)
    }

    fn merge_held(&mut self) -> Result<(), SketchError> {
        let fresh = TDigest::from_values(&mut self.held, self.compression)?;
        self.held.clear();
        self.merged = Some(match self.merged.take() {
            Some(old) => TDigest::merged_with(&[&old, &fresh], self.compression)?,
            None => fresh,
        });
        Ok(())
    }
}
