//! The simulated cluster: what controllers, scheduler, kubelets and metrics-server would do.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use optipod_sim::{
    Behaviour, ClusterOptions, ContainerSpec, Resource, Scenario, Series, SimApi, SimCluster, SimOptions, WorkloadKind,
    WorkloadSpec,
};
use serde_json::{Value, json};

fn cluster(workloads: Vec<WorkloadSpec>) -> SimCluster {
    let api = SimApi::new(SimOptions::default());
    let cluster = SimCluster::new(&api, ClusterOptions::default());
    let mut scenario = Scenario::new().nodes(2, "4", "8Gi").namespace("shop", json!({"team": "web"}));
    for workload in workloads {
        scenario = scenario.workload(workload);
    }
    scenario.install(&cluster).unwrap();
    let running = cluster.clone();
    tokio::spawn(async move { running.run().await });
    cluster
}

fn web(kind: WorkloadKind, replicas: u32) -> WorkloadSpec {
    let app = ContainerSpec::new("app", "500m", "256Mi", Behaviour::steady(0.1, 100.0)).limits("", "512Mi");
    WorkloadSpec::new("shop", kind, "web", replicas, vec![app])
}

async fn pass(seconds: u64) {
    tokio::time::sleep(Duration::from_secs(seconds)).await;
}

fn pods(cluster: &SimCluster) -> Vec<Value> {
    cluster.api().list("v1", "Pod")
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap().to_owned()
}

fn get(cluster: &SimCluster, kind: &str, name: &str) -> Value {
    let version = if kind == "Pod" { "v1" } else { "apps/v1" };
    cluster.api().get(version, kind, "shop", name).unwrap()
}

fn condition<'a>(object: &'a Value, name: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|c| c["type"] == name)
}

async fn resize(cluster: &SimCluster, pod: &str, resources: Value) -> Result<Pod, kube::Error> {
    let pods: Api<Pod> = Api::namespaced(cluster.api().client(), "shop");
    let patch = json!({"spec": {"containers": [{"name": "app", "resources": resources}]}});
    pods.patch_resize(pod, &PatchParams::default(), &Patch::Strategic(patch)).await
}

#[tokio::test(start_paused = true)]
async fn a_deployment_becomes_available_through_a_replica_set() {
    let cluster = cluster(vec![web(WorkloadKind::Deployment, 3)]);
    pass(60).await;
    let deployment = get(&cluster, "Deployment", "web");
    let status = &deployment["status"];
    for field in ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas"] {
        assert_eq!(status[field], 3, "{field}");
    }
    assert_eq!(status["observedGeneration"], deployment["metadata"]["generation"]);
    assert_eq!(condition(&deployment, "Available").unwrap()["status"], "True");
    assert_eq!(condition(&deployment, "Progressing").unwrap()["reason"], "NewReplicaSetAvailable");
    let sets = cluster.api().list("apps/v1", "ReplicaSet");
    let hash = sets[0]["metadata"]["labels"]["pod-template-hash"].as_str().unwrap();
    assert_eq!(name(&sets[0]), format!("web-{hash}"));
    assert!(pods(&cluster).iter().all(|pod| name(pod).starts_with(&format!("web-{hash}-"))));
}

#[tokio::test(start_paused = true)]
async fn a_template_change_rolls_the_pods_and_keeps_the_deployment_available() {
    let cluster = cluster(vec![web(WorkloadKind::Deployment, 4)]);
    pass(60).await;
    let before: Vec<String> = pods(&cluster).iter().map(name).collect();
    let patch = json!({"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "web:2"}]}}}});
    cluster.api().patch("apps/v1", "Deployment", "shop", "web", "kubectl", &patch).unwrap();
    for _ in 0..30 {
        pass(5).await;
        let status = &get(&cluster, "Deployment", "web")["status"];
        assert!(status["availableReplicas"].as_i64().unwrap() >= 3);
        assert!(status["replicas"].as_i64().unwrap() <= 5);
    }
    let deployment = get(&cluster, "Deployment", "web");
    assert_eq!(deployment["status"]["updatedReplicas"], 4);
    assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "2");
    assert!(pods(&cluster).iter().all(|pod| !before.contains(&name(pod))));
}

#[tokio::test(start_paused = true)]
async fn a_release_that_never_gets_ready_stops_and_exceeds_its_deadline() {
    let cluster = cluster(vec![web(WorkloadKind::Deployment, 3)]);
    pass(60).await;
    cluster.break_starts("shop", "Deployment", "web", true);
    let patch =
        json!({"spec": {"progressDeadlineSeconds": 120, "template": {"metadata": {"annotations": {"v": "2"}}}}});
    cluster.api().patch("apps/v1", "Deployment", "shop", "web", "kubectl", &patch).unwrap();
    pass(300).await;
    let deployment = get(&cluster, "Deployment", "web");
    assert_eq!(condition(&deployment, "Progressing").unwrap()["reason"], "ProgressDeadlineExceeded");
    assert_eq!(deployment["status"]["availableReplicas"], 3);
    assert_eq!(deployment["status"]["updatedReplicas"], 1);
}

#[tokio::test(start_paused = true)]
async fn a_stateful_set_replaces_its_pods_one_by_one_from_the_highest() {
    let cluster = cluster(vec![web(WorkloadKind::StatefulSet, 3)]);
    pass(90).await;
    assert_eq!(pods(&cluster).iter().map(name).collect::<Vec<_>>(), ["web-0", "web-1", "web-2"]);
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"v": "2"}}}}});
    cluster.api().patch("apps/v1", "StatefulSet", "shop", "web", "kubectl", &patch).unwrap();
    for _ in 0..30 {
        pass(5).await;
        let ready = get(&cluster, "StatefulSet", "web")["status"]["readyReplicas"].as_i64().unwrap();
        assert!(ready >= 2, "{ready}");
    }
    let status = get(&cluster, "StatefulSet", "web")["status"].clone();
    assert_eq!((&status["updatedReplicas"], &status["readyReplicas"]), (&json!(3), &json!(3)));
    assert_eq!(status["currentRevision"], status["updateRevision"]);
}

