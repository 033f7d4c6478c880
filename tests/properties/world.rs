//! A small cluster for one case: workloads with what they use, and what was written to them by the double's journal.

use crate::harness::{Harness, minutes};
use optipod::quantity::{Bytes, Millicores};
use optipod_sim::Entry;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// A container: what it requests, the limit as a multiple of that, and what it uses as a share of it.
#[derive(Clone, Debug)]
pub struct Container {
    pub name: String,
    pub millicores: u64,
    pub mebibytes: u64,
    pub limit_factor: Option<u64>,
    /// CPU and memory used, each as a multiple of the request.
    pub uses: (f64, f64),
}

impl Container {
    pub fn cores_used(&self) -> f64 {
        self.millicores as f64 / 1000.0 * self.uses.0
    }

    pub fn mebibytes_used(&self) -> f64 {
        self.mebibytes as f64 * self.uses.1
    }

    fn manifest(&self) -> Value {
        let amounts = |factor: u64| json!({"cpu": format!("{}m", self.millicores * factor), "memory": format!("{}Mi", self.mebibytes * factor)});
        let mut resources = json!({"requests": amounts(1)});
        if let Some(factor) = self.limit_factor {
            resources["limits"] = amounts(factor);
        }
        json!({"name": self.name, "image": "example/app", "resources": resources})
    }
}

/// A workload; its name and those of its containers are its own.
#[derive(Clone, Debug)]
pub struct Workload {
    pub kind: &'static str,
    pub name: String,
    pub namespace: String,
    pub labels: Value,
    pub replicas: u32,
    pub containers: Vec<Container>,
}

impl Workload {
    pub fn manifest(&self) -> Value {
        let labels = json!({"app": self.name});
        let containers: Vec<Value> = self.containers.iter().map(Container::manifest).collect();
        let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
        let mut spec = json!({"selector": {"matchLabels": labels}, "template": template});
        if self.kind != "DaemonSet" {
            spec["replicas"] = json!(self.replicas);
        }
        if self.kind == "StatefulSet" {
            spec["serviceName"] = json!(self.name);
        }
        json!({"apiVersion": "apps/v1", "kind": self.kind, "spec": spec,
            "metadata": {"namespace": self.namespace, "name": self.name, "labels": self.labels}})
    }
}

pub fn kinds() -> impl Strategy<Value = &'static str> {
    select(vec!["Deployment", "StatefulSet", "DaemonSet"])
}

fn containers() -> impl Strategy<Value = Container> {
    let uses = || prop_oneof![0.05..0.7f64, 0.8..0.87f64, 1.0..3.0f64];
    (50..1000u64, 64..1000u64, (uses(), uses())).prop_map(|(millicores, mebibytes, uses)| Container {
        name: String::new(),
        millicores,
        mebibytes,
        limit_factor: None,
        uses,
    })
}

