//! metrics-server is away for a while.

use anyhow::ensure;

use super::SOON;
use super::install::{RECOMMENDER, install};
use super::process::{Optipod, Role};
use crate::harness::{Cluster, ComponentName, Container, Result};

const FAILING: &str = "optipod_collector_consecutive_failures";
const FAILED: &str = "optipod_collector_tick_failures_total{step=\"scrape\"}";

pub async fn without_metrics_server_the_recommender_answers_says_so_and_recovers(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let recommender = Optipod::prepare(&cluster, Role::Recommender, RECOMMENDER).await?.start()?;
    let namespace = cluster.namespace("outage").await?;
    let web = namespace.deployment("web").container(Container::new("app").usage("100m", "64Mi")).create().await?;
    web.wait_ready(SOON).await?;
    recommender.wait_usage(&web, "app", 5).await?;

    cluster.kill_component(ComponentName::MetricsServer);

    recommender.wait_for("the outage to be told", || tells_of_an_outage(&recommender)).await?;
    let known = recommender.wait_usage(&web, "app", 5).await?.cpu.map_or(0, |cpu| cpu.samples);

    cluster.start_component(ComponentName::MetricsServer)?;

    recommender.wait_usage(&web, "app", known + 2).await?;
    recommender.wait_for("all to be well", || is_well(&recommender)).await
}

async fn tells_of_an_outage(recommender: &Optipod) -> Result {
    let failing = recommender.metric(FAILING).await?.unwrap_or(0.0);
    ensure!(failing >= 2.0, "{failing} ticks in a row failed");
    let failed = recommender.metric(FAILED).await?.unwrap_or(0.0);
    ensure!(failed >= failing, "{failed} failures by step, {failing} in a row");
    let (status, detail) = recommender.get_health("/readyz").await?;
    ensure!(status == 200, "it can answer, so it is ready: {status}: {detail}");
    ensure!(detail.contains("ticks failed: the API server refused to list pod metrics"), "{detail}");
    let (status, detail) = recommender.get_health("/healthz").await?;
    ensure!(status == 200, "a restart would not help: {status}: {detail}");
    Ok(())
}

async fn is_well(recommender: &Optipod) -> Result {
    let (_, detail) = recommender.get_health("/readyz").await?;
    ensure!(detail.starts_with("samples stored"), "{detail}");
    let failing = recommender.metric(FAILING).await?;
    ensure!(failing == Some(0.0), "{failing:?} ticks in a row failed");
    Ok(())
}
