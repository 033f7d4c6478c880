//! From metrics-server to a provider's answer, on the API server double: what is published there comes back over gRPC,
//! each point once, under the workload that owns the pod, whatever fails on the way.
//!
//! The oracle is the double's own journal: the points that a scrape answered with 200 could see, sorted.

use optipod::api::{Api, serve_in_memory};
use optipod::clock::Clock;
use optipod::collector::{Collector, CollectorOptions};
use optipod::provider::{GrpcProvider, UsageProvider as _, UsageQuery};
use optipod::telemetry::Metrics;
use optipod::usage::{ResourceUsage, SeriesKey, WindowUsage};
use optipod::workload::{WorkloadId, WorkloadKind};
use optipod_sim::{ContainerUsage, Fault, FaultRule, PodPoint, SimApi, SimOptions};
use optipod_storage::{Store, StoreOptions};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_secs(15);

/// A cluster double, and everything from its metrics to a provider.
struct Bench {
    sim: SimApi,
    collector: Arc<Collector>,
    provider: GrpcProvider,
    /// Every point published: pod, container, milliseconds since the start, CPU, memory.
    published: Vec<(String, String, u64, f64, f64)>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn start(seed: u64) -> Self {
        let sim = SimApi::new(SimOptions { seed, ..SimOptions::default() });
        let clock = Clock::starting_at(sim.clock().now());
        let dir = tempfile::tempdir().unwrap();
        let now = optipod_storage::Timestamp(clock.now().as_millisecond());
        let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), now).unwrap());
        let metrics = Metrics::new().unwrap();
        let collector = Collector::new(sim.client(), store.clone(), &metrics, &CollectorOptions::default());
        let collector = Arc::new(collector);
        let (channel, server) =
            serve_in_memory(Api::new(store, clock, Duration::from_hours(48)), CancellationToken::new());
        tokio::spawn(server);
        let running = collector.clone();
        tokio::spawn(async move { running.run(clock, CancellationToken::new()).await });
        let provider = GrpcProvider::new("recommender", channel, Duration::from_secs(10));
        sim.create_namespace("shop", &json!({})).unwrap();
        Self { sim, collector, provider, published: Vec::new(), _dir: dir }
    }

    fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.sim.clock().elapsed().as_millis()).unwrap()
    }

    /// Creates an object of the namespace `shop`; `owner` is (apiVersion, kind, name, uid). Returns its uid.
    fn create(
        &self,
        api_version: &str,
        kind: &str,
        name: &str,
        spec: &Value,
        owner: Option<(&str, &str, &str, &str)>,
    ) -> String {
        let owners: Vec<Value> = owner
            .iter()
            .map(|(api_version, kind, name, uid)| {
                json!({"apiVersion": api_version, "kind": kind, "name": name, "uid": uid, "controller": true})
            })
            .collect();
        let object = json!({"apiVersion": api_version, "kind": kind, "spec": spec,
            "metadata": {"namespace": "shop", "name": name, "ownerReferences": owners}});
        self.sim.create(object).unwrap()["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    fn publish(&mut self, pod: &str, containers: &[(&str, u64, u64)]) {
        let usage = |(name, cpu_nanos, memory_kib): &(&str, u64, u64)| ContainerUsage {
            name: (*name).to_owned(),
            cpu_nanos: *cpu_nanos,
            memory_kib: *memory_kib,
        };
        self.sim.publish_metrics(PodPoint {
            namespace: "shop".into(),
            name: pod.into(),
            timestamp: self.sim.clock().now(),
            window: TICK,
            containers: containers.iter().map(usage).collect(),
        });
        let at = self.elapsed_ms();
        for (name, cpu, memory) in containers {
            self.published.push((pod.into(), (*name).into(), at, *cpu as f64 / 1e9, *memory as f64 * 1024.0));
        }
    }

    async fn ask(&self, kind: WorkloadKind, workload: &str, container: &str) -> Option<WindowUsage> {
        let workload = WorkloadId { namespace: "shop".into(), kind, name: workload.into() };
        let series = SeriesKey { workload, container: container.into() };
        let query = UsageQuery { series, window: Duration::from_hours(24) };
        self.provider.usage(&[query]).await.unwrap().remove(0)
    }

    /// The points of these pods' container that some scrape answered in full could see, by the double's journal.
    fn seen(&self, pods: &[&str], container: &str) -> Vec<(f64, f64)> {
        let answered = |fault: &str| fault.is_empty() || fault.starts_with("Latency");
        let scrapes = self.sim.journal().into_iter().filter(|entry| {
            entry.group == "metrics.k8s.io" && entry.resource == "pods" && entry.code == 200 && answered(&entry.fault)
        });
        let mut seen = BTreeMap::new();
        for scrape in scrapes {
            for pod in pods {
                let of_pod =
                    |p: &&(String, String, u64, f64, f64)| p.0 == *pod && p.1 == container && p.2 <= scrape.at_ms;
                if let Some(point) = self.published.iter().rfind(of_pod) {
                    seen.insert(((*pod).to_owned(), point.2), (point.3, point.4));
                }
            }
        }
        seen.into_values().collect()
    }
}

