//! Sketches: summaries of many values that answer quantiles, small enough to keep for a month.
//!
//! May not know: series, slots, time, files. Invariant: a quantile is monotone in `q`, lies within
//! `[min, max]`, and never lies in a gap where no value fell.

mod any;
mod bits;
mod build;
mod encode;
mod log_linear;
mod merge;
mod scale;
mod tdigest;
mod weights;

pub use any::{AnySketch, SketchKind};
pub use build::TDigestBuilder;
pub(crate) use build::is_valid;
pub use log_linear::{LogLinear, LogLinearBuilder};
pub use tdigest::TDigest;

pub(crate) use tdigest::{SLOT_COMPRESSION, WINDOW_COMPRESSION};

use crate::codec::DecodeError;

/// The first byte of an encoded t-digest, but for its flags and parameter.
const HEAD_T_DIGEST: u8 = 0x80;
/// The first byte of an encoded log-linear histogram.
const HEAD_LOG_LINEAR: u8 = 0x10;

/// Why a value or a set of values could not go into a sketch.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum SketchError {
    /// The value is NaN, infinite, negative or too large to be a usage.
    #[error("{0} is not a usage: only values from 0 to 1e37 can be counted; drop the sample")]
    InvalidValue(f64),
    /// There is nothing to summarise.
    #[error("a sketch of no values has no quantiles; add a value first")]
    Empty,
}

/// What every sketch can do.
pub trait Sketch: Sized {
    /// The sketch of several sketches' values together, in the given order.
    ///
    /// # Errors
    /// [`SketchError::Empty`] when `parts` is empty.
    fn merged(parts: &[&Self]) -> Result<Self, SketchError>;

    /// An estimate of the value that a share `q` of all values does not exceed, in the values'
    /// unit. `q` outside `[0, 1]` is clamped; NaN asks for the maximum.
    fn quantile(&self, q: f64) -> f64;

    /// How many values were counted.
    fn count(&self) -> u64;

    /// The smallest value, in the values' unit.
    fn min(&self) -> f64;

    /// The largest value, in the values' unit; never below the largest that was counted.
    fn max(&self) -> f64;

    /// The sum of all values, to the precision of the encoding.
    fn sum(&self) -> f64;

    /// Appends the sketch's bytes to `out`.
    fn encode(&self, out: &mut Vec<u8>);

    /// Reads what [`Sketch::encode`] wrote; `bytes` must hold nothing else.
    ///
    /// # Errors
    /// Any bytes that `encode` cannot have written; never panics, and allocates no more than a
    /// small multiple of `bytes`.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;
}
