//! What is recommended, worked out by hand from the usage that the test sets.

use anyhow::ensure;
use kube::ResourceExt;
use serde_json::json;

use super::in_place::{numbers, recommended};
use super::look::{pair, versions};
use super::policy::Policy;
use super::{SOON, shared};
use crate::harness::{Cluster, Container, Result};

/// Two of three replicas use 64Mi and one 200Mi, so that the median is 64Mi and P90 is 200Mi.
pub async fn a_request_is_the_percentile_times_the_factor_within_bounds(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("sizing").await?;
    let mut web = namespace.deployment("web").replicas(3);
    for (name, cpu, memory) in
        [("median", "100m", "64Mi"), ("tail", "100m", "64Mi"), ("capped", "200m", "100Mi"), ("raised", "2m", "4Mi")]
    {
        web = web.container(Container::new(name).usage(cpu, memory));
    }
    let web = web.create().await?;
    let hot = web.wait_ready(SOON).await?[0].name_any();
    for key in ["usage/memory.median", "usage/memory.tail"] {
        namespace.annotate_pod(&hot, key, Some("200Mi")).await?;
    }
    optipod.wait_usage(&web, "median", 30).await?;

    let capped = json!({"cpu": {"min": "10m", "max": "250m"}, "memory": {"min": "16Mi", "max": "128Mi"}});
    let spec = json!({
        "mode": "Recommend",
        "metricsConfig": {"memoryFloor": "None"},
        "containers": [
            {"name": "median", "percentile": "P50", "safetyFactor": 1.25},
            {"name": "tail", "percentile": "P90", "safetyFactor": 1.5},
            {"name": "capped", "percentile": "P50", "resourceBounds": capped},
            {"name": "raised", "percentile": "P50"},
        ],
    });
    let policy = Policy::create(&namespace, "all", spec).await?;

    let of_tail = || async {
        let entry = policy.entry(&web).await?;
        let (_, memory) = numbers(&recommended(&entry, "tail")?)?;
        ensure!(memory == 300, "1.5 × 200Mi, not {memory}Mi: {entry:?}");
        Ok(entry)
    };
    let entry = optipod.wait_for("P90 to be what one of three replicas uses", of_tail).await?;
    let (cpu, memory) = numbers(&recommended(&entry, "median")?)?;
    assert_eq!(memory, 80, "1.25 × 64Mi");
    // A median of measured CPU is within 5 %.
    ensure!((118..=132).contains(&cpu), "1.25 × 100m, not {cpu}m");
    assert_eq!(recommended(&entry, "capped")?, pair("250m", "128Mi"), "1.5 × 200m and 1.5 × 100Mi are too much");
    assert_eq!(recommended(&entry, "raised")?, pair("10m", "16Mi"), "1.5 × 2m and 1.5 × 4Mi are too little");
    Ok(())
}

pub async fn mode_recommend_follows_changed_usage(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("recommend-follows").await?;
    let app = Container::new("app").requests("100m", "64Mi").usage("100m", "64Mi");
    let web = namespace.deployment("web").container(app).create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();
    optipod.wait_usage(&web, "app", 8).await?;
    let spec = json!({"mode": "Recommend", "metricsConfig": {"cpu": {"percentile": "P90"}}});
    let policy = Policy::create(&namespace, "all", spec).await?;
    let first = optipod.wait_status(&policy, &web, "Published").await?;
    let (cpu, memory) = numbers(&recommended(&first, "app")?)?;
    ensure!((140..400).contains(&cpu) && memory == 96, "{cpu}m and {memory}Mi of 100m and 64Mi are recommended");

    namespace.annotate_pod(&pod, "usage/cpu.app", Some("400m")).await?;
    namespace.annotate_pod(&pod, "usage/memory.app", Some("200Mi")).await?;
    let before = versions(&web).await?;

    let changed = || async {
        let entry = policy.entry(&web).await?;
        let (cpu, memory) = numbers(&recommended(&entry, "app")?)?;
        ensure!(cpu >= 560 && memory == 300, "{cpu}m and {memory}Mi of 400m and 200Mi are recommended");
        Ok(entry)
    };
    let entry = optipod.wait_for("the new usage to be recommended", changed).await?;
    assert_eq!(entry.status, "Published");
    ensure!(entry.last_recommendation > first.last_recommendation, "{first:?}, then {entry:?}");
    assert_eq!(versions(&web).await?, before);
    Ok(())
}
