//! A simulated cluster, a usage provider that answers what it is told, and a controller between them.

#![allow(dead_code)] // shared with tests/properties/; each uses a part

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use optipod::clock::Clock;
use optipod::controller::{Controller, ControllerOptions, Deps, Providers};
use optipod::provider::{ProviderError, UsageProvider, UsageQuery};
use optipod::telemetry::Metrics;
use optipod::usage::{ResourceUsage, WindowUsage};
use optipod_sim::{ClusterOptions, Entry, Need, Series, SimApi, SimCluster, SimOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

pub const SHOP: &str = "shop";
const MIB: f64 = 1_048_576.0;

/// Making it takes longer than setting up the rest.
static CRD: LazyLock<CustomResourceDefinition> = LazyLock::new(optipod::policy::crd::crd);

/// Answers the same for every container, unless told otherwise by container name.
pub struct FakeProvider {
    clock: Clock,
    usage: Mutex<BTreeMap<String, (f64, f64)>>,
    /// Peaks of memory in MiB, where they lie above the usage.
    peaks: Mutex<BTreeMap<String, f64>>,
    /// How long ago the last sample was taken.
    age: Mutex<Duration>,
    down: Mutex<bool>,
    pub questions: Mutex<usize>,
}

impl FakeProvider {
    pub fn set(&self, container: &str, cores: f64, mib: f64) {
        self.usage.lock().unwrap().insert(container.to_owned(), (cores, mib));
    }

    pub fn set_peak(&self, container: &str, mib: f64) {
        self.peaks.lock().unwrap().insert(container.to_owned(), mib);
    }

    pub fn set_age(&self, age: Duration) {
        *self.age.lock().unwrap() = age;
    }

    pub fn forget(&self, container: &str) {
        self.usage.lock().unwrap().remove(container);
    }

    pub fn set_down(&self, down: bool) {
        *self.down.lock().unwrap() = down;
    }

    fn of(&self, query: &UsageQuery) -> Option<WindowUsage> {
        let (cores, mib) = *self.usage.lock().unwrap().get(&query.series.container)?;
        let flat =
            |value: f64| ResourceUsage { p50: value, p90: value, p99: value, mean: value, peak: value, samples: 5760 };
        let peak = self.peaks.lock().unwrap().get(&query.series.container).map_or(mib, |peak| peak.max(mib)) * MIB;
        let before = |at: Timestamp, by: Duration| at.checked_sub(SignedDuration::try_from(by).unwrap()).unwrap();
        let to = before(self.clock.now(), *self.age.lock().unwrap());
        let memory = ResourceUsage { peak, ..flat(mib * MIB) };
        Some(WindowUsage {
            cpu: flat(cores),
            memory,
            from: before(to, query.window),
            to,
            covered: query.window,
            notes: Vec::new(),
        })
    }
}

#[async_trait::async_trait]
impl UsageProvider for FakeProvider {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        *self.questions.lock().unwrap() += 1;
        if *self.down.lock().unwrap() {
            return Err(ProviderError::Unavailable { provider: "fake".into(), cause: "told to".into() });
        }
        Ok(queries.iter().map(|query| self.of(query)).collect())
    }
}

pub struct Harness {
    pub api: SimApi,
    pub cluster: SimCluster,
    pub provider: Arc<FakeProvider>,
    pub metrics: Metrics,
    clock: Clock,
    running: Option<Running>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Harness {
    /// Two large nodes, the namespace `shop`, usage of 0.1 cores and 100 MiB in container `web`.
    pub async fn new() -> Self {
        let api = SimApi::new(SimOptions::default());
        api.install_crd(&*CRD).unwrap();
        let cluster = SimCluster::new(&api, ClusterOptions::default());
        for node in ["a", "b"] {
            cluster.add_node(node, "64", "256Gi").unwrap();
        }
        api.create_namespace("optipod-system", &json!({})).unwrap();
        api.create_namespace(SHOP, &json!({"team": "shop"})).unwrap();
        let stepping = cluster.clone();
        tokio::spawn(async move { stepping.run().await });
        let clock = Clock::starting_at(api.clock().now());
        let provider = Arc::new(FakeProvider {
            clock,
            usage: Mutex::default(),
            peaks: Mutex::default(),
            age: Mutex::default(),
            down: Mutex::default(),
            questions: Mutex::default(),
        });
        provider.set("web", 0.1, 100.0);
        let harness = Self { api, cluster, provider, metrics: Metrics::new().unwrap(), clock, running: None };
        sleep(Duration::from_secs(1)).await;
        harness
    }

    pub fn options() -> ControllerOptions {
        ControllerOptions::new("optipod-system", "optipod-0")
    }

    pub fn start(&mut self, options: ControllerOptions) {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.controller(options).run(stop.clone()));
        self.running = Some(Running { stop, task });
    }

    pub fn controller(&self, options: ControllerOptions) -> Controller {
        let providers = Providers::new("fake").with("fake", self.provider.clone());
        let deps = Deps { client: self.api.client(), providers, metrics: self.metrics.clone(), clock: self.clock };
        Controller::new(deps, options)
    }

    /// Stops the controller and answers how long that took.
    pub async fn stop(&mut self) -> Duration {
        let before = tokio::time::Instant::now();
        if let Some(running) = self.running.take() {
            running.stop.cancel();
            running.task.await.unwrap();
        }
        before.elapsed()
    }

