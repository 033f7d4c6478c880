//! Bringing running pods to a size through their `resize` subresource, in batches.
//!
//! Rules (checked on a real API server): the QoS class stays, a request stays at or below its limit, nothing is removed,
//! and a changed resource whose `resizePolicy` is `RestartContainer` restarts the container.

use super::facts::{Facts, PodContainer, PodFacts, ResizeState, Size, at_most};
use super::reason::Reason;
use crate::plant::planted;
use crate::policy::{Direction, UpdatePlan};
use crate::quantity::{Bytes, Millicores};
use crate::workload::{ContainerResources, QosClass, Resources, qos_class};

/// What to patch on one pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodResize {
    /// The pod's name.
    pub pod: String,
    /// The pod's uid.
    pub uid: String,
    /// The version that was decided upon.
    pub resource_version: String,
    /// The containers that change, with their whole new requests and limits.
    pub containers: Vec<ContainerResources>,
}

/// The share of a workload's pods that is resized at once.
const BATCH_PERCENT: usize = 5;

/// The next batch, and how many pods remain after it.
pub(super) fn plan(facts: &Facts<'_>, target: &[Size]) -> Result<(Vec<PodResize>, usize), Reason> {
    allowed(facts)?;
    if facts.pods.is_empty() {
        return Err(Reason::NoRunningPods);
    }
    let mut open = Vec::new();
    for pod in &facts.pods {
        let target = above_use(facts, target, |container| pod.requests(container));
        let containers = changes(pod, &target, facts.update.direction, facts.update.requests_only);
        if !containers.is_empty() {
            open.push(patch(facts, pod, containers)?);
        }
    }
    in_flight(facts, &open)?;
    let batch = (facts.pods.len() * BATCH_PERCENT / 100).max(1);
    let rest = open.split_off(batch.min(open.len()));
    Ok((open, rest.len()))
}

/// The resize of one pod to these containers, where it is allowed and possible.
pub(super) fn of(facts: &Facts<'_>, pod: &PodFacts, containers: Vec<ContainerResources>) -> Result<PodResize, Reason> {
    allowed(facts)?;
    patch(facts, pod, containers)
}

fn patch(facts: &Facts<'_>, pod: &PodFacts, containers: Vec<ContainerResources>) -> Result<PodResize, Reason> {
    possible(facts, pod, &containers)?;
    Ok(PodResize {
        pod: pod.name.clone(),
        uid: pod.uid.clone(),
        resource_version: pod.resource_version.clone(),
        containers,
    })
}

/// Some pod lacks the size, or has not been brought to it yet.
pub(super) fn unfinished(facts: &Facts<'_>, target: &[Size]) -> bool {
    let UpdatePlan { direction, requests_only, .. } = *facts.update;
    let lacks = |pod: &PodFacts| {
        let target = above_use(facts, target, |container| pod.requests(container));
        !changes(pod, &target, direction, requests_only).is_empty()
    };
    facts.pods.iter().any(|pod| pod.resize != ResizeState::Actuated || lacks(pod))
}

/// The pod requests this size, as far as its limits allow.
pub(super) fn has(pod: &PodFacts, size: &[Size], requests_only: bool) -> bool {
    changes(pod, size, Direction::Both, requests_only).is_empty()
}

/// A size without memory that would be lowered below what was used since it was decided, or without knowing that.
pub(super) fn above_use(facts: &Facts<'_>, target: &[Size], requests: impl Fn(&str) -> Option<Resources>) -> Vec<Size> {
    let one = |size: &Size| {
        let before = requests(&size.container).and_then(|requests| requests.memory);
        let is_no_decrease = |memory: Bytes| before.is_none_or(|before| before <= memory);
        let may_be = |memory: &Bytes| is_no_decrease(*memory) || facts.may_lower_memory(&size.container, *memory);
        let memory = size.requests.memory.filter(may_be);
        Size { container: size.container.clone(), requests: Resources { memory, ..size.requests } }
    };
    target.iter().map(one).collect()
}

fn allowed(facts: &Facts<'_>) -> Result<(), Reason> {
    if !facts.update.in_place || (planted(21) && facts.update.recreate) {
        Err(Reason::ResizeNotAllowed)
    } else if !facts.resize_served {
        Err(Reason::ResizeNotServed)
    } else if !facts.rights.resize {
        Err(Reason::ResizeForbidden)
    } else {
        Ok(())
    }
}

/// The containers of a pod that differ from the size, after the change. One pod may request more or less than the others.
pub(super) fn changes(
    pod: &PodFacts,
    target: &[Size],
    direction: Direction,
    requests_only: bool,
) -> Vec<ContainerResources> {
    let change = |container: &PodContainer| {
        let size = target.iter().find(|size| size.container == container.resources.name)?;
        let before = container.resources.requests;
        let requests = Resources {
            cpu: size.requests.cpu.filter(|cpu| allows(direction, before.cpu, *cpu)),
            memory: size.requests.memory.filter(|memory| allows(direction, before.memory, *memory)),
        };
        let after = resized(&container.resources, requests, requests_only);
        (after != container.resources).then_some(after)
    };
    pod.containers.iter().filter_map(change).collect()
}

