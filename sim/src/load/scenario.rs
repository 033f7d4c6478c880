//! Scenarios: nodes, namespaces and workloads with their behaviours, ready to install.
//!
//! What it may not know: policies; who installs a scenario writes those.
//! Invariant: installing the same scenario twice on fresh doubles gives the same objects.

use serde_json::{Value, json};

use super::Behaviour;
use crate::api::status::StatusError;
use crate::cluster::SimCluster;
use crate::json::set;
use crate::truth::Series;

/// The kinds of workload that a scenario can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WorkloadKind {
    /// `apps/v1` Deployment.
    Deployment,
    /// `apps/v1` StatefulSet.
    StatefulSet,
    /// `apps/v1` DaemonSet; its replicas are the nodes.
    DaemonSet,
}

impl WorkloadKind {
    /// As in manifests.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
        }
    }
}

/// One container of a workload.
#[derive(Clone, Debug)]
pub struct ContainerSpec {
    /// Name.
    pub name: String,
    /// `requests`, such as `{"cpu": "500m", "memory": "1Gi"}`.
    pub requests: Value,
    /// `limits`.
    pub limits: Value,
    /// What it does.
    pub behaviour: Behaviour,
}

impl ContainerSpec {
    /// A container with these requests (empty for none), without limits.
    pub fn new(name: &str, cpu: &str, memory: &str, behaviour: Behaviour) -> Self {
        Self { name: name.to_owned(), requests: resources(cpu, memory), limits: json!({}), behaviour }
    }

    /// With these limits (empty for none).
    #[must_use]
    pub fn limits(mut self, cpu: &str, memory: &str) -> Self {
        self.limits = resources(cpu, memory);
        self
    }

    /// With limits equal to its requests.
    #[must_use]
    pub fn guaranteed(mut self) -> Self {
        self.limits = self.requests.clone();
        self
    }

    fn manifest(&self) -> Value {
        let mut resources = json!({});
        for (which, list) in [("requests", &self.requests), ("limits", &self.limits)] {
            if list.as_object().is_some_and(|map| !map.is_empty()) {
                set(&mut resources, &[which], list.clone());
            }
        }
        json!({"name": self.name, "image": format!("registry.example/{}:1.0", self.name),
            "resources": resources})
    }
}

fn resources(cpu: &str, memory: &str) -> Value {
    let mut list = json!({});
    for (name, amount) in [("cpu", cpu), ("memory", memory)] {
        if !amount.is_empty() {
            set(&mut list, &[name], amount);
        }
    }
    list
}

/// One workload.
#[derive(Clone, Debug)]
pub struct WorkloadSpec {
    /// Namespace.
    pub namespace: String,
    /// Kind.
    pub kind: WorkloadKind,
    /// Name.
    pub name: String,
    /// Replicas; ignored for DaemonSets.
    pub replicas: u32,
    /// Labels of the workload and its pods, beside `app`.
    pub labels: Value,
    /// Annotations of the pod template (`resize/delay`, `start/delay`, `usage/…`).
    pub pod_annotations: Value,
    /// Containers.
    pub containers: Vec<ContainerSpec>,
}

impl WorkloadSpec {
    /// A workload with one or more containers.
    pub fn new(namespace: &str, kind: WorkloadKind, name: &str, replicas: u32, containers: Vec<ContainerSpec>) -> Self {
        Self {
            namespace: namespace.to_owned(),
            kind,
            name: name.to_owned(),
            replicas,
            labels: json!({}),
            pod_annotations: json!({}),
            containers,
        }
    }

    /// With one more label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        set(&mut self.labels, &[key], value);
        self
    }

    /// With one more annotation on the pods.
    #[must_use]
    pub fn pod_annotation(mut self, key: &str, value: &str) -> Self {
        set(&mut self.pod_annotations, &[key], value);
        self
    }

    /// The manifest.
    pub fn manifest(&self) -> Value {
        let mut labels = self.labels.clone();
        set(&mut labels, &["app"], self.name.as_str());
        let containers: Vec<Value> = self.containers.iter().map(ContainerSpec::manifest).collect();
        let mut object = json!({"apiVersion": "apps/v1", "kind": self.kind.as_str(),
            "metadata": {"name": self.name, "namespace": self.namespace, "labels": labels},
            "spec": {"selector": {"matchLabels": {"app": self.name}},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}}});
        if self.pod_annotations.as_object().is_some_and(|map| !map.is_empty()) {
            let path = ["spec", "template", "metadata", "annotations"];
            set(&mut object, &path, self.pod_annotations.clone());
        }
        match self.kind {
            WorkloadKind::Deployment => set(&mut object, &["spec", "replicas"], self.replicas),
            WorkloadKind::StatefulSet => {
                set(&mut object, &["spec", "replicas"], self.replicas);
                set(&mut object, &["spec", "serviceName"], self.name.as_str());
            }
            WorkloadKind::DaemonSet => {}
        }
        object
    }
}

/// A whole cluster to simulate.
#[derive(Clone, Debug, Default)]
pub struct Scenario {
    /// Name, cores and memory of each node.
    pub nodes: Vec<(String, String, String)>,
    /// Name and labels of each namespace.
    pub namespaces: Vec<(String, Value)>,
    /// The workloads.
    pub workloads: Vec<WorkloadSpec>,
}

impl Scenario {
    /// Nothing yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds `count` nodes of this size, named `node-1` and so on.
    #[must_use]
    pub fn nodes(mut self, count: usize, cpu: &str, memory: &str) -> Self {
        let first = self.nodes.len() + 1;
        let names = (first..first + count).map(|n| format!("node-{n}"));
        self.nodes.extend(names.map(|name| (name, cpu.to_owned(), memory.to_owned())));
        self
    }

    /// Adds a namespace with these labels.
    #[must_use]
    pub fn namespace(mut self, name: &str, labels: Value) -> Self {
        self.namespaces.push((name.to_owned(), labels));
        self
    }

    /// Adds a workload.
    #[must_use]
    pub fn workload(mut self, workload: WorkloadSpec) -> Self {
        self.workloads.push(workload);
        self
    }

    /// Creates everything on the cluster's API and sets the loads.
    pub fn install(&self, cluster: &SimCluster) -> Result<(), StatusError> {
        for (name, cpu, memory) in &self.nodes {
            cluster.add_node(name, cpu, memory)?;
        }
        for (name, labels) in &self.namespaces {
            cluster.api().create_namespace(name, labels)?;
        }
        for workload in &self.workloads {
            for container in &workload.containers {
                let kind = workload.kind.as_str();
                let series = Series::new(&workload.namespace, kind, &workload.name, &container.name);
                cluster.set_load(series, container.behaviour);
            }
            cluster.api().create(workload.manifest())?;
        }
        Ok(())
    }
}
