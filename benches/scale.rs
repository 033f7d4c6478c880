//! The controller at scale, on the API server double: what it costs at rest, and how long a large policy takes.
//!
//! `cargo bench -p optipod --bench scale`; not Criterion's kind of figure: each is one long run. The double and the usage
//! provider run in the same process, so that the processor's time holds theirs too.

#![allow(clippy::expect_used)] // a bench that panics has failed

use optipod::clock::Clock;
use optipod::controller::{Controller, ControllerOptions, Deps, Providers};
use optipod::provider::{ProviderError, UsageProvider, UsageQuery};
use optipod::telemetry::Metrics;
use optipod::usage::{ResourceUsage, WindowUsage};
use optipod_sim::{SimApi, SimOptions};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const POLICIES: usize = 1_000;
const WORKLOADS: usize = 10_000;
/// Of the one large policy.
const LARGE: usize = 5_000;
/// Rights are asked for every 5 minutes and discovery every 10, so that this holds whole rounds of both.
const REST: Duration = Duration::from_mins(30);

/// The same for every container: a request of 250m and 128Mi follows from it.
struct Flat(Clock);

#[async_trait::async_trait]
impl UsageProvider for Flat {
    fn name(&self) -> &'static str {
        "flat"
    }

    async fn usage(&self, queries: &[UsageQuery]) -> Result<Vec<Option<WindowUsage>>, ProviderError> {
        let to = self.0.now();
        let of =
            |value: f64| ResourceUsage { p50: value, p90: value, p99: value, mean: value, peak: value, samples: 5760 };
        let one = |query: &UsageQuery| {
            let from = to.checked_sub(jiff::SignedDuration::try_from(query.window).ok()?).ok()?;
            Some(WindowUsage {
                cpu: of(0.2),
                memory: of(100.0 * 1_048_576.0),
                from,
                to,
                covered: query.window,
                notes: Vec::new(),
            })
        };
        Ok(queries.iter().map(one).collect())
    }
}

/// A running Deployment of one pod in namespace `n`, as its controllers would have left it.
fn deployment(api: &SimApi, namespace: &str, name: &str) {
    let (set, pod) = (format!("{name}-rs"), format!("{name}-rs-0"));
    let labels = json!({ "app": name });
    let containers =
        json!([{"name": "app", "image": "example/app", "resources": {"requests": {"cpu": "240m", "memory": "120Mi"}}}]);
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": containers}});
    let spec = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": template});
    let create = |api_version: &str, kind: &str, name: &str, owner: Option<(&str, &str, &Value)>, spec: &Value| {
        let mut metadata = json!({"namespace": namespace, "name": name, "labels": labels});
        if let Some((kind, name, owner)) = owner {
            metadata["ownerReferences"] = json!([{"apiVersion": "apps/v1", "kind": kind, "name": name,
                "uid": owner["metadata"]["uid"], "controller": true}]);
        }
        let object = json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "spec": spec});
        api.create(object).expect("the double takes it")
    };
    let of = create("apps/v1", "Deployment", name, None, &spec);
    let set_object = create("apps/v1", "ReplicaSet", &set, Some(("Deployment", name, &of)), &spec);
    let pod_spec = json!({"containers": containers, "nodeName": "a"});
    create("v1", "Pod", &pod, Some(("ReplicaSet", &set, &set_object)), &pod_spec);
    let ready = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]});
    api.set_status("v1", "Pod", namespace, &pod, &ready).expect("a pod has a status");
    let rolled = json!({"observedGeneration": of["metadata"]["generation"], "replicas": 1, "updatedReplicas": 1,
        "readyReplicas": 1, "availableReplicas": 1});
    api.set_status("apps/v1", "Deployment", namespace, name, &rolled).expect("a Deployment has a status");
}

