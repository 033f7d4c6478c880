//! What the cluster lets a namespace's pods request, and whether a planned change keeps to it: LimitRanges, quotas, nodes.
//!
//! The rules are those of the API server's admission plugins (`LimitRanger`, `ResourceQuota`, `PodResize`), asked before a
//! write so that none is refused which could have been known. It knows neither policy nor usage.
//! Invariant: a change that passes here is refused by none of the three, as far as what was observed is still true.

mod fit;
mod nodes;
mod quotas;
mod ranges;

pub(super) use fit::ceiling;
pub use fit::fit;
pub use nodes::Nodes;
pub use quotas::{Counted, Quota, QuotaRow};
pub use ranges::{LimitRange, Ratio, Scope};

use super::facts::{Facts, PodFacts};
use super::reason::Reason;
use super::resize::PodResize;
use super::rollout::TemplateChange;
use crate::quantity::{Bytes, Millicores};
use crate::workload::{ContainerResources, Resources};
use std::sync::Arc;

/// What bounds one workload's pods, as observed.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Guards {
    /// The VerticalPodAutoscaler that sets this workload's requests.
    pub vpa: Option<String>,
    /// The LimitRanges of its namespace.
    pub limit_ranges: Vec<Arc<LimitRange>>,
    /// The quotas of its namespace that count its pods.
    pub quotas: Vec<Arc<Quota>>,
    /// The nodes; `None` where they cannot be seen, so that only the API server's own refusal counts.
    pub nodes: Option<Nodes>,
    /// How a rollout replaces its pods.
    pub replicas: Replicas,
}

/// How many pods a workload wants, and how a rollout replaces them.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Replicas {
    /// Pods wanted.
    pub wanted: u64,
    /// Pods that may run beyond that during a rollout.
    pub surge: u64,
    /// A rollout may take a pod away before its successor is there.
    pub may_miss: bool,
}

/// One of the two resources that OptiPod manages.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Resource {
    /// CPU, in millicores.
    Cpu,
    /// Memory, in bytes.
    Memory,
}

impl Resource {
    pub(super) const BOTH: [Self; 2] = [Self::Cpu, Self::Memory];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
        }
    }

    /// The amount in millicores or bytes.
    pub(super) fn of(self, resources: &Resources) -> Option<u64> {
        match self {
            Self::Cpu => resources.cpu.map(|cpu| cpu.0),
            Self::Memory => resources.memory.map(|memory| memory.0),
        }
    }

    /// The amount as a quantity.
    pub(super) fn text(self, amount: u64) -> String {
        match self {
            Self::Cpu => Millicores(amount).to_string(),
            Self::Memory => Bytes(amount).to_string(),
        }
    }
}

/// Whether these pods may be resized so.
///
/// # Errors
/// The first guard that forbids it.
pub(super) fn resize(facts: &Facts<'_>, pods: &[PodResize]) -> Result<(), Reason> {
    let guards = &facts.guards;
    let known = |resize: &PodResize| facts.pods.iter().find(|pod| pod.uid == resize.uid);
    let changes: Vec<_> =
        pods.iter().filter_map(|resize| Some((known(resize)?, after(known(resize)?, resize)))).collect();
    for (pod, after) in &changes {
        ranges::keep_as_they_are(&guards.limit_ranges, after, &pod.init_containers)?;
        ranges::allow(&guards.limit_ranges, after, pod)?;
    }
    quotas::allow_resize(&guards.quotas, &changes)?;
    match &guards.nodes {
        Some(nodes) => changes.iter().try_for_each(|(pod, after)| nodes.allow_resize(pod, after)),
        None => Ok(()),
    }
}

/// All containers of a pod after its resize.
fn after(pod: &PodFacts, resize: &PodResize) -> Vec<ContainerResources> {
    let all = pod.containers.iter().map(|container| &container.resources);
    all.map(|before| resize.containers.iter().find(|c| c.name == before.name).unwrap_or(before).clone()).collect()
}

/// Whether pods of this template may be created in place of the present ones.
///
/// # Errors
/// The first guard that forbids it.
pub(super) fn rollout(facts: &Facts<'_>, template: &TemplateChange) -> Result<(), Reason> {
    let guards = &facts.guards;
    let mut after = template.containers.clone();
    let like = facts.pods.first();
    // Injection makes new pods what the present ones are.
    let injected = like.into_iter().flat_map(|pod| &pod.containers).map(|container| &container.resources);
    after.extend(injected.filter(|c| !template.containers.iter().any(|t| t.name == c.name)).cloned());
    let after: Vec<_> = after.iter().map(|c| ranges::with_defaults(&guards.limit_ranges, c)).collect();
    ranges::requests_within_limits(&guards.limit_ranges, &after)?;
    let nobody = PodFacts::default();
    let like = like.unwrap_or(&nobody);
    ranges::allow(&guards.limit_ranges, &after, like)?;
    quotas::allow_rollout(&guards.quotas, facts, &after)?;
    guards.nodes.as_ref().map_or(Ok(()), |nodes| nodes.allow_rollout(like, &after))
}

/// The sum of one resource over a pod's containers.
fn sum(resource: Resource, containers: &[ContainerResources], of: impl Fn(&ContainerResources) -> &Resources) -> u64 {
    containers.iter().filter_map(|c| resource.of(of(c))).fold(0, u64::saturating_add)
}
