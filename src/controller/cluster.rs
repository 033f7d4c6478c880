//! What the controller knows of the cluster: trimmed objects, kept up to date by watches.
//!
//! It asks nobody and writes nothing. Invariant: every collection is ordered, so that the same events give the same answers.

use super::bounds::Bounds;
use super::brake::{self, ConfigMapBrake};
use super::kills::{Killed, Kills, PodMemory};
use super::table::{Diff, Table};
use crate::decide::{Cause, HpaFacts, PodFacts, Progress, Replicas, Rollout, Size};
use crate::policy::{FieldError, Policy, PolicyId};
use crate::workload::{ContainerResources, WorkloadId, WorkloadKind};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::Event;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Namespace and name.
pub(super) type ObjectKey = (String, String);

/// A policy, read or not readable.
#[derive(Clone, Debug)]
pub(super) struct PolicyObject {
    pub(super) id: PolicyId,
    pub(super) uid: String,
    pub(super) generation: i64,
    /// Since when it is being deleted.
    pub(super) deleting: Option<Timestamp>,
    /// Our finalizer keeps it.
    pub(super) kept: bool,
    /// The policy, or everything that is wrong with it.
    pub(super) parsed: Result<Policy, Vec<FieldError>>,
}

/// A Deployment, StatefulSet or DaemonSet.
#[derive(Clone, Debug)]
pub(super) struct Workload {
    pub(super) id: WorkloadId,
    pub(super) uid: String,
    pub(super) resource_version: String,
    pub(super) labels: BTreeMap<String, String>,
    pub(super) created: Timestamp,
    pub(super) deleting: bool,
    pub(super) held: bool,
    /// The template's containers, or why they cannot be read.
    pub(super) template: Result<Vec<ContainerResources>, String>,
    pub(super) rollout: Rollout,
    pub(super) replicas: Replicas,
    /// The manager that changed requests which we had applied.
    pub(super) reverted_by: Option<String>,
    /// Containers whose limits an apply of ours set: one that left them out would remove them.
    pub(super) limits_are_ours: BTreeSet<String>,
    /// What we applied to the template last, by our annotation.
    pub(super) applied: Vec<Size>,
    /// When we applied it.
    pub(super) applied_at: Option<Timestamp>,
    /// Why we applied it.
    pub(super) applied_cause: Option<Cause>,
    /// How its rollouts are judged.
    pub(super) progress: Progress,
    /// The requests before our first change, as our annotation has them.
    pub(super) original: Option<String>,
}

/// A pod that a workload controller owns.
#[derive(Clone, Debug)]
pub(super) struct Pod {
    /// The uid of the ReplicaSet, StatefulSet or DaemonSet.
    pub(super) owner: String,
    pub(super) held: bool,
    /// It neither ended nor is on its way out.
    pub(super) running: bool,
    /// Which memory its containers may use, and which were killed for it.
    pub(super) memory: PodMemory,
    /// What decisions read, or why it cannot be read.
    pub(super) facts: Result<PodFacts, String>,
}

/// A ReplicaSet of a Deployment.
#[derive(Clone, Debug)]
pub(super) struct ReplicaSet {
    pub(super) uid: String,
    /// The Deployment's uid.
    pub(super) owner: String,
}

/// A namespace.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Namespace {
    pub(super) labels: BTreeMap<String, String>,
    pub(super) held: bool,
}

/// A HorizontalPodAutoscaler with Utilization targets.
#[derive(Clone, Debug)]
pub(super) struct Autoscaler {
    pub(super) target_kind: String,
    pub(super) target_name: String,
    pub(super) cpu: bool,
    pub(super) memory: bool,
}

/// Everything that is watched.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    pub(super) policies: Table<PolicyId, PolicyObject>,
    pub(super) deployments: Table<WorkloadId, Workload>,
    pub(super) stateful_sets: Table<WorkloadId, Workload>,
    pub(super) daemon_sets: Table<WorkloadId, Workload>,
    pub(super) pods: Table<ObjectKey, Pod>,
    pub(super) replica_sets: Table<ObjectKey, ReplicaSet>,
    pub(super) namespaces: Table<String, Namespace>,
    pub(super) autoscalers: Table<ObjectKey, Autoscaler>,
    pub(super) bounds: Bounds,
    brake: Table<(), ConfigMapBrake>,
    /// Pods by their owner's uid.
    pods_of: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// ReplicaSets by their Deployment's uid.
    sets_of: BTreeMap<String, BTreeSet<String>>,
    /// Kills for memory that the pods' statuses show.
    pub(super) kills: Kills,
    /// Policies whose spec changed, or that came or went.
    woken: BTreeSet<PolicyId>,
    /// Counts every change of what policies select from.
    selection: u64,
}

