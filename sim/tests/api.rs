//! The double through a real `kube::Client`, against answers recorded from a real 1.37 server.

#![recursion_limit = "256"]
#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::runtime::watcher;
use optipod_sim::{Deny, Fault, FaultRule, SimApi, SimOptions};
use serde_json::{Value, json};

fn sim() -> SimApi {
    let api = SimApi::new(SimOptions::default());
    api.create_namespace("shop", &json!({"team": "web"})).unwrap();
    api
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "namespace": "shop", "labels": {"app": name}},
        "spec": {"replicas": 2, "selector": {"matchLabels": {"app": name}},
            "template": {"metadata": {"labels": {"app": name}}, "spec": {"containers": [
                {"name": "app", "image": "shop/web:1",
                 "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}},
                {"name": "proxy", "image": "mesh/proxy:1",
                 "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}}}]}}}})
}

fn api_error(error: kube::Error) -> Box<kube::core::Status> {
    match error {
        kube::Error::Api(status) => status,
        other => panic!("not an answer of the server: {other}"),
    }
}

fn apply_requests(cpu: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web",
        "annotations": {"optipod.io/cause": "Recommend"}},
        "spec": {"template": {"spec": {"containers": [
            {"name": "app", "resources": {"requests": {"cpu": cpu, "memory": "512Mi"}}},
            {"name": "proxy", "resources": {"requests": {"cpu": "50m", "memory": "32Mi"}}}]}}}})
}

#[tokio::test(start_paused = true)]
async fn a_watcher_lists_watches_and_survives_a_410() {
    let api = sim();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "shop");
    let named =
        |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "shop"}});
    api.create(named("before")).unwrap();
    let mut events = Box::pin(watcher(maps, watcher::Config::default()).try_filter_map(|event| async move {
        Ok(match event {
            watcher::Event::Init => Some("init".to_owned()),
            watcher::Event::InitApply(o) => Some(format!("have {}", o.metadata.name.unwrap())),
            watcher::Event::Apply(o) => Some(format!("apply {}", o.metadata.name.unwrap())),
            watcher::Event::Delete(o) => Some(format!("delete {}", o.metadata.name.unwrap())),
            watcher::Event::InitDone => None,
        })
    }));
    let mut seen = Vec::new();
    for _ in 0..2 {
        seen.push(events.next().await.unwrap().unwrap());
    }
    api.create(named("after")).unwrap();
    seen.push(events.next().await.unwrap().unwrap());
    api.delete("v1", "ConfigMap", "shop", "before").unwrap();
    seen.push(events.next().await.unwrap().unwrap());
    assert_eq!(seen, ["init", "have before", "apply after", "delete before"]);

    api.faults().cut_watches();
    api.faults().expire_history();
    api.create(named("later")).unwrap();
    assert!(events.next().await.unwrap().is_err(), "410 ends the watch");
    let relisted: Vec<String> = [events.next().await, events.next().await, events.next().await]
        .into_iter()
        .map(|event| event.unwrap().unwrap())
        .collect();
    assert_eq!(relisted, ["init", "have after", "have later"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_comes_in_pages() {
    let api = sim();
    for n in 0..5 {
        let name = format!("m{n}");
        api.create(json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "namespace": "shop"}}))
            .unwrap();
    }
    let maps: Api<ConfigMap> = Api::all(api.client());
    let first = maps.list(&ListParams::default().limit(3)).await.unwrap();
    let token = first.metadata.continue_.clone().unwrap();
    assert_eq!((first.items.len(), first.metadata.remaining_item_count), (3, Some(2)));
    let rest = maps.list(&ListParams::default().limit(3).continue_token(&token)).await.unwrap();
    assert_eq!((rest.items.len(), rest.metadata.continue_), (2, None));
    api.faults().expire_history();
    let late = maps.list(&ListParams::default().limit(3).continue_token(&token)).await;
    assert_eq!(api_error(late.unwrap_err()).code, 410);
}

