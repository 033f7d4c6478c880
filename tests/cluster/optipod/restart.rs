//! Killed and started again, OptiPod has lost nothing.

use std::time::Duration;

use anyhow::ensure;
use kube::ResourceExt;
use optipod::policy::types::WorkloadStatus;
use serde_json::json;

use super::SOON;
use super::in_place::{starved, target};
use super::install::{BOTH, RECOMMENDER, install};
use super::look::{Requests, ensure_resized};
use super::policy::Policy;
use super::process::{Optipod, Role};
use super::shared;
use crate::harness::{Cluster, Container, Namespace, Result, Workload, requests};

/// After SIGTERM Kubernetes waits 30 s; OptiPod promises 10.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

pub async fn a_recommender_that_is_killed_again_and_again_loses_no_sample(cluster: &'static Cluster) -> Result {
    shared(cluster).await?; // installs the roles
    let namespace = cluster.namespace("killed").await?;
    let app = Container::new("app").usage("100m", "64Mi");
    let web = namespace.deployment("web").replicas(3).container(app).create().await?;
    web.wait_ready(SOON).await?;
    let mut recommender = Optipod::prepare(cluster, Role::Recommender, RECOMMENDER).await?.start()?;
    let mut known = 0;
    for _ in 0..5 {
        // Each time it has learnt something, and is killed in the middle of its work.
        known = samples(&recommender, &web, known + 3).await?;
        recommender = recommender.kill().start()?;
        let found = samples(&recommender, &web, 1).await?;
        ensure!(found >= known, "{found} samples of {known} are left");
    }

    let (status, took) = recommender.terminate().await?;
    ensure!(status.code() == Some(0) && took < STOPS_WITHIN, "{status} after {took:?}");
    Ok(())
}

/// What the recommender says it has, once that is `least`.
async fn samples(recommender: &Optipod, web: &Workload, least: u64) -> Result<u64> {
    let usage = recommender.wait_usage(web, "app", least).await?;
    Ok(usage.cpu.map_or(0, |cpu| cpu.samples))
}

pub async fn killed_in_the_middle_of_a_change_it_goes_on_and_decides_nothing_anew(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let optipod = Optipod::prepare(&cluster, Role::Run, BOTH).await?.start()?;
    let namespace = cluster.namespace("restart").await?;
    let web = namespace.deployment("web").replicas(4).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    let known = samples(&optipod, &web, 12).await?;
    let quick = json!({"metricsConfig": {"cpu": {"percentile": "P90"}}});
    let policy = Policy::create(&namespace, "all", quick).await?;
    let begun = begun(&optipod, &policy, &web).await?;
    let wanted = target(&begun, "app")?;

    let killed = optipod.kill();
    let done = resized(&web, &wanted).await?;
    ensure!((1..4).contains(&done), "it was to be killed in the middle; {done} of 4 pods are resized");
    // While nobody decides, more is used: what is decided anew now is something else.
    let recommender = killed.start_as(Role::Recommender)?;
    ensure!(samples(&recommender, &web, 1).await? >= known, "fewer than {known} samples are left");
    use_more(&recommender, &namespace, &web).await?;
    let optipod = recommender.kill().start_as(Role::Run)?;

    let goes_on = || async {
        let entry = policy.entry(&web).await?;
        ensure!(target(&entry, "app")? == wanted, "another target than {wanted:?}: {entry:?}");
        let done = resized(&web, &wanted).await?;
        ensure!(done == 4, "{done} of 4 pods have {wanted:?}");
        // More is recommended; only the cooldown forbids it.
        ensure!(entry.reason.as_deref() == Some("Cooldown"), "{entry:?}");
        Ok(entry)
    };
    let entry = optipod.wait_for("the change to go on, and no other", goes_on).await?;
    assert_eq!((&*entry.status, entry.method.as_deref()), ("Applied", Some("Resize")));
    assert_eq!(entry.previous, begun.previous);
    optipod.wait_cycles(&policy, 1).await?;
    for pod in web.pods().await? {
        ensure_resized(&pod, "app", &wanted)?;
    }

    let (status, took) = optipod.terminate().await?;
    ensure!(status.code() == Some(0) && took < STOPS_WITHIN, "{status} after {took:?}");
    Ok(())
}

/// Waits until some pod has been resized, of four that follow one another.
async fn begun(optipod: &Optipod, policy: &Policy, web: &Workload) -> Result<WorkloadStatus> {
    let what = "a change to begin";
    optipod
        .wait_for(what, || async {
            let entry = policy.entry(web).await?;
            let done = resized(web, &target(&entry, "app")?).await?;
            ensure!(done > 0, "{entry:?}");
            Ok(entry)
        })
        .await
}

/// How many pods ask for this.
async fn resized(web: &Workload, wanted: &Requests) -> Result<usize> {
    let pods = web.pods().await?;
    Ok(pods.iter().filter(|pod| requests(pod, "app").is_ok_and(|now| now == *wanted)).count())
}

/// Three times as much, until that shows in P90.
async fn use_more(recommender: &Optipod, namespace: &Namespace, web: &Workload) -> Result {
    for pod in web.pods().await? {
        namespace.annotate_pod(&pod.name_any(), "usage/cpu.app", Some("600m")).await?;
        namespace.annotate_pod(&pod.name_any(), "usage/memory.app", Some("300Mi")).await?;
    }
    let shows = || async {
        let cpu = recommender.usage(web, "app").await?.cpu.unwrap_or_default();
        ensure!(cpu.p90 > 0.5, "P90 is {} cores", cpu.p90);
        Ok(())
    };
    recommender.wait_for("a higher P90", shows).await
}
