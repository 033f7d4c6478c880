//! What a test compares before and after.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::events::v1::Event;
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::Value;

use super::process::Optipod;
use crate::harness::{Namespace, Result, Workload, actual_requests, requests, restart_count};

/// `cpu` and `memory`, as the API spells them.
pub type Requests = BTreeMap<String, String>;

/// What a resize must not touch of a workload: its generation, its template, its
/// ReplicaSets with theirs, and which pods it has.
#[derive(Debug, PartialEq)]
pub struct Untouched {
    generation: i64,
    template: Value,
    replica_sets: Vec<(String, Option<i64>)>,
    pods: Vec<Option<String>>,
}

pub async fn untouched(namespace: &Namespace, workload: &Workload) -> Result<Untouched> {
    let label = ListParams::default().labels(&format!("app={}", workload.name));
    let sets = namespace.api::<ReplicaSet>().list(&label).await?.items;
    Ok(Untouched {
        generation: workload.generation().await?,
        template: workload.template().await?,
        replica_sets: sets.iter().map(|set| (set.name_any(), set.metadata.generation)).collect(),
        pods: workload.pods().await?.iter().map(ResourceExt::uid).collect(),
    })
}

/// The resourceVersions of a workload and its pods: any write at all changes them.
pub async fn versions(workload: &Workload) -> Result<Vec<Option<String>>> {
    let pods = workload.pods().await?;
    let own = workload.get().await?.resource_version();
    Ok(std::iter::once(own).chain(pods.iter().map(ResourceExt::resource_version)).collect())
}

/// A container's limits in a pod's spec.
pub fn limits(pod: &Pod, container: &str) -> Result<Requests> {
    let spec = pod.spec.as_ref().context("no spec")?;
    let found = spec.containers.iter().find(|c| c.name == container);
    let found = found.with_context(|| format!("no container {container}"))?;
    let limits = found.resources.as_ref().and_then(|r| r.limits.clone()).unwrap_or_default();
    Ok(limits.into_iter().map(|(key, value)| (key, value.0)).collect())
}

/// `{cpu, memory}` as pods list them.
pub fn pair(cpu: &str, memory: &str) -> Requests {
    BTreeMap::from([("cpu".to_owned(), cpu.to_owned()), ("memory".to_owned(), memory.to_owned())])
}

/// Fails unless a container has these requests in spec and in status, and was
/// never restarted.
pub fn ensure_resized(pod: &Pod, container: &str, wanted: &Requests) -> Result {
    let (spec, actual) = (requests(pod, container)?, actual_requests(pod, container)?);
    let name = pod.name_any();
    ensure!(spec == *wanted, "{container} of {name} asks for {spec:?}, not {wanted:?}");
    ensure!(actual == *wanted, "{container} of {name} has {actual:?}, not {wanted:?}");
    ensure!(restart_count(pod, container)? == 0, "{container} of {name} was restarted");
    Ok(())
}

/// The events on one object with one reason.
pub async fn events(namespace: &Namespace, name: &str, reason: &str) -> Result<Vec<Event>> {
    let mut all = namespace.api::<Event>().list(&ListParams::default()).await?.items;
    let is_it = |event: &Event| {
        let regarding = event.regarding.as_ref().and_then(|object| object.name.as_deref());
        regarding == Some(name) && event.reason.as_deref() == Some(reason)
    };
    all.retain(is_it);
    Ok(all)
}

impl Optipod {
    /// Waits for an event of ours on an object.
    pub async fn wait_event(&self, namespace: &Namespace, name: &str, reason: &str) -> Result<Event> {
        let what = format!("event {reason} on {name}");
        self.wait_for(what, || async {
            let found = events(namespace, name, reason).await?;
            let ours =
                found.into_iter().find(|event| event.reporting_controller.as_deref() == Some("optipod.io/controller"));
            ours.context("no such event")
        })
        .await
    }
}