#[tokio::test(start_paused = true)]
async fn applying_over_anothers_field_conflicts_and_force_takes_it() {
    let api = sim();
    api.create(deployment("web")).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(api.client(), "shop");
    let plain = PatchParams::apply("optipod");
    let refused = deployments.patch("web", &plain, &Patch::Apply(apply_requests("500m"))).await;
    let status = api_error(refused.unwrap_err());
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let causes = status.details.clone().unwrap().causes;
    assert!(causes.iter().all(|c| c.reason == "FieldManagerConflict"));
    assert!(status.message.contains("conflicts with \"kubectl-client-side-apply\" using apps/v1"));

    let force = plain.force();
    let taken = deployments.patch("web", &force, &Patch::Apply(apply_requests("500m"))).await.unwrap();
    let object = serde_json::to_value(&taken).unwrap();
    let resources = object.pointer("/spec/template/spec/containers/0/resources").unwrap();
    assert_eq!(resources, &json!({"requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"memory": "2Gi"}}));
    let version = taken.metadata.resource_version.clone();
    let again = deployments.patch("web", &force, &Patch::Apply(apply_requests("0.5"))).await.unwrap();
    assert_eq!(again.metadata.resource_version, version, "another spelling is a no-op");
}

#[tokio::test(start_paused = true)]
async fn an_empty_apply_removes_the_requests_and_an_undo_by_another_manager_keeps_them() {
    let api = sim();
    api.create(deployment("web")).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(api.client(), "shop");
    let force = PatchParams::apply("optipod").force();
    let empty = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}});
    let requests = |d: Deployment| {
        let object = serde_json::to_value(d).unwrap();
        object.pointer("/spec/template/spec/containers/0/resources/requests").cloned()
    };
    deployments.patch("web", &force, &Patch::Apply(apply_requests("500m"))).await.unwrap();
    let emptied = deployments.patch("web", &force, &Patch::Apply(empty.clone())).await.unwrap();
    assert_eq!(requests(emptied), None);

    deployments.patch("web", &force, &Patch::Apply(apply_requests("500m"))).await.unwrap();
    let previous = json!({"spec": {"template": {"spec": {"containers": [
        {"name": "app", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
        {"name": "proxy", "resources": {"requests": {"cpu": "100m", "memory": null}}}]}}}});
    let restore = PatchParams { field_manager: Some("optipod-restore".into()), ..PatchParams::default() };
    deployments.patch("web", &restore, &Patch::Strategic(previous)).await.unwrap();
    let undone = deployments.patch("web", &force, &Patch::Apply(empty)).await.unwrap();
    assert_eq!(requests(undone.clone()), Some(json!({"cpu": "1", "memory": "1Gi"})));
    let managers: Vec<String> =
        undone.metadata.managed_fields.unwrap().into_iter().filter_map(|entry| entry.manager).collect();
    assert_eq!(managers, ["kubectl-client-side-apply", "optipod-restore"]);
}

#[tokio::test(start_paused = true)]
async fn leaving_a_container_out_of_an_apply_drops_its_requests() {
    let api = sim();
    api.create(deployment("web")).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(api.client(), "shop");
    let force = PatchParams::apply("optipod").force();
    deployments.patch("web", &force, &Patch::Apply(apply_requests("500m"))).await.unwrap();
    let mut one = apply_requests("500m");
    one.pointer_mut("/spec/template/spec/containers").unwrap().as_array_mut().unwrap().pop();
    let after = deployments.patch("web", &force, &Patch::Apply(one)).await.unwrap();
    let object = serde_json::to_value(after).unwrap();
    assert_eq!(object.pointer("/spec/template/spec/containers/1/resources/requests"), None);
    assert_eq!(object.pointer("/spec/template/spec/containers/1/image"), Some(&json!("mesh/proxy:1")));
}

#[tokio::test(start_paused = true)]
async fn apply_refuses_stale_versions_unknown_containers_and_deleted_workloads() {
    let api = sim();
    api.create(deployment("web")).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(api.client(), "shop");
    let force = PatchParams::apply("optipod").force();
    let mut stale = apply_requests("500m");
    stale["metadata"]["resourceVersion"] = json!("1");
    let status = api_error(deployments.patch("web", &force, &Patch::Apply(stale)).await.unwrap_err());
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    assert!(status.message.contains("the object has been modified"));

    let mut unknown = apply_requests("500m");
    unknown["spec"]["template"]["spec"]["containers"][0]["name"] = json!("ghost");
    let status = api_error(deployments.patch("web", &force, &Patch::Apply(unknown)).await.unwrap_err());
    assert_eq!(status.code, 422);
    assert!(status.message.contains("image: Required value"), "{}", status.message);

    let mut high = apply_requests("500m");
    high["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["memory"] = json!("3Gi");
    let status = api_error(deployments.patch("web", &force, &Patch::Apply(high)).await.unwrap_err());
    assert!(status.message.contains("must be less than or equal to memory limit of 2Gi"));

    api.delete("apps/v1", "Deployment", "shop", "web").unwrap();
    let status = api_error(deployments.patch("web", &force, &Patch::Apply(apply_requests("1"))).await.unwrap_err());
    assert_eq!(status.code, 422);
    let mut with_uid = apply_requests("1");
    with_uid["metadata"]["uid"] = json!("00000000-0000-4000-8000-000000000009");
    let status = api_error(deployments.patch("web", &force, &Patch::Apply(with_uid)).await.unwrap_err());
    assert_eq!(status.code, 409);
    assert!(status.message.contains("uid mismatch"));
}

#[tokio::test(start_paused = true)]
async fn generation_follows_the_spec_and_a_deployments_annotations() {
    let api = sim();
    api.create(deployment("web")).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(api.client(), "shop");
    let patch = |body: Value| {
        let deployments = deployments.clone();
        async move {
            let params = PatchParams::default();
            deployments.patch("web", &params, &Patch::Merge(body)).await.unwrap().metadata.generation
        }
    };
    assert_eq!(patch(json!({"metadata": {"labels": {"x": "y"}}})).await, Some(1));
    assert_eq!(patch(json!({"metadata": {"annotations": {"x": "y"}}})).await, Some(2));
    assert_eq!(patch(json!({"spec": {"replicas": 3}})).await, Some(3));
    assert_eq!(patch(json!({"spec": {"replicas": 3}, "status": {"replicas": 9}})).await, Some(3));
}

fn pod(namespace: &str, resources: &Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": namespace},
        "spec": {"containers": [{"name": "app", "image": "shop/web:1", "resources": resources},
            {"name": "log", "image": "shop/log:1", "resources": {"requests": {"cpu": "10m"}}}]}})
}

