//! The brakes as they stand in this instant, and whether a write may still be made. Pure, but for [`watch`].
//!
//! Invariant: in doubt it holds. A ConfigMap that cannot be seen may exist; one that cannot be read holds everything.

mod watch;

pub(super) use watch::follow;

use super::cluster::{Cluster, PolicyObject};
use super::errors::WriteError;
use crate::decide::{Brake, Brakes, Reason};
use crate::plant::planted;
use crate::policy::{Mode, Policy};
use crate::workload::WorkloadId;
use k8s_openapi::api::core::v1::ConfigMap;
use std::collections::BTreeSet;

/// The ConfigMap in the operator's namespace whose existence holds everything.
pub(super) const CONFIG_MAP: &str = "optipod-brake";
/// Its watch, as readiness names it.
pub(super) const WATCH: &str = "configmaps/optipod-brake";
/// A reason is quoted in the status of every workload.
const LONGEST_REASON: usize = 200;

/// The ConfigMap as it was read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ConfigMapBrake {
    pub(super) brake: Brake,
    /// The namespaces that it holds, all of them if there is none.
    pub(super) namespaces: BTreeSet<String>,
}

impl ConfigMapBrake {
    /// Reads `data.reason` and `data.namespaces`: names between commas and white space.
    pub(super) fn read(object: ConfigMap) -> Self {
        let mut data = object.data.unwrap_or_default();
        let why = data.remove("reason").map(|text| one_line(&text)).filter(|text| !text.is_empty());
        let names = data.remove("namespaces").unwrap_or_default();
        let place = format!("{}/{CONFIG_MAP}", object.metadata.namespace.unwrap_or_default());
        Self { brake: Brake { place, why }, namespaces: namespaces(&names).unwrap_or_default() }
    }

    fn holds(&self, namespace: &str) -> bool {
        self.namespaces.is_empty() || self.namespaces.contains(namespace)
    }
}

fn one_line(text: &str) -> String {
    let words: Vec<&str> =
        text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|w| !w.is_empty()).collect();
    words.join(" ").chars().take(LONGEST_REASON).collect()
}

/// Nothing where some name is none: whoever wrote it meant to hold something.
fn namespaces(text: &str) -> Option<BTreeSet<String>> {
    let names = text.split(|c: char| c == ',' || c.is_whitespace()).filter(|name| !name.is_empty());
    let label = |name: &str| {
        let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        name.bytes().all(inner) && !name.starts_with('-') && !name.ends_with('-')
    };
    names.map(|name| label(name).then(|| name.to_owned())).collect()
}

/// The brakes that are on for a workload.
pub(super) fn brakes(cluster: &Cluster, workload: &WorkloadId) -> Brakes {
    let namespace = &workload.namespace;
    let config_map = cluster.brake().filter(|brake| brake.holds(namespace)).map(|brake| brake.brake.clone());
    Brakes { config_map, annotation: annotated(cluster, workload) }
}

fn annotated(cluster: &Cluster, id: &WorkloadId) -> Option<String> {
    let namespace = &id.namespace;
    if cluster.namespaces.get(namespace).is_some_and(|namespace| namespace.held) {
        return Some(format!("namespace {namespace}"));
    }
    let workload = cluster.workload(id)?;
    if workload.held {
        return Some(format!("{} {namespace}/{}", id.kind, id.name));
    }
    cluster.held_pod(workload).map(|pod| format!("pod {pod}"))
}

/// Why nothing at all may be written, if the brake is not limited to some namespaces.
pub(super) fn on_everything(cluster: &Cluster) -> Option<Reason> {
    let brake = cluster.brake().filter(|brake| brake.namespaces.is_empty())?;
    Some(Reason::BrakeOn(brake.brake.clone()))
}

/// Whether a change of `workload` or its pods that `policy` wanted may still be made: asked before every single write.
///
/// # Errors
/// `Held` with the brake that is on, `PolicyChanged` when the policy is gone, not what it was, or not in mode Auto.
pub(super) fn may_write(
    cluster: &Cluster,
    dry_run: bool,
    policy: &Policy,
    workload: &WorkloadId,
) -> Result<(), WriteError> {
    if let Some(reason) = hold(cluster, workload).filter(|_| !planted(104)) {
        return Err(WriteError::Held(reason));
    }
    let same = |now: &PolicyObject| now.uid == policy.uid && now.generation == policy.generation;
    let is_same = cluster.policies.get(&policy.id).is_some_and(|now| same(now)) || planted(112);
    if policy.mode != Mode::Auto || !is_same {
        return Err(WriteError::PolicyChanged);
    }
    if dry_run { Err(WriteError::Held(Reason::DryRun)) } else { Ok(()) }
}

/// Whether a policy that is being deleted may still put back what `workload` had before: asked before every single write.
///
/// # Errors
/// `Held` with the brake that is on.
pub(super) fn may_put_back(cluster: &Cluster, dry_run: bool, workload: &WorkloadId) -> Result<(), WriteError> {
    let reason = hold(cluster, workload).or(dry_run.then_some(Reason::DryRun));
    reason.map_or(Ok(()), |reason| Err(WriteError::Held(reason)))
}

/// The brake that is on for a workload in this instant, or why it cannot be told.
pub(super) fn hold(cluster: &Cluster, workload: &WorkloadId) -> Option<Reason> {
    if !cluster.sees_brake() {
        return Some(Reason::WatchMissing { resources: WATCH.to_owned() });
    }
    brakes(cluster, workload).hold()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic, clippy::needless_pass_by_value)]
// a test that panics has failed; json! makes values
mod tests;
