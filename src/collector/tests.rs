use super::double::*;
use super::*;
use crate::clock::{Clock, later};
use optipod_storage::{SeriesKey, StoreOptions, Usage};
use serde_json::Value;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const DEPLOYMENT: Option<(&str, &str, &str)> = Some(("apps/v1", "Deployment", "web"));
const REPLICA_SET: Option<(&str, &str, &str)> = Some(("apps/v1", "ReplicaSet", "web-5d"));

/// A collector on a double, with the clock at `EPOCH`.
struct Bench {
    server: ApiServer,
    store: Arc<Store>,
    metrics: Metrics,
    collector: Arc<Collector>,
    clock: Clock,
    start: Instant,
    shutdown: CancellationToken,
    _dir: tempfile::TempDir,
}

fn epoch() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().unwrap()
}

impl Bench {
    fn new(server: ApiServer) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Clock::starting_at(epoch());
        let store = Arc::new(Store::open(dir.path(), StoreOptions::default(), keep::stored_time(clock.now())).unwrap());
        let metrics = Metrics::new().unwrap();
        let collector = Collector::new(server.client(), store.clone(), &metrics, &CollectorOptions::default());
        Self {
            server,
            store,
            metrics,
            collector: Arc::new(collector),
            clock,
            start: Instant::now(),
            shutdown: CancellationToken::new(),
            _dir: dir,
        }
    }

    /// The same, running.
    fn running(server: ApiServer) -> Self {
        let bench = Self::new(server);
        let (collector, clock, shutdown) = (bench.collector.clone(), bench.clock, bench.shutdown.clone());
        tokio::spawn(async move { collector.run(clock, shutdown).await });
        bench
    }

    fn usage(&self, kind: &str, workload: &str) -> Option<Usage> {
        let key = SeriesKey {
            namespace: "shop".into(),
            kind: kind.into(),
            workload: workload.into(),
            container: "app".into(),
        };
        self.store.usage(&key, Duration::from_hours(1), keep::stored_time(self.clock.now())).unwrap()
    }

    fn metric(&self, name: &str) -> u64 {
        let text = self.metrics.encode().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{name} is missing in\n{text}")).parse().unwrap()
    }

    fn refused(&self, cause: &str) -> u64 {
        self.metric(&format!("optipod_collector_samples_refused_total{{cause=\"{cause}\"}}"))
    }

    fn ready(&self) -> Result<String, String> {
        self.collector.health().ready(self.clock.now())
    }
}

/// A deployment of two pods, and a pod of its own.
fn cluster() -> ApiServer {
    let server = ApiServer::new();
    server.list(PODS, &[object("web-5d-a", REPLICA_SET), object("web-5d-b", REPLICA_SET), object("alone", None)]);
    server.list(REPLICA_SETS, &[object("web-5d", DEPLOYMENT)]);
    server
}

fn at(seconds: u64) -> Timestamp {
    later(epoch(), Duration::from_secs(seconds))
}

