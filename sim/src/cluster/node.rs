//! A node's life: which pods it runs, as what, and until when.
//!
//! What it may not know: controllers.
//! Invariant: `PodRun` follows the API's pod by uid; a pod that is gone from the API runs nowhere.

use serde_json::{Value, json};

use super::kubelet::{ContainerRun, Phase, PodRun, container_specs, delay, readiness_agrees};
use super::objects::{Plane, is_deleting};
use super::resizing::{self, Host, Resizing};
use super::scheduler::{self, Room};
use super::{Cluster, Moment, load_name};
use crate::api::store::Key;
use crate::json::{int_at, list_at, map_at, str_at};
use crate::load::{Behaviour, Cpu, Load, Memory};
use crate::quantity::Quantity;
use crate::rng::Rng;
use crate::truth::Series;

/// Seconds that a pod takes to end.
const TERMINATION: f64 = 1.0;

/// The manifest of a ready node.
pub(crate) fn manifest(name: &str, cpu: &str, memory: &str) -> Value {
    let resources = json!({"cpu": cpu, "memory": memory, "pods": "250"});
    json!({"apiVersion": "v1", "kind": "Node",
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}},
        "spec": {},
        "status": {"capacity": resources, "allocatable": resources,
            "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
            "nodeInfo": {"kubeletVersion": "v1.37.2", "operatingSystem": "linux",
                "architecture": "amd64"}}})
}

/// The series of a pod's container: its workload as OptiPod would resolve it.
pub(crate) fn series_of(plane: &Plane<'_>, pod: &Value, container: &str) -> Series {
    let namespace = str_at(pod, "/metadata/namespace");
    let owner = list_at(pod, "/metadata/ownerReferences").first();
    let (mut kind, mut name) = match owner {
        Some(owner) => (str_at(owner, "/kind").to_owned(), str_at(owner, "/name").to_owned()),
        None => ("Pod".to_owned(), str_at(pod, "/metadata/name").to_owned()),
    };
    if kind == "ReplicaSet" {
        let set = plane.get("replicasets", &Key::new(namespace, &name));
        let parent = set.as_ref().and_then(|set| list_at(set, "/metadata/ownerReferences").first());
        if let Some(parent) = parent {
            str_at(parent, "/kind").clone_into(&mut kind);
            str_at(parent, "/name").clone_into(&mut name);
        }
    }
    Series::new(namespace, &kind, &name, container)
}

/// The behaviour that a pod's annotations ask for (`usage/cpu.NAME`, `usage/cpu`, the same for
/// memory): what the test cluster's kwok understands, so that contract tests run on both.
fn annotated(pod: &Value, container: &str) -> Option<Behaviour> {
    let notes = map_at(pod, "/metadata/annotations")?;
    let amount = |resource: &str| {
        let own = notes.get(&format!("usage/{resource}.{container}"));
        own.or_else(|| notes.get(&format!("usage/{resource}"))).and_then(Quantity::from_json)
    };
    let (cpu, memory) = (amount("cpu"), amount("memory"));
    if cpu.is_none() && memory.is_none() {
        return None;
    }
    Some(Behaviour {
        cpu: Cpu::Steady(cpu.map_or(0.001, Quantity::as_f64)),
        memory: Memory::Steady(memory.map_or(crate::load::MIB, Quantity::as_f64)),
        noise: 0.0,
    })
}

impl Cluster {
    /// Takes up one changed pod.
    pub(crate) fn sync(&mut self, plane: &mut Plane<'_>, moment: &Moment<'_>, key: &Key) {
        let Some(pod) = plane.get("pods", key) else {
            self.pods.remove(key);
            plane.state.metrics.retract(&key.namespace, &key.name);
            return;
        };
        if str_at(&pod, "/spec/nodeName").is_empty() {
            return;
        }
        let uid = str_at(&pod, "/metadata/uid");
        if self.pods.get(key).is_none_or(|run| run.uid != uid) {
            plane.state.metrics.retract(&key.namespace, &key.name);
            let run = self.start(plane, moment, key, &pod);
            self.pods.insert(key.clone(), run);
        }
        let Some(run) = self.pods.get_mut(key) else {
            return;
        };
        let generation = int_at(&pod, "/metadata/generation", 1);
        if generation != run.generation {
            run.generation = generation;
            run.spec_changed = true;
            run.status_due = true;
        }
        if is_deleting(&pod) && run.gone_at.is_none() {
            let grace = int_at(&pod, "/metadata/deletionGracePeriodSeconds", 30);
            run.gone_at = Some(moment.now + TERMINATION.min(grace as f64));
        }
        run.status_due |= !readiness_agrees(run, &pod);
        for container in &mut run.containers {
            let asked = annotated(&pod, &container.name).filter(|asked| *asked != container.load.behaviour());
            if let Some(asked) = asked
                && !self.loads.contains_key(&series_of(plane, &pod, &container.name))
            {
                container.load = Load::new(asked, moment.options.seed, &load_name(key, &container.name));
            }
        }
    }

