//! A tick of 300,000 containers of as many workloads, from metrics-server's answer to durable on disk, and its halves.
//!
//! `cargo bench --bench tick` measures; `OPTIPOD_TICKS=400 cargo bench --bench tick` lives through an hour and its
//! roll-up instead and prints the mean and the longest tick (with `OPTIPOD_TICK_JSON=1` from JSON).
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

mod cluster;
mod list;
mod long;
mod walk;

use cluster::Cluster;
use criterion::{Bencher, Criterion, SamplingMode, Throughput, criterion_group};
use jiff::Timestamp;
use list::{EPOCH, Form, List};
use optipod::collector::{Collector, CollectorOptions, PodPoints, decode_json, decode_protobuf};
use optipod::telemetry::Metrics;
use optipod_storage::{Sample, SeriesId, SeriesKey, SketchKind, Store, StoreOptions};
use std::cell::LazyCell;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CONTAINERS: usize = 300_000;

/// A collector on a cluster whose owners it knows, and the list that the next tick gets.
struct Bench {
    collector: Collector,
    cluster: Cluster,
    list: List,
    next: u64,
    runtime: tokio::runtime::Runtime,
    _dir: tempfile::TempDir,
}

impl Bench {
    fn new(form: Form) -> Self {
        let (dir, store) = store(SketchKind::default());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let within = runtime.enter();
        let cluster = Cluster::new(form, CONTAINERS);
        let options = CollectorOptions::default();
        let collector = Collector::new(cluster.client(), Arc::new(store), &Metrics::new().unwrap(), &options);
        let (owners, client) = (collector.owners(), cluster.client());
        runtime.block_on(async {
            let known = owners.clone();
            tokio::spawn(async move { owners.watch(&client).await });
            known.until_synced().await;
        });
        drop(within);
        Self { collector, cluster, list: List::new(form, CONTAINERS), next: 0, runtime, _dir: dir }
    }

    /// One tick by the clock and on the processor; the list is made before the clock starts.
    fn tick(&mut self) -> (Duration, Duration) {
        self.list.tick(self.next);
        self.cluster.publish(&self.list);
        let now = Timestamp::from_second(EPOCH + 15 * self.next.cast_signed()).unwrap();
        self.next += 1;
        let began = (Instant::now(), long::processor_time());
        let tick = self.runtime.block_on(self.collector.tick(now)).unwrap();
        let took = (began.0.elapsed(), long::processor_time().saturating_sub(began.1));
        assert_eq!((tick.stored.accepted, tick.degraded), (CONTAINERS as u64, None));
        took
    }
}

/// A store on a real disk: the system's folder for temporary files may be memory.
fn store(sketch: SketchKind) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let options = StoreOptions { sketch, ..StoreOptions::default() };
    let store = Store::open(dir.path(), options, optipod_storage::Timestamp::from_secs(EPOCH)).unwrap();
    (dir, store)
}

/// The part of a tick that is the store's.
struct StoreHalf {
    store: Store,
    series: Vec<SeriesId>,
    next: u64,
    _dir: tempfile::TempDir,
}

impl StoreHalf {
    fn new(sketch: SketchKind) -> Self {
        let (dir, store) = store(sketch);
        let key = |pod| SeriesKey {
            namespace: list::namespace(pod),
            kind: "Deployment".to_owned(),
            workload: list::deployment(pod),
            container: "app".to_owned(),
        };
        let series = (0..CONTAINERS).map(|pod| store.intern(&key(pod))).collect();
        Self { store, series, next: 0, _dir: dir }
    }

    fn tick(&mut self) -> Duration {
        let at = optipod_storage::Timestamp::from_secs(EPOCH + 15 * self.next.cast_signed());
        let sample = |(pod, series): (usize, &SeriesId)| {
            let (cpu, memory) = list::amounts(pod, self.next);
            Sample { series: *series, pod: pod as u64, at, cpu: cpu as f64 / 1e9, memory: memory as f64 * 1024.0 }
        };
        let samples: Vec<Sample> = self.series.iter().enumerate().map(sample).collect();
        self.next += 1;
        let began = Instant::now();
        assert_eq!(self.store.append(at, &samples).unwrap().accepted, CONTAINERS as u64);
        self.store.maintain(at).unwrap();
        began.elapsed()
    }
}

/// From the answer's bytes to durable, with the maintenance of that tick; then the store's part of it alone.
fn tick(c: &mut Criterion) {
    let mut group = c.benchmark_group("tick_300k");
    group.sample_size(10).sampling_mode(SamplingMode::Flat).measurement_time(Duration::from_mins(1));
    group.throughput(Throughput::Elements(CONTAINERS as u64));
    for (id, form) in [("protobuf", Form::Protobuf), ("json", Form::Json)] {
        let mut bench = LazyCell::new(|| Bench::new(form)); // nothing is made for an id that is not asked for
        group.bench_function(id, |b| b.iter_custom(|ticks| (0..ticks).map(|_| bench.tick().0).sum()));
    }
    for (id, sketch) in [("t-digest", SketchKind::TDigest), ("log-linear", SketchKind::LogLinear)] {
        let mut half = LazyCell::new(|| StoreHalf::new(sketch));
        group.bench_function(id, |b| b.iter_custom(|ticks| (0..ticks).map(|_| half.tick()).sum()));
    }
    group.finish();
}

/// Takes a pod as the collector would, and does nothing with it.
fn told(pod: &PodPoints<'_>) {
    black_box(pod);
}

/// Measures the processor's time where the system tells it, because reading waits for nothing: then what else the machine
/// does is not in the ratio.
fn processor<T>(b: &mut Bencher<'_>, mut work: impl FnMut() -> T) {
    b.iter_custom(|times| {
        let began = (Instant::now(), long::processor_time());
        (0..times).for_each(|_| drop(black_box(work())));
        let took = long::processor_time().saturating_sub(began.1);
        if took.is_zero() { began.0.elapsed() } else { took }
    });
}

/// The decoders against two walks over the same bytes that borrow everything: one that reads what it finds, one that does not.
fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("parse_300k");
    group.sample_size(10).throughput(Throughput::Elements(CONTAINERS as u64));
    let list = List::new(Form::Protobuf, CONTAINERS);
    println!("protobuf: {} bytes", list.bytes.len());
    group.bench_function("bare-walk", |b| processor(b, || walk::bare(black_box(&list.bytes))));
    group.bench_function("zero-copy-walk", |b| processor(b, || walk::reading(black_box(&list.bytes))));
    group.bench_function("protobuf", |b| processor(b, || decode_protobuf(black_box(&list.bytes), told).unwrap()));
    let list = List::new(Form::Json, CONTAINERS);
    println!("json: {} bytes", list.bytes.len());
    group.bench_function("json", |b| processor(b, || decode_json(black_box(&list.bytes), told).unwrap()));
    group.finish();
}

criterion_group!(benches, parse, tick);

fn main() {
    if let Ok(ticks) = std::env::var("OPTIPOD_TICKS") {
        let form = if std::env::var_os("OPTIPOD_TICK_JSON").is_some() { Form::Json } else { Form::Protobuf };
        return long::run(form, ticks.parse().unwrap());
    }
    benches();
    Criterion::default().configure_from_args().final_summary();
}
