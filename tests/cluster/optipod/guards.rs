//! What bounds pods beside their workloads: nothing is sent that the API server
//! would refuse, and what is held says why.

use anyhow::{Context, ensure};
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use super::in_place::{ensure_is_resized, recommended, starved};
use super::look::{ensure_resized, pair, versions};
use super::policy::Policy;
use super::process::Optipod;
use super::{SOON, shared};
use crate::harness::{Cluster, Container, Namespace, Result, Workload, wait_for};

/// VPA without its components; the shared controller finds it when it starts.
pub async fn install_vpa(cluster: &Cluster) -> Result {
    cluster
        .apply(
            r#"
            apiVersion: apiextensions.k8s.io/v1
            kind: CustomResourceDefinition
            metadata:
              name: verticalpodautoscalers.autoscaling.k8s.io
              annotations: {api-approved.kubernetes.io: "https://github.com/kubernetes/kubernetes/pull/63797"}
            spec:
              group: autoscaling.k8s.io
              scope: Namespaced
              names: {kind: VerticalPodAutoscaler, plural: verticalpodautoscalers, singular: verticalpodautoscaler, shortNames: [vpa]}
              versions:
              - name: v1
                served: true
                storage: true
                schema: {openAPIV3Schema: {type: object, properties: {spec: {type: object, x-kubernetes-preserve-unknown-fields: true}}}}
            "#,
        )
        .await
        .context("install VPA's CRD")?;
    let vpa = |name| {
        format!(
            "{{apiVersion: autoscaling.k8s.io/v1, kind: VerticalPodAutoscaler, metadata: {{name: {name}, namespace: default}}}}"
        )
    };
    cluster.apply(&vpa("served")).await?;
    Ok(())
}

pub async fn known(optipod: &Optipod, namespace: &Namespace, name: &str, app: Container) -> Result<Workload> {
    let web = namespace.deployment(name).container(app).create().await?;
    web.wait_ready(SOON).await?;
    optipod.wait_usage(&web, "app", 8).await?;
    Ok(web)
}

/// Waits until the workload is held for `reason`, and sees that it stays as it
/// was. The message.
pub async fn held(optipod: &Optipod, policy: &Policy, web: &Workload, reason: &str) -> Result<String> {
    let before = versions(web).await?;
    let entry = optipod.wait_status(policy, web, &format!("Skipped {reason}")).await?;
    assert_eq!(entry.recommendations.len(), 1, "it is recommended all the same");
    optipod.wait_cycles(policy, 2).await?;
    ensure!(versions(web).await? == before, "{} was changed", web.name);
    Ok(entry.message.unwrap_or_default())
}

/// No write of this policy was refused.
async fn nothing_was_refused(optipod: &Optipod, policy: &Policy) -> Result {
    let metrics = optipod.metrics().await?;
    let label = format!("policy=\"{}\"", policy.full_name());
    let mut errors = metrics.lines().filter(|line| line.starts_with("optipod_reconciliation_errors_total"));
    ensure!(!errors.any(|line| line.contains(&label)), "{metrics}");
    Ok(())
}

fn quota(cpu: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ResourceQuota, metadata: {{name: quota}}, spec: {{hard: {{requests.cpu: {cpu}}}}}}}"
    )
}

pub async fn a_full_quota_holds_until_there_is_room(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("quota").await?;
    namespace.apply(&quota("150m")).await?;
    let web = known(optipod, &namespace, "web", starved()).await?;

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    let message = held(optipod, &policy, &web, "QuotaExceeded").await?;
    assert!(message.contains("ResourceQuota quota") && message.contains("50m of it is free"), "{message}");
    let event = optipod.wait_event(&namespace, "web", "QuotaExceeded").await?;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    namespace.apply(&quota("2")).await?;
    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    ensure_is_resized(&web, &entry).await?;
    nothing_was_refused(optipod, &policy).await
}

fn limit_range(item: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: LimitRange, metadata: {{name: range}}, spec: {{limits: [{{type: Container, {item}}}]}}}}"
    )
}

