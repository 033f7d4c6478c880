//! The rules of `pods/resize`, on pods that no scheduler looks at: what the API
//! server answers, without a kubelet.

#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use anyhow::{Context, bail, ensure};
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams, PostParams};
use kube::{Error, ResourceExt};
use serde_json::{Value, json};

use super::pod;
use crate::harness::{Namespace, Result, Server};

fn of(container: &str, resources: Value) -> Value {
    json!({"spec": {"containers": [{"name": container, "resources": resources}]}})
}

async fn resize(pods: &Api<Pod>, patch: Value) -> kube::Result<Pod> {
    pods.patch_resize("app", &PatchParams::default(), &Patch::Strategic(patch)).await
}

/// Code and message of a refusal; 200 and nothing where there was none.
fn answer<T>(answer: kube::Result<T>) -> Result<(u16, String)> {
    match answer {
        Ok(_) => Ok((200, String::new())),
        Err(Error::Api(status)) => Ok((status.code, status.message.clone())),
        Err(other) => Err(other.into()),
    }
}

/// What, the patch, and a part of the refusal; nothing where it is accepted.
type Case = (&'static str, Value, &'static str);

async fn judged(server: &Server, prefix: &str, resources: Value, cases: Vec<Case>) -> Result {
    let namespace = server.namespace(prefix).await?;
    let pods = pod(&namespace, resources).await?;
    // Each is only tried, so that each begins from the same pod.
    let dry = PatchParams::default().dry_run();
    for (what, patch, message) in cases {
        let (code, why) = answer(pods.patch_resize("app", &dry, &Patch::Strategic(patch)).await)?;
        let wanted = if message.is_empty() { 200 } else { 422 };
        ensure!(code == wanted && why.contains(message), "{what}: {code} {why}");
    }
    Ok(())
}

