//! From metrics-server to the percentiles that a provider answers.

use crate::cases::for_all;
use optipod::api::{Api, serve_in_memory};
use optipod::clock::Clock;
use optipod::collector::{Collector, CollectorOptions};
use optipod::provider::{GrpcProvider, UsageProvider as _, UsageQuery};
use optipod::telemetry::Metrics;
use optipod::usage::{ResourceUsage, SeriesKey, WindowUsage};
use optipod::workload::{WorkloadId, WorkloadKind};
use optipod_sim::{ContainerUsage, PodPoint, SimApi, SimOptions};
use optipod_storage::{Sample, Store, StoreOptions, Timestamp};
use proptest::collection::{btree_set, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

const HOUR: Duration = Duration::from_hours(1);

/// A cluster double, the recommender beside it, and a provider that asks the recommender; one for all cases, because
/// opening a store takes longer than a case.
struct Bench {
    sim: SimApi,
    store: Arc<Store>,
    provider: GrpcProvider,
    clock: Clock,
    number: Cell<u32>,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn start() -> Self {
        let sim = SimApi::new(SimOptions { journal_reads: false, ..SimOptions::default() });
        let clock = Clock::starting_at(sim.clock().now());
        let dir = tempfile::tempdir().unwrap();
        let now = Timestamp(clock.now().as_millisecond());
        let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), now).unwrap());
        let api = Api::new(store.clone(), clock, 48 * HOUR);
        let (channel, server) = serve_in_memory(api, CancellationToken::new());
        tokio::spawn(server);
        let provider = GrpcProvider::new("recommender", channel, Duration::from_secs(10));
        sim.create_namespace("shop", &json!({})).unwrap();
        Self { sim, store, provider, clock, number: Cell::default(), _dir: dir }
    }

    fn collect(&self) {
        let options = CollectorOptions::default();
        let collector = Collector::new(self.sim.client(), self.store.clone(), &Metrics::new().unwrap(), &options);
        let clock = self.clock;
        tokio::spawn(async move { collector.run(clock, CancellationToken::new()).await });
    }

    /// A name that no earlier case has used.
    fn fresh(&self) -> String {
        self.number.set(self.number.get() + 1);
        format!("w{}", self.number.get())
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.clock.now().as_millisecond())
    }

    async fn ask(&self, kind: WorkloadKind, name: &str, container: &str, window: Duration) -> Option<WindowUsage> {
        let workload = WorkloadId { namespace: "shop".into(), kind, name: name.into() };
        let series = SeriesKey { workload, container: container.into() };
        self.provider.usage(&[UsageQuery { series, window }]).await.unwrap().remove(0)
    }

    /// Stores samples of the container `web` of a Deployment.
    fn samples(&self, name: &str, at: Timestamp, values: &[(f64, f64)]) {
        let part = |text: &str| text.to_owned();
        let key = optipod_storage::SeriesKey {
            namespace: part("shop"),
            kind: part("Deployment"),
            workload: part(name),
            container: part("web"),
        };
        let series = self.store.intern(&key);
        let sample = |(pod, (cpu, memory)): (usize, &(f64, f64))| Sample {
            series,
            pod: pod as u64,
            at,
            cpu: *cpu,
            memory: *memory,
        };
        let samples: Vec<Sample> = values.iter().enumerate().map(sample).collect();
        assert_eq!(self.store.append(at, &samples).unwrap().accepted, values.len() as u64);
    }

    fn create(&self, api_version: &str, kind: &str, name: &str, spec: &Value, owner: Option<&Value>) -> Value {
        let owners: Vec<Value> = owner
            .iter()
            .map(|owner| {
                json!({"apiVersion": owner["apiVersion"], "kind": owner["kind"], "controller": true,
                    "name": owner["metadata"]["name"], "uid": owner["metadata"]["uid"]})
            })
            .collect();
        let meta = json!({"namespace": "shop", "name": name, "ownerReferences": owners});
        let object = json!({"apiVersion": api_version, "kind": kind, "spec": spec, "metadata": meta});
        self.sim.create(object).unwrap()
    }
}

fn paused() -> Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// The containers of a workload's pods: CPU in nanocores and memory in KiB of each.
type Pods = Vec<Vec<(u64, u64)>>;