/// The kinds of workloads that policies can change.
const KINDS: [WorkloadKind; 3] = [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet];

/// The watched resources, as readiness names them; [`Bounds`] has more.
const WATCHES: [&str; 9] = [
    "optimizationpolicies",
    "deployments",
    "statefulsets",
    "daemonsets",
    "pods",
    "replicasets",
    "namespaces",
    "horizontalpodautoscalers",
    brake::WATCH,
];

impl Cluster {
    /// The watches whose first list is not complete.
    pub(super) fn missing(&self) -> Vec<&'static str> {
        let synced = [
            self.policies.synced(),
            self.deployments.synced(),
            self.stateful_sets.synced(),
            self.daemon_sets.synced(),
            self.pods.synced(),
            self.replica_sets.synced(),
            self.namespaces.synced(),
            self.autoscalers.synced(),
            self.brake.synced(),
        ];
        let mine = WATCHES.into_iter().zip(synced).filter_map(|(name, synced)| (!synced).then_some(name));
        mine.chain(self.bounds.missing()).collect()
    }

    /// Changes with everything that selection depends on.
    pub(super) fn selection_version(&self) -> u64 {
        self.selection
    }

    /// The policies to evaluate at once, each told once.
    pub(super) fn take_woken(&mut self) -> BTreeSet<PolicyId> {
        std::mem::take(&mut self.woken)
    }

    /// Whether some policy or workload waits to be evaluated at once.
    pub(super) fn has_woken(&self) -> bool {
        !self.woken.is_empty() || self.kills.has_news()
    }

    /// The workloads of which a container was just killed for memory, each told once.
    pub(super) fn take_killed(&mut self) -> BTreeSet<WorkloadId> {
        let pods = self.kills.take_news();
        pods.iter().filter_map(|pod| self.workload_of(pod)).collect()
    }

    /// The workload that a pod belongs to.
    fn workload_of(&self, pod: &ObjectKey) -> Option<WorkloadId> {
        let owner = &self.pods.get(pod)?.owner;
        let owns = |uid: &String| uid == owner || self.sets_of.get(uid).is_some_and(|sets| sets.contains(owner));
        let mut all = KINDS.into_iter().flat_map(|kind| self.workloads_in(&pod.0, kind));
        all.find(|workload| owns(&workload.uid)).map(|workload| workload.id.clone())
    }

    /// The kills for memory that the workload's running pods show.
    pub(super) fn kills_of(&self, workload: &Workload) -> Vec<Killed> {
        let running = |key: &&ObjectKey| self.pods.get(key).is_some_and(|pod| pod.running);
        self.pod_keys(workload).into_iter().filter(running).flat_map(|key| self.kills.of(key)).cloned().collect()
    }

    /// The table of one of the three kinds that policies can change.
    fn workloads(&self, kind: WorkloadKind) -> Option<&Table<WorkloadId, Workload>> {
        match kind {
            WorkloadKind::Deployment => Some(&self.deployments),
            WorkloadKind::StatefulSet => Some(&self.stateful_sets),
            WorkloadKind::DaemonSet => Some(&self.daemon_sets),
            _ => None,
        }
    }

    pub(super) fn workload(&self, id: &WorkloadId) -> Option<&Arc<Workload>> {
        self.workloads(id.kind)?.get(id)
    }

    /// The workloads of one kind in one namespace, by name.
    pub(super) fn workloads_in<'a>(
        &'a self,
        namespace: &'a str,
        kind: WorkloadKind,
    ) -> impl Iterator<Item = &'a Arc<Workload>> {
        let start = WorkloadId { namespace: namespace.to_owned(), kind, name: String::new() };
        let table = self.workloads(kind).map(|table| table.from(&start));
        table.into_iter().flatten().take_while(move |(id, _)| id.namespace == namespace).map(|(_, workload)| workload)
    }

    /// The workload's pods, by name.
    pub(super) fn pods_of(&self, workload: &Workload) -> Vec<Arc<Pod>> {
        let mut keys = self.pod_keys(workload);
        keys.sort();
        keys.into_iter().filter_map(|key| self.pods.get(key)).cloned().collect()
    }

    fn pod_keys(&self, workload: &Workload) -> Vec<&ObjectKey> {
        let owners: Vec<&String> = match workload.id.kind {
            WorkloadKind::Deployment => self.sets_of.get(&workload.uid).into_iter().flatten().collect(),
            _ => vec![&workload.uid],
        };
        owners.into_iter().filter_map(|uid| self.pods_of.get(uid)).flatten().collect()
    }

    /// The name of a running pod of the workload that is held, if there is one.
    pub(super) fn held_pod(&self, workload: &Workload) -> Option<&str> {
        let held = |key: &&ObjectKey| self.pods.get(key).is_some_and(|pod| pod.running && pod.held);
        self.pod_keys(workload).into_iter().filter(held).min().map(|(_, name)| name.as_str())
    }

    /// The ConfigMap that holds everything or some namespaces.
    pub(super) fn brake(&self) -> Option<&ConfigMapBrake> {
        self.brake.get(&()).map(AsRef::as_ref)
    }

    /// Whether we would see the brake if it were on.
    pub(super) fn sees_brake(&self) -> bool {
        self.brake.synced()
    }

    /// The brake's watch is broken.
    pub(super) fn lose_brake(&mut self) {
        self.brake.lose();
    }

    /// Takes an event of the brake's watch; says whether the brake has changed. Then all policies are evaluated at once:
    /// they say that they hold, or go on.
    pub(super) fn take_brake(&mut self, event: Event<ConfigMap>) -> bool {
        let seen = self.sees_brake();
        let diffs = self.brake.take(event, |_| (), |object| Some(ConfigMapBrake::read(object)));
        let changed = diffs.iter().any(|diff| diff.before != diff.after);
        if changed || seen != self.sees_brake() {
            self.woken.extend(self.policies.iter().map(|(id, _)| id.clone()));
        }
        changed
    }

    /// The autoscalers that read this workload's requests.
    pub(super) fn autoscalers_of(&self, workload: &WorkloadId) -> HpaFacts {
        let mut found = HpaFacts::default();
        let start = (workload.namespace.clone(), String::new());
        for ((_, name), hpa) in self.autoscalers.from(&start).take_while(|((ns, _), _)| *ns == workload.namespace) {
            if hpa.target_kind == workload.kind.as_str() && hpa.target_name == workload.name {
                let here = |reads: bool| reads.then(|| name.clone());
                found.cpu = found.cpu.or(here(hpa.cpu));
                found.memory = found.memory.or(here(hpa.memory));
            }
        }
        found
    }

    /// A policy came, went, or has another spec; a new status alone wakes nobody.
    pub(super) fn note_policies(&mut self, diffs: Vec<Diff<PolicyId, PolicyObject>>) {
        for diff in diffs {
            let version =
                |policy: &Option<Arc<PolicyObject>>| policy.as_ref().map(|p| (p.uid.clone(), p.generation, p.deleting));
            if version(&diff.before) != version(&diff.after) {
                self.selection += 1;
                self.woken.insert(diff.key);
            }
        }
    }

    pub(super) fn note_workloads(&mut self, diffs: &[Diff<WorkloadId, Workload>]) {
        let labels = |workload: &Option<Arc<Workload>>| workload.as_ref().map(|w| (w.uid.clone(), w.labels.clone()));
        if diffs.iter().any(|diff| labels(&diff.before) != labels(&diff.after)) {
            self.selection += 1;
        }
    }

    pub(super) fn note_namespaces(&mut self, diffs: &[Diff<String, Namespace>]) {
        if diffs.iter().any(|diff| diff.before != diff.after) {
            self.selection += 1;
        }
    }

    pub(super) fn note_pods(&mut self, diffs: Vec<Diff<ObjectKey, Pod>>) {
        for Diff { key, before, after } in diffs {
            self.kills.note(&key, before.as_deref(), after.as_deref());
            if before.as_ref().map(|pod| &pod.owner) == after.as_ref().map(|pod| &pod.owner) {
                continue;
            }
            if let Some(before) = before {
                unlink(&mut self.pods_of, &before.owner, &key);
            }
            if let Some(after) = after {
                self.pods_of.entry(after.owner.clone()).or_default().insert(key);
            }
        }
    }

    pub(super) fn note_replica_sets(&mut self, diffs: Vec<Diff<ObjectKey, ReplicaSet>>) {
        for Diff { before, after, .. } in diffs {
            if let Some(before) = before {
                unlink(&mut self.sets_of, &before.owner, &before.uid);
            }
            if let Some(after) = after {
                self.sets_of.entry(after.owner.clone()).or_default().insert(after.uid.clone());
            }
        }
    }
}

fn unlink<T: Ord>(index: &mut BTreeMap<String, BTreeSet<T>>, owner: &str, member: &T) {
    if let Some(members) = index.get_mut(owner) {
        members.remove(member);
        if members.is_empty() {
            index.remove(owner);
        }
    }
}
