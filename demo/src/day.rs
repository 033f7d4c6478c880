//! One simulated day on a paused timeline: the cluster's double, its load, and (or not) OptiPod's real two roles.

use crate::frame::{Frame, Requested};
use crate::policies::POLICIES;
use anyhow::Context as _;
use optipod::clock::Clock;
use optipod::config::Settings;
use optipod::policy::OptimizationPolicy;
use optipod::proto;
use optipod::proto::usage_service_client::UsageServiceClient;
use optipod::run::{self, Recommender};
use optipod::telemetry::Metrics;
use optipod_sim::{ClusterOptions, Scenario, Series, SimApi, SimCluster, SimOptions, Truth};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// What a day left behind.
pub struct Outcome {
    /// What the simulated pods really used and suffered.
    pub truth: Truth,
    /// The first and the last moment.
    pub span: (jiff::Timestamp, jiff::Timestamp),
    /// Requests of each container over all replicas, at the start and at the end.
    pub before: BTreeMap<Series, Requested>,
    /// See `before`.
    pub after: BTreeMap<Series, Requested>,
    /// The recommender's answers at the end, for the whole day.
    pub answers: BTreeMap<Series, proto::Usage>,
    /// The policies with their status at the end.
    pub policies: Vec<OptimizationPolicy>,
    /// Changes that were applied, by method.
    pub applied: BTreeMap<String, u64>,
    /// Kubernetes events, repetitions counted.
    pub events: u64,
}

/// How often the display is given a frame.
const FRAME: Duration = Duration::from_mins(10);

/// Simulates `until` from midnight on; `store` is the recommender's folder, `None` leaves OptiPod out.
pub fn simulate(
    seed: u64,
    until: Duration,
    store: Option<&Path>,
    show: &mut dyn FnMut(&mut Frame),
) -> anyhow::Result<Outcome> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    runtime.block_on(async {
        let cluster = cluster(seed)?;
        let optipod = store.map(|dir| Optipod::start(dir, &cluster)).transpose()?;
        let begin = cluster.api().clock().now();
        // The cluster settles before requests are counted.
        let settle = FRAME;
        tokio::time::sleep(settle).await;
        let before = Requested::of_all(cluster.api());
        let mut passed = settle;
        while passed < until {
            if optipod.is_some() {
                show(&mut Frame::read(&cluster, begin, &before));
            }
            let step = FRAME.min(until.saturating_sub(passed));
            tokio::time::sleep(step).await;
            passed += step;
            cluster.api().clear_journal();
        }
        finish(&cluster, optipod.as_ref(), before, begin, until).await
    })
}

fn cluster(seed: u64) -> anyhow::Result<SimCluster> {
    let options = SimOptions { seed, journal_reads: false, journal_objects: false, ..SimOptions::default() };
    let api = SimApi::new(options);
    api.install_crd(optipod::policy::crd::crd())?;
    api.create_namespace("optipod-system", &serde_json::json!({}))?;
    let cluster = SimCluster::new(&api, ClusterOptions { seed, ..ClusterOptions::default() });
    Scenario::demo(seed).install(&cluster)?;
    let running = cluster.clone();
    tokio::spawn(async move { running.run().await });
    Ok(cluster)
}

/// The two roles, as `optipod run` composes them.
struct Optipod {
    channel: Channel,
    metrics: Metrics,
    shutdown: CancellationToken,
}

impl Optipod {
    fn start(dir: &Path, cluster: &SimCluster) -> anyhow::Result<Self> {
        let policies: Vec<serde_json::Value> = serde_yaml::from_str(POLICIES).context("the demo's policies")?;
        for policy in policies {
            cluster.api().create(policy)?;
        }
        let settings = Settings::default();
        let (metrics, clock) = (Metrics::new()?, Clock::starting_at(cluster.api().clock().now()));
        let shutdown = CancellationToken::new();
        let client = cluster.api().client();
        let recommender = Arc::new(Recommender::open(dir, &settings, client.clone(), &metrics, clock)?);
        let channel = recommender.channel(shutdown.clone());
        let controller = run::controller_of(&settings, client, run::in_memory(channel.clone()), &metrics, clock)?;
        let stop = shutdown.clone();
        tokio::spawn(async move { recommender.collect(stop).await });
        tokio::spawn(controller.run(shutdown.clone()));
        Ok(Self { channel, metrics, shutdown })
    }
}

async fn finish(
    cluster: &SimCluster,
    optipod: Option<&Optipod>,
    before: BTreeMap<Series, Requested>,
    begin: jiff::Timestamp,
    until: Duration,
) -> anyhow::Result<Outcome> {
    let api = cluster.api();
    let end = api.clock().now();
    let mut answers = BTreeMap::new();
    let mut applied = BTreeMap::new();
    if let Some(optipod) = optipod {
        answers = ask_all(&optipod.channel, cluster.truth().series(), until).await?;
        applied = applications(&optipod.metrics.encode()?);
        optipod.shutdown.cancel();
    }
    Ok(Outcome {
        truth: cluster.truth().clone(),
        span: (begin, end),
        before,
        after: Requested::of_all(api),
        answers,
        policies: crate::frame::policies(api),
        applied,
        events: api.list("events.k8s.io/v1", "Event").iter().map(times).sum(),
    })
}

/// Applied changes by method, read from the metrics' text as a scraper would read it.
fn applications(exposition: &str) -> BTreeMap<String, u64> {
    let mut applied = BTreeMap::new();
    for line in exposition.lines().filter(|line| line.starts_with("optipod_applications_total{")) {
        let method = line.split("method=\"").nth(1).and_then(|rest| rest.split('"').next());
        let count = line.rsplit(' ').next().and_then(|count| count.parse::<u64>().ok());
        if let (Some(method), Some(count)) = (method, count) {
            *applied.entry(method.to_owned()).or_insert(0) += count;
        }
    }
    applied
}

/// How often an event happened.
fn times(event: &serde_json::Value) -> u64 {
    event.pointer("/series/count").and_then(serde_json::Value::as_u64).unwrap_or(1)
}

/// Asks the recommender for the whole day of each container, over gRPC.
async fn ask_all(
    channel: &Channel,
    series: Vec<Series>,
    window: Duration,
) -> anyhow::Result<BTreeMap<Series, proto::Usage>> {
    let mut client = UsageServiceClient::new(channel.clone());
    let wire = |s: &Series| proto::Series {
        namespace: s.namespace.clone(),
        kind: s.kind.clone(),
        workload: s.workload.clone(),
        container: s.container.clone(),
    };
    let mut answers = BTreeMap::new();
    for chunk in series.chunks(500) {
        let request = proto::BatchGetUsageRequest {
            series: chunk.iter().map(wire).collect(),
            window: Some(window.try_into().context("the day is too long")?),
        };
        let mut stream = client.batch_get_usage(request).await?.into_inner();
        let mut asked = chunk.iter();
        while let Some(answer) = stream.message().await? {
            let series = asked.next().context("more answers than questions")?;
            if let Some(usage) = answer.usage {
                answers.insert(series.clone(), usage);
            }
        }
    }
    Ok(answers)
}
