//! A sketch of either kind: what slots and windows hold, so that a store keeps its history when
//! the kind is changed.
//!
//! May not know: series, slots, files. Invariant: sketches of one kind merge into that kind, mixed
//! ones into a t-digest.

use std::borrow::Cow;

use super::tdigest::{Centroid, SLOT_COMPRESSION, WINDOW_COMPRESSION, is_wide};
use super::{HEAD_LOG_LINEAR, LogLinear, Sketch, SketchError, TDigest, merge};
use crate::codec::DecodeError;

/// Which sketch samples are counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum SketchKind {
    /// [`TDigest`]: the smaller, and the more accurate on average.
    #[default]
    TDigest,
    /// [`LogLinear`]: never more than 0.8 % from the exact value, and the faster.
    LogLinear,
}

/// A sketch of either kind.
#[derive(Clone, Debug, PartialEq)]
pub enum AnySketch {
    /// A t-digest.
    TDigest(TDigest),
    /// A log-linear histogram.
    LogLinear(LogLinear),
}

impl AnySketch {
    /// What a slot keeps of some values, which may be sorted in place.
    ///
    /// # Errors
    /// [`SketchError::InvalidValue`] for the first value that is NaN, infinite, negative or above
    /// 1e37; [`SketchError::Empty`] when there is none.
    pub fn from_values(kind: SketchKind, values: &mut [f64]) -> Result<Self, SketchError> {
        match kind {
            SketchKind::TDigest => TDigest::from_values(values, SLOT_COMPRESSION).map(Self::TDigest),
            SketchKind::LogLinear => LogLinear::from_values(values).map(Self::LogLinear),
        }
    }

    /// The sketch of several sketches' values together. `compression` is that of a t-digest.
    ///
    /// # Errors
    /// [`SketchError::Empty`] when `parts` is empty.
    pub(crate) fn merged_with(parts: &[&Self], compression: f64) -> Result<Self, SketchError> {
        let histograms: Vec<&LogLinear> = parts.iter().filter_map(|part| part.as_log_linear()).collect();
        if !parts.is_empty() && histograms.len() == parts.len() {
            return LogLinear::merged(&histograms).map(Self::LogLinear);
        }
        let digests = parts.iter().map(|part| part.as_digest()).collect::<Result<Vec<_>, _>>()?;
        let digests: Vec<&TDigest> = digests.iter().map(AsRef::as_ref).collect();
        TDigest::merged_with(&digests, compression).map(Self::TDigest)
    }

    /// Which kind it is.
    pub fn kind(&self) -> SketchKind {
        match self {
            Self::TDigest(_) => SketchKind::TDigest,
            Self::LogLinear(_) => SketchKind::LogLinear,
        }
    }

    fn as_log_linear(&self) -> Option<&LogLinear> {
        match self {
            Self::TDigest(_) => None,
            Self::LogLinear(histogram) => Some(histogram),
        }
    }

    fn as_digest(&self) -> Result<Cow<'_, TDigest>, SketchError> {
        match self {
            Self::TDigest(digest) => Ok(Cow::Borrowed(digest)),
            Self::LogLinear(histogram) => digest_of(histogram).map(Cow::Owned),
        }
    }
}

/// A histogram as a digest: each bucket a centroid at its middle, but the minimum and the maximum
/// by themselves; gaps where empty buckets are.
fn digest_of(histogram: &LogLinear) -> Result<TDigest, SketchError> {
    let mut values: Vec<(f64, u64)> = histogram.weighted_values().collect();
    let is_single = histogram.count() == 1;
    // Every bucket holds a value; with two values or more, its first and its last are not the same.
    if let Some((_, last)) = values.last_mut() {
        *last -= 1;
    }
    if let Some((_, first)) = values.first_mut().filter(|_| !is_single) {
        *first -= 1;
    }
    let low = (!is_single).then_some((histogram.min(), 1));
    let inner = values.into_iter().filter(|(_, weight)| *weight > 0);
    let values: Vec<(f64, u64)> = low.into_iter().chain(inner).chain([(histogram.max(), 1)]).collect();
    let next_values = values.iter().skip(1).map(|(value, _)| *value).chain([0.0]);
    let centroid = |(&(value, weight), next)| Centroid::new(value, weight, is_wide(value, next));
    let centroids = values.iter().zip(next_values).map(centroid).collect();
    TDigest::from_centroids(merge::compress(centroids, WINDOW_COMPRESSION))
}

impl Sketch for AnySketch {
    fn merged(parts: &[&Self]) -> Result<Self, SketchError> {
        Self::merged_with(parts, WINDOW_COMPRESSION)
    }

    fn quantile(&self, q: f64) -> f64 {
        match self {
            Self::TDigest(sketch) => sketch.quantile(q),
            Self::LogLinear(sketch) => sketch.quantile(q),
        }
    }

    fn count(&self) -> u64 {
        match self {
            Self::TDigest(sketch) => sketch.count(),
            Self::LogLinear(sketch) => sketch.count(),
        }
    }

    fn min(&self) -> f64 {
        match self {
            Self::TDigest(sketch) => sketch.min(),
            Self::LogLinear(sketch) => sketch.min(),
        }
    }

    fn max(&self) -> f64 {
        match self {
            Self::TDigest(sketch) => sketch.max(),
            Self::LogLinear(sketch) => sketch.max(),
        }
    }

    fn sum(&self) -> f64 {
        match self {
            Self::TDigest(sketch) => sketch.sum(),
            Self::LogLinear(sketch) => sketch.sum(),
        }
    }

    fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::TDigest(sketch) => sketch.encode(out),
            Self::LogLinear(sketch) => sketch.encode(out),
        }
    }

    /// The first byte tells the kind.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        match bytes.first() {
            Some(&HEAD_LOG_LINEAR) => LogLinear::decode(bytes).map(Self::LogLinear),
            _ => TDigest::decode(bytes).map(Self::TDigest),
        }
    }
}