/// Some workloads of any kind in the namespace `shop`, with one or two containers and no limits.
pub fn workloads() -> impl Strategy<Value = Vec<Workload>> {
    vec((kinds(), 1..=2u32, vec(containers(), 1..=2)), 1..=3).prop_map(|all| {
        let one = |(index, (kind, replicas, mut containers)): (usize, (_, _, Vec<Container>))| {
            let name = format!("w{index}");
            for (container, letter) in containers.iter_mut().zip(["a", "b"]) {
                container.name = format!("{name}{letter}");
            }
            let labels = json!({"app": name});
            Workload { kind, name, namespace: "shop".into(), labels, replicas, containers }
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

/// The same with limits on some: as high as the request or some times as high.
pub fn limited_workloads() -> impl Strategy<Value = Vec<Workload>> {
    (workloads(), vec(option::weighted(0.8, 1..=4u64), 6)).prop_map(|(mut all, factors)| {
        let containers = all.iter_mut().flat_map(|workload| &mut workload.containers);
        for (container, factor) in containers.zip(factors) {
            container.limit_factor = factor;
        }
        all
    })
}

/// A running cluster with these workloads, their pods ready and their usage known; no policy and no controller yet.
pub async fn cluster(workloads: &[Workload]) -> Harness {
    let harness = Harness::new().await;
    for workload in workloads {
        harness.api.create(workload.manifest()).unwrap();
        for container in &workload.containers {
            harness.provider.set(&container.name, container.cores_used(), container.mebibytes_used());
        }
    }
    minutes(1).await;
    harness
}

/// One container's resources before and after a write that was carried out.
#[derive(Debug)]
pub struct Change {
    pub container: String,
    pub in_place: bool,
    pub before: Value,
    pub after: Value,
}

impl Change {
    pub fn millicores(resources: &Value, list: &str) -> Option<u64> {
        let text = resources[list]["cpu"].as_str()?;
        Some(text.parse::<Millicores>().unwrap().0)
    }

    pub fn bytes(resources: &Value, list: &str) -> Option<u64> {
        let text = resources[list]["memory"].as_str()?;
        Some(text.parse::<Bytes>().unwrap().0)
    }
}

/// Every container that the controller changed, by the journal.
pub fn changes(harness: &Harness) -> Vec<Change> {
    let of_write = |write: Entry| {
        let in_place = write.resource == "pods";
        let path = if in_place { "/spec/containers" } else { "/spec/template/spec/containers" };
        let list = |object: &Value| object.pointer(path).and_then(Value::as_array).cloned().unwrap_or_default();
        let before = list(write.before.as_deref().unwrap());
        let after = list(write.after.as_deref().unwrap());
        let pairs = before.into_iter().zip(after).filter(|(before, after)| before["resources"] != after["resources"]);
        let change = move |(before, after): (Value, Value)| Change {
            container: after["name"].as_str().unwrap().to_owned(),
            in_place,
            before: before["resources"].clone(),
            after: after["resources"].clone(),
        };
        pairs.map(change).collect::<Vec<_>>()
    };
    harness.changes().into_iter().filter(|write| write.changed).flat_map(of_write).collect()
}

/// The writes that were tried on a workload or its pods, refused ones included.
pub fn writes_to(harness: &Harness, workload: &str) -> Vec<Entry> {
    let of_pod = format!("{workload}-");
    let is_its = |write: &Entry| write.name == workload || write.name.starts_with(&of_pod);
    harness.changes().into_iter().filter(is_its).collect()
}

/// The requests of one container in all of a workload's pods: millicores and bytes.
pub fn requests(harness: &Harness, workload: &Workload, container: &str) -> Vec<(u64, u64)> {
    let of = |pod: &Value| {
        let all = pod["spec"]["containers"].as_array().unwrap();
        let found = &all.iter().find(|one| one["name"] == container).unwrap()["resources"];
        (Change::millicores(found, "requests").unwrap(), Change::bytes(found, "requests").unwrap())
    };
    harness.pods(&workload.name).iter().map(of).collect()
}

/// What the harness's policy recommends for a container that uses this steadily: × 1.2, within 10m to 4 and 16Mi to 8Gi,
/// rounded up to a millicore and a mebibyte.
pub fn recommended(cores: f64, mebibytes: f64) -> (u64, u64) {
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // small and positive
    // Digits beyond a quarter of a percent are not worth a whole unit.
    let up = |value: f64| if value.fract() <= value * 0.0025 { value as u64 } else { value as u64 + 1 };
    (up(cores * 1200.0).clamp(10, 4000), up(mebibytes * 1.2).clamp(16, 8192))
}

impl Workload {
    /// What is recommended for each container by name: millicores and mebibytes.
    pub fn recommended(&self) -> BTreeMap<String, (u64, u64)> {
        let one = |container: &Container| recommended(container.cores_used(), container.mebibytes_used());
        self.containers.iter().map(|container| (container.name.clone(), one(container))).collect()
    }
}

/// What a status entry recommends for each container by name: millicores and mebibytes.
pub fn told(entry: &Value) -> BTreeMap<String, (u64, u64)> {
    let one = |told: &Value| {
        let text = |field: &str| told[field].as_str().unwrap_or_else(|| panic!("no {field} in {told}"));
        let memory = text("memory").parse::<Bytes>().unwrap().0;
        assert_eq!(memory % (1 << 20), 0, "whole mebibytes: {told}");
        (text("container").to_owned(), (text("cpu").parse::<Millicores>().unwrap().0, memory >> 20))
    };
    entry["recommendations"].as_array().into_iter().flatten().map(one).collect()
}

/// Events about an object: type, reason and note.
pub fn events(harness: &Harness, name: &str) -> Vec<(String, String, String)> {
    let events = harness.api.list("v1", "Event");
    let text = |event: &Value, field: &str| event[field].as_str().unwrap_or_default().to_owned();
    let about = events.iter().filter(|event| event["involvedObject"]["name"] == name);
    about.map(|event| (text(event, "type"), text(event, "reason"), text(event, "message"))).collect()
}