    fn start(&mut self, plane: &Plane<'_>, moment: &Moment<'_>, key: &Key, pod: &Value) -> PodRun {
        let name = format!("{}/{}", key.namespace, key.name);
        let mut rng = Rng::named(moment.options.seed, &name);
        let spread = moment.options.start_spread.as_secs_f64() * rng.unit();
        let wait = delay(pod, "start/delay").unwrap_or(moment.options.start_delay.as_secs_f64() + spread);
        self.addresses += 1;
        let series = series_of(plane, pod, "");
        let workload = (series.namespace, series.kind, series.workload);
        PodRun {
            key: key.clone(),
            uid: str_at(pod, "/metadata/uid").to_owned(),
            node: str_at(pod, "/spec/nodeName").to_owned(),
            containers: container_specs(pod)
                .into_iter()
                .map(|(spec, sidecar)| self.container(plane, moment, key, pod, spec, sidecar))
                .collect(),
            start_at: moment.now + wait,
            started: false,
            never_ready: self.broken.contains(&workload),
            gone_at: None,
            generation: int_at(pod, "/metadata/generation", 1),
            resizing: Resizing::default(),
            spec_changed: false,
            status_due: true,
            ip: format!("10.64.{}.{}", self.addresses / 250, self.addresses % 250 + 1),
        }
    }

    fn container(
        &self,
        plane: &Plane<'_>,
        moment: &Moment<'_>,
        key: &Key,
        pod: &Value,
        spec: &Value,
        sidecar: bool,
    ) -> ContainerRun {
        let name = str_at(spec, "/name");
        let series = series_of(plane, pod, name);
        let behaviour =
            self.loads.get(&series).copied().or_else(|| annotated(pod, name)).unwrap_or_else(Behaviour::idle);
        let mut container = ContainerRun {
            name: name.to_owned(),
            sidecar,
            load: Load::new(behaviour, moment.options.seed, &load_name(key, name)),
            row: moment.truth.row(&series),
            phase: Phase::Created,
            resources: Value::Null,
            allocated: Value::Null,
            cpu_request: 0.0,
            cpu_limit: None,
            memory_request: 0.0,
            memory_limit: None,
            demand: 0.0,
            memory: 0.0,
            used: 0.0,
            wanted: 0.0,
            scraped: false,
            restarts: 0,
            streak: 0,
            last_state: None,
        };
        container.set_resources(spec);
        container
    }

    /// Takes every pod's resize a step further.
    pub(crate) fn resize(&mut self, plane: &Plane<'_>, moment: &Moment<'_>) {
        let unsettled = |run: &PodRun| run.started && (run.spec_changed || run.resizing != Resizing::Settled);
        let waiting: Vec<Key> = self.pods.values().filter(|run| unsettled(run)).map(|run| run.key.clone()).collect();
        for key in waiting {
            let Some(pod) = plane.get("pods", &key) else {
                continue;
            };
            let host = self.host(plane, moment, &key, &pod);
            if let Some(run) = self.pods.get_mut(&key) {
                run.spec_changed = false;
                resizing::step(run, &pod, &host);
            }
        }
    }

    /// The node's room for this pod: its allocatable less what other pods have been promised.
    fn host(&self, plane: &Plane<'_>, moment: &Moment<'_>, key: &Key, pod: &Value) -> Host {
        let name = str_at(pod, "/spec/nodeName");
        let node = plane.get("nodes", &Key::new("", name));
        let allocatable = node.map(|node| scheduler::allocatable(&node)).unwrap_or_default();
        let mut free = allocatable;
        let others = self.pods.values().filter(|run| run.node == name && run.key != *key);
        for container in others.flat_map(|run| &run.containers) {
            let promised = |resource: &str| {
                let amount = container.allocated.get(resource).and_then(Quantity::from_json);
                amount.map_or(0, Quantity::nanos)
            };
            free = Room { cpu: free.cpu - promised("cpu"), memory: free.memory - promised("memory") };
        }
        Host {
            now: moment.now,
            time: plane.time(),
            resize_delay: moment.options.resize_delay.as_secs_f64(),
            allocatable,
            free,
        }
    }

    /// Removes pods whose time is up.
    pub(crate) fn finish_deletions(&mut self, plane: &mut Plane<'_>, moment: &Moment<'_>) {
        let due = |run: &PodRun| run.gone_at.is_some_and(|at| moment.now >= at);
        let gone: Vec<Key> = self.pods.values().filter(|run| due(run)).map(|run| run.key.clone()).collect();
        for key in gone {
            self.pods.remove(&key);
            plane.state.metrics.retract(&key.namespace, &key.name);
            if let (Some(kind), Some(pod)) = (plane.kind("pods"), plane.get("pods", &key))
                && list_at(&pod, "/metadata/finalizers").is_empty()
            {
                plane.state.store.remove(&kind, &key);
                plane.state.after_write(&kind, &pod);
            }
        }
    }
}
