//! Changes that do harm are taken back.

use anyhow::Context;
use kube::ResourceExt;
use serde_json::json;

use super::in_place::starved;
use super::look::{pair, untouched};
use super::policy::Policy;
use super::{SOON, shared};
use crate::harness::{Cluster, Container, Result, actual_requests, requests};

pub async fn a_crash_loop_after_a_resize_brings_the_requests_back(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("crash-loop").await?;
    let web = namespace.deployment("web").replicas(2).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    let before = untouched(&namespace, &web).await?;
    let policy = Policy::create(&namespace, "all", json!({})).await?;
    optipod.wait_status(&policy, &web, "Applied").await?;

    let sick = web.pods().await?.first().context("no pod")?.name_any();
    namespace.crash_loop(&sick, "app").await?;

    let entry = optipod.wait_status(&policy, &web, "Skipped RolledBack").await?;
    for pod in web.pods().await? {
        assert_eq!(requests(&pod, "app")?, pair("100m", "64Mi"), "{}", pod.name_any());
        assert_eq!(actual_requests(&pod, "app")?, pair("100m", "64Mi"), "{}", pod.name_any());
    }
    assert_eq!(untouched(&namespace, &web).await?, before);
    assert_eq!(entry.cause.as_deref(), Some("Rollback"));
    let past = entry.rolled_back.context("no rolledBack")?;
    assert_eq!((past.reason.as_str(), past.container.as_deref()), ("CrashLoop", Some("app")));
    assert_eq!(past.pod.as_deref(), Some(sick.as_str()));
    assert_eq!(past.size.first().and_then(|size| size.memory.as_deref()), Some("150Mi"));
    let event = optipod.wait_event(&namespace, "web", "RolledBack").await?;
    assert_eq!((event.type_.as_deref(), event.action.as_deref()), (Some("Warning"), Some("Rollback")));
    let note = event.note.unwrap_or_default();
    assert!(note.starts_with(&format!("container app of pod {sick} got into a crash loop")), "{note}");
    // Once: the recommendation is the same, and nothing more is written.
    let resizes = format!("optipod_applications_total{{method=\"Resize\",policy=\"{}\"}}", policy.full_name());
    let written = optipod.metric(&resizes).await?;
    optipod.wait_cycles(&policy, 2).await?;
    assert_eq!(optipod.metric(&resizes).await?, written);
    let skipped =
        format!("optipod_workloads_skipped{{namespace=\"{}\",policy=\"all\",reason=\"RolledBack\"}}", namespace.name());
    assert_eq!(optipod.metric(&skipped).await?, Some(1.0));
    Ok(())
}

pub async fn an_oom_kill_after_a_rollout_brings_the_template_back(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("oom-kill").await?;
    // It has no memory request at first, and none afterwards.
    let app = Container::new("app").requests("100m", "").usage("200m", "100Mi");
    let web = namespace.deployment("web").container(app).create().await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    let template = web.template().await?;
    let recreate = json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}});
    let policy = Policy::create(&namespace, "all", recreate).await?;
    optipod.wait_status(&policy, &web, "Applied").await?;
    assert_eq!(web.template_requests("app").await?["memory"], "150Mi");

    let pod = web.wait_ready(SOON).await?.first().context("no pod")?.name_any();
    namespace.oom_kill(&pod, "app").await?;

    let entry = optipod.wait_status(&policy, &web, "Skipped RolledBack").await?;
    assert_eq!(web.template().await?, template, "the request that there was not before is gone");
    assert_eq!(entry.rolled_back.context("no rolledBack")?.reason, "OOMKilled");
    let annotations = web.get().await?.metadata.annotations.unwrap_or_default();
    assert_eq!(annotations.get("optipod.io/cause").map(String::as_str), Some("Rollback"));
    for pod in web.wait_ready(SOON).await? {
        assert_eq!(requests(&pod, "app")?.get("cpu").map(String::as_str), Some("100m"));
        assert_eq!(requests(&pod, "app")?.len(), 1);
    }
    Ok(())
}
