//! Which usage provider a policy asks.

use anyhow::{Context, ensure};
use serde_json::json;

use super::in_place::{ensure_is_resized, starved};
use super::look::versions;
use super::policy::Policy;
use super::{SOON, shared};
use crate::harness::{Cluster, Result};

pub async fn a_provider_that_is_not_there_is_named_and_holds_its_policy_only(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("providers").await?;
    let lost = namespace.deployment("lost").container(starved()).create().await?;
    let web = namespace.deployment("web").container(starved()).create().await?;
    for workload in [&lost, &web] {
        workload.wait_ready(SOON).await?;
        optipod.wait_usage(workload, "app", 8).await?;
    }
    let before = versions(&lost).await?;
    let of = |app: &str| json!({"workloadSelector": {"matchLabels": {"app": app}}});

    let nowhere = json!({"selector": of("lost"), "metricsConfig": {"provider": "nowhere"}});
    let nowhere = Policy::create(&namespace, "asks-nowhere", nowhere).await?;
    let served = Policy::create(&namespace, "asks-by-default", json!({"selector": of("web")})).await?;

    optipod.wait_status(&nowhere, &lost, "Skipped MetricsUnavailable").await?;
    let entry = optipod.wait_status(&served, &web, "Applied").await?;
    ensure_is_resized(&web, &entry).await?;
    let conditions = nowhere.status().await?.conditions;
    let told = conditions.iter().find(|condition| condition.type_ == "MetricsAvailable").context("no condition")?;
    assert_eq!((told.status.as_str(), told.reason.as_str()), ("False", "MetricsUnavailable"));
    ensure!(told.message.contains("nowhere") && told.message.contains("metrics-server"), "{}", told.message);
    let event = optipod.wait_event(&namespace, &nowhere.name, "MetricsUnavailable").await?;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    optipod.wait_cycles(&nowhere, 2).await?;
    assert_eq!(versions(&lost).await?, before);

    nowhere.set(&json!({"metricsConfig": {"provider": "metrics-server"}})).await?;

    let entry = optipod.wait_status(&nowhere, &lost, "Applied").await?;
    assert_eq!(nowhere.condition("MetricsAvailable").await?, "True UsageFound");
    ensure_is_resized(&lost, &entry).await
}