#[tokio::test(start_paused = true)]
async fn the_rules_of_resize_are_the_real_servers() {
    let burstable = json!({"requests": {"cpu": "200m", "memory": "256Mi"}, "limits": {"memory": "512Mi"}});
    let one = |resources: Value| json!({"spec": {"containers": [{"name": "app", "resources": resources}]}});
    let cases = [
        ("requests go down", one(json!({"requests": {"cpu": "100m", "memory": "128Mi"}})), 200, ""),
        ("a limit is added", one(json!({"limits": {"cpu": "1"}})), 200, ""),
        (
            "a first memory request for the second container",
            json!({"spec": {"containers": [{"name": "log", "resources": {"requests": {"memory": "32Mi"}}}]}}),
            200,
            "",
        ),
        (
            "request above limit",
            one(json!({"requests": {"memory": "1Gi"}})),
            422,
            "must be less than or equal to memory limit",
        ),
        ("request removed", one(json!({"requests": {"cpu": null}})), 422, "resource requests cannot be removed"),
        ("limit removed", one(json!({"limits": {"memory": null}})), 422, "resource limits cannot be removed"),
        (
            "another resource",
            one(json!({"requests": {"example.com/gpu": "1"}, "limits": {"example.com/gpu": "1"}})),
            422,
            "only cpu and memory resources are mutable",
        ),
        (
            "unknown container",
            json!({"spec": {"containers": [{"name": "ghost", "resources": {}}]}}),
            422,
            "may not be added or removed",
        ),
        (
            "resizePolicy",
            json!({"spec": {"containers": [{"name": "app",
            "resizePolicy": [{"resourceName": "cpu", "restartPolicy": "RestartContainer"}]}]}}),
            422,
            "only cpu and memory",
        ),
    ];
    for (what, patch, code, message) in cases {
        let api = sim();
        api.create(pod("shop", &burstable)).unwrap();
        let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
        let params = PatchParams { field_manager: Some("optipod".into()), ..PatchParams::default() };
        match pods.patch_resize("web-1", &params, &Patch::Strategic(patch)).await {
            Ok(pod) => {
                assert_eq!(code, 200, "{what}");
                assert_eq!(pod.metadata.generation, Some(2), "{what}");
            }
            Err(error) => {
                let status = api_error(error);
                assert_eq!(status.code, code, "{what}: {}", status.message);
                assert!(status.message.contains(message), "{what}: {}", status.message);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_resize_may_not_change_the_qos_class() {
    let both = json!({"cpu": "1", "memory": "1Gi"});
    let guaranteed = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web-1", "namespace": "shop"},
        "spec": {"containers": [{"name": "app", "image": "a:1", "resources": {"limits": both}}]}});
    let api = sim();
    api.create(guaranteed).unwrap();
    let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "500m"}}}]}});
    let refused = pods.patch_resize("web-1", &PatchParams::default(), &Patch::Strategic(patch)).await;
    let status = api_error(refused.unwrap_err());
    assert!(status.message.contains("Pod QOS Class may not change as a result of resizing"));
}

