//! The answers: what a container used, as distributions, and what became of samples.
//!
//! May not know: files, slots' encoding.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::Timestamp;
use crate::sketch::{AnySketch, Sketch, SketchError, TDigest, WINDOW_COMPRESSION};
use crate::slot::SlotKind;

/// What became of the samples of one append, or of all appends.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Appended {
    /// Counted and durable.
    pub accepted: u64,
    /// Already counted: same series, pod and time.
    pub duplicates: u64,
    /// Refused: their slot is no longer open.
    pub late: u64,
    /// Refused: more than two minutes ahead of `now`.
    pub future: u64,
    /// Refused: NaN, infinite, negative or above 1e37, or of a series that the store does not
    /// know (any more).
    pub invalid: u64,
}

impl Appended {
    pub(crate) fn add(&mut self, other: Self) {
        self.accepted += other.accepted;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.future += other.future;
        self.invalid += other.invalid;
    }
}

/// The distribution of one resource's samples, in cores or bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Distribution(AnySketch);

impl Distribution {
    /// The distribution of some values, for callers without a store such as tests.
    ///
    /// # Errors
    /// When there is no value, or one is NaN, infinite, negative or above 1e37.
    pub fn from_values(values: impl IntoIterator<Item = f64>) -> Result<Self, SketchError> {
        let mut values: Vec<f64> = values.into_iter().collect();
        TDigest::from_values(&mut values, WINDOW_COMPRESSION).map(AnySketch::TDigest).map(Self)
    }

    pub(crate) fn new(sketch: AnySketch) -> Self {
        Self(sketch)
    }

    /// The value that a share `q` of the samples does not exceed, an estimate: monotone in `q`,
    /// within `[min, max]`, never in a gap where no sample fell. `q` outside `[0, 1]` is clamped;
    /// NaN answers the maximum.
    pub fn quantile(&self, q: f64) -> f64 {
        self.0.quantile(q)
    }

    /// How many samples were counted; at least one.
    pub fn count(&self) -> u64 {
        self.0.count()
    }

    /// The smallest sample.
    pub fn min(&self) -> f64 {
        self.0.min()
    }

    /// The largest sample, rounded up by at most 0.002 %, never below the true one.
    pub fn max(&self) -> f64 {
        self.0.max()
    }

    /// The mean, to about 0.2 % (0.8 % where the store keeps log-linear histograms).
    pub fn mean(&self) -> f64 {
        self.sum() / self.count() as f64
    }

    /// The sum of all samples, to about 0.2 % (0.8 % where the store keeps log-linear histograms).
    pub fn sum(&self) -> f64 {
        self.0.sum()
    }
}

/// What a series used in some span of time.
#[derive(Clone, Debug, PartialEq)]
pub struct Usage {
    /// CPU, in cores.
    pub cpu: Distribution,
    /// Memory, in bytes.
    pub memory: Distribution,
    /// The first sample that was counted.
    pub from: Timestamp,
    /// The last sample that was counted.
    pub to: Timestamp,
    /// The time really covered: five minutes for each 5-minute slot with a sample, as far as it
    /// lies within the span asked for. A slot that is still open counts up to `now`. Slots that
    /// were merged remember how many of their 5-minute slots had samples. A window is never
    /// covered before its first sample.
    pub covered: Duration,
}

/// What one call of [`crate::Store::maintain`] did.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Maintained {
    /// 5-minute slots sealed.
    pub sealed: u64,
    /// Blocks of 128 series written towards a roll-up.
    pub blocks: u64,
    /// Hour and day slots completed.
    pub rolled_up: u64,
    /// Slots past the retention removed.
    pub expired: u64,
    /// Series forgotten, because the retention removed their last sample.
    pub retired: u64,
    /// The sled part was rewritten.
    pub rewritten: bool,
    /// More work is due at this very `now`; the next call does it.
    pub pending: bool,
}

/// The state of the store, for people and metrics.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreStatus {
    /// Series known.
    pub series: u64,
    /// 5-minute slots that still take samples.
    pub open_slots: u64,
    /// Sealed slots by kind.
    pub sealed_slots: BTreeMap<SlotKind, u64>,
    /// The open slots were read ([`crate::Store::load`]); before, only what is sealed is known.
    pub is_loaded: bool,
    /// The `now` of the last append that stored something, also from before a restart.
    pub last_tick: Option<Timestamp>,
    /// `now` minus [`StoreStatus::last_tick`].
    pub last_tick_age: Option<Duration>,
    /// Bytes on disk, all files together.
    pub disk_bytes: u64,
    /// Damage found since the store was opened and what became of it, one sentence each.
    pub problems: Vec<String>,
    /// What became of all samples since the store was opened.
    pub totals: Appended,
}
