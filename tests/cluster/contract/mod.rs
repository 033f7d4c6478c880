//! What OptiPod's tests take for granted of the control plane, shown without
//! OptiPod: when one of these fails, the tests of OptiPod mean nothing.

pub mod api;
pub mod lifetime;
pub mod resize;
pub mod usage;
pub mod workloads;

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;

use crate::harness::{Container, Namespace, Result, Workload, actual_requests, wait_for};

/// For what a few processes on this machine do among themselves; generous,
/// because the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

/// A Deployment with one Burstable container `app` that uses 70m and 64Mi.
async fn web(namespace: &Namespace, replicas: u32) -> Result<Workload> {
    let app = Container::new("app").requests("200m", "128Mi").limits("500m", "256Mi").usage("70m", "64Mi");
    let web = namespace.deployment("web").replicas(replicas);
    web.container(app).create().await
}

async fn wait_for_requests(namespace: &Namespace, pod: &str, container: &str, cpu: &str, memory: &str) -> Result<Pod> {
    let what = format!("{container} of {pod} to have {cpu} and {memory}");
    wait_for(what, SOON, || async {
        let pod = namespace.pod(pod).await?;
        let actual = actual_requests(&pod, container)?;
        ensure!(actual["cpu"] == cpu && actual["memory"] == memory, "{actual:?}");
        Ok(pod)
    })
    .await
}

/// Code and reason of the API server's refusal.
fn refusal<T>(answer: kube::Result<T>) -> Result<(u16, String)> {
    match answer {
        Err(kube::Error::Api(status)) => Ok((status.code, status.reason.clone())),
        Err(other) => Err(other.into()),
        Ok(_) => anyhow::bail!("the API server accepted it"),
    }
}