#[tokio::test(start_paused = true)]
async fn a_daemon_set_runs_on_each_node_also_on_a_new_one() {
    let cluster = cluster(vec![web(WorkloadKind::DaemonSet, 0)]);
    pass(60).await;
    assert_eq!(get(&cluster, "DaemonSet", "web")["status"]["numberReady"], 2);
    cluster.add_node("node-9", "4", "8Gi").unwrap();
    pass(60).await;
    let status = get(&cluster, "DaemonSet", "web")["status"].clone();
    assert_eq!((&status["numberReady"], &status["desiredNumberScheduled"]), (&json!(3), &json!(3)));
}

#[tokio::test(start_paused = true)]
async fn scaling_and_deleting_follow_the_owner() {
    let cluster = cluster(vec![web(WorkloadKind::Deployment, 3)]);
    pass(60).await;
    let scale = |n: i64| json!({"spec": {"replicas": n}});
    cluster.api().patch("apps/v1", "Deployment", "shop", "web", "kubectl", &scale(1)).unwrap();
    pass(30).await;
    assert_eq!(pods(&cluster).len(), 1);
    cluster.api().delete("apps/v1", "Deployment", "shop", "web").unwrap();
    pass(30).await;
    assert!(pods(&cluster).is_empty());
    assert!(cluster.api().list("apps/v1", "ReplicaSet").is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_fits_nowhere_says_so_and_a_quota_stops_creation() {
    let app = ContainerSpec::new("app", "5", "256Mi", Behaviour::idle());
    let huge = WorkloadSpec::new("shop", WorkloadKind::Deployment, "huge", 1, vec![app]);
    let cluster = cluster(vec![huge]);
    cluster
        .api()
        .create(json!({"apiVersion": "v1", "kind": "ResourceQuota",
        "metadata": {"name": "q", "namespace": "shop"}, "spec": {"hard": {"pods": "1"}}}))
        .unwrap();
    pass(30).await;
    assert_eq!(condition(&pods(&cluster)[0], "PodScheduled").unwrap()["reason"], "Unschedulable");
    cluster.api().create(web(WorkloadKind::Deployment, 1).manifest()).unwrap();
    pass(30).await;
    let failure = get(&cluster, "Deployment", "web");
    let failure = condition(&failure, "ReplicaFailure").unwrap();
    assert_eq!(failure["reason"], "FailedCreate");
    assert!(failure["message"].as_str().unwrap().contains("exceeded quota: q"));
}

#[tokio::test(start_paused = true)]
async fn a_resize_is_allocated_then_actuated_without_a_restart() {
    let cluster = cluster(vec![web(WorkloadKind::StatefulSet, 1).pod_annotation("resize/delay", "20s")]);
    pass(60).await;
    resize(&cluster, "web-0", json!({"requests": {"cpu": "200m"}})).await.unwrap();
    pass(10).await;
    let pod = get(&cluster, "Pod", "web-0");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(condition(&pod, "PodResizeInProgress").is_some());
    assert_eq!(status["allocatedResources"]["cpu"], "200m");
    assert_eq!(status["resources"]["requests"]["cpu"], "500m");
    pass(30).await;
    let pod = get(&cluster, "Pod", "web-0");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(condition(&pod, "PodResizeInProgress").is_none());
    assert_eq!(status["resources"], pod["spec"]["containers"][0]["resources"]);
    assert_eq!(status["restartCount"], 0);
    assert_eq!(pod["status"]["observedGeneration"], pod["metadata"]["generation"]);
}

#[tokio::test(start_paused = true)]
async fn a_resize_that_does_not_fit_now_is_deferred_until_it_does() {
    let cluster = cluster(vec![web(WorkloadKind::StatefulSet, 1)]);
    pass(60).await;
    let node = get(&cluster, "Pod", "web-0")["spec"]["nodeName"].clone();
    cluster
        .api()
        .create(json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "filler", "namespace": "shop"},
        "spec": {"nodeName": node, "containers": [{"name": "f", "image": "f:1",
            "resources": {"requests": {"cpu": "3"}}}]}}))
        .unwrap();
    pass(60).await;
    resize(&cluster, "web-0", json!({"requests": {"cpu": "2"}})).await.unwrap();
    pass(20).await;
    let pod = get(&cluster, "Pod", "web-0");
    assert_eq!(condition(&pod, "PodResizePending").unwrap()["reason"], "Deferred");
    assert_eq!(pod["status"]["containerStatuses"][0]["allocatedResources"]["cpu"], "500m");
    cluster.api().delete("v1", "Pod", "shop", "filler").unwrap();
    pass(20).await;
    let pod = get(&cluster, "Pod", "web-0");
    assert!(condition(&pod, "PodResizePending").is_none());
    assert_eq!(pod["status"]["containerStatuses"][0]["resources"]["requests"]["cpu"], "2");
}

