//! What OptiPod and its tests take for granted of an API server and of what
//! stands around it, shown without OptiPod.
//!
//! Most of these run unchanged on the real control plane and on the double of
//! `sim/` (as `sim::…`, also where no control plane is built): when one fails on
//! the first, the tests of OptiPod mean nothing; when it fails on the second, the
//! double is to be mended. A test that takes a `Cluster` is about something that
//! the double has not, and says what.

pub mod access;
pub mod applies;
pub mod bounds;
pub mod custom;
pub mod lifetime;
pub mod lists;
pub mod metrics;
pub mod resize;
pub mod resize_rules;
pub mod usage;
pub mod workloads;
pub mod writes;

use std::time::Duration;

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DynamicObject, ListParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::harness::{Container, Namespace, Result, Server, Workload, actual_requests, wait_for};

/// For what a few processes on this machine do among themselves; generous,
/// because the machine may be busy.
const SOON: Duration = Duration::from_secs(30);

/// A Deployment with one Burstable container `app` that uses 70m and 64Mi.
async fn web(namespace: &Namespace, replicas: u32) -> Result<Workload> {
    let app = Container::new("app").requests("200m", "128Mi").limits("500m", "256Mi").usage("70m", "64Mi");
    let web = namespace.deployment("web").replicas(replicas);
    web.container(app).create().await
}

/// A pod `app` that stays Pending, because it asks for a scheduler that there is
/// not: a container `app` with these resources, and a small one, `log`.
async fn pod(namespace: &Namespace, resources: Value) -> Result<Api<Pod>> {
    let pods: Api<Pod> = namespace.api();
    let log = json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "20m", "memory": "32Mi"}});
    let object = json!({"metadata": {"name": "app"}, "spec": {"schedulerName": "nobody", "containers": [
        {"name": "app", "image": "test.invalid/app:1", "resources": resources},
        {"name": "log", "image": "test.invalid/log:1", "resources": log},
    ]}});
    pods.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    Ok(pods)
}

/// A custom resource with a status of its own, which is defined by the first that asks.
async fn gadgets(server: &Server, namespace: &Namespace) -> Result<Api<DynamicObject>> {
    server
        .define(
            r"
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata: {name: gadgets.contract.test}
            spec:
              group: contract.test
              scope: Namespaced
              names: {kind: Gadget, listKind: GadgetList, plural: gadgets, singular: gadget}
              versions:
              - name: v1
                served: true
                storage: true
                subresources: {status: {}}
                schema:
                  openAPIV3Schema:
                    type: object
                    properties:
                      spec: {type: object, properties: {size: {type: integer}}}
                      status: {type: object, properties: {seen: {type: integer}}}
            ",
        )
        .await?;
    let kind = GroupVersionKind::gvk("contract.test", "v1", "Gadget");
    let resource = ApiResource::from_gvk_with_plural(&kind, "gadgets");
    let gadgets: Api<DynamicObject> = Api::namespaced_with(namespace.client(), namespace.name(), &resource);
    wait_for("gadgets to be served", SOON, || async { Ok(gadgets.list(&ListParams::default()).await?) }).await?;
    Ok(gadgets)
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
