//! The steps from a usage distribution to one request, each kept so that it can be explained.

use super::oom::OomFloor;
use crate::plant::planted;
use crate::policy::{Bounds, MemoryFloor, Percentile, ResourcePlan};
use crate::quantity::{Bytes, Millicores};
use crate::usage::ResourceUsage;

/// A memory request stays this much above the observed peak. On real traces P90 × 1.2 alone is exceeded on 81 % of
/// days; a floor at the peak with a small margin removes that.
pub const PEAK_MARGIN: f64 = 1.05;

/// A request and the steps that led to it.
#[derive(Clone, PartialEq, Debug)]
pub struct Sized<T> {
    /// The request.
    pub request: T,
    /// What each step did, in order; amounts in cores or bytes.
    pub steps: Vec<Step>,
}

/// One step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Step {
    /// `percentile` of usage is `value`; times `factor` it gives `result`.
    Percentile {
        /// Which percentile.
        percentile: Percentile,
        /// Its value.
        value: f64,
        /// The safety factor.
        factor: f64,
        /// The product.
        result: f64,
    },
    /// Raised to the observed peak and its margin.
    PeakFloor {
        /// The window's largest sample.
        peak: f64,
        /// What the floor gives.
        result: f64,
    },
    /// Raised above what a container hit when it was killed for memory.
    OomFloor {
        /// The kill and its margin.
        floor: OomFloor,
        /// What the floor gives.
        result: f64,
    },
    /// Raised to the policy's least value.
    RaisedToMin(f64),
    /// Lowered to the policy's greatest value.
    LoweredToMax(f64),
}

/// Sizes CPU: percentile × factor, bounds, up to the next millicore.
pub fn size_cpu(usage: &ResourceUsage, plan: &ResourcePlan<Millicores>) -> Sized<Millicores> {
    let mut steps = Vec::new();
    let wanted = percentile(&mut steps, usage, plan.percentile, plan.safety_factor);
    let bounds = Bounds { min: plan.bounds.min.cores(), max: plan.bounds.max.cores() };
    clamp(&mut steps, wanted, bounds);
    let request = Millicores::from_cores_ceil(wanted).clamp(plan.bounds.min, plan.bounds.max);
    Sized { request, steps }
}

/// Sizes memory: percentile × factor, the floors at the peak and of kills, bounds, up to the next mebibyte within them.
pub fn size_memory(
    usage: &ResourceUsage,
    plan: &ResourcePlan<Bytes>,
    floor: MemoryFloor,
    oom: Option<OomFloor>,
) -> Sized<Bytes> {
    let mut steps = Vec::new();
    let mut wanted = percentile(&mut steps, usage, plan.percentile, plan.safety_factor);
    let at_peak = usage.peak * PEAK_MARGIN;
    if floor == MemoryFloor::Peak && at_peak > wanted && !planted(5) {
        steps.push(Step::PeakFloor { peak: usage.peak, result: at_peak });
        wanted = at_peak;
    }
    if let Some(floor) = oom.filter(|floor| floor.bytes().as_f64() > wanted) {
        wanted = floor.bytes().as_f64();
        steps.push(Step::OomFloor { floor, result: wanted });
    }
    let bounds = Bounds { min: plan.bounds.min.as_f64(), max: plan.bounds.max.as_f64() };
    clamp(&mut steps, wanted, bounds);
    let max = if planted(4) { Bytes(u64::MAX) } else { plan.bounds.max };
    let request = Bytes::from_f64_ceil_mib(wanted).clamp(plan.bounds.min, max);
    Sized { request, steps }
}

fn percentile(steps: &mut Vec<Step>, usage: &ResourceUsage, percentile: Percentile, factor: f64) -> f64 {
    let value = match percentile {
        Percentile::P50 => usage.p50,
        Percentile::P90 => usage.p90,
        Percentile::P99 => usage.p99,
    };
    let result = if planted(14) { value } else { value * factor };
    steps.push(Step::Percentile { percentile, value, factor, result });
    result
}

fn clamp(steps: &mut Vec<Step>, wanted: f64, bounds: Bounds<f64>) {
    if wanted < bounds.min {
        steps.push(Step::RaisedToMin(bounds.min));
    } else if wanted > bounds.max {
        steps.push(Step::LoweredToMax(bounds.max));
    }
}
