//! The t-digest: centroids in ascending order, each with the bit "empty up to my right neighbour".
//!
//! After Ted Dunning's merging digest with scale function k2 (<https://arxiv.org/abs/1902.04023>);
//! the gap bit is ours. Invariant: at least one centroid, means ascend, weights are positive; the
//! first mean is the minimum and the last the maximum, because k2 never joins an extreme with a
//! different value.

use super::{Sketch, SketchError, merge};
use crate::codec::DecodeError;

/// Compression of a slot's digest.
pub(crate) const SLOT_COMPRESSION: f64 = 50.0;
/// Compression of a window's digest: twice the slots', which halves the error for a third more
/// bytes.
pub(crate) const WINDOW_COMPRESSION: f64 = 100.0;
/// Centroids that a digest may have, gaps included.
pub(crate) const MAX_CENTROIDS: usize = 384;
/// The largest weight of a whole digest: counts stay exact as `f64`.
pub(crate) const MAX_WEIGHT: u64 = 1 << 53;

/// Some values near each other, as their mean and number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Centroid {
    pub(crate) mean: f64,
    /// `weight << 1 | gap`: sixteen bytes a centroid.
    packed: u64,
}

impl Centroid {
    pub(crate) fn new(mean: f64, weight: u64, gap: bool) -> Self {
        Self { mean, packed: weight << 1 | u64::from(gap) }
    }

    pub(crate) fn weight(self) -> u64 {
        self.packed >> 1
    }

    /// No value fell between this centroid and the next.
    pub(crate) fn gap(self) -> bool {
        self.packed & 1 == 1
    }
}

/// Whether the distance between two neighbouring values is wide enough to be a gap: more than
/// 10 % and 1e-6. Narrower ones are not worth a centroid: what is answered there lies within 5 %
/// of a real value.
pub(crate) fn is_wide(left: f64, right: f64) -> bool {
    right - left > 1e-6 && right > left * 1.1
}

/// A summary of values, immutable; build one with [`super::TDigestBuilder`] or by merging.
#[derive(Clone, Debug, PartialEq)]
pub struct TDigest {
    centroids: Vec<Centroid>,
    count: u64,
}

impl TDigest {
    /// The caller upholds the invariant in the module's head, except that an empty list is given
    /// back as [`SketchError::Empty`].
    pub(super) fn from_centroids(centroids: Vec<Centroid>) -> Result<Self, SketchError> {
        if centroids.is_empty() {
            return Err(SketchError::Empty);
        }
        let count = centroids.iter().map(|c| c.weight()).sum();
        Ok(Self { centroids, count })
    }

    /// Centroids whose weights add up to `total`, one at least.
    pub(super) fn of_total(centroids: Vec<Centroid>, total: u64) -> Self {
        Self { centroids, count: total }
    }

    pub(super) fn centroids(&self) -> &[Centroid] {
        &self.centroids
    }

    /// Merges digests and compresses the result with `compression` (δ, clamped to 10..=1000).
    ///
    /// # Errors
    /// [`SketchError::Empty`] when `parts` is empty.
    pub fn merged_with(parts: &[&Self], compression: f64) -> Result<Self, SketchError> {
        Self::from_centroids(merge::merge(parts, compression))
    }

    /// Centroids held now; what the digest costs in memory is 16 bytes each.
    pub fn centroid_count(&self) -> usize {
        self.centroids.len()
    }

    /// The value at `rank` (in 0..=count) on the polyline through the centroids' middles, which
    /// is flat on both sides of a gap.
    fn at_rank(&self, rank: f64) -> f64 {
        let mut before = 0.0;
        let mut left: Option<(f64, Centroid)> = None;
        for &centroid in &self.centroids {
            let weight = centroid.weight() as f64;
            let middle = before + weight / 2.0;
            if rank <= middle {
                return match left {
                    Some((at, c)) if !c.gap() => between(rank, (at, c.mean), (middle, centroid.mean)),
                    Some((_, c)) if rank <= before => c.mean,
                    _ => centroid.mean,
                };
            }
            left = Some((middle, centroid));
            before += weight;
        }
        self.max()
    }
}

/// Linear interpolation; the ends are met exactly and never passed.
fn between(rank: f64, left: (f64, f64), right: (f64, f64)) -> f64 {
    let share = (rank - left.0) / (right.0 - left.0);
    (left.1 + (right.1 - left.1) * share).clamp(left.1, right.1)
}

impl Sketch for TDigest {
    fn merged(parts: &[&Self]) -> Result<Self, SketchError> {
        Self::merged_with(parts, WINDOW_COMPRESSION)
    }

    fn quantile(&self, q: f64) -> f64 {
        if q.is_nan() {
            return self.max();
        }
        self.at_rank(q.clamp(0.0, 1.0) * self.count as f64)
    }

    fn count(&self) -> u64 {
        self.count
    }

    fn min(&self) -> f64 {
        self.centroids.first().map_or(0.0, |c| c.mean)
    }

    fn max(&self) -> f64 {
        self.centroids.last().map_or(0.0, |c| c.mean)
    }

    fn sum(&self) -> f64 {
        self.centroids.iter().map(|c| c.mean * c.weight() as f64).sum()
    }

    fn encode(&self, out: &mut Vec<u8>) {
        super::encode::encode(self, out);
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        super::encode::decode(bytes)
    }
}
