//! Refusals that nobody could foresee: the status quotes the API server.

use anyhow::{Context, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::guards::known;
use super::in_place::starved;
use super::look::{ensure_resized, pair, untouched};
use super::policy::Policy;
use super::process::Optipod;
use super::{SOON, shared};
use crate::harness::{Cluster, Namespace, Result, Workload, wait_for};

/// What the API server says when an administrator tries a resize.
async fn refusal(namespace: &Namespace, web: &Workload) -> Result<String> {
    let pod = web.pods().await?.first().context("no pod")?.name_any();
    let resources = json!({"requests": {"cpu": "299m"}});
    let patch = Patch::Strategic(json!({"spec": {"containers": [{"name": "app", "resources": resources}]}}));
    let answer = namespace.api::<Pod>().patch_resize(&pod, &PatchParams::default().dry_run(), &patch).await;
    match answer {
        Err(kube::Error::Api(status)) => Ok(status.message.clone()),
        other => anyhow::bail!("{other:?}"),
    }
}

/// Waits until the policy reports the refusal in the words of the API server, with `reason`; the pods stay as they are.
async fn quoted(optipod: &Optipod, policy: &Policy, web: &Workload, reason: &str, words: &str) -> Result {
    let entry = optipod.wait_status(policy, web, &format!("Skipped {reason}")).await?;
    let message = entry.message.unwrap_or_default();
    ensure!(message.contains(words), "{message} does not quote {words}");
    assert!(entry.target.is_empty() && entry.last_applied.is_none(), "nothing was carried out");
    assert_eq!(entry.recommendations.len(), 1, "it is recommended all the same");
    let label =
        format!("optipod_reconciliation_errors_total{{error_type=\"{reason}\",policy=\"{}\"}}", policy.full_name());
    assert_eq!(optipod.metric(&label).await?, Some(1.0), "it is not tried again at once");
    web.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "app", &pair("100m", "64Mi")))
}

pub async fn an_admission_policy_that_denies_a_change_is_quoted(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("denied").await?;
    let web = known(optipod, &namespace, "web", starved()).await?;
    let name = format!("freeze-{}", namespace.name());
    let freeze = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicy", "metadata": {"name": name},
        "spec": {
            "matchConstraints": {"resourceRules": [
                {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["UPDATE"], "resources": ["pods/resize"]}]},
            "validations": [{"expression": "false", "message": "frozen until Monday, ask the platform team"}],
        },
    });
    let binding = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": name},
        "spec": {"policyName": name, "validationActions": ["Deny"],
            "matchResources": {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace.name()}}}},
    });
    cluster.apply(&freeze.to_string()).await?;
    cluster.apply(&binding.to_string()).await?;
    let words = wait_for("the freeze to be in force", SOON, || refusal(&namespace, &web)).await?;
    let before = untouched(&namespace, &web).await?;

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    quoted(optipod, &policy, &web, "AdmissionDenied", &words).await?;
    assert!(words.contains("denied request: frozen until Monday, ask the platform team"), "{words}");
    let event = optipod.wait_event(&namespace, "web", "ResizeFailed").await?;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    assert!(event.note.unwrap_or_default().contains(&words));
    assert_eq!(untouched(&namespace, &web).await?, before);
    Ok(())
}

/// A quota scoped by priority class counts pods by a rule that OptiPod leaves to the API server.
pub async fn a_quota_that_only_the_api_server_can_judge_is_quoted(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("scoped-quota").await?;
    let class = namespace.name();
    let scope = json!({"matchExpressions": [{"scopeName": "PriorityClass", "operator": "In", "values": [class]}]});
    let objects: [Value; 2] = [
        json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": class}, "value": 1000}),
        json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "scoped"},
            "spec": {"hard": {"requests.cpu": "150m"}, "scopeSelector": scope}}),
    ];
    for object in objects {
        namespace.apply(&object.to_string()).await?;
    }
    let web = namespace.deployment("web").container(starved());
    let web = web.with("/template/spec/priorityClassName", json!(class)).create().await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    let words = wait_for("the quota to be in force", SOON, || refusal(&namespace, &web)).await?;
    assert!(words.contains("exceeded quota: scoped, requested: requests.cpu=199m"), "{words}");

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    quoted(optipod, &policy, &web, "QuotaExceeded", "exceeded quota: scoped, requested: requests.cpu=").await
}
