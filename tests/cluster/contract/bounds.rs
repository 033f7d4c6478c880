//! What bounds pods beside their own rules: LimitRange, ResourceQuota, the node.

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{Pod, ResourceQuota};
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt};
use serde_json::{Value, json};

use super::{SOON, pod};
use crate::harness::{Container, Namespace, Result, Server, wait_for};

async fn limit_range(namespace: &Namespace, item: &str) -> Result {
    let object = format!("{{apiVersion: v1, kind: LimitRange, metadata: {{name: range}}, spec: {{limits: [{item}]}}}}");
    namespace.apply(&object).await?;
    Ok(())
}

async fn quota(namespace: &Namespace, hard: &str) -> Result {
    let object = format!("{{apiVersion: v1, kind: ResourceQuota, metadata: {{name: quota}}, spec: {{hard: {hard}}}}}");
    namespace.apply(&object).await?;
    Ok(())
}

async fn patch_resize(pods: &Api<Pod>, resources: Value, params: &PatchParams) -> kube::Result<Pod> {
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": resources}]}});
    pods.patch_resize("app", params, &Patch::Strategic(patch)).await
}

async fn try_resize(pods: &Api<Pod>, resources: Value) -> kube::Result<Pod> {
    patch_resize(pods, resources, &PatchParams::default()).await
}

/// What a refusal says after `pods "app" is forbidden: `.
fn forbidden(answer: kube::Result<Pod>) -> Result<String> {
    let Err(Error::Api(status)) = answer else { bail!("{answer:?}") };
    ensure!((status.code, status.reason.as_str()) == (403, "Forbidden"), "{status:?}");
    let why = status.message.strip_prefix("pods \"app\" is forbidden: ");
    Ok(why.with_context(|| status.message.clone())?.to_owned())
}

/// Admission sees a new LimitRange or quota a moment after its creation, and until then it would let the resize through.
async fn refused_soon(pods: &Api<Pod>, resources: Value) -> Result<String> {
    let dry = PatchParams::default().dry_run();
    wait_for(format!("a refusal of {resources}"), SOON, || async {
        forbidden(patch_resize(pods, resources.clone(), &dry).await)
    })
    .await
}

/// One container with limits, under one LimitRange; sizes and what the plugin says.
async fn range_refuses(server: &Server, prefix: &str, item: &str, cases: &[(Value, &str)]) -> Result {
    let namespace = server.namespace(prefix).await?;
    let resources =
        json!({"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"cpu": "400m", "memory": "512Mi"}});
    let pods = pod(&namespace, resources).await?;
    limit_range(&namespace, item).await?;
    for (resources, why) in cases {
        assert_eq!(refused_soon(&pods, resources.clone()).await?, *why);
    }
    Ok(())
}

pub async fn a_limit_range_bounds_containers(server: &Server) -> Result {
    let item = "{type: Container, min: {cpu: 5m}, max: {cpu: 500m}}";
    range_refuses(
        server,
        "container-range",
        item,
        &[
            (json!({"requests": {"cpu": "4m"}}), "minimum cpu usage per Container is 5m, but request is 4m"),
            (json!({"limits": {"cpu": "600m"}}), "maximum cpu usage per Container is 500m, but limit is 600m"),
        ],
    )
    .await
}

pub async fn a_limit_range_bounds_the_whole_pod(server: &Server) -> Result {
    // `log` counts too: 10m, and a limit of 20m.
    let item = "{type: Pod, min: {cpu: 100m}, max: {cpu: 420m}}";
    range_refuses(
        server,
        "pod-range",
        item,
        &[
            (json!({"requests": {"cpu": "80m"}}), "minimum cpu usage per Pod is 100m, but request is 90m"),
            (json!({"limits": {"cpu": "500m"}}), "maximum cpu usage per Pod is 420m, but limit is 520m"),
        ],
    )
    .await
}

pub async fn a_limit_range_bounds_the_ratio_of_limit_to_request(server: &Server) -> Result {
    let item = "{type: Container, maxLimitRequestRatio: {cpu: 2}}, {type: Pod, maxLimitRequestRatio: {cpu: '2.5'}}";
    range_refuses(
        server,
        "ratio",
        item,
        &[
            (
                json!({"requests": {"cpu": "190m"}}),
                "cpu max limit to request ratio per Container is 2, but provided ratio is 2.105263",
            ),
            (
                json!({"requests": {"cpu": "100m"}}),
                "[cpu max limit to request ratio per Container is 2, but provided ratio is 4.000000, \
             cpu max limit to request ratio per Pod is 2500m, but provided ratio is 3.818182]",
            ),
        ],
    )
    .await
}

pub async fn a_limit_range_without_a_limit_refuses(server: &Server) -> Result {
    let namespace = server.namespace("no-limit").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "200m"}})).await?;
    limit_range(&namespace, "{type: Pod, max: {cpu: 500m}}").await?;
    // A Container's maximum would become its default limit; a Pod has no defaults. `log` has a limit, and is enough.
    let why = refused_soon(&pods, json!({"requests": {"cpu": "600m"}})).await?;
    assert_eq!(why, "maximum cpu usage per Pod is 500m, but request is 610m");
    Ok(())
}