pub async fn requests_and_limits_of_a_burstable_pod_move_within_rules(server: &Server) -> Result {
    let burstable = json!({"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}});
    let both = json!({"cpu": "1", "memory": "512Mi"});
    let cases = vec![
        ("requests go down", of("app", json!({"requests": {"cpu": "100m", "memory": "128Mi"}})), ""),
        ("a memory limit goes down", of("app", json!({"limits": {"memory": "300Mi"}})), ""),
        ("a limit is added", of("app", json!({"limits": {"cpu": "1"}})), ""),
        ("a first request of another container", of("log", json!({"requests": {"memory": "32Mi"}})), ""),
        ("up to the limit", of("app", json!({"requests": {"memory": "512Mi"}})), ""),
        (
            "above the limit",
            of("app", json!({"requests": {"memory": "513Mi"}})),
            "spec.containers[0].resources.requests: Invalid value: \"513Mi\": must be less than or equal to memory limit of 512Mi",
        ),
        (
            "a limit below the request",
            of("app", json!({"limits": {"memory": "255Mi"}})),
            "must be less than or equal to memory limit of 255Mi",
        ),
        ("a request below zero", of("app", json!({"requests": {"cpu": "-1"}})), "must be greater than or equal to 0"),
        (
            "a request is removed",
            of("app", json!({"requests": {"cpu": null}})),
            "spec.containers[0].resources.requests: Forbidden: resource requests cannot be removed",
        ),
        (
            "a limit is removed",
            of("app", json!({"limits": {"memory": null}})),
            "spec.containers[0].resources.limits: Forbidden: resource limits cannot be removed",
        ),
        (
            "another resource",
            of("app", json!({"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}})),
            "spec: Forbidden: only cpu and memory resources are mutable",
        ),
        (
            "a container that is not there",
            of("ghost", json!({"requests": {"cpu": "1"}})),
            "spec.containers: Forbidden: containers may not be added or removed on resize",
        ),
        (
            "every container becomes Guaranteed",
            json!({"spec": {"containers": [
            {"name": "app", "resources": {"requests": both, "limits": both}},
            {"name": "log", "resources": {"requests": both, "limits": both}}]}}),
            "Pod QOS Class may not change as a result of resizing",
        ),
    ];
    judged(server, "burstable", burstable, cases).await
}

pub async fn a_guaranteed_pod_stays_guaranteed(server: &Server) -> Result {
    let both = json!({"cpu": "1", "memory": "1Gi"});
    let namespace = server.namespace("guaranteed").await?;
    let object = json!({"metadata": {"name": "app"}, "spec": {"schedulerName": "nobody",
        "containers": [{"name": "app", "image": "test.invalid/app:1", "resources": {"limits": both}}]}});
    let pods: Api<Pod> = namespace.api();
    let created = pods.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    assert_eq!(
        created.status.context("no status")?.qos_class.as_deref(),
        Some("Guaranteed"),
        "limits alone are requests too"
    );

    let (code, why) = answer(resize(&pods, of("app", json!({"requests": {"cpu": "500m"}}))).await)?;
    assert_eq!(code, 422);
    assert!(why.contains("Pod QOS Class may not change as a result of resizing"), "{why}");
    let half = json!({"cpu": "500m", "memory": "512Mi"});
    let resized = resize(&pods, of("app", json!({"requests": half, "limits": half}))).await?;
    assert_eq!(resized.status.context("no status")?.qos_class.as_deref(), Some("Guaranteed"));
    Ok(())
}

pub async fn a_best_effort_pod_can_be_given_nothing(server: &Server) -> Result {
    let namespace = server.namespace("best-effort").await?;
    let object = json!({"metadata": {"name": "app"}, "spec": {"schedulerName": "nobody",
        "containers": [{"name": "app", "image": "test.invalid/app:1"}]}});
    let pods: Api<Pod> = namespace.api();
    pods.create(&PostParams::default(), &serde_json::from_value(object)?).await?;

    let (code, why) = answer(resize(&pods, of("app", json!({"requests": {"cpu": "500m"}}))).await)?;

    assert_eq!(code, 422);
    assert!(why.contains("Pod QOS Class may not change as a result of resizing"), "{why}");
    Ok(())
}

pub async fn init_containers_and_sidecars_are_resized_by_the_same_rules(server: &Server) -> Result {
    let namespace = server.namespace("init").await?;
    let requests = json!({"requests": {"cpu": "100m"}});
    let object = json!({"metadata": {"name": "app"}, "spec": {"schedulerName": "nobody",
        "initContainers": [
            {"name": "once", "image": "test.invalid/once:1", "resources": requests},
            {"name": "mesh", "image": "test.invalid/mesh:1", "restartPolicy": "Always", "resources": requests}],
        "containers": [{"name": "app", "image": "test.invalid/app:1", "resources": requests}]}});
    let pods: Api<Pod> = namespace.api();
    pods.create(&PostParams::default(), &serde_json::from_value(object)?).await?;
    let init =
        |name: &str, resources: Value| json!({"spec": {"initContainers": [{"name": name, "resources": resources}]}});

    for name in ["once", "mesh"] {
        let resized = resize(&pods, init(name, json!({"requests": {"cpu": "50m"}}))).await?;
        let spec = serde_json::to_value(resized.spec)?;
        let mut containers = spec["initContainers"].as_array().into_iter().flatten();
        let found = containers.find(|container| container["name"] == name).context("gone")?;
        assert_eq!(found["resources"]["requests"]["cpu"], "50m");
        let (code, why) = answer(resize(&pods, init(name, json!({"requests": {"cpu": null}}))).await)?;
        assert_eq!(code, 422, "{why}");
        assert!(why.contains("resource requests cannot be removed"), "{why}");
    }
    Ok(())
}

pub async fn the_resources_of_a_pod_itself_bound_its_containers(server: &Server) -> Result {
    let namespace = server.namespace("own").await?;
    let own = json!({"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}});
    let object = json!({"metadata": {"name": "app"}, "spec": {"schedulerName": "nobody", "resources": own,
        "containers": [{"name": "app", "image": "test.invalid/app:1", "resources": {"requests": {"cpu": "200m"}}}]}});
    let pods: Api<Pod> = namespace.api();
    pods.create(&PostParams::default(), &serde_json::from_value(object)?).await?;

    resize(&pods, of("app", json!({"requests": {"cpu": "400m"}}))).await?;
    let (code, why) = answer(resize(&pods, of("app", json!({"requests": {"cpu": "501m"}}))).await)?;
    assert_eq!(code, 422);
    let rule = "must be greater than or equal to aggregate container requests of 501m";
    assert!(why.contains(&format!("spec.resources.requests[cpu]: Invalid value: \"500m\": {rule}")), "{why}");
    let resized = resize(&pods, json!({"spec": {"resources": {"requests": {"cpu": "450m"}}}})).await?;
    let spec = serde_json::to_value(resized.spec)?;
    assert_eq!(
        spec["resources"],
        json!({"requests": {"cpu": "450m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}})
    );
    assert_eq!(spec["containers"][0]["resources"], json!({"requests": {"cpu": "400m"}}));
    Ok(())
}

pub async fn a_resize_changes_nothing_but_resources(server: &Server) -> Result {
    let namespace = server.namespace("only-resources").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "200m"}})).await?;
    let patch = json!({"metadata": {"annotations": {"x": "y"}, "labels": {"x": "y"}}, "spec": {"containers": [
        {"name": "app", "image": "test.invalid/evil:1", "resources": {"requests": {"cpu": "100m"}}}]}});

    let resized = resize(&pods, patch).await?;

    let object = serde_json::to_value(&resized)?;
    let container = &object["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["resources"]["requests"]["cpu"]),
        (&json!("test.invalid/app:1"), &json!("100m"))
    );
    assert!(resized.annotations().is_empty() && resized.labels().is_empty(), "{:?}", resized.metadata);
    assert_eq!(resized.metadata.generation, Some(2));
    let again = resize(&pods, of("app", json!({"requests": {"cpu": "0.1"}}))).await?;
    assert_eq!((again.metadata.generation, again.resource_version()), (Some(2), resized.resource_version()));
    Ok(())
}

pub async fn a_resize_builds_upon_one_pod_and_one_version(server: &Server) -> Result {
    let namespace = server.namespace("upon").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "200m"}})).await?;
    let first = pods.get("app").await?;
    let upon = |field: &str, value: &str| {
        let mut patch = of("app", json!({"requests": {"cpu": "100m"}}));
        patch["metadata"] = json!({field: value});
        patch
    };
    resize(&pods, of("app", json!({"requests": {"cpu": "150m"}}))).await?;

    let version = first.resource_version().context("no version")?;
    let (code, why) = answer(resize(&pods, upon("resourceVersion", &version)).await)?;
    assert_eq!(code, 409);
    assert!(why.contains("the object has been modified"), "{why}");
    let (code, why) = answer(resize(&pods, upon("uid", "00000000-0000-4000-8000-00000000dead")).await)?;
    assert_eq!(code, 422);
    assert!(
        why.contains("metadata.uid: Invalid value: \"00000000-0000-4000-8000-00000000dead\": field is immutable"),
        "{why}"
    );
    resize(&pods, upon("uid", &first.uid().context("no uid")?)).await?;
    let absent = pods.patch_resize("nobody", &PatchParams::default(), &Patch::Strategic(of("app", json!({})))).await;
    let Err(Error::Api(status)) = absent else { bail!("{absent:?}") };
    assert_eq!((status.code, status.message.as_str()), (404, "pods \"nobody\" not found"));
    Ok(())
}

pub async fn a_resize_comes_as_any_kind_of_patch(server: &Server) -> Result {
    let namespace = server.namespace("patches").await?;
    let pods = pod(&namespace, json!({"requests": {"cpu": "200m"}})).await?;
    let params = PatchParams::default();
    let cpu = |pod: &Pod| {
        let requests = pod.spec.as_ref().and_then(|spec| spec.containers[0].resources.clone()?.requests);
        requests.and_then(|requests| requests.get("cpu").cloned()).map(|quantity| quantity.0)
    };

    let path = "/spec/containers/0/resources/requests/cpu";
    let resized = json_patch(&namespace, json!([{"op": "replace", "path": path, "value": "150m"}])).await?;
    assert_eq!(cpu(&resized).as_deref(), Some("150m"));
    let failing = json_patch(&namespace, json!([{"op": "test", "path": path, "value": "other"}])).await;
    let (code, why) = answer(failing)?;
    assert_eq!((code, why.as_str()), (422, "the server rejected our request due to an error in our request"));
    // A merge patch replaces the list.
    let merge = Patch::Merge(of("app", json!({"requests": {"cpu": "100m"}})));
    let (code, why) = answer(pods.patch_resize("app", &params, &merge).await)?;
    assert_eq!(code, 422, "{why}");
    assert!(why.contains("spec.containers: Forbidden: containers may not be added or removed on resize"), "{why}");
    Ok(())
}

async fn json_patch(namespace: &Namespace, patch: Value) -> kube::Result<Pod> {
    let url = format!("/api/v1/namespaces/{}/pods/app/resize", namespace.name());
    let request = Request::patch(url).header("Content-Type", "application/json-patch+json");
    let request = request.body(patch.to_string().into_bytes()).expect("a path and a header are valid");
    namespace.client().request(request).await
}
