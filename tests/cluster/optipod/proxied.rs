//! A controller that asks the API server through a proxy, which sees what it asks
//! and can hide what it looks for.

use anyhow::ensure;
use serde_json::json;

use super::SOON;
use super::in_place::{ensure_is_resized, starved};
use super::install::{CONTROLLER, RECOMMENDER, account_of, install};
use super::look::versions;
use super::policy::Policy;
use super::process::{Optipod, Prepared, Role};
use crate::harness::{Cluster, Container, Namespace, Proxy, Result, Workload};

async fn proxy(cluster: &Cluster) -> Result<Proxy> {
    let token = account_of(cluster, CONTROLLER).token().await?;
    Proxy::start(cluster.client_for_token(&token).await?).await
}

async fn controller(cluster: &Cluster, proxy: &Proxy, recommender: &Optipod) -> Result<Prepared> {
    let controller = Optipod::prepare(cluster, Role::Controller, CONTROLLER).await?.asking(recommender);
    controller.with_kubeconfig(&proxy.kubeconfig())
}

pub async fn where_pods_resize_is_not_served_it_says_so_and_where_it_is_it_resizes(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let recommender = Optipod::prepare(&cluster, Role::Recommender, RECOMMENDER).await?.start()?;
    let namespace = cluster.namespace("served").await?;
    let web = namespace.deployment("web").replicas(2).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    recommender.wait_usage(&web, "app", 8).await?;
    let before = versions(&web).await?;
    let policy = Policy::create(&namespace, "all", json!({})).await?;
    let proxy = proxy(&cluster).await?;
    proxy.hide_resize(true);

    let optipod = controller(&cluster, &proxy, &recommender).await?.start()?;

    let entry = optipod.wait_status(&policy, &web, "Skipped ResizeNotServed").await?;
    let message = entry.message.unwrap_or_default();
    ensure!(message.contains("does not serve pods/resize; set allowRecreate: true"), "{message}");
    assert_eq!(entry.recommendations.len(), 1, "it is recommended all the same");
    let event = optipod.wait_event(&namespace, "web", "ResizeNotServed").await?;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    optipod.wait_cycles(&policy, 2).await?;
    assert_eq!(versions(&web).await?, before);
    let requests = proxy.take_requests();
    ensure!(requests.iter().any(|request| request == "GET /api/v1"), "discovery was not asked: {requests:?}");
    ensure!(!requests.iter().any(|request| request.contains("/resize")), "nothing was tried: {requests:?}");

    // The API server is upgraded. One that runs reads discovery again after ten minutes, which is tried on the double.
    let settings = optipod.kill();
    proxy.hide_resize(false);
    let optipod = settings.start()?;

    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    assert_eq!(entry.method.as_deref(), Some("Resize"));
    ensure_is_resized(&web, &entry).await
}

/// Of each kind below.
const DEPLOYMENTS: usize = 4;

pub async fn at_rest_nothing_is_listed_and_next_to_nothing_is_asked(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let recommender = Optipod::prepare(&cluster, Role::Recommender, RECOMMENDER).await?.start()?;
    let namespace = cluster.namespace("rest").await?;
    let sized = deployments(&namespace, "sized").await?;
    let looked_at = deployments(&namespace, "looked-at").await?;
    for workload in sized.iter().chain(&looked_at) {
        recommender.wait_usage(workload, "app", 8).await?;
    }
    let auto = Policy::create(&namespace, "auto", of_tier("sized", "Auto")).await?;
    let recommend = Policy::create(&namespace, "recommend", of_tier("looked-at", "Recommend")).await?;
    let proxy = proxy(&cluster).await?;
    let optipod = controller(&cluster, &proxy, &recommender).await?.flag("--enable-leader-election").start()?;
    for workload in &sized {
        optipod.wait_status(&auto, workload, "Skipped AlreadySized").await?;
    }
    for workload in &looked_at {
        optipod.wait_status(&recommend, workload, "Published").await?;
    }
    let event = optipod.wait_event(&namespace, "auto", "AlreadySized").await?;
    let note = event.note.unwrap_or_default();
    assert_eq!(event.type_.as_deref(), Some("Normal"));
    ensure!(note.contains(" workload") && note.contains("requests are within 10 % of the recommendation"), "{note}");
    optipod.wait_cycles(&auto, 2).await?;
    let begin = proxy.take_requests();
    ensure!(begin.iter().any(|request| request.contains("/deployments?")), "the proxy sees nothing: {begin:?}");

    // A minute: six cycles of each policy, of eight workloads.
    for policy in [&auto, &recommend] {
        optipod.wait_cycles(policy, 3).await?;
    }

    let all = proxy.take_requests();
    let renewals = all.iter().filter(|request| request.contains("/leases/")).count();
    ensure!(renewals > 0, "it leads, so it renews: {all:?}");
    let is_watch = |request: &str| request.contains("watch=true") || request.contains("watch=1");
    let others: Vec<&String> = all.iter().filter(|one| !one.contains("/leases/") && !is_watch(one)).collect();
    let reads: Vec<_> = others.iter().filter(|request| reads_objects(request)).collect();
    ensure!(reads.is_empty(), "what is watched is not read: {reads:?}");
    // Whether VerticalPodAutoscalers are served is asked once a minute.
    ensure!(others.len() <= 3, "{others:?}");
    Ok(())
}

/// Deployments whose requests are what the policies below recommend.
async fn deployments(namespace: &Namespace, tier: &str) -> Result<Vec<Workload>> {
    let mut all = Vec::new();
    for number in 0..DEPLOYMENTS {
        let app = Container::new("app").requests("100m", "48Mi").usage("20m", "32Mi");
        let named = namespace.deployment(&format!("{tier}-{number}")).label("tier", tier);
        all.push(named.container(app).create().await?);
    }
    for workload in &all {
        workload.wait_ready(SOON).await?;
    }
    Ok(all)
}

/// CPU is at its least, so that no usage that is measured a little off makes another number.
fn of_tier(tier: &str, mode: &str) -> serde_json::Value {
    json!({
        "mode": mode, "selector": {"workloadSelector": {"matchLabels": {"tier": tier}}},
        "resourceBounds": {"cpu": {"min": "100m"}},
    })
}

/// Whether a request reads objects, rather than what the API server serves.
fn reads_objects(request: &str) -> bool {
    let Some(path) = request.strip_prefix("GET /") else { return false };
    let parts = path.split(['/', '?']).count();
    parts > if path.starts_with("api/") { 2 } else { 3 }
}