pub async fn a_resize_of_a_pod_older_than_a_limit_range_gains_its_defaults(server: &Server) -> Result {
    let namespace = server.namespace("defaults").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "200m"}})).await?;
    limit_range(&namespace, "{type: Container, default: {memory: 1Gi}, defaultRequest: {memory: 64Mi}}").await?;

    let resized = wait_for("the LimitRange to be seen", SOON, || async {
        let dry = PatchParams::default().dry_run();
        let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "100m"}}}]}});
        let answer = serde_json::to_value(pods.patch_resize("app", &dry, &Patch::Strategic(patch)).await?)?;
        ensure!(answer["spec"]["containers"][0]["resources"]["limits"].is_object(), "{answer}");
        Ok(answer)
    })
    .await?;

    let resources = |index: usize| resized["spec"]["containers"][index]["resources"].clone();
    assert_eq!(resources(0), json!({"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"memory": "1Gi"}}));
    assert_eq!(
        resources(1),
        json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"cpu": "20m", "memory": "32Mi"}}),
        "what it says itself stays"
    );
    Ok(())
}

async fn used(namespace: &Namespace, resource: &str, amount: &str) -> Result {
    let quotas: Api<ResourceQuota> = namespace.api();
    wait_for(format!("{amount} of {resource} to be used"), SOON, || async {
        let status = quotas.get("quota").await?.status.unwrap_or_default();
        let used = status.used.unwrap_or_default().get(resource).map(|quantity| quantity.0.clone());
        ensure!(used.as_deref() == Some(amount), "{used:?}");
        Ok(())
    })
    .await
}

pub async fn a_quota_bounds_a_resize_and_counts_it(server: &Server) -> Result {
    let namespace = server.namespace("quota").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "200m", "memory": "256Mi"}})).await?;
    quota(&namespace, "{requests.cpu: 500m, requests.memory: 1Gi}").await?;
    used(&namespace, "requests.cpu", "210m").await?;

    let why = refused_soon(&pods, json!({"requests": {"cpu": "1", "memory": "2Gi"}})).await?;

    assert_eq!(
        why,
        "exceeded quota: quota, requested: requests.cpu=800m,requests.memory=1792Mi, \
         used: requests.cpu=210m,requests.memory=272Mi, limited: requests.cpu=500m,requests.memory=1Gi"
    );
    try_resize(&pods, json!({"requests": {"cpu": "490m"}})).await?;
    used(&namespace, "requests.cpu", "500m").await?;
    let why = forbidden(try_resize(&pods, json!({"requests": {"cpu": "491m"}})).await)?;
    assert_eq!(
        why,
        "exceeded quota: quota, requested: requests.cpu=1m, used: requests.cpu=500m, limited: requests.cpu=500m"
    );
    Ok(())
}

pub async fn what_takes_nothing_more_passes_a_quota_that_is_exceeded(server: &Server) -> Result {
    let namespace = server.namespace("over").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "200m"}})).await?;
    quota(&namespace, "{requests.cpu: 100m}").await?;
    used(&namespace, "requests.cpu", "210m").await?;

    forbidden(try_resize(&pods, json!({"requests": {"cpu": "201m"}})).await)?;
    try_resize(&pods, json!({"requests": {"cpu": "190m"}})).await?;
    Ok(())
}

pub async fn what_a_resize_gives_back_is_free_when_the_kubelet_has_taken_it(server: &Server) -> Result {
    let namespace = server.namespace("back").await?;
    let app = Container::new("app").requests("400m", "64Mi");
    let web = namespace.deployment("web").container(app).pod_annotation("resize/hold", "Deferred").create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();
    quota(&namespace, "{requests.cpu: 500m}").await?;
    used(&namespace, "requests.cpu", "400m").await?;

    namespace.resize(&pod, "app", json!({"cpu": "100m"})).await?;

    wait_for("the resize to be pending", SOON, || async {
        let conditions = namespace.pod(&pod).await?.status.and_then(|status| status.conditions).unwrap_or_default();
        ensure!(conditions.iter().any(|condition| condition.type_ == "PodResizePending"), "{conditions:?}");
        Ok(())
    })
    .await?;
    used(&namespace, "requests.cpu", "400m").await?;
    namespace.annotate_pod(&pod, "resize/hold", None).await?;
    used(&namespace, "requests.cpu", "100m").await
}

pub async fn a_quota_refuses_pods_that_do_not_say_what_it_counts(server: &Server) -> Result {
    let namespace = server.namespace("unset").await?;
    quota(&namespace, "{limits.memory: 1Gi, requests.memory: 1Gi}").await?;
    used(&namespace, "limits.memory", "0").await?;
    let object = json!({"metadata": {"name": "app"}, "spec": {"schedulerName": "nobody", "containers": [
        {"name": "app", "image": "test.invalid/app:1", "resources": {"requests": {"memory": "1Mi"}}},
        {"name": "log", "image": "test.invalid/log:1"}]}});
    let pods: Api<Pod> = namespace.api();

    let refused = pods.create(&PostParams::default(), &serde_json::from_value(object)?).await;

    assert_eq!(
        forbidden(refused)?,
        "failed quota: quota: must specify limits.memory for: app,log; requests.memory for: log"
    );
    Ok(())
}

pub async fn a_resize_above_what_the_node_can_ever_give_is_refused(server: &Server) -> Result {
    let namespace = server.namespace("capacity").await?;
    let object = json!({"metadata": {"name": "app"}, "spec": {"nodeName": "node-0", "containers": [
        {"name": "app", "image": "test.invalid/app:1", "resources": {"requests": {"cpu": "200m"}}}]}});
    let pods: Api<Pod> = namespace.api();
    pods.create(&PostParams::default(), &serde_json::from_value(object)?).await?;

    let refused = try_resize(&pods, json!({"requests": {"cpu": "65"}})).await;

    assert_eq!(
        forbidden(refused)?,
        "node didn't have enough allocatable resources: cpu, requested: 65000, allocatable: 64000"
    );
    Ok(())
}