#[tokio::test(start_paused = true)]
async fn resize_ignores_other_fields_and_dry_run_changes_nothing() {
    let api = sim();
    api.create(pod("shop", &json!({"requests": {"cpu": "200m"}}))).unwrap();
    let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
    let patch = json!({"metadata": {"annotations": {"x": "y"}}, "spec": {"containers": [
        {"name": "app", "image": "evil:1", "resources": {"requests": {"cpu": "100m"}}}]}});
    let dry = PatchParams { dry_run: true, ..PatchParams::default() };
    let answer = pods.patch_resize("web-1", &dry, &Patch::Strategic(patch.clone())).await.unwrap();
    let cpu = |pod: &Value| pod.pointer("/spec/containers/0/resources/requests/cpu").cloned().unwrap();
    assert_eq!(cpu(&serde_json::to_value(answer).unwrap()), "100m");
    assert_eq!(cpu(&api.get("v1", "Pod", "shop", "web-1").unwrap()), "200m");
    pods.patch_resize("web-1", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let stored = api.get("v1", "Pod", "shop", "web-1").unwrap();
    assert_eq!(cpu(&stored), "100m");
    assert_eq!(stored.pointer("/spec/containers/0/image"), Some(&json!("shop/web:1")));
    assert_eq!(stored.pointer("/metadata/annotations"), None);
}

#[tokio::test(start_paused = true)]
async fn quota_limit_range_and_node_refuse_a_resize_with_403() {
    let api = sim();
    api.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1"},
        "status": {"allocatable": {"cpu": "2", "memory": "4Gi"}}}))
        .unwrap();
    let mut bound = pod("shop", &json!({"requests": {"cpu": "200m"}}));
    bound["spec"]["nodeName"] = json!("n1");
    api.create(bound).unwrap();
    let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
    let ask = |cpu: &str| {
        let pods = pods.clone();
        let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": cpu}}}]}});
        async move {
            api_error(pods.patch_resize("web-1", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap_err())
        }
    };
    let status = ask("3").await;
    assert_eq!((status.code, status.reason.as_str()), (403, "Forbidden"));
    assert!(
        status
            .message
            .contains("node didn't have enough allocatable resources: cpu, requested: 3010, allocatable: 2000")
    );

    api.create(json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q", "namespace": "shop"},
        "spec": {"hard": {"requests.cpu": "500m"}}}))
        .unwrap();
    let status = ask("1").await;
    assert_eq!(
        status.message,
        "pods \"web-1\" is forbidden: exceeded quota: q, requested: requests.cpu=800m, \
        used: requests.cpu=210m, limited: requests.cpu=500m"
    );

    api.delete("v1", "ResourceQuota", "shop", "q").unwrap();
    api.create(json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "shop"},
        "spec": {"limits": [{"type": "Container", "min": {"cpu": "10m"}}]}}))
        .unwrap();
    let status = ask("5m").await;
    assert!(status.message.contains("minimum cpu usage per Container is 10m, but request is 5m"), "{}", status.message);
}

