//! Workloads whose pods get a change of the template when somebody deletes them.

use anyhow::ensure;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::DeleteParams;
use optipod::policy::types::WorkloadStatus;
use serde_json::json;

use super::in_place::{numbers, starved, target};
use super::look::pair;
use super::policy::Policy;
use super::process::Optipod;
use super::rollout::recreate_only;
use super::{SOON, shared};
use crate::harness::{Cluster, Result, Workload, requests};

/// Waits until the status says `Applied`, and that pods wait to be deleted, or that none does.
async fn applied(optipod: &Optipod, policy: &Policy, workload: &Workload, waiting: bool) -> Result<WorkloadStatus> {
    let what = format!("{} to be Applied, with pods that wait: {waiting}", workload.name);
    optipod
        .wait_for(what, || async {
            let entry = policy.entry(workload).await?;
            let (word, reason) = (entry.status.as_str(), entry.reason.as_deref());
            let says = reason == Some("PodsAwaitDeletion");
            ensure!(word == "Applied" && says == waiting, "{word} {reason:?}: {:?}", entry.message);
            Ok(entry)
        })
        .await
}

fn uids(pods: &[Pod]) -> Vec<Option<String>> {
    pods.iter().map(ResourceExt::uid).collect()
}

pub async fn pods_get_the_new_requests_when_somebody_deletes_them(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("on-delete").await?;
    let strategy = json!({"type": "OnDelete"});
    let db = namespace.stateful_set("db").replicas(2).container(starved());
    let db = db.with("/updateStrategy", strategy.clone()).create().await?;
    let agent = namespace.daemon_set("agent").container(starved()).with("/updateStrategy", strategy).create().await?;
    for workload in [&db, &agent] {
        workload.wait_ready(SOON).await?;
        optipod.wait_usage(workload, "app", 8).await?;
    }

    let policy = Policy::create(&namespace, "all", recreate_only()).await?;

    for (workload, count) in [(&db, 2), (&agent, 3)] {
        let before = workload.pods().await?;
        let entry = applied(optipod, &policy, workload, true).await?;
        assert_eq!(entry.method.as_deref(), Some("Rollout"));
        let message = entry.message.clone().unwrap_or_default();
        let said = format!("{count} of its pods get them when somebody deletes them, which OptiPod does not do");
        assert!(message.contains(&said), "{message}");
        let wanted = target(&entry, "app")?;
        assert_eq!(numbers(&wanted)?.1, 150, "{wanted:?}");
        assert_eq!(workload.template_requests("app").await?, json!(wanted));
        optipod.wait_cycles(&policy, 1).await?;
        let pods = workload.pods().await?;
        assert_eq!(uids(&pods), uids(&before), "no pod was deleted");
        for pod in &pods {
            assert_eq!(requests(pod, "app")?, pair("100m", "64Mi"));
        }

        for pod in &pods {
            namespace.api::<Pod>().delete(&pod.name_any(), &DeleteParams::default()).await?;
        }

        applied(optipod, &policy, workload, false).await?;
        for pod in workload.wait_ready(SOON).await? {
            assert_eq!(requests(&pod, "app")?, wanted, "{}", pod.name_any());
        }
    }
    Ok(())
}
