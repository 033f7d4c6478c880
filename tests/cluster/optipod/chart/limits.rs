//! The chart's default keeps limits: who asks for them to move is told, and nothing moves.

use anyhow::ensure;
use serde_json::json;

use super::super::SOON;
use super::super::in_place::starved;
use super::super::look::versions;
use super::super::policy::Policy;
use super::chart;
use crate::harness::{Cluster, Result};

pub async fn where_limits_are_not_allowed_a_policy_that_moves_them_holds(_: &'static Cluster) -> Result {
    let chart = chart().await?;
    let namespace = chart.cluster.namespace("limits").await?;
    let web = namespace.deployment("web").container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    let before = versions(&web).await?;

    let moves_limits = json!({"updateStrategy": {"updateRequestsOnly": false}});
    let policy = Policy::create(&namespace, "all", moves_limits).await?;

    let entry = chart.controller.wait_status(&policy, &web, "Skipped LimitsNotAllowed").await?;
    assert_eq!(entry.recommendations.len(), 1, "it is recommended all the same: {entry:?}");
    chart.controller.wait_event(&namespace, "web", "LimitsNotAllowed").await?;
    chart.controller.wait_cycles(&policy, 1).await?;
    ensure!(versions(&web).await? == before, "the Deployment or its pod was changed");
    Ok(())
}