#[tokio::test(start_paused = true)]
async fn a_resize_of_a_pod_older_than_a_limit_range_gains_limits() {
    let api = sim();
    api.create(pod("shop", &json!({"requests": {"cpu": "200m"}}))).unwrap();
    api.create(json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l", "namespace": "shop"},
        "spec": {"limits": [{"type": "Container", "default": {"cpu": "1"}}]}}))
        .unwrap();
    let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "100m"}}}]}});
    let answer = pods.patch_resize("web-1", &PatchParams::default(), &Patch::Strategic(patch)).await.unwrap();
    let answer = serde_json::to_value(answer).unwrap();
    for container in 0..2 {
        let limit = answer.pointer(&format!("/spec/containers/{container}/resources/limits/cpu"));
        assert_eq!(limit, Some(&json!("1")));
    }
}

#[tokio::test(start_paused = true)]
async fn denied_requests_get_the_rbac_message_and_reviews_agree() {
    use k8s_openapi::api::authorization::v1::SelfSubjectAccessReview;
    let api = sim();
    api.create(pod("shop", &json!({"requests": {"cpu": "200m"}}))).unwrap();
    api.deny(Deny::new("patch", "pods/resize").in_namespace("shop"));
    let user = "system:serviceaccount:optipod-system:optipod";
    let pods: Api<Pod> = Api::namespaced(api.client(), "shop");
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": {"requests": {"cpu": "100m"}}}]}});
    let refused = pods.patch_resize("web-1", &PatchParams::default(), &Patch::Strategic(patch)).await;
    let status = api_error(refused.unwrap_err());
    assert_eq!(
        status.message,
        format!(
            "pods \"web-1\" is forbidden: User \"{user}\" cannot patch resource \
        \"pods/resize\" in API group \"\" in the namespace \"shop\""
        )
    );
    let reviews: Api<SelfSubjectAccessReview> = Api::all(api.client());
    for (namespace, allowed) in [("shop", false), ("other", true)] {
        let review: SelfSubjectAccessReview =
            serde_json::from_value(json!({"metadata": {}, "spec": {"resourceAttributes": {
            "verb": "patch", "resource": "pods", "subresource": "resize", "namespace": namespace}}}))
            .unwrap();
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        assert_eq!(answer.status.unwrap().allowed, allowed, "{namespace}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_was_still_carried_out_and_the_journal_says_so() {
    let api = sim();
    api.create(deployment("web")).unwrap();
    let deployments: Api<Deployment> = Api::namespaced(api.client(), "shop");
    let id = api.faults().add(FaultRule::new(Fault::DropAfter).verb("patch").on("deployments.apps").nth(1));
    let patch = Patch::Merge(json!({"spec": {"replicas": 5}}));
    assert!(deployments.patch("web", &PatchParams::default(), &patch).await.is_err());
    assert_eq!(api.faults().struck(id), 1);
    assert_eq!(api.get("apps/v1", "Deployment", "shop", "web").unwrap()["spec"]["replicas"], 5);
    let changes = api.changes();
    assert_eq!(changes.len(), 1);
    assert_eq!((changes[0].code, changes[0].fault.as_str()), (0, "DropAfter"));

    api.faults().add(FaultRule::new(Fault::DropBefore).verb("patch").nth(1));
    let patch = Patch::Merge(json!({"spec": {"replicas": 6}}));
    assert!(deployments.patch("web", &PatchParams::default(), &patch).await.is_err());
    assert_eq!(api.get("apps/v1", "Deployment", "shop", "web").unwrap()["spec"]["replicas"], 5);
}

#[tokio::test(start_paused = true)]
async fn throttling_names_its_delay_and_latency_passes_on_the_timeline() {
    let api = sim();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "shop");
    api.faults().add(FaultRule::new(Fault::TooManyRequests(7)).on("configmaps").nth(1));
    let status = api_error(maps.list(&ListParams::default()).await.unwrap_err());
    assert_eq!((status.code, status.details.unwrap().retry_after_seconds), (429, 7));
    api.faults().add(FaultRule::new(Fault::Latency(Duration::from_secs(3))).on("configmaps"));
    let before = tokio::time::Instant::now();
    maps.list(&ListParams::default()).await.unwrap();
    assert_eq!(before.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn metadata_only_lists_and_finalizers_work() {
    use kube::core::PartialObjectMeta;
    let api = sim();
    let mut object = deployment("web");
    object["metadata"]["finalizers"] = json!(["optipod.io/restore"]);
    api.create(object).unwrap();
    let metas: Api<PartialObjectMeta<Deployment>> = Api::namespaced(api.client(), "shop");
    let list = metas.list(&ListParams::default().labels("app=web")).await.unwrap();
    assert_eq!(list.items.len(), 1);

    let deployments: Api<Deployment> = Api::namespaced(api.client(), "shop");
    deployments.delete("web", &DeleteParams::default()).await.unwrap();
    let marked = deployments.get("web").await.unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());
    let patch = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    deployments.patch("web", &PatchParams::default(), &patch).await.unwrap();
    assert!(deployments.get_opt("web").await.unwrap().is_none());
}

#[tokio::test(start_paused = true)]
async fn discovery_lists_resize_only_while_it_is_served() {
    let api = sim();
    let client = api.client();
    assert_eq!(client.apiserver_version().await.unwrap().minor, "37");
    let listed = || async {
        let list = client.list_core_api_resources("v1").await.unwrap();
        list.resources.iter().any(|r| r.name == "pods/resize")
    };
    assert!(listed().await);
    api.serve_resize(false);
    assert!(!listed().await);
}

#[tokio::test(start_paused = true)]
async fn an_event_written_through_one_api_is_read_through_the_other() {
    use k8s_openapi::api::core::v1::Event;
    let api = sim();
    let event = json!({"apiVersion": "events.k8s.io/v1", "kind": "Event",
        "metadata": {"name": "web.1", "namespace": "shop"}, "eventTime": "2026-01-05T00:00:00.000000Z",
        "regarding": {"kind": "Deployment", "name": "web", "namespace": "shop"}, "reason": "Resized",
        "action": "Resize", "note": "resized 2 pods", "type": "Normal", "reportingController": "optipod.io",
        "reportingInstance": "optipod-0"});
    api.create(event.clone()).unwrap();
    let events: Api<Event> = Api::namespaced(api.client(), "shop");
    let selected = ListParams::default().fields("involvedObject.name=web");
    let list = events.list(&selected).await.unwrap();
    assert_eq!(list.items[0].message.as_deref(), Some("resized 2 pods"));
    assert_eq!(list.items[0].involved_object.name.as_deref(), Some("web"));
    let changed = json!({"note": "resized 3 pods"});
    let refused = api.patch("events.k8s.io/v1", "Event", "shop", "web.1", "optipod", &changed).unwrap_err();
    assert!(refused.message.contains("note: Invalid value: \"resized 3 pods\": field is immutable"));
    let counted = json!({"series": {"count": 2, "lastObservedTime": "2026-01-05T00:01:00.000000Z"}});
    api.patch("events.k8s.io/v1", "Event", "shop", "web.1", "optipod", &counted).unwrap();
    let mut unnamed = event;
    unnamed["metadata"]["name"] = json!("web.2");
    unnamed["action"] = json!("");
    assert!(api.create(unnamed).unwrap_err().message.contains("action: Required value"));
}

fn policy_crd() -> Value {
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "optimizationpolicies.optipod.io"},
        "spec": {"group": "optipod.io", "scope": "Namespaced",
            "names": {"kind": "OptimizationPolicy", "plural": "optimizationpolicies", "singular": "optimizationpolicy", "shortNames": ["op"]},
            "versions": [{"name": "v1alpha1", "served": true, "storage": true, "subresources": {"status": {}},
                "selectableFields": [{"jsonPath": ".spec.mode"}],
                "schema": {"openAPIV3Schema": {"type": "object", "required": ["spec"], "properties": {
                    "apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"},
                    "spec": {"type": "object", "required": ["mode"], "properties": {
                        "mode": {"type": "string", "enum": ["Auto", "Recommend", "Disabled"]},
                        "weight": {"type": "integer", "minimum": 1, "maximum": 1000, "default": 100},
                        "cooldown": {"type": "string", "default": "30m", "pattern": "^[1-9][0-9]{0,5}(s|m|h|d)$"},
                        "containers": {"type": "array", "maxItems": 2, "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["name"],
                            "items": {"type": "object", "required": ["name"], "properties": {"name": {"type": "string"}}}}}},
                    "status": {"type": "object", "properties": {"observedGeneration": {"type": "integer"}}}}}}}]}})
}

