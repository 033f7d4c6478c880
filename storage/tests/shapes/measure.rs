//! What is measured of a sketch: errors against exact quantiles, invented values, bytes.

use optipod_storage::{AnySketch, Sketch, SketchKind};

use super::{Burst, SLOT, burst_sweep, distance_to_nearest, sorted};

/// Both kinds, with the names that the tables use.
pub const KINDS: [(SketchKind, &str); 2] = [(SketchKind::TDigest, "t-digest"), (SketchKind::LogLinear, "log-linear")];

/// A slot's sketch as it comes back from the disk, and its bytes there.
pub fn stored(kind: SketchKind, slot: &[f64]) -> (AnySketch, usize) {
    let mut bytes = Vec::new();
    AnySketch::from_values(kind, &mut slot.to_vec()).unwrap().encode(&mut bytes);
    (AnySketch::decode(&bytes).unwrap(), bytes.len())
}

/// A window through its stored hours, and the bytes of these.
pub fn window(kind: SketchKind, values: &[f64]) -> (AnySketch, usize) {
    let (slots, bytes): (Vec<AnySketch>, Vec<usize>) = values.chunks(SLOT).map(|slot| stored(kind, slot)).unzip();
    (AnySketch::merged(&slots.iter().collect::<Vec<_>>()).unwrap(), bytes.iter().sum())
}

/// How far an answer lies from the exact quantile, relative to it. The exact one is anything
/// between the two samples around the rank, so it is the nearer of them for an answer beyond; below
/// a millionth there is no distance.
pub fn error(sorted: &[f64], q: f64, got: f64) -> f64 {
    let rank = q * sorted.len() as f64;
    let low = sorted[(rank - 1.0).max(0.0) as usize];
    let high = sorted[(rank as usize).min(sorted.len() - 1)];
    let exact = got.clamp(low, high);
    let off = (got - exact).abs();
    if off < 1e-6 { 0.0 } else { off / exact.max(1e-6) }
}

/// Errors of many answers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Errors {
    pub count: usize,
    pub sum: f64,
    pub max: f64,
    pub bytes: usize,
    pub slots: usize,
}

impl Errors {
    /// Adds P50, P90 and P99 of one window.
    pub fn add(&mut self, kind: SketchKind, values: &[f64]) {
        let ((sketch, bytes), exact) = (window(kind, values), sorted(values));
        for q in [0.5, 0.9, 0.99] {
            let error = error(&exact, q, sketch.quantile(q));
            self.count += 1;
            self.sum += error;
            self.max = self.max.max(error);
        }
        self.bytes += bytes;
        self.slots += values.len().div_ceil(SLOT);
    }

    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    pub fn bytes_per_slot(&self) -> f64 {
        self.bytes as f64 / self.slots as f64
    }
}

/// Of the 360 answers of a burst sweep, how many lie further than `share` from every sample, and
/// how far the worst lies.
pub fn invented(kind: SketchKind, burst: Burst, share: f64) -> (usize, usize, f64) {
    let off = |(q, values): (f64, Vec<f64>)| distance_to_nearest(&sorted(&values), window(kind, &values).0.quantile(q));
    let off: Vec<f64> = burst_sweep(burst).map(off).collect();
    (off.iter().filter(|off| **off > share).count(), off.len(), off.iter().copied().fold(0.0, f64::max))
}
