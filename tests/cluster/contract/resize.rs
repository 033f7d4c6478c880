//! Resizing pods in place: what becomes of a resize that was accepted.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, Patch, PatchParams};
use serde_json::json;

use super::{SOON, wait_for_requests, web};
use crate::harness::{
    Cluster, Container, Result, Server, actual_requests, container_status, is_ready, restart_count, wait_for,
};

pub async fn a_resize_is_actuated_and_leaves_the_template_alone(server: &Server) -> Result {
    let namespace = server.namespace("resize").await?;
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
    let limits = limits.as_ref().and_then(|r| r.limits.clone()).unwrap_or_default();
    assert_eq!(limits["cpu"].0, "500m", "limits stay");
    assert_eq!(web.generation().await?, generation);
    assert_eq!(web.template().await?, template);
    let other = namespace.pod(&pods[1].name_any()).await?;
    assert_eq!(actual_requests(&other, "app")?["cpu"], "200m");
    Ok(())
}

pub async fn a_resize_restarts_a_container_whose_policy_says_so(server: &Server) -> Result {
    let namespace = server.namespace("restart").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web");
    let web = web.container(app.restarts_on_resize_of("memory"));
    let web = web.create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    namespace.resize(&pod, "app", json!({"cpu": "150m"})).await?;
    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "128Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 0);

    namespace.resize(&pod, "app", json!({"memory": "96Mi"})).await?;
    let resized = wait_for_requests(&namespace, &pod, "app", "150m", "96Mi").await?;
    assert_eq!(restart_count(&resized, "app")?, 1);
    Ok(())
}

pub async fn a_held_resize_is_pending_until_released(server: &Server) -> Result {
    let namespace = server.namespace("hold").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web").container(app);
    let web = web.pod_annotation("resize/hold", "Deferred").create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    namespace.resize(&pod, "app", json!({"cpu": "150m"})).await?;

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

pub async fn a_slow_resize_is_in_progress_meanwhile(server: &Server) -> Result {
    let namespace = server.namespace("slow").await?;
    let app = Container::new("app").requests("200m", "128Mi");
    let web = namespace.deployment("web").container(app);
    let web = web.pod_annotation("resize/delay", "2s").create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    namespace.resize(&pod, "app", json!({"cpu": "150m"})).await?;

    let busy = wait_for("the resize to be in progress", SOON, || async {
        let pod = namespace.pod(&pod).await?;
        let found = condition(&pod, "PodResizeInProgress");
        found.context("no such condition")?;
        Ok(pod)
    })
    .await?;
    let status = container_status(&busy, "app")?;
    let allocated = status.allocated_resources.clone().unwrap_or_default();
    assert_eq!(allocated["cpu"].0, "150m", "granted");
    assert_eq!(actual_requests(&busy, "app")?["cpu"], "200m", "not yet had");
    let done = wait_for_requests(&namespace, &pod, "app", "150m", "128Mi").await?;
    assert_eq!(condition(&done, "PodResizeInProgress"), None);
    Ok(())
}

pub async fn a_sidecar_and_a_whole_pod_are_resized(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("levels").await?;
    namespace
        .apply(
            r"
            apiVersion: v1
            kind: Pod
            metadata: {name: whole}
            spec:
              resources: {requests: {cpu: 500m, memory: 512Mi}, limits: {cpu: '1', memory: 1Gi}}
              initContainers:
              - {name: once, image: test.invalid/once}
              - name: proxy
                image: test.invalid/proxy
                restartPolicy: Always
                resources: {requests: {cpu: 100m, memory: 64Mi}}
              containers:
              - {name: app, image: test.invalid/app}
            ",
        )
        .await?;
    let pods: Api<Pod> = namespace.api();
    wait_for("the pod to be Ready", SOON, || async {
        ensure!(is_ready(&pods.get("whole").await?), "not Ready");
        Ok(())
    })
    .await?;

    let patch = json!({"spec": {
        "resources": {"requests": {"cpu": "400m"}},
        "initContainers": [{"name": "proxy", "resources": {"requests": {"cpu": "80m"}}}],
    }});
    let params = PatchParams::default();
    pods.patch_resize("whole", &params, &Patch::Strategic(patch)).await?;

    wait_for("both to be actuated", SOON, || async {
        let pod = serde_json::to_value(pods.get("whole").await?)?;
        let status = &pod["status"];
        let proxy = &status["initContainerStatuses"][1]["resources"]["requests"]["cpu"];
        ensure!(proxy == "80m", "proxy has {proxy}");
        let whole = &status["resources"]["requests"]["cpu"];
        ensure!(whole == "400m", "the pod has {whole}");
        Ok(())
    })
    .await
}

pub async fn another_change_of_the_spec_is_no_resize(server: &Server) -> Result {
    let namespace = server.namespace("image").await?;
    let web = web(&namespace, 1).await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    let image = json!({"spec": {"containers": [{"name": "app", "image": "test.invalid/app:2"}]}});
    let pods: Api<Pod> = namespace.api();
    let params = PatchParams::default();
    let patch = Patch::Strategic(image);
    let changed = pods.patch(&pod, &params, &patch).await?;

    let generation = changed.metadata.generation;
    let seen = wait_for("the change to be observed", SOON, || async {
        let pod = namespace.pod(&pod).await?;
        let observed = pod.status.as_ref().and_then(|s| s.observed_generation);
        ensure!(observed == generation, "{observed:?} of {generation:?}");
        Ok(pod)
    })
    .await?;
    assert_eq!(condition(&seen, "PodResizeInProgress"), None);
    Ok(())
}

/// The reason of a condition that is True; "" where it has none.
fn condition(pod: &Pod, kind: &str) -> Option<String> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|c| c.type_ == kind && c.status == "True")?;
    Some(found.reason.clone().unwrap_or_default())
}