fn pods() -> impl Strategy<Value = Pods> {
    vec(vec((1u64..200_000_000_000, 1u64..1 << 32), 1..4), 1..4)
}

fn kinds() -> impl Strategy<Value = WorkloadKind> {
    select(vec![WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet])
}

const CONTAINERS: [&str; 3] = ["a", "b", "c"];

/// A workload appears, and with it its pods and what they use; two scrapes later its series are asked for.
async fn monitored(bench: &Bench, kind: WorkloadKind, pods: &Pods) -> String {
    let name = bench.fresh();
    let containers =
        |n: usize| CONTAINERS.iter().take(n).map(|name| json!({"name": name, "image": "x"})).collect::<Vec<_>>();
    let template = json!({"metadata": {"labels": {"app": "x"}}, "spec": {"containers": containers(1)}});
    let mut spec = json!({"selector": {"matchLabels": {"app": "x"}}, "template": template});
    if kind == WorkloadKind::StatefulSet {
        spec["serviceName"] = json!("x");
    }
    let mut owner = bench.create("apps/v1", kind.as_str(), &name, &spec, None);
    if kind == WorkloadKind::Deployment {
        owner = bench.create("apps/v1", "ReplicaSet", &format!("{name}-5d"), &spec, Some(&owner));
    }
    for (ordinal, used) in pods.iter().enumerate() {
        let pod = format!("{name}-{ordinal}");
        bench.create("v1", "Pod", &pod, &json!({"containers": containers(used.len())}), Some(&owner));
        let of = |(name, (cpu, memory)): (&&str, &(u64, u64))| ContainerUsage {
            name: (*name).to_owned(),
            cpu_nanos: *cpu,
            memory_kib: *memory,
        };
        bench.sim.publish_metrics(PodPoint {
            namespace: "shop".into(),
            name: pod,
            timestamp: bench.sim.clock().now(),
            window: Duration::from_secs(15),
            containers: CONTAINERS.iter().zip(used).map(of).collect(),
        });
    }
    tokio::time::sleep(Duration::from_secs(30)).await;
    for ordinal in 0..pods.len() {
        bench.sim.retract_metrics("shop", &format!("{name}-{ordinal}"));
    }
    name
}

// Feature: k8s-workload-rightsizing, Property 1: Monitoring initiates metrics collection
#[test]
fn property_1_a_workload_of_any_kind_is_collected_from_its_first_scrape_on() {
    let runtime = paused();
    let bench = runtime.block_on(async { Bench::start() });
    runtime.block_on(async { bench.collect() });
    for_all((kinds(), pods()), |(kind, pods)| {
        runtime.block_on(async {
            let name = monitored(&bench, kind, &pods).await;
            let usage = bench.ask(kind, &name, "a", HOUR).await;
            let usage = usage.unwrap_or_else(|| panic!("nothing was collected of {kind} {name}"));
            assert_eq!(usage.cpu.samples, pods.len() as u64, "one sample of each pod");
            assert_eq!(usage.memory.samples, pods.len() as u64);
        });
    });
}

// Feature: k8s-workload-rightsizing, Property 11: Metrics collection per container
#[test]
fn property_11_both_resources_of_every_container_are_collected_with_their_amounts() {
    let runtime = paused();
    let bench = runtime.block_on(async { Bench::start() });
    runtime.block_on(async { bench.collect() });
    for_all((kinds(), pods()), |(kind, pods)| {
        runtime.block_on(async {
            let name = monitored(&bench, kind, &pods).await;
            for (index, container) in CONTAINERS.iter().enumerate() {
                let used: Vec<_> = pods.iter().filter_map(|containers| containers.get(index)).collect();
                let usage = bench.ask(kind, &name, container, HOUR).await;
                assert_eq!(usage.as_ref().map_or(0, |usage| usage.cpu.samples), used.len() as u64, "{container}");
                let Some(usage) = usage else { continue };
                let cpu = used.iter().map(|used| used.0).max().unwrap() as f64 / 1e9;
                let memory = used.iter().map(|used| used.1).max().unwrap() as f64 * 1024.0;
                for (got, exact) in [(usage.cpu.peak, cpu), (usage.memory.peak, memory)] {
                    assert!((got / exact - 1.0).abs() < 1e-3, "{container}: {got} for {exact}");
                }
            }
        });
    });
}