/// A policy for its own namespace.
fn policy(api: &SimApi, namespace: &str) {
    api.create(json!({
        "apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy",
        "metadata": {"namespace": namespace, "name": "p"},
        "spec": {"mode": "Auto", "selector": {"workloadSelector": {}},
            "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "16Mi", "max": "8Gi"}}},
    }))
    .expect("the policy is valid");
}

/// `policies` namespaces with a policy and its share of `workloads` in each.
fn cluster(policies: usize, workloads: usize) -> SimApi {
    let api = SimApi::new(SimOptions::default());
    api.install_crd(optipod::policy::crd::crd()).expect("the CRD is valid");
    api.create_namespace("optipod-system", &json!({})).expect("a namespace");
    for namespace in (0..policies).map(|n| format!("team-{n:04}")) {
        api.create_namespace(&namespace, &json!({})).expect("a namespace");
        for workload in 0..workloads / policies {
            deployment(&api, &namespace, &format!("app-{workload:04}"));
        }
        policy(&api, &namespace);
    }
    api
}

fn start(api: &SimApi) -> (CancellationToken, JoinHandle<()>) {
    let clock = Clock::starting_at(api.clock().now());
    let providers = Providers::new("flat").with("flat", Arc::new(Flat(clock)));
    let metrics = Metrics::new().expect("the metrics are consistent");
    let deps = Deps { client: api.client(), providers, metrics, clock };
    let stop = CancellationToken::new();
    let controller = Controller::new(deps, ControllerOptions::new("optipod-system", "optipod-0"));
    (stop.clone(), tokio::spawn(controller.run(stop)))
}

fn reported(api: &SimApi) -> (usize, usize) {
    let statuses = api.list("optipod.io/v1alpha1", "OptimizationPolicy");
    let of = |policy: &Value| {
        policy["status"]["summary"]["workloads"].as_u64().map_or(0, |n| usize::try_from(n).unwrap_or(0))
    };
    (statuses.iter().filter(|policy| of(policy) > 0).count(), statuses.iter().map(of).sum())
}

/// On a paused timeline: requests and processor time of half an hour in which nothing changes.
#[tokio::main(flavor = "current_thread")]
async fn at_rest() {
    let api = cluster(POLICIES, WORKLOADS);
    tokio::time::pause();
    let (stop, task) = start(&api);
    tokio::time::sleep(Duration::from_mins(20)).await;
    assert_eq!(reported(&api), (POLICIES, WORKLOADS), "every policy has told about all of its workloads");
    api.clear_journal();
    let began = processor_time();
    tokio::time::sleep(REST).await;
    let processor = processor_time().saturating_sub(began);
    let mut calls: BTreeMap<String, usize> = BTreeMap::new();
    for entry in api.journal() {
        // Discovery names no resource.
        let what = if entry.resource.is_empty() { entry.path } else { entry.resource };
        *calls.entry(format!("{} {what}", entry.method)).or_default() += 1;
    }
    let total: usize = calls.values().sum();
    let (requests, share) = (total as f64 / REST.as_secs_f64(), processor.as_secs_f64() / REST.as_secs_f64());
    println!("at rest, {POLICIES} policies x {WORKLOADS} workloads, every 5 min, over {} min:", REST.as_secs() / 60);
    println!("  {requests:.3} API requests/s (bar 1), {:.2} % of a core (bar 2)", share * 100.0);
    for (call, times) in calls {
        println!("    {times:>5} {call}");
    }
    stop.cancel();
    task.await.expect("the controller ends");
}

/// In real time: from the controller's start to the first status that has all workloads.
#[tokio::main(flavor = "current_thread")]
async fn large_policy() {
    let api = cluster(1, LARGE);
    let began = Instant::now();
    let (stop, task) = start(&api);
    while reported(&api).1 < LARGE {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!(
        "one policy, {LARGE} workloads: {:.2} s from the start to its status (bar 10)",
        began.elapsed().as_secs_f64()
    );
    stop.cancel();
    task.await.expect("the controller ends");
}

/// Of this thread, which all of it runs on.
fn processor_time() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    Duration::from_nanos(schedstat.split(' ').next().and_then(|nanos| nanos.parse().ok()).unwrap_or(0))
}

fn main() {
    at_rest();
    large_policy();
}
