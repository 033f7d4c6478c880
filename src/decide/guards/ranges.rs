//! LimitRanges: what the `LimitRanger` plugin refuses, and what it would set by itself.
//!
//! It judges every container of a pod, also those that do not change, and on a resize as on a creation.

use super::{Resource, sum};
use crate::decide::facts::PodFacts;
use crate::decide::reason::Reason;
use crate::workload::{ContainerResources, Resources};
use std::sync::Arc;

/// One item of a LimitRange, with the defaults that the API server derives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LimitRange {
    /// The object's name.
    pub name: String,
    /// What each amount is for.
    pub scope: Scope,
    /// The least request, and the least limit where there is one.
    pub min: Resources,
    /// The greatest limit, which must be set, and the greatest request.
    pub max: Resources,
    /// The greatest limit, as a multiple of the request.
    pub ratio: Ratio,
    /// The limit of containers without one.
    pub default: Resources,
    /// The request of containers without one.
    pub default_request: Resources,
}

/// What a LimitRange bounds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scope {
    /// Each container.
    Container,
    /// The sum over a pod's containers.
    Pod,
}

/// The greatest ratio of limit to request, in thousandths.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Ratio {
    /// Of CPU.
    pub cpu: Option<u64>,
    /// Of memory.
    pub memory: Option<u64>,
}

impl Ratio {
    pub(super) fn of(self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Cpu => self.cpu,
            Resource::Memory => self.memory,
        }
    }
}

type Ranges = [Arc<LimitRange>];

/// Those that bound containers.
pub(super) fn of_containers(ranges: &Ranges) -> impl Iterator<Item = &LimitRange> {
    ranges.iter().map(|range| &**range).filter(|range| range.scope == Scope::Container)
}

/// A resize would give limits and requests to containers without them, and change what nobody asked to change.
pub(super) fn keep_as_they_are(
    ranges: &Ranges,
    containers: &[ContainerResources],
    init: &[ContainerResources],
) -> Result<(), Reason> {
    for range in of_containers(ranges) {
        for container in containers.iter().chain(init) {
            for resource in Resource::BOTH {
                let sets = |default: &Resources, now: &Resources| {
                    resource.of(default).filter(|_| resource.of(now).is_none()).map(|amount| resource.text(amount))
                };
                let (kind, amount) = match (
                    sets(&range.default, &container.limits),
                    sets(&range.default_request, &container.requests),
                ) {
                    (Some(amount), _) => ("limit", amount),
                    (None, Some(amount)) => ("request", amount),
                    (None, None) => continue,
                };
                return Err(Reason::LimitRangeWouldSetLimits {
                    limit_range: range.name.clone(),
                    container: container.name.clone(),
                    detail: format!("a {} {kind} of {amount}", resource.name()),
                });
            }
        }
    }
    Ok(())
}

/// A container of a new pod, as admission leaves it.
pub(super) fn with_defaults(ranges: &Ranges, container: &ContainerResources) -> ContainerResources {
    let mut set = container.clone();
    for range in of_containers(ranges) {
        set.limits.cpu = set.limits.cpu.or(range.default.cpu);
        set.limits.memory = set.limits.memory.or(range.default.memory);
        set.requests.cpu = set.requests.cpu.or(range.default_request.cpu);
        set.requests.memory = set.requests.memory.or(range.default_request.memory);
    }
    set
}

/// A default limit below the new request would keep every new pod from being created.
pub(super) fn requests_within_limits(ranges: &Ranges, containers: &[ContainerResources]) -> Result<(), Reason> {
    for container in containers {
        for resource in Resource::BOTH {
            let (request, limit) = (resource.of(&container.requests), resource.of(&container.limits));
            let above = request.zip(limit).filter(|(request, limit)| request > limit);
            let source = of_containers(ranges).find(|range| resource.of(&range.default) == limit);
            if let (Some((request, limit)), Some(range)) = (above, source) {
                let what = format!("the default {} limit is {}", resource.name(), resource.text(limit));
                return Err(forbids(range, &container.name, &what, "request", &resource.text(request)));
            }
        }
    }
    Ok(())
}

/// The bounds of every LimitRange hold for a pod with these containers.
pub(super) fn allow(ranges: &Ranges, containers: &[ContainerResources], pod: &PodFacts) -> Result<(), Reason> {
    for range in ranges {
        match range.scope {
            Scope::Container => {
                for container in containers.iter().chain(&pod.init_containers) {
                    check(range, &container.name, |r| (r.of(&container.requests), r.of(&container.limits)))?;
                }
            }
            Scope::Pod => check(range, "", |r| {
                let named = |of: fn(&ContainerResources) -> &Resources| {
                    let any = containers.iter().any(|c| r.of(of(c)).is_some());
                    any.then(|| sum(r, containers, of))
                };
                let requests = named(|c| &c.requests).map(|sum| sum.saturating_add(r.of(&pod.beside).unwrap_or(0)));
                (requests, named(|c| &c.limits))
            })?,
        }
    }
    Ok(())
}

/// `amounts` gives request and limit; an empty container name stands for the whole pod.
fn check(
    range: &LimitRange,
    container: &str,
    amounts: impl Fn(Resource) -> (Option<u64>, Option<u64>),
) -> Result<(), Reason> {
    for resource in Resource::BOTH {
        let (request, limit) = amounts(resource);
        let text = |amount: Option<u64>| amount.map_or("not set".to_owned(), |amount| resource.text(amount));
        if let Some(min) = resource.of(&range.min) {
            let rule = format!("the minimum of {} is {}", resource.name(), resource.text(min));
            if request.is_none_or(|request| request < min) {
                return Err(forbids(range, container, &rule, "request", &text(request)));
            }
            if limit.is_some_and(|limit| limit < min) {
                return Err(forbids(range, container, &rule, "limit", &text(limit)));
            }
        }
        if let Some(max) = resource.of(&range.max) {
            let rule = format!("the maximum of {} is {}", resource.name(), resource.text(max));
            if limit.is_none_or(|limit| limit > max) {
                return Err(forbids(range, container, &rule, "limit", &text(limit)));
            }
            if request.is_some_and(|request| request > max) {
                return Err(forbids(range, container, &rule, "request", &text(request)));
            }
        }
        if let Some(ratio) = range.ratio.of(resource)
            && least_request(limit, ratio).is_none_or(|least| request.is_none_or(|request| request < least))
        {
            let times = f64::from(u32::try_from(ratio).unwrap_or(u32::MAX)) / 1000.0;
            let rule =
                format!("the {} limit may be {times} times the request, which is {}", resource.name(), text(request));
            return Err(forbids(range, container, &rule, "limit", &text(limit)));
        }
    }
    Ok(())
}

/// The least request that a limit allows under a ratio in thousandths; `None` where a limit is missing or zero.
pub(super) fn least_request(limit: Option<u64>, ratio: u64) -> Option<u64> {
    let limit = limit.filter(|limit| *limit > 0)?;
    let least = (u128::from(limit) * 1000).div_ceil(u128::from(ratio.max(1)));
    Some(u64::try_from(least).unwrap_or(u64::MAX).max(1))
}

fn forbids(range: &LimitRange, container: &str, rule: &str, kind: &str, amount: &str) -> Reason {
    let whose = if container.is_empty() { "the pod's".to_owned() } else { format!("container {container}'s") };
    Reason::LimitRangeForbids {
        detail: format!("LimitRange {}: {rule}, and {whose} {kind} would be {amount}", range.name),
    }
}
