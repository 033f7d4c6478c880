//! Nodes: whether a pod still fits the one that it runs on, or any.
//!
//! Only what a node could ever give counts here; whether there is room now is the scheduler's and the kubelet's to say.

use super::{Resource, sum};
use crate::decide::facts::PodFacts;
use crate::decide::reason::Reason;
use crate::workload::{ContainerResources, Resources};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What nodes can give to pods.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Nodes {
    /// The nodes that the workload's pods run on, by name.
    pub own: BTreeMap<String, Resources>,
    /// The cluster's largest nodes: none gives less of both resources than another node.
    pub largest: Arc<Vec<Resources>>,
}

impl Nodes {
    /// The nodes that no other is as large as or larger than in both resources, one of each size.
    pub fn largest_of(nodes: impl Iterator<Item = Resources>) -> Vec<Resources> {
        let mut all: Vec<Resources> = nodes.collect();
        all.sort_by_key(|node| (node.cpu, node.memory));
        let mut largest: Vec<Resources> = Vec::new();
        for node in all.into_iter().rev() {
            if largest.last().is_none_or(|larger| node.memory > larger.memory) {
                largest.push(node);
            }
        }
        largest
    }

    /// A pod is resized where it runs.
    pub(super) fn allow_resize(&self, pod: &PodFacts, after: &[ContainerResources]) -> Result<(), Reason> {
        let Some((name, node)) = pod.node.as_ref().and_then(|name| self.own.get_key_value(name)) else { return Ok(()) };
        for resource in Resource::BOTH {
            if let Some((needed, gives)) = lacking(resource, pod, after, node) {
                let detail = format!(
                    "pod {} would request {needed} of {}, and its node {name} can give {gives}",
                    pod.name,
                    resource.name()
                );
                return Err(Reason::NodeTooSmall { detail });
            }
        }
        Ok(())
    }

    /// A new pod needs one node that is large enough; without any node there is nothing to compare with.
    pub(super) fn allow_rollout(&self, like: &PodFacts, after: &[ContainerResources]) -> Result<(), Reason> {
        let fits = |node: &Resources| {
            Resource::BOTH.into_iter().all(|resource| lacking(resource, like, after, node).is_none())
        };
        if self.largest.is_empty() || self.largest.iter().any(fits) {
            return Ok(());
        }
        let needed =
            Resource::BOTH.map(|r| format!("{} of {}", r.text(needed(r, like, after)), r.name())).join(" and ");
        let gives = Resource::BOTH.map(|r| {
            let most = self.largest.iter().filter_map(|node| r.of(node)).max().unwrap_or(0);
            format!("{} of {}", r.text(most), r.name())
        });
        let detail =
            format!("a new pod would request {needed}, and no node can give that; at most {}", gives.join(" or "));
        Err(Reason::NodeTooSmall { detail })
    }
}

/// What the pod would request and what the node can give, where that is less.
fn lacking(
    resource: Resource,
    pod: &PodFacts,
    after: &[ContainerResources],
    node: &Resources,
) -> Option<(String, String)> {
    let (needed, gives) = (needed(resource, pod, after), resource.of(node).unwrap_or(0));
    (needed > gives).then(|| (resource.text(needed), resource.text(gives)))
}

fn needed(resource: Resource, pod: &PodFacts, after: &[ContainerResources]) -> u64 {
    sum(resource, after, |container| &container.requests).saturating_add(resource.of(&pod.beside).unwrap_or(0))
}
