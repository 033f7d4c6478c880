//! Resizing pods in place.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use serde_json::json;

use super::{SOON, refusal, wait_for_requests, web};
use crate::harness::{
    Cluster, Container, Result, actual_requests, container_status, restart_count, wait_for,
};

pub async fn a_resize_is_actuated_and_leaves_the_template_alone(
    cluster: &'static Cluster,
) -> Result {
    let namespace = cluster.namespace("resize").await?;
    let web = web(&namespace, 2).await?;
    let pods = web.wait_ready(SOON).await?;
    let (generation, template) = (web.generation().await?, web.template().await?);
    let pod = pods[0].name_any();

    let wanted = json!({"cpu": "150m", "memory": "96Mi"});
    namespace.resize(&pod, "app", wanted).await?;

    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "96Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 0);
    assert_eq!(condition(&resized, "PodResizeInProgress"), None);
    let limits = &container_status(&resized, "app")?.resources;
    let limits = limits
        .as_ref()
        .and_then(|r| r.limits.clone())
        .unwrap_or_default();
    assert_eq!(limits["cpu"].0, "500m", "limits stay");
    assert_eq!(web.generation().await?, generation);
    assert_eq!(web.template().await?, template);
    let other = namespace.pod(&pods[1].name_any()).await?;
    assert_eq!(actual_requests(&other, "app")?["cpu"], "200m");
    Ok(())
}

pub async fn a_resize_restarts_a_container_whose_policy_says_so(
    cluster: &'static Cluster,
) -> Result {
    let namespace = cluster.namespace("restart").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web");
    let web = web.container(app.restarts_on_resize_of("memory"));
    let web = web.create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    namespace
        .resize(&pod, "app", json!({"cpu": "150m"}))
        .await?;
    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "128Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 0);

    namespace
        .resize(&pod, "app", json!({"memory": "96Mi"}))
        .await?;
    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "96Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 1);
    Ok(())
}

pub async fn a_held_resize_is_pending_until_released(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("hold").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web").container(app);
    let web = web
        .pod_annotation("resize/hold", "Deferred")
        .create()
        .await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    namespace
        .resize(&pod, "app", json!({"cpu": "150m"}))
        .await?;

    wait_for("the resize to be Deferred", SOON, || async {
        let reason = condition(&namespace.pod(&pod).await?, "PodResizePending");
        ensure!(reason.as_deref() == Some("Deferred"), "{reason:?}");
        Ok(())
    })
    .await?;
    let held = namespace.pod(&pod).await?;
    assert_eq!(actual_requests(&held, "app")?["cpu"], "200m");

    namespace.annotate_pod(&pod, "resize/hold", None).await?;

    let released = wait_for_requests(&namespace, &pod, "app", "150m", "128Mi").await?;
    assert_eq!(condition(&released, "PodResizePending"), None);
    Ok(())
}

pub async fn a_resize_above_the_nodes_capacity_is_refused(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("capacity").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web").container(app).create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    let answer = namespace.resize(&pod, "app", json!({"cpu": "65"})).await;

    assert_eq!(refusal(answer)?, (403, "Forbidden".to_owned()));
    Ok(())
}

/// The reason of a condition that is True; "" where it has none.
fn condition(pod: &Pod, kind: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions
        .iter()
        .find(|c| c.type_ == kind && c.status == "True")?;
    Some(found.reason.clone().unwrap_or_default())
}