pub(super) fn allows<T: Ord + Copy>(direction: Direction, before: Option<T>, after: T) -> bool {
    match direction {
        Direction::Both => true,
        Direction::IncreaseOnly => before.is_none_or(|before| before <= after),
        Direction::DecreaseOnly => before.is_some_and(|before| before >= after),
    }
}

/// A container with other requests; its limits stay, or keep their ratio to the request.
pub(super) fn resized(before: &ContainerResources, requests: Resources, requests_only: bool) -> ContainerResources {
    let cpu = requests.cpu.or(before.requests.cpu);
    let memory = requests.memory.or(before.requests.memory);
    let limits = if requests_only {
        before.limits
    } else {
        Resources {
            cpu: in_ratio(before.limits.cpu.map(|m| m.0), before.requests.cpu.map(|m| m.0), cpu.map(|m| m.0), 1)
                .map(Millicores),
            memory: in_ratio(
                before.limits.memory.map(|b| b.0),
                before.requests.memory.map(|b| b.0),
                memory.map(|b| b.0),
                Bytes::MIB,
            )
            .map(Bytes),
        }
    };
    // Pods of one workload can have other limits than the one that the size was decided upon.
    let requests = Resources { cpu: at_most(cpu, limits.cpu), memory: at_most(memory, limits.memory) };
    ContainerResources { name: before.name.clone(), requests, limits }
}

/// The limit that has to the new request the ratio that the old limit had to the old one, rounded up to `unit`;
/// exactly the request where the two were equal.
fn in_ratio(limit: Option<u64>, old: Option<u64>, new: Option<u64>, unit: u64) -> Option<u64> {
    let (limit, old, new) = (limit?, old.unwrap_or(0), new.unwrap_or(0));
    if old == 0 || old == new {
        return Some(limit.max(new));
    }
    if limit == old {
        return Some(new);
    }
    let scaled = (u128::from(limit) * u128::from(new)).div_ceil(u128::from(old));
    Some(u64::try_from(scaled).unwrap_or(u64::MAX).checked_next_multiple_of(unit).unwrap_or(u64::MAX).max(new))
}

fn possible(facts: &Facts<'_>, pod: &PodFacts, after: &[ContainerResources]) -> Result<(), Reason> {
    if pod.pod_level_resources {
        return Err(Reason::UnsupportedPodResources { pod: pod.name.clone() });
    }
    let before: Vec<_> = pod.containers.iter().map(|c| &c.resources).collect();
    let class = qos_class(before.iter().copied().chain(&pod.init_containers));
    if class == QosClass::BestEffort {
        return Err(Reason::BestEffortPods);
    }
    let whole = before.iter().map(|c| after.iter().find(|a| a.name == c.name).unwrap_or(c));
    if qos_class(whole.chain(&pod.init_containers)) != class {
        return Err(Reason::QosWouldChange);
    }
    for container in &pod.containers {
        let Some(after) = after.iter().find(|a| a.name == container.resources.name) else { continue };
        let cpu = after.requests.cpu != container.resources.requests.cpu
            || after.limits.cpu != container.resources.limits.cpu;
        let memory = after.requests.memory != container.resources.requests.memory
            || after.limits.memory != container.resources.limits.memory;
        if !facts.update.recreate && ((cpu && container.cpu_restarts) || (memory && container.memory_restarts)) {
            return Err(Reason::ResizeRestarts { container: after.name.clone() });
        }
    }
    Ok(())
}

/// A batch that has been sent and is not yet actuated and ready comes before the next one.
fn in_flight(facts: &Facts<'_>, open: &[PodResize]) -> Result<(), Reason> {
    let sent = |pod: &&PodFacts| !open.iter().any(|o| o.uid == pod.uid);
    for pod in facts.pods.iter().filter(sent) {
        match &pod.resize {
            ResizeState::Infeasible(detail) => {
                return Err(Reason::ResizeInfeasible { pod: pod.name.clone(), detail: detail.clone() });
            }
            ResizeState::Deferred => return Err(Reason::ResizeDeferred { pod: pod.name.clone() }),
            ResizeState::Actuated if pod.ready => {}
            _ if planted(111) => {}
            _ => {
                let done =
                    facts.pods.iter().filter(sent).filter(|p| p.resize == ResizeState::Actuated && p.ready).count();
                return Err(Reason::ResizeInProgress { done, pods: facts.pods.len() });
            }
        }
    }
    // Every pod has the size already, by whomever it was given.
    if open.is_empty() {
        return Err(Reason::AlreadySized { min_change_percent: facts.update.min_change_percent });
    }
    Ok(())
}
