//! Where OptiPod may only look: mode Recommend, and dry-run.

use anyhow::{Context, ensure};
use kube::ResourceExt;
use kube::api::ListParams;
use serde_json::json;

use super::in_place::{numbers, recommended, starved};
use super::install::{BOTH, CONTROLLER, RECOMMENDER, install};
use super::look::versions;
use super::policy::Policy;
use super::process::{Optipod, Role};
use super::{SOON, shared};
use crate::harness::{Cluster, Namespace, Result, Workload};

async fn known_deployment(recommender: &Optipod, namespace: &Namespace) -> Result<Workload> {
    let web = namespace.deployment("web").replicas(2).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    recommender.wait_usage(&web, "app", 8).await?;
    Ok(web)
}

pub async fn mode_recommend_publishes_and_writes_nothing_else(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("recommend").await?;
    let web = known_deployment(optipod, &namespace).await?;
    let before = versions(&web).await?;

    let policy = Policy::create(&namespace, "all", json!({"mode": "Recommend"})).await?;

    let entry = optipod.wait_status(&policy, &web, "Published").await?;
    let (cpu, memory) = numbers(&recommended(&entry, "app")?)?;
    assert!((285..=315).contains(&cpu) && memory == 150, "{cpu}m and {memory}Mi are recommended");
    assert!(entry.target.is_empty() && entry.last_applied.is_none(), "{entry:?}");
    assert_eq!(policy.condition("Applying").await?, "False RecommendMode");
    optipod.wait_cycles(&policy, 2).await?;
    assert_eq!(versions(&web).await?, before);
    people_read_it(cluster, &namespace).await
}

/// What `kubectl get` shows.
async fn people_read_it(cluster: &Cluster, namespace: &Namespace) -> Result {
    let table = cluster.kubectl(&["get", "op", "-n", namespace.name()]).await?;
    let mut lines = table.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    assert_eq!(lines.next().context("no head")?, ["NAME", "MODE", "READY", "WORKLOADS", "UPDATED", "AGE"]);
    assert_eq!(lines.next().context("no policy")?[..5], ["all", "Recommend", "True", "1", "0"]);
    let path = "-o=jsonpath={.status.workloads[0].recommendations[0].memory}";
    let memory = cluster.kubectl(&["get", "op", "all", "-n", namespace.name(), path]).await?;
    assert_eq!(memory, "150Mi");
    Ok(())
}

pub async fn a_dry_run_publishes_what_it_would_do_and_does_nothing(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let recommender = Optipod::prepare(&cluster, Role::Recommender, RECOMMENDER).await?.start()?;
    let namespace = cluster.namespace("dry-run").await?;
    let web = known_deployment(&recommender, &namespace).await?;
    let before = versions(&web).await?;
    let policy = Policy::create(&namespace, "all", json!({})).await?;

    let dry = Optipod::prepare(&cluster, Role::Controller, CONTROLLER).await?;
    let dry = dry.asking(&recommender).flag("--dry-run").start()?;
    nothing_is_done(&dry, &policy, &web).await?;
    drop(dry);
    // Without --apply, that is what a person gets who tries OptiPod out.
    let tried_out = Optipod::prepare(&cluster, Role::RunWithoutApply, BOTH).await?.start()?;
    nothing_is_done(&tried_out, &policy, &web).await?;
    drop(tried_out);
    assert_eq!(versions(&web).await?, before);
    no_event_tells_of_a_change(&namespace).await?;

    // It was nothing but dry-run that held it.
    let wet = Optipod::prepare(&cluster, Role::Controller, CONTROLLER).await?.asking(&recommender).start()?;
    wet.wait_status(&policy, &web, "Applied").await?;
    assert_ne!(versions(&web).await?, before);
    Ok(())
}

async fn nothing_is_done(optipod: &Optipod, policy: &Policy, web: &Workload) -> Result {
    optipod.wait_ready().await?;
    optipod.wait_cycles(policy, 2).await?;
    let entry = optipod.wait_status(policy, web, "Skipped DryRun").await?;
    assert_eq!(numbers(&recommended(&entry, "app")?)?.1, 150);
    assert!(entry.target.is_empty() && entry.last_applied.is_none(), "{entry:?}");
    assert_eq!(policy.condition("Applying").await?, "False DryRun");
    assert_eq!(policy.condition("Ready").await?, "True PolicyValid");
    let skipped = format!(
        "optipod_workloads_skipped{{namespace=\"{}\",policy=\"{}\",reason=\"DryRun\"}}",
        policy.namespace, policy.name
    );
    assert_eq!(optipod.metric(&skipped).await?, Some(1.0));
    Ok(())
}

async fn no_event_tells_of_a_change(namespace: &Namespace) -> Result {
    let events = namespace.api::<k8s_openapi::api::events::v1::Event>().list(&ListParams::default()).await?;
    for event in events {
        let reason = event.reason.as_deref().unwrap_or_default();
        ensure!(!reason.ends_with("Applied"), "{} says {reason}", event.name_any());
    }
    Ok(())
}
