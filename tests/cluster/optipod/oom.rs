//! A container that is killed for memory gets more.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::look::{ensure_resized, limits, pair};
use super::policy::Policy;
use super::{SOON, shared};
use crate::harness::{Cluster, Container, Result, actual_requests, requests};

pub async fn a_kill_raises_the_request_above_the_limit_that_was_hit(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("oom-floor").await?;
    // What it uses needs no more than it has.
    let app = Container::new("app").requests("100m", "64Mi").limits("1", "128Mi").usage("60m", "40Mi");
    let web = namespace.deployment("web").container(app).create().await?;
    let killed = web.wait_ready(SOON).await?.first().context("no pod")?.name_any();
    optipod.wait_usage(&web, "app", 8).await?;
    let settings = json!({"metricsConfig": {"rollingWindow": "24h"}, "updateStrategy": {"updateRequestsOnly": false}});
    let policy = Policy::create(&namespace, "all", settings).await?;
    optipod.wait_cycles(&policy, 1).await?;
    let entry = policy.entry(&web).await?;
    ensure!(entry.last_applied.is_none() && entry.oom_kills.is_empty(), "{entry:?}");

    namespace.oom_kill(&killed, "app").await?;

    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    let kill = entry.oom_kills.first().context("no oomKills")?;
    assert_eq!((kill.container.as_str(), kill.memory.as_str()), ("app", "128Mi"));
    let recommended = entry.recommendations.first().context("no recommendation")?;
    // 128Mi × 1.2 = 153.6Mi.
    assert_eq!(recommended.memory.as_deref(), Some("154Mi"));
    let why = recommended.explanation.as_deref().unwrap_or_default();
    assert!(why.contains("raised to 128Mi × 1.2 = 154Mi, for it was killed for memory at 128Mi"), "{why}");
    let pod = namespace.pod(&killed).await?;
    assert_eq!(requests(&pod, "app")?, pair("100m", "154Mi"));
    assert_eq!(actual_requests(&pod, "app")?, pair("100m", "154Mi"));
    assert_eq!(limits(&pod, "app")?, pair("1", "308Mi"), "the ratio of before");

    // Its successor comes from the old template and tells of no kill.
    let pods: Api<Pod> = namespace.api();
    pods.delete(&killed, &kube::api::DeleteParams::default()).await?;
    optipod
        .wait_for("the new pod to have the size too", || async {
            let pods = web.pods().await?;
            let pod = pods.iter().find(|pod| pod.name_any() != killed).context("no new pod")?;
            ensure_resized(pod, "app", &pair("100m", "154Mi"))
        })
        .await?;
    assert_eq!(policy.entry(&web).await?.oom_kills, entry.oom_kills);
    Ok(())
}
