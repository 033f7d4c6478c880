//! The cluster in which a schedule is played: carries out what people do and keeps what was true from when on.

use super::schedule::{Act, Effect};
use super::world::{Workload, World};
use crate::harness::Harness;
use optipod::workload::WorkloadId;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const SYSTEM: &str = "optipod-system";
const POLICY: &str = "optipod.io/v1alpha1";

/// The cluster as people left it, from one request of the journal on.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The journal's next number.
    pub seq: u64,
    pub at_ms: u64,
    pub policies: Vec<Value>,
    pub namespaces: Vec<Value>,
    pub workloads: Vec<Value>,
    pub brake: Option<Value>,
    pub autoscalers: Vec<Value>,
    /// Labels `app` of pods that are held and not on their way out.
    pub held_pods: Vec<String>,
    /// Minutes since the newest sample.
    pub age: u64,
    /// Memory peaks by container, in bytes.
    pub peaks: Vec<(String, u64)>,
    /// The provider answers nothing, so that nobody learns of a new peak.
    pub is_silent: bool,
    pub what: String,
}

/// Pods as they were when a write arrived.
#[derive(Clone, Debug)]
pub struct Witness {
    pub user: String,
    pub at_ms: u64,
    pub path: String,
    pub pods: Arc<Vec<Value>>,
}

/// A pod that is on its way out holds nothing up.
pub fn is_held(pod: &Value) -> bool {
    let metadata = &pod["metadata"];
    metadata["deletionTimestamp"].is_null() && metadata["annotations"]["optipod.io/hold"] == "true"
}

#[derive(Default)]
pub(super) struct Notes {
    pub(super) snapshots: Vec<Snapshot>,
    pub(super) witnesses: Vec<Witness>,
    pub(super) age: u64,
    pub(super) is_silent: bool,
    /// When some process stood still, in milliseconds.
    pub(super) pauses: Vec<(u64, u64)>,
    pub(super) peaks: Vec<(String, u64)>,
    pub(super) uses: Vec<(String, (f64, f64))>,
    /// The names of the workloads, none where it is deleted.
    pub(super) names: Vec<Option<String>>,
    /// What each is or was called last.
    pub(super) last_names: Vec<String>,
}

pub struct Stage {
    pub harness: Harness,
    pub world: World,
    pub(super) notes: Mutex<Notes>,
}

impl Stage {
    /// A running cluster with everything but OptiPod.
    pub async fn new(world: &World) -> Arc<Self> {
        let harness = Harness::new().await;
        for namespace in &world.namespaces {
            harness.api.create_namespace(namespace, &json!({})).unwrap();
        }
        let names = world.workloads.iter().map(|workload| Some(workload.name.clone())).collect();
        let last_names = world.workloads.iter().map(|workload| workload.name.clone()).collect();
        let notes = Mutex::new(Notes { names, last_names, ..Notes::default() });
        let stage = Arc::new(Self { harness, world: world.clone(), notes });
        for (index, workload) in world.workloads.iter().enumerate() {
            stage.harness.api.create(workload.manifest()).unwrap();
            stage.set_use(index, (100, 100));
        }
        for (name, spec) in &world.policies {
            let metadata = json!({"namespace": SYSTEM, "name": name});
            let object =
                json!({"apiVersion": POLICY, "kind": "OptimizationPolicy", "metadata": metadata, "spec": spec});
            stage.harness.api.create(object).unwrap();
        }
        tokio::time::sleep(Duration::from_secs(45)).await;
        stage.harness.api.clear_journal();
        stage.note("the beginning");
        stage
    }

    /// The present name of a workload, if it is there.
    pub(super) fn name(&self, index: usize) -> Option<String> {
        self.notes.lock().unwrap().names[index].clone()
    }