fn policy(spec: &Value) -> Value {
    json!({"apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy",
        "metadata": {"name": "p", "namespace": "shop"}, "spec": spec})
}

#[tokio::test(start_paused = true)]
async fn an_installed_crd_defaults_prunes_and_refuses() {
    let api = sim();
    api.install_crd(policy_crd()).unwrap();
    let created = api.create(policy(&json!({"mode": "Auto", "weight": null, "colour": "red"}))).unwrap();
    assert_eq!(created["spec"], json!({"mode": "Auto", "weight": 100, "cooldown": "30m"}));
    for (spec, message) in [
        (json!({}), "spec.mode: Required value"),
        (json!({"mode": "auto"}), "supported values: \"Auto\", \"Recommend\", \"Disabled\""),
        (json!({"mode": "Auto", "weight": 0}), "greater than or equal to 1"),
        (json!({"mode": "Auto", "weight": "5"}), "must be of type integer"),
        (json!({"mode": "Auto", "cooldown": "0m"}), "should match"),
        (json!({"mode": "Auto", "containers": [{"name": "a"}, {"name": "a"}]}), "Duplicate value"),
        (
            json!({"mode": "Auto", "containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}]}),
            "must have at most 2 items",
        ),
    ] {
        let mut object = policy(&spec);
        object["metadata"]["name"] = json!("q");
        let refused = api.create(object).unwrap_err();
        assert_eq!(refused.code, 422);
        assert!(refused.message.contains(message), "{}", refused.message);
    }
}

#[tokio::test(start_paused = true)]
async fn a_policys_status_is_its_own_subresource_and_a_no_op_keeps_the_version() {
    use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
    let api = sim();
    api.install_crd(policy_crd()).unwrap();
    api.create(policy(&json!({"mode": "Auto"}))).unwrap();
    let gvk = GroupVersionKind::gvk("optipod.io", "v1alpha1", "OptimizationPolicy");
    let resource = ApiResource::from_gvk_with_plural(&gvk, "optimizationpolicies");
    let policies: Api<DynamicObject> = Api::namespaced_with(api.client(), "shop", &resource);
    let status = Patch::Merge(json!({"spec": {"mode": "Disabled"}, "status": {"observedGeneration": 1, "unknown": 1}}));
    let written = policies.patch_status("p", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(written.data["spec"]["mode"], "Auto");
    assert_eq!(written.data["status"], json!({"observedGeneration": 1}));
    assert_eq!(written.metadata.generation, Some(1));
    let again = policies.patch_status("p", &PatchParams::default(), &status).await.unwrap();
    assert_eq!(again.metadata.resource_version, written.metadata.resource_version);
    let selected = policies.list(&ListParams::default().fields("spec.mode!=Disabled")).await.unwrap();
    assert_eq!(selected.items.len(), 1);
    let strategic = Patch::Strategic(json!({"spec": {"mode": "Disabled"}}));
    let refused = policies.patch("p", &PatchParams::default(), &strategic).await.unwrap_err();
    assert_eq!(api_error(refused).code, 415);
}

#[tokio::test(start_paused = true)]
async fn a_streaming_list_ends_its_first_events_with_a_bookmark() {
    let api = sim();
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}}))
        .unwrap();
    let maps: Api<ConfigMap> = Api::all(api.client());
    let config = watcher::Config::default().streaming_lists();
    let mut events = Box::pin(watcher(maps, config));
    let mut seen = Vec::new();
    for _ in 0..3 {
        seen.push(match events.next().await.unwrap().unwrap() {
            watcher::Event::Init => "init",
            watcher::Event::InitApply(_) => "have",
            watcher::Event::InitDone => "done",
            _ => "other",
        });
    }
    assert_eq!(seen, ["init", "have", "done"]);
}