#[tokio::test(start_paused = true)]
async fn an_infeasible_resize_is_held_and_a_taken_back_one_settles() {
    let cluster = cluster(vec![web(WorkloadKind::StatefulSet, 1).pod_annotation("resize/hold", "Infeasible")]);
    pass(60).await;
    resize(&cluster, "web-0", json!({"requests": {"cpu": "600m"}})).await.unwrap();
    pass(20).await;
    assert_eq!(condition(&get(&cluster, "Pod", "web-0"), "PodResizePending").unwrap()["reason"], "Infeasible");
    resize(&cluster, "web-0", json!({"requests": {"cpu": "500m"}})).await.unwrap();
    pass(20).await;
    assert!(condition(&get(&cluster, "Pod", "web-0"), "PodResizePending").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_memory_limit_below_usage_sticks_with_an_error() {
    let cluster = cluster(vec![web(WorkloadKind::StatefulSet, 1)]);
    pass(120).await;
    resize(&cluster, "web-0", json!({"requests": {"memory": "32Mi"}, "limits": {"memory": "32Mi"}})).await.unwrap();
    pass(30).await;
    let pod = get(&cluster, "Pod", "web-0");
    let stuck = condition(&pod, "PodResizeInProgress").unwrap();
    assert_eq!(stuck["reason"], "Error");
    assert!(stuck["message"].as_str().unwrap().contains("below current usage"));
    assert_eq!(pod["status"]["containerStatuses"][0]["restartCount"], 0);
}

#[tokio::test(start_paused = true)]
async fn resize_policy_restart_container_restarts_it() {
    let mut manifest = web(WorkloadKind::StatefulSet, 1).manifest();
    manifest["spec"]["template"]["spec"]["containers"][0]["resizePolicy"] =
        json!([{"resourceName": "memory", "restartPolicy": "RestartContainer"}]);
    let cluster = cluster(Vec::new());
    cluster.api().create(manifest).unwrap();
    pass(60).await;
    resize(&cluster, "web-0", json!({"requests": {"cpu": "400m"}})).await.unwrap();
    pass(20).await;
    assert_eq!(get(&cluster, "Pod", "web-0")["status"]["containerStatuses"][0]["restartCount"], 0);
    resize(&cluster, "web-0", json!({"requests": {"memory": "200Mi"}})).await.unwrap();
    pass(20).await;
    let status = get(&cluster, "Pod", "web-0")["status"]["containerStatuses"][0].clone();
    assert_eq!((&status["restartCount"], &status["ready"]), (&json!(1), &json!(true)));
}

#[tokio::test(start_paused = true)]
async fn usage_over_the_memory_limit_is_an_oom_kill_and_then_a_crash_loop() {
    let app = ContainerSpec::new("app", "100m", "32Mi", Behaviour::steady(0.05, 200.0)).limits("", "64Mi");
    let cluster = cluster(vec![WorkloadSpec::new("shop", WorkloadKind::StatefulSet, "web", 1, vec![app])]);
    pass(300).await;
    let pod = get(&cluster, "Pod", "web-0");
    let status = &pod["status"]["containerStatuses"][0];
    assert!(status["restartCount"].as_i64().unwrap() >= 3);
    assert_eq!(status["lastState"]["terminated"]["reason"], "OOMKilled");
    assert_eq!(status["lastState"]["terminated"]["exitCode"], 137);
    let clock = cluster.api().clock();
    let kills = cluster.truth().oom_kills(clock.epoch(), clock.now());
    assert!(kills.len() >= 3 && kills.iter().all(|kill| !kill.node_full));
    assert_eq!(kills[0].series, Series::new("shop", "StatefulSet", "web", "app"));
}

#[tokio::test(start_paused = true)]
async fn a_cpu_limit_throttles_and_the_ledger_says_by_how_much() {
    let app = ContainerSpec::new("app", "100m", "64Mi", Behaviour::steady(1.0, 30.0)).limits("250m", "");
    let cluster = cluster(vec![WorkloadSpec::new("shop", WorkloadKind::StatefulSet, "web", 1, vec![app])]);
    pass(1800).await;
    let series = Series::new("shop", "StatefulSet", "web", "app");
    let clock = cluster.api().clock();
    let share = cluster.truth().throttled_share(&series, clock.epoch(), clock.now());
    assert!((0.65..0.85).contains(&share), "{share}");
    let p50 = cluster.truth().quantiles(&series, Resource::Cpu, clock.epoch(), clock.now(), &[0.5]).unwrap();
    assert!((p50[0] - 0.25).abs() < 1e-6, "{p50:?}");
}

#[tokio::test(start_paused = true)]
async fn metrics_appear_after_two_scrapes_and_are_what_the_ledger_holds() {
    let cluster = cluster(vec![web(WorkloadKind::StatefulSet, 1)]);
    let client = cluster.api().client();
    let list = || async {
        let request = http::Request::get("/apis/metrics.k8s.io/v1beta1/pods?limit=1").body(Vec::new()).unwrap();
        client.request::<Value>(request).await.unwrap()
    };
    pass(12).await;
    assert_eq!(list().await["items"], json!([]), "absent until there are two points");
    let series = Series::new("shop", "StatefulSet", "web", "app");
    let mut seen = Vec::new();
    for _ in 0..40 {
        pass(5).await;
        for item in list().await["items"].as_array().unwrap() {
            assert_eq!(item["window"], "15s");
            let text = item["containers"][0]["usage"]["cpu"].as_str().unwrap().to_owned();
            let point = (item["timestamp"].as_str().unwrap().to_owned(), text);
            if seen.last() != Some(&point) {
                seen.push(point);
            }
        }
    }
    let clock = cluster.api().clock();
    let mut published: Vec<f64> =
        seen.iter().map(|(_, cpu)| cpu.trim_end_matches('n').parse::<f64>().unwrap() / 1e9).collect();
    published.sort_by(f64::total_cmp);
    let truth = cluster.truth().values(&series, Resource::Cpu, clock.epoch(), clock.now());
    assert_eq!(published, truth);
    assert!(published.len() >= 10);
}

#[tokio::test(start_paused = true)]
async fn annotations_set_usage_as_on_the_test_clusters_kwok() {
    let mut spec =
        web(WorkloadKind::StatefulSet, 1).pod_annotation("usage/cpu.app", "70m").pod_annotation("usage/memory", "40Mi");
    spec.containers[0].name = "app".to_owned();
    let cluster = cluster(Vec::new());
    cluster.api().create(spec.manifest()).unwrap();
    pass(600).await;
    let clock = cluster.api().clock();
    let series = Series::new("shop", "StatefulSet", "web", "app");
    let max = |resource| cluster.truth().max(&series, resource, clock.epoch(), clock.now()).unwrap();
    assert!((max(Resource::Cpu) - 0.07).abs() < 0.012, "{}", max(Resource::Cpu));
    assert!((max(Resource::Memory) / (40.0 * 1024.0 * 1024.0) - 1.0).abs() < 0.01);
}

#[tokio::test(start_paused = true)]
async fn metrics_also_come_as_protobuf_and_not_at_all_while_switched_off() {
    use http_body_util::BodyExt;
    use tower::ServiceExt;
    let cluster = cluster(vec![web(WorkloadKind::StatefulSet, 1)]);
    pass(90).await;
    let ask = |path: &'static str| {
        let request = http::Request::get(path)
            .header(http::header::ACCEPT, "application/vnd.kubernetes.protobuf")
            .body(kube::client::Body::empty())
            .unwrap();
        cluster.api().service("test").oneshot(request)
    };
    let answer = ask("/apis/metrics.k8s.io/v1beta1/pods").await.unwrap();
    assert_eq!(answer.headers()[http::header::CONTENT_TYPE], "application/vnd.kubernetes.protobuf");
    let bytes = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.starts_with(b"k8s\0"));
    let holds = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(holds(b"PodMetricsList") && holds(b"web-0") && holds(b"Ki"));
    assert_eq!(ask("/apis/metrics.k8s.io/v1beta1/pods?watch=true").await.unwrap().status(), 405);
    cluster.api().serve_metrics(false);
    assert_eq!(ask("/apis/metrics.k8s.io/v1beta1/pods").await.unwrap().status(), 503);
}