pub async fn a_recommendation_keeps_to_a_limit_range(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("limit-range").await?;
    namespace.apply(&limit_range("max: {cpu: 200m}, min: {memory: 200Mi}, defaultRequest: {memory: 200Mi}")).await?;
    let app = Container::new("app").requests("100m", "200Mi").usage("200m", "100Mi");
    let web = known(optipod, &namespace, "web", app).await?;

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    assert_eq!(recommended(&entry, "app")?, pair("200m", "200Mi"));
    let explanation = entry.recommendations[0].explanation.clone().unwrap_or_default();
    for part in ["CPU lowered to the maximum 200m of LimitRange range", "memory raised to the minimum 200Mi"] {
        assert!(explanation.contains(part), "{explanation}");
    }
    web.pods().await?.iter().try_for_each(|pod| ensure_resized(pod, "app", &pair("200m", "200Mi")))?;
    nothing_was_refused(optipod, &policy).await
}

pub async fn a_limit_range_younger_than_the_pods_holds_them(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("late-range").await?;
    let limited = known(optipod, &namespace, "limited", starved()).await?;
    let app = Container::new("app").requests("100m", "64Mi").usage("200m", "100Mi");
    let free = known(optipod, &namespace, "free", app).await?;
    namespace.apply(&limit_range("max: {cpu: 500m}")).await?;
    // What the API server makes of it, without OptiPod.
    let pod = free.pods().await?.remove(0);
    let name = pod.metadata.name.context("a pod without a name")?;
    let tried = Patch::Strategic(
        json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "110m"}}}]}}),
    );
    let pods: kube::Api<k8s_openapi::api::core::v1::Pod> = namespace.api();
    let answer = wait_for("the LimitRange to be in force", SOON, || async {
        let params = PatchParams { dry_run: true, ..PatchParams::default() };
        let answer = pods.patch_resize(&name, &params, &tried).await?;
        let limits = answer.spec.context("no spec")?.containers[0].resources.clone().and_then(|r| r.limits);
        limits.and_then(|limits| limits.get("cpu").cloned()).context("no limit")
    })
    .await?;
    assert_eq!(answer.0, "500m", "a requests-only resize sets a limit");

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    let message = held(optipod, &policy, &limited, "LimitRangeForbids").await?;
    assert!(message.contains("LimitRange range: the maximum of cpu is 500m"), "{message}");
    let message = held(optipod, &policy, &free, "LimitRangeWouldSetLimits").await?;
    assert!(message.contains("container app") && message.contains("cpu limit of 500m"), "{message}");
    nothing_was_refused(optipod, &policy).await
}

pub async fn a_pod_is_not_resized_beyond_its_node(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("small-node").await?;
    // The nodes have 64 cores; 75 are recommended.
    let app = Container::new("app").requests("1", "64Mi").usage("50", "100Mi");
    let web = known(optipod, &namespace, "web", app).await?;
    let bounds = |cpu: &str| json!({"cpu": {"min": "10m", "max": cpu}, "memory": {"min": "16Mi", "max": "4Gi"}});

    let policy = Policy::create(&namespace, "all", json!({"resourceBounds": bounds("200")})).await?;

    let message = held(optipod, &policy, &web, "NodeTooSmall").await?;
    assert!(message.contains("its node node-") && message.contains("can give 64"), "{message}");
    nothing_was_refused(optipod, &policy).await
}

pub async fn a_vpa_on_the_workload_holds_it(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("vpa").await?;
    let web = known(optipod, &namespace, "web", starved()).await?;
    let vpa = |mode: &str| {
        let object: Value = json!({
            "apiVersion": "autoscaling.k8s.io/v1", "kind": "VerticalPodAutoscaler", "metadata": {"name": "web-vpa"},
            "spec": {"targetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"}, "updatePolicy": {"updateMode": mode}},
        });
        object.to_string()
    };
    namespace.apply(&vpa("Recreate")).await?;

    let policy = Policy::create(&namespace, "all", json!({})).await?;

    let message = held(optipod, &policy, &web, "VpaOnWorkload").await?;
    assert!(message.contains("VerticalPodAutoscaler web-vpa"), "{message}");
    namespace.apply(&vpa("Off")).await?;
    let entry = optipod.wait_status(&policy, &web, "Applied").await?;
    ensure_is_resized(&web, &entry).await
}