/// Compares an answer with the sorted points; quantiles may be off by 1.5 % of the ranks.
fn check(name: &str, got: &ResourceUsage, mut exact: Vec<f64>) {
    exact.sort_by(f64::total_cmp);
    assert_eq!(got.samples, exact.len() as u64, "{name}: each point once");
    for (q, value) in [(0.5, got.p50), (0.9, got.p90), (0.99, got.p99)] {
        let below =
            |q: f64| exact.iter().enumerate().rfind(|(rank, _)| *rank as f64 <= q * exact.len() as f64).unwrap();
        let (low, high) = (below((q - 0.015_f64).max(0.0)).1, below(q + 0.015).1);
        assert!(*low * 0.999 <= value && value <= *high * 1.001, "{name}: P{q} {value} is not in {low}..{high}");
    }
    let peak = exact[exact.len() - 1];
    assert!(peak <= got.peak && got.peak <= peak * 1.0001, "{name}: peak {} is not {peak}", got.peak);
    let mean = exact.iter().sum::<f64>() / exact.len() as f64;
    assert!((got.mean / mean - 1.0).abs() < 2e-3, "{name}: mean {} is not {mean}", got.mean);
}

fn pod_spec(containers: &[&str]) -> Value {
    let containers: Vec<Value> = containers.iter().map(|name| json!({"name": name, "image": "x"})).collect();
    json!({"containers": containers})
}

fn template(app: &str) -> Value {
    json!({"metadata": {"labels": {"app": app}}, "spec": pod_spec(&["app"])})
}

/// A deployment of two pods, a stateful set's pod with a sidecar, a cron job's pod and one of its own.
fn populate(bench: &Bench) {
    let selector = json!({"matchLabels": {"app": "web"}});
    let apps = json!({"replicas": 2, "selector": selector, "template": template("web")});
    let deployment = bench.create("apps/v1", "Deployment", "web", &apps, None);
    let set =
        bench.create("apps/v1", "ReplicaSet", "web-5d", &apps, Some(("apps/v1", "Deployment", "web", &deployment)));
    for pod in ["web-5d-a", "web-5d-b"] {
        bench.create("v1", "Pod", pod, &pod_spec(&["app"]), Some(("apps/v1", "ReplicaSet", "web-5d", &set)));
    }
    let sts = json!({"replicas": 1, "serviceName": "db", "selector": selector, "template": template("web")});
    let sts = bench.create("apps/v1", "StatefulSet", "db", &sts, None);
    bench.create("v1", "Pod", "db-0", &pod_spec(&["app", "sidecar"]), Some(("apps/v1", "StatefulSet", "db", &sts)));
    let job_spec =
        json!({"template": {"spec": {"containers": [{"name": "app", "image": "x"}], "restartPolicy": "Never"}}});
    let cron = json!({"schedule": "0 3 * * *", "jobTemplate": {"spec": job_spec}});
    let cron = bench.create("batch/v1", "CronJob", "nightly", &cron, None);
    let job = bench.create("batch/v1", "Job", "nightly-1", &job_spec, Some(("batch/v1", "CronJob", "nightly", &cron)));
    bench.create("v1", "Pod", "nightly-1-x", &pod_spec(&["app"]), Some(("batch/v1", "Job", "nightly-1", &job)));
    bench.create("v1", "Pod", "alone", &pod_spec(&["app"]), None);
}

