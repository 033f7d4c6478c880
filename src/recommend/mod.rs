//! From usage and a policy's settings to a recommendation and its explanation. Pure.
//!
//! The steps, in order, each named in the explanation:
//! percentile × safety factor → memory floor at the observed peak → memory floor of OOM kills → bounds → rounding up (CPU 1m, memory 1Mi).
//! `memoryFloor: None` switches off the floor at the peak only: a kill is no estimate.
//!
//! Invariant: the same usage settings and kills give the same recommendation and the same sentence, here and over
//! gRPC, where nothing is known of kills.

mod explain;
mod oom;
mod steps;

#[cfg(test)]
mod tests;

pub use oom::{OomFloor, OomKill};
pub use steps::{PEAK_MARGIN, Sized, Step};

use crate::plant::planted;
use crate::policy::{ContainerPlan, MemoryFloor, MetricsPlan};
use crate::quantity::{Bytes, Millicores};
use crate::usage::WindowUsage;
use jiff::Timestamp;
use std::time::Duration;

/// What one container should request, and how that came about.
#[derive(Clone, PartialEq, Debug)]
pub struct Recommendation {
    /// The CPU request and the steps to it.
    pub cpu: Sized<Millicores>,
    /// The memory request and the steps to it.
    pub memory: Sized<Bytes>,
    /// The peak below which memory is not to be lowered: the window's, unless the policy's `memoryFloor` is `None`.
    pub peak: Option<Bytes>,
    /// Usage covers the whole window (95 % of it at least): only then may a request be lowered.
    pub window_covered: bool,
    /// The last sample that counted.
    pub newest_sample: Timestamp,
    /// One sentence for each resource that a person can check by hand.
    pub explanation: String,
}

/// Why there is no recommendation yet, and when there will be one.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Insufficient {
    /// The provider has never seen the container, or not within the window.
    #[error(
        "no usage is known for this container within the window; it may be new; if this stays so, check that the usage provider sees its pods (metrics-server: `kubectl top pod`)"
    )]
    NoUsage,
    /// The same of a container that is killed before a sample of it is taken, as one that needs more from its first moment.
    #[error(
        "it was killed for memory at {hit}, and hardly runs for long enough that its usage is seen: give it more memory by hand (its limit; its request where it has none); recommendations follow when it runs"
    )]
    KilledUnseen {
        /// What it hit.
        hit: Bytes,
    },
    /// Fewer samples than `minSamples`.
    #[error("{have} of {need} samples so far; the recommendation follows when there are enough")]
    Samples {
        /// Samples of the scarcer resource.
        have: u64,
        /// The policy's `minSamples`.
        need: u64,
    },
    /// Samples cover less time than `minSpan`.
    #[error("usage covers {} of the needed {}; enough in {}", human(*.have), human(*.need), human(.need.saturating_sub(*.have)))]
    Span {
        /// The time covered.
        have: Duration,
        /// The policy's `minSpan`.
        need: Duration,
    },
}

impl Insufficient {
    /// Why there is nothing to tell of a container without usage, whose kills for memory demand this.
    pub fn no_usage(oom: Option<OomFloor>) -> Self {
        oom.map_or(Self::NoUsage, |floor| Self::KilledUnseen { hit: floor.hit })
    }
}

/// The share of the window that must be covered before a request may be lowered: below the whole, so that
/// a restart of the collector does not hold decreases back for a whole window.
const COVERED_SHARE: f64 = 0.95;

/// Computes what a container should request. `oom` is the floor of its kills for memory, where there were any.
///
/// # Errors
/// [`Insufficient`] while there is too little data.
pub fn recommend(
    usage: &WindowUsage,
    metrics: &MetricsPlan,
    plan: &ContainerPlan,
    oom: Option<OomFloor>,
) -> Result<Recommendation, Insufficient> {
    enough(usage, metrics, oom)?;
    let cpu = steps::size_cpu(&usage.cpu, &plan.cpu);
    let memory = steps::size_memory(&usage.memory, &plan.memory, metrics.memory_floor, oom);
    let explanation = explain::sentence(usage, metrics, &cpu, &memory);
    let window_covered = usage.covered.as_secs_f64() >= metrics.window.as_secs_f64() * COVERED_SHARE;
    let peak = (metrics.memory_floor == MemoryFloor::Peak).then(|| Bytes::from_f64_ceil_mib(usage.memory.peak));
    Ok(Recommendation { cpu, memory, peak, window_covered, newest_sample: usage.to, explanation })
}

fn enough(usage: &WindowUsage, metrics: &MetricsPlan, oom: Option<OomFloor>) -> Result<(), Insufficient> {
    let have = usage.cpu.samples.min(usage.memory.samples);
    if have == 0 {
        return Err(Insufficient::no_usage(oom));
    }
    let need = if planted(2) { metrics.min_samples * 100 } else { metrics.min_samples };
    if have < need {
        return Err(Insufficient::Samples { have, need });
    }
    if usage.covered < metrics.min_span {
        return Err(Insufficient::Span { have: usage.covered, need: metrics.min_span });
    }
    Ok(())
}

fn human(duration: Duration) -> String {
    humantime::format_duration(Duration::from_secs(duration.as_secs())).to_string()
}