    pub(super) fn workload(&self, index: usize) -> Option<Workload> {
        Some(Workload { name: self.name(index)?, ..self.world.workloads[index].clone() })
    }

    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.notes.lock().unwrap().snapshots.clone()
    }

    pub fn witnesses(&self) -> Vec<Witness> {
        self.notes.lock().unwrap().witnesses.clone()
    }

    /// Keeps what the pods are like as a write arrives.
    pub fn witness(&self, user: &str, path: &str) {
        let pods = Arc::new(self.harness.api.list("v1", "Pod"));
        let witness = Witness { user: user.to_owned(), at_ms: self.now_ms(), path: path.to_owned(), pods };
        self.notes.lock().unwrap().witnesses.push(witness);
    }

    pub fn now_ms(&self) -> u64 {
        u64::try_from(self.harness.api.clock().elapsed().as_millis()).unwrap()
    }

    fn note(&self, what: &str) {
        let api = &self.harness.api;
        let pods = api.list("v1", "Pod").into_iter().filter(is_held);
        let app = |pod: Value| pod["metadata"]["labels"]["app"].as_str().unwrap_or_default().to_owned();
        let kinds = ["Deployment", "StatefulSet", "DaemonSet"];
        let mut notes = self.notes.lock().unwrap();
        let snapshot = Snapshot {
            seq: api.request_count(),
            at_ms: self.now_ms(),
            policies: api.list(POLICY, "OptimizationPolicy"),
            namespaces: api.list("v1", "Namespace"),
            workloads: kinds.iter().flat_map(|kind| api.list("apps/v1", kind)).collect(),
            brake: api.get("v1", "ConfigMap", SYSTEM, "optipod-brake"),
            autoscalers: api.list("autoscaling/v2", "HorizontalPodAutoscaler"),
            held_pods: pods.map(app).collect(),
            age: notes.age,
            peaks: notes.peaks.clone(),
            is_silent: notes.is_silent,
            what: what.to_owned(),
        };
        notes.snapshots.push(snapshot);
    }

    /// Carries out an act; one that makes no sense now does nothing.
    pub async fn act(&self, act: &Act) {
        match act {
            Act::Undo(index) => self.undo(*index).await,
            act => self.act_at_once(act),
        }
    }

    pub fn act_at_once(&self, act: &Act) {
        let hold = |on: bool| json!({"metadata": {"annotations": {"optipod.io/hold": on.then_some("true")}}});
        match act {
            Act::Brake(only) => self.brake(only.as_deref()),
            Act::BrakeOff => drop(self.harness.api.delete("v1", "ConfigMap", SYSTEM, "optipod-brake")),
            Act::HoldNamespace(name, on) => self.harness.patch("Namespace", "", name, &hold(*on)),
            Act::HoldWorkload(index, on) => self.patch(*index, &hold(*on)),
            Act::HoldPod(index) => self.patch_pod(*index, &hold(true)),
            Act::Edit(index, spec) => {
                let name = &self.world.policies[*index].0;
                self.harness.patch("OptimizationPolicy", SYSTEM, name, &json!({ "spec": spec }));
            }
            Act::Use { workload, cores_percent, memory_percent } => {
                self.set_use(*workload, (*cores_percent, *memory_percent));
            }
            Act::Age(minutes) => {
                self.notes.lock().unwrap().age = *minutes;
                self.harness.provider.set_age(Duration::from_mins(*minutes));
            }
            Act::ProviderDown(down) => {
                self.notes.lock().unwrap().is_silent = *down;
                self.harness.provider.set_down(*down);
            }
            Act::Autoscaler(index, on) => self.autoscaler(*index, *on),
            Act::DeletePod(index) => self.delete_pod(*index),
            Act::Scale(index, replicas) if self.world.workloads[*index].kind != "DaemonSet" => {
                self.patch(*index, &json!({"spec": {"replicas": replicas}}));
            }
            Act::Remove(index) => self.remove(*index),
            Act::Create(index) => {
                let name = self.notes.lock().unwrap().last_names[*index].clone();
                self.create(*index, &name);
            }
            Act::Rename(index) => {
                if let Some(name) = self.name(*index) {
                    self.remove(*index);
                    self.create(*index, &format!("{name}r"));
                }
            }
            Act::Release(index, number) => {
                let note = json!({"metadata": {"annotations": {"release": number.to_string()}}});
                self.patch(*index, &json!({"spec": {"template": note}}));
            }
            Act::Need(index) => self.need(*index),
            Act::Scale(..) | Act::Undo(_) => {}
        }
        self.note(&format!("{act:?}"));
    }

    /// What a disturbance does to the object of a write as it arrives.
    pub fn strike(&self, effect: &Effect, namespace: &str, name: &str, is_pod: bool) {
        let touch = json!({"metadata": {"annotations": {"seen": self.now_ms().to_string()}}});
        let all = ["Deployment", "StatefulSet", "DaemonSet"];
        let kinds: &[&str] = if is_pod { &["Pod"] } else { &all };
        let api = &self.harness.api;
        let version = if is_pod { "v1" } else { "apps/v1" };
        let Some(kind) = kinds.iter().find(|kind| api.get(version, kind, namespace, name).is_some()) else { return };
        match effect {
            Effect::Touch => self.harness.patch(kind, namespace, name, &touch),
            Effect::Resize if is_pod => self.resize_by_hand(namespace, name),
            Effect::DeletePod if is_pod => drop(api.delete("v1", "Pod", namespace, name)),
            _ => {}
        }
        self.note(&format!("{effect:?} of {namespace}/{name}"));
    }

    async fn undo(&self, index: usize) {
        let Some(workload) = self.workload(index) else { return };
        let kind = workload.kind.parse().unwrap();
        let id = WorkloadId { namespace: workload.namespace, kind, name: workload.name };
        self.note(&format!("Undo of {id}"));
        // What it cannot do now is no matter here; the journal has what it did.
        let undo = optipod::controller::Undo::new(self.harness.api.client_as("alice"));
        let _ = tokio::time::timeout(Duration::from_mins(1), undo.workload(&id, true)).await;
        self.note(&format!("Undo of {id} is over"));
    }
}

impl Stage {
    /// The workload that is called so, or whose pod is.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        let is_its = |app: String| name == app || name.starts_with(&format!("{app}-"));
        (0..self.world.workloads.len()).find(|index| self.name(*index).is_some_and(is_its))
    }

    /// What every workload's template and pods request, without what differs from run to run.
    pub fn end(&self) -> BTreeMap<String, Vec<Value>> {
        let api = &self.harness.api;
        let resources = |spec: &Value| {
            let containers = spec["containers"].as_array().into_iter().flatten();
            let one = |c: &Value| json!({"name": c["name"], "resources": c["resources"]});
            Value::Array(containers.map(one).collect())
        };
        let mut end = BTreeMap::new();
        for workload in ["Deployment", "StatefulSet", "DaemonSet"].iter().flat_map(|kind| api.list("apps/v1", kind)) {
            let name = workload["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            let mut all = vec![resources(&workload["spec"]["template"]["spec"])];
            all.extend(self.harness.pods(&name).iter().map(|pod| resources(&pod["spec"])));
            end.insert(name, all);
        }
        end
    }
}