/// Publishes points every 15 s for two hours, while metrics-server and the watches fail now and then.
async fn two_hours(bench: &mut Bench) {
    let on_metrics = |fault| FaultRule::new(fault).on("pods.metrics.k8s.io");
    for (fault, probability) in [
        // First, because the journal names the last fault of a request.
        (Fault::Latency(Duration::from_secs(4)), 0.2),
        (Fault::Status(503), 0.04),
        (Fault::TooManyRequests(1), 0.02),
        (Fault::Garbage, 0.02),
        (Fault::DropBefore, 0.02),
        (Fault::Hang, 0.02),
    ] {
        bench.sim.faults().add(on_metrics(fault).probability(probability));
    }
    bench.sim.faults().add(FaultRule::new(Fault::Status(500)).verb("watch").probability(0.3));
    tokio::time::sleep(Duration::from_secs(7)).await;
    for tick in 0..480u64 {
        let wave = |salt: u64| 50_000_000 + (tick * 7_919 + salt * 104_729) % 997 * 1_003_009;
        bench.publish("web-5d-a", &[("app", wave(1), 50_000 + tick)]);
        bench.publish("web-5d-b", &[("app", wave(2), 90_000 + tick)]);
        bench.publish("db-0", &[("app", wave(3), 4_000_000), ("sidecar", 1_234_567, 1_000 + tick % 7)]);
        bench.publish("nightly-1-x", &[("app", wave(4), 64)]);
        bench.publish("alone", &[("app", wave(5), 1 + tick)]);
        match tick % 80 {
            40 => bench.sim.faults().cut_watches(),
            70 => bench.sim.faults().expire_history(),
            _ => {}
        }
        tokio::time::sleep(TICK).await;
    }
    bench.sim.faults().clear();
}

#[tokio::test(start_paused = true)]
async fn what_metrics_server_told_comes_back_from_the_provider_each_point_once() {
    let mut bench = Bench::start(7);
    populate(&bench);
    two_hours(&mut bench).await;
    for (kind, workload, container, pods) in [
        (WorkloadKind::Deployment, "web", "app", vec!["web-5d-a", "web-5d-b"]),
        (WorkloadKind::StatefulSet, "db", "app", vec!["db-0"]),
        (WorkloadKind::StatefulSet, "db", "sidecar", vec!["db-0"]),
        (WorkloadKind::CronJob, "nightly", "app", vec!["nightly-1-x"]),
        (WorkloadKind::Pod, "alone", "app", vec!["alone"]),
    ] {
        let (cpu, memory): (Vec<f64>, Vec<f64>) = bench.seen(&pods, container).into_iter().unzip();
        assert!(cpu.len() > 380 * pods.len(), "the faults left {} points of {workload}", cpu.len());
        let usage = bench.ask(kind, workload, container).await.unwrap();
        check(&format!("{workload}/{container} CPU"), &usage.cpu, cpu);
        check(&format!("{workload}/{container} memory"), &usage.memory, memory);
    }
    assert!(bench.ask(WorkloadKind::ReplicaSet, "web-5d", "app").await.is_none(), "pooled under the deployment");
    tokio::time::sleep(4 * TICK).await;
    let state = bench.collector.health().state();
    assert_eq!((state.consecutive_failures, state.degraded), (0, None), "after the faults all is well");
}

#[tokio::test(start_paused = true)]
async fn there_is_one_metrics_list_a_tick_and_no_call_per_pod() {
    let mut bench = Bench::start(1);
    populate(&bench);
    for _ in 0..40 {
        bench.publish("alone", &[("app", 1, 1)]);
        tokio::time::sleep(TICK).await;
    }
    let requests = bench.sim.journal();
    let metrics: Vec<_> = requests.iter().filter(|entry| entry.group == "metrics.k8s.io").collect();
    assert_eq!(metrics.len(), 40);
    assert!(metrics.iter().all(|entry| entry.verb == "list" && entry.namespace.is_empty()));
    let others: Vec<_> =
        requests.iter().filter(|entry| entry.group != "metrics.k8s.io").map(|e| e.verb.as_str()).collect();
    // Three lists, and a watch of each kind that the API server ends every 290 s.
    assert_eq!(others.iter().filter(|verb| **verb == "list").count(), 3, "{others:?}");
    assert!(others.iter().all(|verb| matches!(*verb, "list" | "watch")) && others.len() <= 3 * 4, "{others:?}");
}