// Feature: k8s-workload-rightsizing, Property 12: Rolling window aggregation
#[test]
fn property_12_a_window_counts_the_samples_that_fell_into_it_and_no_others() {
    const SLOT: i64 = 300_000;
    let runtime = paused();
    let bench = runtime.block_on(async { Bench::start() });
    let case = (btree_set(0i64..3600, 1..6), 300u64..3600, 0..300_000u64);
    for_all(case, |(ages, window, phase)| {
        runtime.block_on(async {
            tokio::time::sleep(2 * HOUR + Duration::from_millis(phase)).await;
            let (name, now) = (bench.fresh(), bench.now());
            for age in ages.iter().rev() {
                bench.samples(&name, Timestamp(now.0 - age * 1000), &[(*age as f64 + 1.0, 1.0)]);
            }
            // A slot of five minutes counts whole when any of it lies in the window.
            let start = now.0 - i64::try_from(window).unwrap() * 1000;
            let is_inside = |age: &&i64| ((now.0 - **age * 1000).div_euclid(SLOT) + 1) * SLOT > start;
            let inside: Vec<i64> = ages.iter().filter(is_inside).copied().collect();
            let usage = bench.ask(WorkloadKind::Deployment, &name, "web", Duration::from_secs(window)).await;
            assert_eq!(usage.as_ref().map_or(0, |usage| usage.cpu.samples), inside.len() as u64, "of {ages:?} s ago");
            if let (Some(usage), Some(oldest)) = (usage, inside.last()) {
                let peak = *oldest as f64 + 1.0;
                assert!((usage.cpu.peak / peak - 1.0).abs() < 1e-3, "{} for {peak}", usage.cpu.peak);
            }
        });
    });
}

/// The values around a quantile's rank, as far off as a digest of few samples may be: half of its centroid there, which is
/// widest in the middle (7 % of all samples), and one more.
fn around(sorted: &[f64], quantile: f64) -> (f64, f64) {
    let count = sorted.len() as f64;
    let slack = 0.14 * (quantile * (1.0 - quantile)).sqrt() * count + 1.0;
    let ranks = (quantile * count - slack, quantile * count + slack);
    let low =
        sorted.iter().enumerate().rfind(|(rank, _)| *rank as f64 <= ranks.0).map_or(sorted[0], |(_, value)| *value);
    let high = sorted.iter().enumerate().find(|(rank, _)| *rank as f64 >= ranks.1).map(|(_, value)| *value);
    (low, high.unwrap_or(sorted[sorted.len() - 1]))
}

fn check(name: &str, got: &ResourceUsage, mut exact: Vec<f64>) {
    exact.sort_by(f64::total_cmp);
    for (quantile, got) in [(0.5, got.p50), (0.9, got.p90), (0.99, got.p99)] {
        let (low, high) = around(&exact, quantile);
        assert!(low * 0.999 <= got && got <= high * 1.001, "{name}: P{quantile} {got} is not in {low}..{high}");
    }
    assert!(got.p50 <= got.p90 && got.p90 <= got.p99 && got.p99 <= got.peak, "{name}: {got:?}");
    assert_eq!(got.samples, exact.len() as u64);
}

// Feature: k8s-workload-rightsizing, Property 13: Percentile computation
#[test]
fn property_13_p50_p90_and_p99_of_both_resources_are_those_of_the_sorted_samples() {
    let runtime = paused();
    let bench = runtime.block_on(async { Bench::start() });
    for_all(vec((1e-3..64.0f64, 1e3..1e11f64), 1..400), |values| {
        runtime.block_on(async {
            tokio::time::sleep(Duration::from_secs(400)).await;
            let name = bench.fresh();
            bench.samples(&name, bench.now(), &values);
            let usage = bench.ask(WorkloadKind::Deployment, &name, "web", HOUR).await.unwrap();
            let (cpu, memory) = values.into_iter().unzip();
            check("CPU", &usage.cpu, cpu);
            check("memory", &usage.memory, memory);
        });
    });
}