#[tokio::test(start_paused = true)]
async fn a_tick_stores_samples_under_the_workload_that_owns_the_pod() {
    let server = cluster();
    server.set(
        METRICS,
        points(&[
            point("web-5d-a", epoch(), "250m", "64Mi"),
            point("web-5d-b", epoch(), "123456789n", "32Mi"),
            point("alone", epoch(), "1", "1Gi"),
        ]),
    );
    let bench = Bench::running(server);
    pass(1).await;
    let web = bench.usage("Deployment", "web").unwrap();
    assert_eq!((web.cpu.count(), web.memory.count()), (2, 2), "both replicas, each with its own point");
    let close = |got: f64, exact: f64| assert!((got / exact - 1.0).abs() < 1e-4, "{got} is not {exact}");
    close(web.cpu.min(), 0.123_456_789);
    close(web.cpu.max(), 0.25);
    close(web.memory.max(), f64::from(64 << 20));
    close(bench.usage("Pod", "alone").unwrap().cpu.mean(), 1.0);
    assert_eq!(bench.metric("optipod_collector_samples_accepted_total"), 3);
    assert_eq!(
        bench.metric("optipod_collector_last_success_timestamp_seconds"),
        u64::try_from(epoch().as_second()).unwrap()
    );
    assert_eq!(bench.metric("optipod_store_series"), 2);
    assert_eq!(bench.ready(), Ok("samples stored 1s ago".into()));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_speaks_json_only_is_scraped_all_the_same() {
    let server = cluster();
    let Answer::Json(list) = points(&[point("alone", epoch(), "1", "1Gi")]) else { panic!("JSON") };
    server.set(METRICS, Answer::JsonOnly(list));
    let bench = Bench::running(server);
    pass(1).await;
    assert_eq!(bench.usage("Pod", "alone").unwrap().cpu.count(), 1);
    assert_eq!(bench.server.scrapes(bench.start), [0, 0], "once for protobuf, once for JSON");
}

#[tokio::test(start_paused = true)]
async fn bytes_that_are_no_list_fail_the_tick_and_say_so() {
    let server = cluster();
    server.set(METRICS, Answer::Bytes("application/vnd.kubernetes.protobuf", b"k8s\0\x0a\xff".to_vec()));
    let bench = Bench::running(server);
    pass(1).await;
    let reason = bench.ready().unwrap_err();
    assert!(reason.contains("cannot be read as a PodMetricsList: it ends in the middle of a field"), "{reason}");
    assert_eq!(bench.metric("optipod_collector_tick_failures_total{step=\"scrape\"}"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_point_that_metrics_server_repeats_counts_once() {
    let server = cluster();
    server.set(METRICS, points(&[point("alone", epoch(), "1", "1Gi")]));
    let bench = Bench::running(server);
    pass(46).await;
    assert_eq!(bench.server.scrapes(bench.start), [0, 15, 30, 45]);
    assert_eq!(bench.usage("Pod", "alone").unwrap().cpu.count(), 1);
    assert_eq!(bench.refused("duplicate"), 3);
}

#[tokio::test(start_paused = true)]
async fn impossible_points_are_refused_and_counted_and_the_others_stored() {
    let server = cluster();
    server.set(
        METRICS,
        points(&[
            point("web-5d-a", epoch(), "-250m", "64Mi"),
            point("web-5d-b", epoch(), "NaN", "32Mi"),
            point("web-5d-b", at(3600), "1", "32Mi"),
            point("alone", epoch(), "1", "1Gi"),
        ]),
    );
    let bench = Bench::running(server);
    pass(1).await;
    assert_eq!(bench.usage("Deployment", "web"), None);
    assert_eq!(bench.usage("Pod", "alone").unwrap().cpu.count(), 1);
    assert_eq!((bench.refused("invalid"), bench.refused("future")), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn a_failing_metrics_server_is_told_everywhere_and_collection_recovers_by_itself() {
    let bench = Bench::running(cluster());
    pass(200).await;
    let reason = bench.ready().unwrap_err();
    assert!(reason.contains("HTTP 404") && reason.contains("install metrics-server"), "{reason}");
    assert!(bench.collector.health().live(bench.clock.now()).is_ok(), "a restart would not help");
    assert_eq!(bench.server.scrapes(bench.start), [0, 15, 45, 105, 165], "pauses double up to four intervals");
    assert_eq!(bench.metric("optipod_collector_consecutive_failures"), 5);
    assert_eq!(bench.metric("optipod_collector_tick_failures_total{step=\"scrape\"}"), 5);

    bench.server.set(METRICS, points(&[point("alone", at(220), "1", "1Gi")]));
    pass(60).await;
    assert_eq!(bench.server.scrapes(bench.start)[5..], [225, 240, 255], "back on the interval");
    assert_eq!(bench.ready(), Ok("samples stored 5s ago".into()));
    assert_eq!(bench.metric("optipod_collector_consecutive_failures"), 0);
    assert_eq!(bench.usage("Pod", "alone").unwrap().cpu.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_never_comes_ends_with_the_timeout() {
    let server = cluster();
    server.set(METRICS, Answer::Never);
    let bench = Bench::running(server);
    pass(11).await;
    let reason = bench.ready().unwrap_err();
    assert!(reason.contains("did not answer within 10s"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn pods_count_as_soon_as_their_owner_appears() {
    let server = ApiServer::new();
    server.set(METRICS, points(&[point("web-5d-a", epoch(), "1", "1Gi")]));
    let bench = Bench::running(server);
    pass(1).await;
    assert_eq!(bench.refused("unresolved"), 1);
    bench.server.event(PODS, "ADDED", &object("web-5d-a", REPLICA_SET));
    pass(15).await;
    assert_eq!(bench.refused("unresolved"), 2, "its replicaset is still unknown");
    bench.server.event(REPLICA_SETS, "ADDED", &object("web-5d", DEPLOYMENT));
    pass(15).await;
    assert_eq!(bench.usage("Deployment", "web").unwrap().cpu.count(), 1);
    assert_eq!(bench.refused("unresolved"), 2);
}

#[tokio::test(start_paused = true)]
async fn a_kind_that_may_not_be_watched_is_told_and_the_others_are_collected() {
    let server = cluster();
    server.set(JOBS, Answer::Error(403, "jobs is forbidden"));
    server.set(METRICS, points(&[point("alone", epoch(), "1", "1Gi")]));
    let bench = Bench::running(server);
    pass(16).await;
    assert_eq!(bench.usage("Pod", "alone").unwrap().cpu.count(), 1);
    assert_eq!(bench.server.lists(JOBS, bench.start), [0, 1, 3, 7, 15], "pauses double");
    let text = bench.ready().unwrap();
    assert!(text.contains("cannot watch jobs") && text.contains("jobs is forbidden"), "{text}");
    bench.server.list(JOBS, &[]);
    pass(60).await;
    assert_eq!(bench.ready(), Ok("samples stored 1s ago".into()));
}

#[tokio::test(start_paused = true)]
async fn a_list_of_owners_that_never_ends_is_given_up_and_tried_again() {
    let server = cluster();
    server.set(PODS, Answer::Never);
    server.set(METRICS, points(&[point("alone", epoch(), "1", "1Gi")]));
    let bench = Bench::running(server);
    pass(31).await;
    let reason = bench.ready().unwrap_err();
    assert!(reason.contains("cannot watch pods") && reason.contains("no answer within 30s"), "{reason}");
    bench.server.list(PODS, &[object("alone", None)]);
    pass(31).await;
    assert_eq!(bench.usage("Pod", "alone").unwrap().cpu.count(), 1);
}

#[tokio::test(start_paused = true)]
async fn where_no_owner_is_known_the_tick_fails_and_says_what_is_needed() {
    let server = cluster();
    server.set(PODS, Answer::Error(403, "pods is forbidden"));
    server.set(METRICS, points(&[point("alone", epoch(), "1", "1Gi")]));
    let bench = Bench::running(server);
    pass(16).await;
    let reason = bench.ready().unwrap_err();
    assert!(reason.contains("pods is forbidden") && reason.contains("needs list and watch on pods"), "{reason}");
}

#[tokio::test(start_paused = true)]
async fn pods_and_owners_are_fetched_as_metadata_only() {
    let bench = Bench::running(cluster());
    pass(1).await;
    let accepts = bench.server.accepts();
    assert_eq!(accepts.len(), 3);
    assert!(accepts.iter().all(|accept| accept.contains("as=PartialObjectMetadataList")), "{accepts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_shutdown_ends_the_loop_at_once() {
    let bench = Bench::new(cluster());
    bench.server.set(METRICS, Answer::Never);
    let stop = bench.shutdown.clone();
    tokio::spawn(async move {
        pass(3).await;
        stop.cancel();
    });
    bench.collector.run(bench.clock, bench.shutdown.clone()).await;
    assert_eq!(bench.start.elapsed(), Duration::from_secs(3));
}

/// Two hours of a usage that is known in advance: what the store answers is what sorting says.
#[tokio::test(start_paused = true)]
async fn quantiles_of_what_was_collected_are_those_of_the_sorted_points() {
    let server = cluster();
    let bench = Bench::running(server);
    let mut nanos = Vec::new();
    for tick in 0..480u64 {
        let value = 1_000_000 + (tick * 7_919 % 480) * 2_083_333; // a permutation of 480 evenly spread values
        nanos.push(value);
        let item: Value = point("web-5d-a", at(tick * 15), &format!("{value}n"), "1Mi");
        bench.server.set(METRICS, points(&[item]));
        pass(15).await;
    }
    nanos.sort_unstable();
    let key = SeriesKey {
        namespace: "shop".into(),
        kind: "Deployment".into(),
        workload: "web".into(),
        container: "app".into(),
    };
    let now = keep::stored_time(bench.clock.now());
    let usage = bench.store.usage(&key, Duration::from_hours(3), now).unwrap().unwrap();
    assert_eq!(usage.cpu.count(), 480);
    for (q, rank) in [(0.5, 239), (0.9, 431), (0.99, 475)] {
        let exact = nanos[rank] as f64 / 1e9;
        let got = usage.cpu.quantile(q);
        assert!((got - exact).abs() < 0.01, "p{q}: {got} is not {exact}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn on_many_threads_a_tick_does_the_same() {
    let bench = Bench::new(cluster());
    bench.server.set(METRICS, points(&[point("alone", epoch(), "1", "1Gi")]));
    let error = bench.collector.tick(epoch()).await.unwrap_err();
    assert!(matches!(error, TickError::Owners(_)), "{error}");
    let (owners, client) = (bench.collector.owners(), bench.server.client());
    let watching = tokio::spawn(async move { owners.watch(&client).await });
    bench.collector.owners().until_synced().await;
    let tick = bench.collector.tick(epoch()).await.unwrap();
    assert_eq!((tick.pods, tick.unresolved, tick.stored.accepted, tick.degraded), (1, 0, 1, None));
    watching.abort();
}
