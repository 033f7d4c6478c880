//! metrics-server is away for a while, or all of the API server.

use anyhow::ensure;
use serde_json::json;

use super::SOON;
use super::in_place::starved;
use super::install::{CONTROLLER, RECOMMENDER, install};
use super::policy::Policy;
use super::process::{Optipod, Role};
use crate::harness::{Cluster, ComponentName, Container, Result};

const FAILING: &str = "optipod_collector_consecutive_failures";
const BLIND: &str = "waiting for a complete list of configmaps/optipod-brake";
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

pub async fn without_the_api_server_both_roles_stay_live_and_go_on_by_themselves(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let recommender = Optipod::prepare(&cluster, Role::Recommender, RECOMMENDER).await?.start()?;
    let controller = Optipod::prepare(&cluster, Role::Controller, CONTROLLER).await?.asking(&recommender).start()?;
    let namespace = cluster.namespace("away").await?;
    let web = namespace.deployment("web").container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    let policy = Policy::create(&namespace, "all", json!({"mode": "Recommend"})).await?;
    controller.wait_status(&policy, &web, "Published").await?;

    cluster.kill_component(ComponentName::ApiServer);

    let noticed = recommender.wait_for("the outage to be noticed", || async {
        let failing = recommender.metric(FAILING).await?.unwrap_or(0.0);
        ensure!(failing >= 2.0, "{failing} ticks in a row failed");
        Ok(())
    });
    noticed.await?;
    controller.wait_cycles(&policy, 1).await?;
    for role in [&recommender, &controller] {
        let (status, detail) = role.get_health("/healthz").await?;
        ensure!(status == 200, "a restart of {} would not help: {status}: {detail}", role.name());
    }
    let (status, detail) = recommender.get_health("/readyz").await?;
    ensure!(status == 200, "it can answer, so it is ready: {status}: {detail}");
    // A brake that cannot be seen counts as on; all else that it knows it still knows.
    let (status, detail) = controller.get_health("/readyz").await?;
    ensure!(status == 503 && detail == BLIND, "{status}: {detail}");
    let known = recommender.wait_usage(&web, "app", 5).await?.cpu.map_or(0, |cpu| cpu.samples);

    cluster.start_component(ComponentName::ApiServer)?;

    recommender.wait_usage(&web, "app", known + 2).await?;
    recommender.wait_for("all to be well", || is_well(&recommender)).await?;
    controller.wait_ready().await?;
    policy.set(&json!({"mode": "Auto"})).await?;
    controller.wait_status(&policy, &web, "Applied").await.map(drop)
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
