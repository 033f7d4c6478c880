//! Which workloads a policy reaches, and when it reaches none.

use anyhow::ensure;
use serde_json::json;

use super::in_place::starved;
use super::look::versions;
use super::policy::Policy;
use super::process::Optipod;
use super::{SOON, shared};
use crate::harness::{Cluster, Namespace, Result, Workload};

async fn running(controller: &Optipod, namespace: &Namespace) -> Result<Workload> {
    let web = namespace.deployment("web").container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    controller.wait_usage(&web, "app", 8).await?;
    Ok(web)
}

pub async fn a_policy_reaches_its_own_namespace_only_and_deny_wins(cluster: &'static Cluster) -> Result {
    let controller = shared(cluster).await?;
    let (mine, other) = (cluster.namespace("tenant-a").await?, cluster.namespace("tenant-b").await?);
    let (web, foreign) = (running(controller, &mine).await?, running(controller, &other).await?);
    let before = (versions(&web).await?, versions(&foreign).await?);
    let both = json!([mine.name(), other.name()]);

    let denied = json!({"selector": {"namespaces": {"allow": both, "deny": [mine.name()]}}});
    let denied = Policy::create(&mine, "denied", denied).await?;
    controller.wait_cycles(&denied, 2).await?;
    assert_eq!(denied.status().await?.summary.map(|summary| summary.workloads), Some(0));
    assert_eq!((versions(&web).await?, versions(&foreign).await?), before);

    let policy = Policy::create(&mine, "all", json!({"selector": {"namespaces": {"allow": both}}})).await?;
    controller.wait_status(&policy, &web, "Applied").await?;
    controller.wait_cycles(&policy, 2).await?;
    let listed = policy.status().await?.workloads;
    ensure!(listed.iter().all(|entry| entry.namespace == mine.name()), "{listed:?}");
    assert_eq!(versions(&foreign).await?, before.1);
    Ok(())
}

pub async fn a_disabled_policy_changes_nothing_and_keeps_its_status(cluster: &'static Cluster) -> Result {
    let controller = shared(cluster).await?;
    let namespace = cluster.namespace("disabled").await?;
    let web = running(controller, &namespace).await?;
    let before = versions(&web).await?;
    let policy = Policy::create(&namespace, "all", json!({"mode": "Recommend"})).await?;
    controller.wait_status(&policy, &web, "Published").await?;

    policy.set(&json!({"mode": "Disabled"})).await?;

    controller
        .wait_for("the policy to say that it is disabled", || async {
            let said = policy.condition("Applying").await?;
            ensure!(said == "False DisabledMode", "{said}");
            Ok(())
        })
        .await?;
    let kept = policy.status().await?.workloads;
    assert_eq!(kept.len(), 1);
    controller.wait_cycles(&policy, 2).await?;
    assert_eq!(policy.status().await?.workloads, kept);
    assert_eq!(versions(&web).await?, before);
    Ok(())
}
