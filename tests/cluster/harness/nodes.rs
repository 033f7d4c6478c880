//! The nodes, which kwok plays.

use std::time::Duration;

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, ListParams, PostParams};
use kube::{Client, ResourceExt};

use super::{Result, wait_for};

/// Enough that a DaemonSet is more than one pod.
const COUNT: usize = 3;
const READY_WITHIN: Duration = Duration::from_secs(30);

/// Creates `node-0`, `node-1`, ...: 64 cores, 256 GiB and 1000 pods each.
pub async fn create(client: &Client) -> Result {
    let api: Api<Node> = Api::all(client.clone());
    for index in 0..COUNT {
        let node = manifest(&format!("node-{index}"))?;
        let created = api.create(&PostParams::default(), &node).await;
        created.with_context(|| format!("create node-{index}"))?;
    }
    Ok(())
}

fn manifest(name: &str) -> Result<Node> {
    let capacity = serde_json::json!({"cpu": "64", "memory": "256Gi", "pods": "1000"});
    let node = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "labels": {
                "kubernetes.io/hostname": name,
                // Without the operating system a resize is refused.
                "kubernetes.io/os": "linux",
                "kubernetes.io/arch": "amd64",
            },
            "annotations": {
                "metrics.k8s.io/resource-metrics-path": format!("/metrics/nodes/{name}/metrics/resource"),
            },
        },
        "status": {"capacity": capacity, "allocatable": capacity},
    });
    Ok(serde_json::from_value(node)?)
}

/// Waits until every node is Ready.
pub async fn wait_ready(client: &Client) -> Result {
    let api: Api<Node> = Api::all(client.clone());
    wait_for("all nodes to be Ready", READY_WITHIN, || async {
        let nodes = api.list(&ListParams::default()).await?.items;
        for node in &nodes {
            ensure!(is_ready(node), "{} is not Ready", node.name_any());
        }
        ensure!(nodes.len() == COUNT, "{} of {COUNT} nodes", nodes.len());
        Ok(())
    })
    .await
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}
