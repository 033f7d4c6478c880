//! Bringing a recommendation into what the namespace's LimitRanges allow, before anything is decided upon it.

use super::ranges::{LimitRange, least_request, of_containers};
use super::{Guards, Resource};
use crate::policy::{Bounds, ContainerPlan};
use crate::quantity::{Bytes, Millicores};
use crate::recommend::Recommendation;
use crate::workload::ContainerResources;
use std::fmt::Write as _;
use std::sync::Arc;

/// The recommendation within the LimitRanges, as far as the policy's bounds allow, with a word on it in the explanation.
///
/// `container` is as it is now: a limit that stays decides what `maxLimitRequestRatio` allows. What does not fit is left as
/// it is, and held with the LimitRange's name when it comes to be written.
pub fn fit(
    mut recommendation: Recommendation,
    container: Option<&ContainerResources>,
    limits_stay: bool,
    plan: &ContainerPlan,
    guards: &Guards,
) -> Recommendation {
    let ranges = &guards.limit_ranges;
    let limits = container.map(|container| container.limits).unwrap_or_default();
    let moved = |resource: Resource, wanted: u64, bounds: Bounds<u64>| {
        let limit = resource.of(&limits).filter(|_| limits_stay);
        let has_limit = resource.of(&limits).is_some();
        let least =
            of_containers(ranges).filter_map(|range| Some((least(range, resource, limit)?, range))).max_by_key(|m| m.0);
        let most = ceiling(ranges, resource, has_limit);
        let (to, word, range) = match (least, most) {
            (Some((least, range)), _) if wanted < least => (least, "raised to the minimum", range),
            (_, Some((most, range))) if wanted > most => (most, "lowered to the maximum", range),
            _ => return None,
        };
        let possible = bounds.min <= to && to <= bounds.max;
        possible.then(|| (to, format!("{word} {} of LimitRange {}", resource.text(to), range.name)))
    };
    let (cpu, memory) = (plan.cpu.bounds, plan.memory.bounds);
    let cpu = moved(Resource::Cpu, recommendation.cpu.request.0, Bounds { min: cpu.min.0, max: cpu.max.0 });
    let memory =
        moved(Resource::Memory, recommendation.memory.request.0, Bounds { min: memory.min.0, max: memory.max.0 });
    // Writing to a String cannot fail.
    if let Some((to, why)) = cpu {
        recommendation.cpu.request = Millicores(to);
        let _ = write!(recommendation.explanation, "; CPU {why}");
    }
    if let Some((to, why)) = memory {
        recommendation.memory.request = Bytes(to);
        let _ = write!(recommendation.explanation, "; memory {why}");
    }
    recommendation
}

/// The least request of a container whose limit is this.
fn least(range: &LimitRange, resource: Resource, limit: Option<u64>) -> Option<u64> {
    let by_ratio = range.ratio.of(resource).and_then(|ratio| least_request(limit, ratio));
    resource.of(&range.min).max(by_ratio)
}

/// The greatest request, with the LimitRange that says so. A container without a limit gets the default one when it is
/// created, which its request may not exceed.
pub fn ceiling(ranges: &[Arc<LimitRange>], resource: Resource, has_limit: bool) -> Option<(u64, &LimitRange)> {
    let most = |range: &LimitRange| {
        let default = resource.of(&range.default).filter(|_| !has_limit);
        let all = [resource.of(&range.max), default];
        all.into_iter().flatten().min()
    };
    of_containers(ranges).filter_map(|range| Some((most(range)?, range))).min_by_key(|most| most.0)
}