#[test]
fn the_same_seed_gives_the_same_requests_and_answers() {
    let run = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let mut bench = Bench::start(42);
            populate(&bench);
            two_hours(&mut bench).await;
            let usage = bench.ask(WorkloadKind::Deployment, "web", "app").await;
            let journal = serde_json::to_string(&bench.sim.journal()).unwrap();
            (journal, format!("{usage:?} {:?}", bench.collector.health().state()))
        })
    };
    let (first, second) = (run(), run());
    assert_eq!(first.1, second.1);
    assert!(first.0 == second.0, "the journals differ");
}

/// The containers of some pods: CPU in nanocores and memory in KiB of each.
fn pods() -> impl Strategy<Value = Vec<Vec<(u64, u64)>>> {
    let container = (0u64..200_000_000_000, 1u64..1 << 32);
    prop::collection::vec(prop::collection::vec(container, 1..5), 1..5)
}

// Feature: k8s-workload-rightsizing, Property 1: Monitoring initiates metrics collection
// Feature: k8s-workload-rightsizing, Property 11: Metrics collection per container
#[test]
fn property_1_and_11_every_container_of_a_new_workload_is_collected_with_both_resources() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let bench = std::cell::RefCell::new(runtime.block_on(async { Bench::start(1) }));
    let number = std::cell::Cell::new(0);
    proptest!(ProptestConfig::with_cases(256), |(pods in pods())| {
        number.set(number.get() + 1);
        runtime.block_on(collected(&mut bench.borrow_mut(), number.get(), &pods))?;
    });
}

async fn collected(bench: &mut Bench, number: u32, pods: &[Vec<(u64, u64)>]) -> Result<(), TestCaseError> {
    let set = format!("set-{number}");
    let spec = json!({"serviceName": "x", "selector": {"matchLabels": {"app": "x"}}, "template": template("x")});
    let uid = bench.create("apps/v1", "StatefulSet", &set, &spec, None);
    let names = ["a", "b", "c", "d"];
    for (ordinal, containers) in pods.iter().enumerate() {
        let pod = format!("{set}-{ordinal}");
        let names: Vec<&str> = names.iter().take(containers.len()).copied().collect();
        bench.create("v1", "Pod", &pod, &pod_spec(&names), Some(("apps/v1", "StatefulSet", &set, &uid)));
        let usage: Vec<_> = names.iter().zip(containers).map(|(name, (cpu, memory))| (*name, *cpu, *memory)).collect();
        bench.publish(&pod, &usage);
    }
    tokio::time::sleep(2 * TICK).await;
    for (index, name) in names.iter().enumerate() {
        let of_name: Vec<_> = pods.iter().filter_map(|containers| containers.get(index)).collect();
        let usage = bench.ask(WorkloadKind::StatefulSet, &set, name).await;
        prop_assert_eq!(usage.is_some(), !of_name.is_empty());
        let Some(usage) = usage else { continue };
        prop_assert_eq!((usage.cpu.samples, usage.memory.samples), (of_name.len() as u64, of_name.len() as u64));
        let peak = |amounts: Vec<f64>| amounts.into_iter().fold(0.0, f64::max);
        let cpu = peak(of_name.iter().map(|(cpu, _)| *cpu as f64 / 1e9).collect());
        let memory = peak(of_name.iter().map(|(_, memory)| *memory as f64 * 1024.0).collect());
        prop_assert!(cpu <= usage.cpu.peak * (1.0 + 1e-12) && usage.cpu.peak <= cpu * 1.0001 + 1e-12);
        prop_assert!(memory <= usage.memory.peak && usage.memory.peak <= memory * 1.0001);
    }
    for ordinal in 0..pods.len() {
        bench.sim.retract_metrics("shop", &format!("{set}-{ordinal}"));
    }
    Ok(())
}
