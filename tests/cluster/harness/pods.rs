//! Reading pods, and doing to them what a kubelet or a person would.

use std::collections::BTreeMap;

use anyhow::Context;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, ResourceRequirements};
use kube::api::{Api, Patch, PatchParams};
use serde_json::{Value, json};

use super::{Namespace, Result};

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|all| all.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

pub fn container_status<'a>(pod: &'a Pod, container: &str) -> Result<&'a ContainerStatus> {
    let statuses = pod.status.as_ref().and_then(|s| s.container_statuses.as_ref());
    let found = statuses.and_then(|all| all.iter().find(|s| s.name == container));
    found.with_context(|| format!("container {container} has no status"))
}

pub fn restart_count(pod: &Pod, container: &str) -> Result<i32> {
    Ok(container_status(pod, container)?.restart_count)
}

/// What the pod's spec asks for one container.
pub fn requests(pod: &Pod, container: &str) -> Result<BTreeMap<String, String>> {
    let containers = pod.spec.as_ref().map(|spec| &spec.containers);
    let found = containers.and_then(|all| all.iter().find(|c| c.name == container));
    let found = found.with_context(|| format!("no container {container}"))?;
    Ok(requests_of(found.resources.as_ref()))
}

/// What the container really has: `containerStatuses[].resources`.
pub fn actual_requests(pod: &Pod, container: &str) -> Result<BTreeMap<String, String>> {
    let status = container_status(pod, container)?;
    Ok(requests_of(status.resources.as_ref()))
}

fn requests_of(resources: Option<&ResourceRequirements>) -> BTreeMap<String, String> {
    let requests = resources.and_then(|r| r.requests.clone()).unwrap_or_default();
    requests.into_iter().map(|(key, value)| (key, value.0)).collect()
}

impl Namespace {
    pub async fn pod(&self, name: &str) -> Result<Pod> {
        let got = self.api::<Pod>().get(name).await;
        got.with_context(|| format!("get pod {name}"))
    }

    /// Annotates a running pod; `None` removes. How usage and holds change.
    pub async fn annotate_pod(&self, name: &str, key: &str, value: Option<&str>) -> Result {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {key: value}}}));
        let params = PatchParams::default();
        self.api::<Pod>().patch(name, &params, &patch).await?;
        Ok(())
    }

    /// Resizes one container as a person would: strategic merge on `pods/resize`.
    pub async fn resize(&self, pod: &str, container: &str, requests: Value) -> kube::Result<Pod> {
        let resources = json!({"requests": requests});
        let containers = json!([{"name": container, "resources": resources}]);
        let patch = Patch::Strategic(json!({"spec": {"containers": containers}}));
        let pods: Api<Pod> = self.api();
        pods.patch_resize(pod, &PatchParams::default(), &patch).await
    }

    /// What a kubelet reports after the kernel killed the container for memory
    /// and it came up again.
    pub async fn oom_kill(&self, pod: &str, container: &str) -> Result {
        let now = jiff::Timestamp::now().to_string();
        self.set_status(pod, container, true, |status| {
            let started = status["state"]["running"]["startedAt"].take();
            status["restartCount"] = (status["restartCount"].as_i64().unwrap_or(0) + 1).into();
            status["lastState"] = json!({"terminated": {
                "exitCode": 137, "reason": "OOMKilled", "startedAt": started, "finishedAt": now,
            }});
            status["state"] = json!({"running": {"startedAt": now}});
        })
        .await
    }

    /// What a kubelet reports of a container that ends as often as it is started.
    pub async fn crash_loop(&self, pod: &str, container: &str) -> Result {
        let now = jiff::Timestamp::now().to_string();
        self.set_status(pod, container, false, |status| {
            status["restartCount"] = (status["restartCount"].as_i64().unwrap_or(0) + 1).into();
            status["ready"] = false.into();
            status["started"] = false.into();
            status["lastState"] = json!({"terminated": {
                "exitCode": 1, "reason": "Error", "startedAt": now, "finishedAt": now,
            }});
            status["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
        })
        .await
    }

    async fn set_status(&self, pod: &str, container: &str, ready: bool, change: impl FnOnce(&mut Value)) -> Result {
        let current = serde_json::to_value(self.pod(pod).await?)?;
        // The list is atomic: a patch has to give all of it.
        let mut statuses = current["status"]["containerStatuses"].clone();
        let found = statuses.as_array_mut().and_then(|all| all.iter_mut().find(|s| s["name"] == container));
        change(found.with_context(|| format!("container {container} has no status"))?);
        let ready = if ready { "True" } else { "False" };
        let conditions = ["Ready", "ContainersReady"].map(|kind| json!({"type": kind, "status": ready}));
        let patch = json!({"status": {"containerStatuses": statuses, "conditions": conditions}});
        let params = PatchParams::default();
        let pods: Api<Pod> = self.api();
        pods.patch_status(pod, &params, &Patch::Strategic(patch)).await?;
        Ok(())
    }
}