#[tokio::test(start_paused = true)]
async fn a_stale_put_conflicts_and_a_lease_needs_its_version() {
    let api = sim();
    let lease = |version: Option<&str>| {
        let mut lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
            "metadata": {"name": "optipod", "namespace": "shop"}, "spec": {"holderIdentity": "a"}});
        if let Some(version) = version {
            lease["metadata"]["resourceVersion"] = json!(version);
        }
        serde_json::from_value::<k8s_openapi::api::coordination::v1::Lease>(lease).unwrap()
    };
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::namespaced(api.client(), "shop");
    let created = leases.create(&PostParams::default(), &lease(None)).await.unwrap();
    let unversioned = leases.replace("optipod", &PostParams::default(), &lease(None)).await.unwrap_err();
    assert!(api_error(unversioned).message.contains("must be specified for an update"));
    let stale = leases.replace("optipod", &PostParams::default(), &lease(Some("1"))).await.unwrap_err();
    assert_eq!(api_error(stale).code, 409);
    let version = created.metadata.resource_version.as_deref();
    leases.replace("optipod", &PostParams::default(), &lease(version)).await.unwrap();
    let twice = leases.create(&PostParams::default(), &lease(None)).await.unwrap_err();
    assert_eq!(api_error(twice).reason, "AlreadyExists");
}

#[tokio::test(start_paused = true)]
async fn a_lagging_watch_delivers_late_and_a_rule_on_pods_spares_their_metrics() {
    let api = sim();
    let maps: Api<ConfigMap> = Api::namespaced(api.client(), "shop");
    let lag = Duration::from_secs(20);
    api.faults().add(FaultRule::new(Fault::LagWatch(lag)).on("configmaps"));
    let mut events = Box::pin(watcher(maps, watcher::Config::default()));
    for _ in 0..2 {
        events.next().await.unwrap().unwrap();
    }
    let started = tokio::time::Instant::now();
    api.create(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "shop"}}))
        .unwrap();
    events.next().await.unwrap().unwrap();
    assert_eq!(started.elapsed(), lag);

    api.deny(Deny::new("list", "pods"));
    let pods: Api<Pod> = Api::all(api.client());
    assert_eq!(api_error(pods.list(&ListParams::default()).await.unwrap_err()).code, 403);
    let request = http::Request::get("/apis/metrics.k8s.io/v1beta1/pods").body(Vec::new()).unwrap();
    assert!(api.client().request::<Value>(request).await.is_ok());
}
