//! The brakes, set while a Deployment is being resized pod by pod.

use anyhow::{Context, ensure};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace as ApiNamespace, Pod};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::in_place::starved;
use super::install::{BOTH, NAMESPACE, install};
use super::look::versions;
use super::policy::Policy;
use super::process::{Optipod, Role};
use super::{SOON, shared};
use crate::harness::{Cluster, Namespace, Result, Workload};

/// One pod follows another every few seconds, so that some are left when the brake is set.
const PODS: usize = 8;

pub async fn the_config_map_stops_a_change_that_is_under_way_and_deleting_it_lets_it_go_on(
    _: &'static Cluster,
) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let optipod = Optipod::prepare(&cluster, Role::Run, BOTH).await?.start()?;
    let namespace = cluster.namespace("brake").await?;
    let (web, policy) = being_resized(&optipod, &namespace).await?;

    let maps: Api<ConfigMap> = Api::namespaced(cluster.client(), NAMESPACE);
    let brake = json!({"metadata": {"name": "optipod-brake"}, "data": {"reason": "incident 42"}});
    let set = maps.create(&PostParams::default(), &serde_json::from_value(brake)?).await?;

    let since = set.metadata.creation_timestamp.context("no creationTimestamp")?.0;
    let message = stays_as_it_is(&optipod, &policy, &web, "Skipped BrakeOn", since).await?;
    assert!(message.contains("incident 42") && message.contains("optipod-system/optipod-brake"), "{message}");
    assert_eq!(policy.condition("Applying").await?, "False BrakeOn");
    assert_eq!(optipod.metric("optipod_brake_on").await?, Some(1.0));
    optipod.wait_event(&namespace, &policy.name, "BrakeOn").await?;

    maps.delete("optipod-brake", &DeleteParams::default()).await?;
    goes_on(&optipod, &web).await?;
    assert_eq!(optipod.metric("optipod_brake_on").await?, Some(0.0));
    Ok(())
}

pub async fn a_hold_on_the_namespace_stops_a_change_that_is_under_way(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("hold").await?;
    let (web, policy) = being_resized(optipod, &namespace).await?;

    let since = Timestamp::now();
    hold(&namespace, Some("until friday")).await?;

    let message = stays_as_it_is(optipod, &policy, &web, "Skipped HeldByAnnotation", since).await?;
    assert!(message.contains(&format!("namespace {}", namespace.name())), "{message}");
    hold(&namespace, None).await?;
    goes_on(optipod, &web).await
}

async fn hold(namespace: &Namespace, value: Option<&str>) -> Result {
    let namespaces: Api<ApiNamespace> = Api::all(namespace.client());
    let patch = Patch::Merge(json!({"metadata": {"annotations": {"optipod.io/hold": value}}}));
    namespaces.patch(namespace.name(), &PatchParams::default(), &patch).await?;
    Ok(())
}

/// A Deployment of which some pods have been resized and others not.
async fn being_resized(optipod: &Optipod, namespace: &Namespace) -> Result<(Workload, Policy)> {
    let web = namespace.deployment("web").replicas(u32::try_from(PODS)?).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    let policy = Policy::create(namespace, "all", json!({})).await?;
    let begun = || async {
        let done = resizes(&web).await?.len();
        ensure!(done >= 2, "{done} pods are resized");
        Ok(())
    };
    optipod.wait_for("two pods to be resized", begun).await?;
    Ok((web, policy))
}

/// When pods were resized by OptiPod, as the API server noted it, in whole seconds.
async fn resizes(web: &Workload) -> Result<Vec<Timestamp>> {
    let resized = |pod: Pod| {
        let mut entries = pod.metadata.managed_fields.unwrap_or_default().into_iter();
        let entry = entries.find(|entry| {
            entry.manager.as_deref() == Some("optipod") && entry.subresource.as_deref() == Some("resize")
        });
        entry.and_then(|entry| entry.time).map(|time| time.0)
    };
    Ok(web.pods().await?.into_iter().filter_map(resized).collect())
}

/// From a second after `since` no pod is resized; answers what the status says.
async fn stays_as_it_is(
    optipod: &Optipod,
    policy: &Policy,
    web: &Workload,
    word: &str,
    since: Timestamp,
) -> Result<String> {
    let entry = optipod.wait_status(policy, web, word).await?;
    // By then the last resize before the brake is actuated, and the pod's status with it.
    optipod.wait_cycles(policy, 1).await?;
    let before = versions(web).await?;
    optipod.wait_cycles(policy, 2).await?;
    assert_eq!(versions(web).await?, before, "something was written to the Deployment or a pod");
    let times = resizes(web).await?;
    ensure!((2..PODS).contains(&times.len()), "it was to be stopped in the middle, not after {} pods", times.len());
    // Both times lack their fractions, which are less than a second each.
    let last = times.iter().max().context("no resize")?;
    let late = last.duration_since(Timestamp::from_second(since.as_second())?);
    ensure!(late <= SignedDuration::from_secs(1), "a pod was resized {late} after the brake was set");
    Ok(entry.message.unwrap_or_default())
}

async fn goes_on(optipod: &Optipod, web: &Workload) -> Result {
    let done = || async {
        let done = resizes(web).await?.len();
        ensure!(done == PODS, "{done} of {PODS} pods are resized");
        Ok(())
    };
    optipod.wait_for("the other pods to be resized", done).await
}
