//! Which policy acts on which workload, over the whole cluster. Pure.

use super::cluster::{Cluster, Workload};
use crate::plant::planted;
use crate::policy::select::{covers, covers_namespace, precedence};
use crate::policy::{NamespaceFacts, Policy, PolicyId, Scope, WorkloadFacts};
use crate::workload::{WorkloadId, WorkloadKind};
use std::collections::{BTreeMap, BTreeSet};

/// A workload that a policy covers, and the policy that acts on it: this one, or one that takes precedence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Covered {
    pub(super) workload: WorkloadId,
    pub(super) acting: PolicyId,
}

/// All policies' workloads, as of one version of what they select from.
#[derive(Debug, Default)]
pub(super) struct Selection {
    version: Option<u64>,
    covered: BTreeMap<PolicyId, Vec<Covered>>,
}

impl Selection {
    /// Computes anew when policies, namespaces or workloads have changed; says whether it did.
    pub(super) fn refresh(&mut self, cluster: &Cluster, scope: &Scope) -> bool {
        let stale = self.version != Some(cluster.selection_version());
        if stale {
            self.covered = select(cluster, scope);
            self.version = Some(cluster.selection_version());
        }
        stale
    }

    /// What a policy covers.
    pub(super) fn of(&self, policy: &PolicyId) -> &[Covered] {
        self.covered.get(policy).map(Vec::as_slice).unwrap_or_default()
    }

    /// The policy that acts on each workload.
    pub(super) fn acting(&self) -> BTreeMap<&WorkloadId, &PolicyId> {
        self.covered.values().flatten().map(|covered| (&covered.workload, &covered.acting)).collect()
    }

    /// The policies that act on some of these workloads, with those.
    pub(super) fn acting_on(&self, some: &BTreeSet<WorkloadId>) -> BTreeMap<PolicyId, BTreeSet<WorkloadId>> {
        let mut found: BTreeMap<PolicyId, BTreeSet<WorkloadId>> = BTreeMap::new();
        for (policy, covered) in &self.covered {
            for covered in covered.iter().filter(|c| c.acting == *policy && some.contains(&c.workload)) {
                found.entry(policy.clone()).or_default().insert(covered.workload.clone());
            }
        }
        found
    }

    /// Every workload that some policy covers.
    pub(super) fn all(&self) -> BTreeSet<&WorkloadId> {
        self.covered.values().flatten().map(|covered| &covered.workload).collect()
    }
}

const KINDS: [WorkloadKind; 3] = [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet];

/// A disabled policy takes part: it is how a workload is taken out of the reach of others.
fn select(cluster: &Cluster, scope: &Scope) -> BTreeMap<PolicyId, Vec<Covered>> {
    let mut policies: Vec<&Policy> = cluster.policies.iter().filter_map(|(_, p)| p.parsed.as_ref().ok()).collect();
    policies.sort_by(|a, b| precedence(a, b));
    let mut covered: BTreeMap<PolicyId, Vec<Covered>> = BTreeMap::new();
    for (name, namespace) in cluster.namespaces.iter() {
        let facts = NamespaceFacts { name: name.clone(), labels: namespace.labels.clone() };
        let here = |policy: &&&Policy| covers_namespace(policy, scope, &facts).is_ok();
        let policies: Vec<&Policy> = policies.iter().filter(here).copied().collect();
        if policies.is_empty() {
            continue;
        }
        let kinds = KINDS.into_iter().filter(|kind| !planted(16) || *kind != WorkloadKind::DaemonSet);
        for workload in kinds.flat_map(|kind| cluster.workloads_in(name, kind)) {
            contest(&mut covered, &policies, scope, &facts, workload);
        }
    }
    covered
}

fn contest(
    covered: &mut BTreeMap<PolicyId, Vec<Covered>>,
    policies: &[&Policy],
    scope: &Scope,
    namespace: &NamespaceFacts,
    workload: &Workload,
) {
    let facts = WorkloadFacts { id: workload.id.clone(), labels: workload.labels.clone() };
    let mut matching = policies.iter().filter(|policy| covers(policy, scope, namespace, &facts).is_ok()).peekable();
    let Some(acting) = matching.peek().map(|policy| policy.id.clone()) else { return };
    for policy in matching {
        let one = Covered { workload: workload.id.clone(), acting: acting.clone() };
        covered.entry(policy.id.clone()).or_default().push(one);
    }
}
