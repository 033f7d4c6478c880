//! The state at one moment, read from the API double as any user could read it with kubectl.

use optipod::policy::OptimizationPolicy;
use optipod::quantity::{Bytes, Millicores};
use optipod_sim::{ClusterTotals, Series, SimApi, SimCluster};
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// What a container requests, summed over its replicas.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requested {
    /// CPU.
    pub cpu_millicores: u64,
    /// Memory.
    pub memory_bytes: u64,
    /// Replicas that run.
    #[serde(skip)]
    pub replicas: u64,
}

impl Requested {
    /// The requests of all running pods by container.
    pub fn of_all(api: &SimApi) -> BTreeMap<Series, Self> {
        let mut all: BTreeMap<Series, Self> = BTreeMap::new();
        for pod in api.list("v1", "Pod") {
            let running = pod.pointer("/status/phase").and_then(Value::as_str) == Some("Running");
            let leaving = pod.pointer("/metadata/deletionTimestamp").is_some();
            if !running || leaving {
                continue;
            }
            for container in pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten() {
                let requested = all.entry(series(&pod, container)).or_default();
                requested.cpu_millicores += amount::<Millicores>(container, "cpu").map_or(0, |m| m.0);
                requested.memory_bytes += amount::<Bytes>(container, "memory").map_or(0, |b| b.0);
                requested.replicas += 1;
            }
        }
        all
    }

    /// Over all containers.
    pub fn sum(all: &BTreeMap<Series, Self>) -> Self {
        let add = |sum: Self, one: &Self| Self {
            cpu_millicores: sum.cpu_millicores + one.cpu_millicores,
            memory_bytes: sum.memory_bytes + one.memory_bytes,
            replicas: sum.replicas + one.replicas,
        };
        all.values().fold(Self::default(), add)
    }
}

fn amount<T: std::str::FromStr>(container: &Value, resource: &str) -> Option<T> {
    container.pointer(&format!("/resources/requests/{resource}")).and_then(Value::as_str)?.parse().ok()
}

/// The series that a pod's container belongs to: the pod's owner, a ReplicaSet standing for its Deployment.
fn series(pod: &Value, container: &Value) -> Series {
    let text = |value: &Value, path: &str| value.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, owner) = (text(pod, "/metadata/ownerReferences/0/kind"), text(pod, "/metadata/ownerReferences/0/name"));
    let (kind, owner) = match kind.as_str() {
        "ReplicaSet" => ("Deployment", owner.rsplit_once('-').map_or(owner.as_str(), |(name, _)| name).to_owned()),
        _ => (kind.as_str(), owner),
    };
    Series::new(&text(pod, "/metadata/namespace"), kind, &owner, &text(container, "/name"))
}

/// All policies, with their status.
pub fn policies(api: &SimApi) -> Vec<OptimizationPolicy> {
    let objects = api.list("optipod.io/v1alpha1", "OptimizationPolicy");
    objects.into_iter().filter_map(|object| serde_json::from_value(object).ok()).collect()
}

/// One change that OptiPod made.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Change {
    /// When.
    pub at: jiff::Timestamp,
    /// `namespace/name`.
    pub workload: String,
    /// Resize or Rollout.
    pub method: String,
    /// From what to what, by container.
    pub sizes: Vec<String>,
    /// Why, of the first container.
    pub why: String,
}

/// What the display shows.
pub struct Frame {
    /// The moment.
    pub now: jiff::Timestamp,
    /// Since the start.
    pub passed: std::time::Duration,
    /// The cluster as a whole.
    pub totals: ClusterTotals,
    /// Requests at the start and now.
    pub before: Requested,
    /// See `before`.
    pub requested: Requested,
    /// Containers that have been seen, and samples of them.
    pub learned: (usize, u64),
    /// The last change of each workload, newest first.
    pub changes: Vec<Change>,
    /// Why workloads are left as they are: reason, how many, an example's message.
    pub held: Vec<(String, usize, String)>,
}

impl Frame {
    /// Reads the present state.
    pub fn read(cluster: &SimCluster, begin: jiff::Timestamp, before: &BTreeMap<Series, Requested>) -> Self {
        let api = cluster.api();
        let now = api.clock().now();
        let policies = policies(api);
        let series = cluster.truth().series();
        let samples = series.iter().map(|s| cluster.truth().count(s, begin, now) as u64).sum();
        Self {
            now,
            passed: now.duration_since(begin).unsigned_abs(),
            totals: cluster.truth().totals(now).unwrap_or_default(),
            before: Requested::sum(before),
            requested: Requested::sum(&Requested::of_all(api)),
            learned: (series.len(), samples),
            changes: changes(&policies),
            held: held(&policies),
        }
    }
}

fn changes(policies: &[OptimizationPolicy]) -> Vec<Change> {
    let entries = policies.iter().filter_map(|p| p.status.as_ref()).flat_map(|s| &s.workloads);
    let mut changes: Vec<Change> = entries
        .filter_map(|entry| {
            let pair = |cpu: &Option<String>, memory: &Option<String>| {
                format!("{}/{}", cpu.as_deref().unwrap_or("-"), memory.as_deref().unwrap_or("-"))
            };
            let size = |target: &optipod::policy::types::ContainerRequests| {
                let before = entry.previous.iter().find(|p| p.container == target.container);
                let before = before.map_or("-/-".to_owned(), |b| pair(&b.cpu, &b.memory));
                format!("{} {before} → {}", target.container, pair(&target.cpu, &target.memory))
            };
            Some(Change {
                at: entry.last_applied.as_ref()?.0,
                workload: format!("{}/{}", entry.namespace, entry.name),
                method: entry.method.clone().unwrap_or_default(),
                sizes: entry.target.iter().map(size).collect(),
                why: entry.recommendations.first().and_then(|r| r.explanation.clone()).unwrap_or_default(),
            })
        })
        .collect();
    changes.sort_by(|a, b| b.cmp(a));
    changes
}

fn held(policies: &[OptimizationPolicy]) -> Vec<(String, usize, String)> {
    let mut reasons: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for entry in policies.iter().filter_map(|p| p.status.as_ref()).flat_map(|s| &s.workloads) {
        if let Some(reason) = &entry.reason {
            let message = entry.message.as_deref().unwrap_or_default();
            reasons.entry(reason).or_insert((0, message)).0 += 1;
        }
    }
    let mut held: Vec<_> = reasons.into_iter().map(|(r, (n, m))| (r.to_owned(), n, m.to_owned())).collect();
    held.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    held
}