    /// A Deployment with one container `web` that requests 500m and 512Mi without limits, and its pods running.
    pub async fn deployment(&self, name: &str, replicas: u32) {
        self.deployment_with(name, replicas, &json!([container("web", "500m", "512Mi")])).await;
    }

    pub async fn deployment_with(&self, name: &str, replicas: u32, containers: &Value) {
        self.create_deployment(name, replicas, containers);
        minutes(1).await;
        assert_eq!(self.pods(name).len(), replicas as usize, "the simulated cluster has started the pods");
    }

    /// The same without waiting for its pods.
    pub fn create_deployment(&self, name: &str, replicas: u32, containers: &Value) {
        let labels = json!({ "app": name });
        self.api
            .create(json!({
                "apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"namespace": SHOP, "name": name, "labels": labels},
                "spec": {"replicas": replicas, "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": {"containers": containers}}},
            }))
            .unwrap();
    }

    pub fn policy(&self, name: &str, spec: Value) {
        let mut whole = json!({
            "mode": "Auto",
            "selector": {"namespaces": {"allow": [SHOP]}},
            "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "16Mi", "max": "8Gi"}},
            "reconciliationInterval": "1m",
        });
        merge(&mut whole, spec);
        let object = json!({
            "apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy",
            "metadata": {"namespace": "optipod-system", "name": name}, "spec": whole,
        });
        self.api.create(object).unwrap();
    }

    pub fn patch(&self, kind: &str, namespace: &str, name: &str, patch: &Value) {
        let version = match kind {
            "Namespace" | "Pod" | "ConfigMap" => "v1",
            "OptimizationPolicy" => "optipod.io/v1alpha1",
            _ => "apps/v1",
        };
        self.api.patch(version, kind, namespace, name, "kubectl-edit", patch).unwrap();
    }

    /// Running pods of a workload, by name.
    pub fn pods(&self, workload: &str) -> Vec<Value> {
        let mut pods = self.api.list("v1", "Pod");
        pods.retain(|pod| {
            pod["metadata"]["labels"]["app"] == workload && pod["metadata"]["deletionTimestamp"].is_null()
        });
        pods
    }

    /// CPU requests of a workload's pods, in one container.
    pub fn cpu(&self, workload: &str, container: &str) -> Vec<String> {
        let of = |pod: &Value| {
            let all = pod["spec"]["containers"].as_array().unwrap();
            let found = all.iter().find(|c| c["name"] == container).unwrap();
            found["resources"]["requests"]["cpu"].as_str().unwrap_or_default().to_owned()
        };
        self.pods(workload).iter().map(of).collect()
    }

    pub fn workload(&self, kind: &str, name: &str) -> Value {
        self.api.get("apps/v1", kind, SHOP, name).unwrap()
    }

    pub fn status(&self, policy: &str) -> Value {
        let object = self.api.get("optipod.io/v1alpha1", "OptimizationPolicy", "optipod-system", policy).unwrap();
        object["status"].clone()
    }

    /// The status entry of one workload.
    pub fn entry(&self, policy: &str, workload: &str) -> Value {
        let status = self.status(policy);
        let all = status["workloads"].as_array().cloned().unwrap_or_default();
        all.into_iter()
            .find(|entry| entry["name"] == workload)
            .unwrap_or_else(|| panic!("{workload} is not in {status}"))
    }

    pub fn condition(&self, policy: &str, type_: &str) -> Value {
        let status = self.status(policy);
        let all = status["conditions"].as_array().cloned().unwrap_or_default();
        all.into_iter().find(|condition| condition["type"] == type_).unwrap_or_default()
    }

    /// What the controller wrote to pods and workloads, carried out or not.
    pub fn changes(&self) -> Vec<Entry> {
        self.writes(|entry| ["pods", "deployments", "statefulsets", "daemonsets"].contains(&entry.resource.as_str()))
    }

    pub fn writes(&self, of: impl Fn(&Entry) -> bool) -> Vec<Entry> {
        let reviews = |entry: &Entry| entry.group != "authorization.k8s.io";
        self.api.journal().into_iter().filter(|entry| entry.is_write() && reviews(entry) && of(entry)).collect()
    }

    /// Status writes of policies.
    pub fn status_writes(&self) -> usize {
        self.writes(|entry| entry.resource == "optimizationpolicies").len()
    }

    /// From now on container `web` of a Deployment fails while it requests less.
    pub fn need(&self, workload: &str, cores: f64, mib: f64) {
        let series = Series::new(SHOP, "Deployment", workload, "web");
        self.cluster.set_need(series, Need { cpu: cores, memory: mib * MIB });
    }

    /// Reasons of events about one object; the double keeps them as the core API shows them.
    pub fn events(&self, name: &str) -> Vec<String> {
        let events = self.api.list("v1", "Event");
        let about = events.iter().filter(|event| event["involvedObject"]["name"] == name);
        about.map(|event| event["reason"].as_str().unwrap_or_default().to_owned()).collect()
    }
}

pub fn container(name: &str, cpu: &str, memory: &str) -> Value {
    json!({"name": name, "image": "example/app", "resources": {"requests": {"cpu": cpu, "memory": memory}}})
}

pub async fn minutes(n: u64) {
    sleep(Duration::from_mins(n)).await;
}

pub async fn seconds(n: u64) {
    sleep(Duration::from_secs(n)).await;
}

fn merge(into: &mut Value, patch: Value) {
    match (into, patch) {
        (Value::Object(into), Value::Object(patch)) => {
            for (key, value) in patch {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, patch) => *into = patch,
    }
}
