//! What holds over whole runs: the same timeline gives the same writes, and an idle controller is quiet.

use crate::harness::{Harness, SHOP, container, minutes, seconds};
use optipod_sim::{Fault, FaultRule};
use serde::Deserialize as _;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

/// A run with several workloads and policies, faults and changes by others; its requests as text, with their instants.
async fn eventful_run() -> Vec<(u64, bool, String)> {
    let mut harness = Harness::new().await;
    for name in ["a", "b", "c"] {
        harness.deployment(name, 3).await;
    }
    harness.policy("p", json!({"updateStrategy": {"cooldown": "5m", "allowRecreate": true}}));
    let selector = json!({"workloadSelector": {"matchLabels": {"app": "b"}}});
    harness.policy("q", json!({"weight": 200, "mode": "Recommend", "selector": selector}));
    let fault = FaultRule::new(Fault::Status(503)).verb("patch").on("pods/resize").probability(0.3);
    harness.api.faults().add(fault);
    let mut options = Harness::options();
    options.leader_election = true;
    harness.start(options);
    minutes(7).await;
    harness.patch("Deployment", SHOP, "a", &json!({"spec": {"replicas": 5}}));
    harness.provider.set("web", 0.4, 300.0);
    minutes(13).await;
    harness.stop().await;
    let line = |entry: optipod_sim::Entry| {
        let text = format!("{} {} {} {} {}", entry.method, entry.path, entry.code, entry.changed, entry.body);
        (entry.at_ms, entry.is_write(), text)
    };
    harness.api.journal().into_iter().map(line).collect()
}

fn run() -> Vec<(u64, bool, String)> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(eventful_run())
}

#[test]
fn the_same_timeline_gives_the_same_writes_in_the_same_order_and_the_same_requests_at_each_instant() {
    let (mut first, mut second) = (run(), run());
    assert!(first.len() > 300, "{}", first.len());
    let writes = |all: &[(u64, bool, String)]| all.iter().filter(|entry| entry.1).cloned().collect::<Vec<_>>();
    for (number, (first, second)) in writes(&first).iter().zip(&writes(&second)).enumerate() {
        assert_eq!(first, second, "write {number}");
    }
    // Watches that end at one instant are taken up again in any order: tokio wakes them so.
    first.sort();
    second.sort();
    for (number, (first, second)) in first.iter().zip(&second).enumerate() {
        assert_eq!(first, second, "request {number}");
    }
    assert_eq!(first.len(), second.len());
}

/// `verb group/resource`, with the subresource, as the controller's roles of `deploy/rbac.yaml` allow it.
fn allowed() -> BTreeSet<(String, String)> {
    let file = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/rbac.yaml")).unwrap();
    let mut allowed = BTreeSet::new();
    for document in serde_yaml::Deserializer::from_str(&file) {
        let object = Value::deserialize(document).unwrap();
        if !object["metadata"]["name"].as_str().unwrap().starts_with("optipod-controller") {
            continue;
        }
        let texts = |value: &Value| {
            let all = value.as_array().cloned().unwrap_or_default();
            all.into_iter().map(|text| text.as_str().unwrap().to_owned()).collect::<Vec<_>>()
        };
        for rule in object["rules"].as_array().into_iter().flatten() {
            for verb in texts(&rule["verbs"]) {
                for group in texts(&rule["apiGroups"]) {
                    let named = texts(&rule["resources"]).into_iter().map(|resource| format!("{group}/{resource}"));
                    allowed.extend(named.map(|resource| (verb.clone(), resource)));
                }
            }
        }
    }
    allowed
}

#[tokio::test(start_paused = true)]
async fn every_request_is_one_that_the_installed_roles_allow() {
    let mut harness = Harness::new().await;
    harness.api.install_crd(crate::guards::vpa_crd()).unwrap();
    harness.deployment("web", 3).await;
    harness.deployment("api", 1).await;
    harness.policy("p", json!({"selector": {"workloadSelector": {"matchLabels": {"app": "web"}}}}));
    let rollout = json!({"allowInPlaceResize": false, "allowRecreate": true, "onDelete": "Restore"});
    let selector = json!({"workloadSelector": {"matchLabels": {"app": "api"}}});
    harness.policy("r", json!({"selector": selector, "updateStrategy": rollout}));
    for resource in ["pods/resize", "deployments.apps"] {
        harness.api.faults().add(FaultRule::new(Fault::Conflict).verb("patch").on(resource).times(1));
    }
    harness.api.clear_journal();
    let mut options = Harness::options();
    options.leader_election = true;
    harness.start(options);
    minutes(5).await;
    assert_eq!(
        (harness.cpu("web", "web"), harness.cpu("api", "web")),
        (["250m"; 3].map(Into::into).into(), vec!["250m".into()])
    );
    harness.api.delete("optipod.io/v1alpha1", "OptimizationPolicy", "optipod-system", "r").unwrap();
    minutes(2).await;
    assert_eq!(harness.cpu("api", "web"), ["500m"]);
    harness.stop().await;
    let allowed = allowed();
    let mut used = BTreeSet::new();
    for entry in harness.api.journal().into_iter().filter(|entry| !entry.verb.is_empty() && !entry.resource.is_empty())
    {
        let slash = if entry.subresource.is_empty() { "" } else { "/" };
        used.insert((entry.verb, format!("{}/{}{slash}{}", entry.group, entry.resource, entry.subresource)));
    }
    used.retain(|(_, resource)| !resource.starts_with("authorization.k8s.io/"));
    let journal = harness.api.journal();
    let mut brake = journal.iter().filter(|entry| entry.resource == "configmaps");
    let named = |entry: &optipod_sim::Entry| entry.path.contains("fieldSelector=metadata.name%3Doptipod-brake");
    assert!(brake.all(|entry| entry.namespace == "optipod-system" && named(entry)), "RBAC allows no other ConfigMap");
    assert!(used.is_subset(&allowed), "not allowed: {:?}", used.difference(&allowed).collect::<Vec<_>>());
    // Series of events are patched only when something repeats; reading a workload again needs a conflict.
    let rarely = ["events.k8s.io/events", "apps/statefulsets", "apps/daemonsets"];
    let unused = allowed.difference(&used).filter(|(_, resource)| !rarely.contains(&resource.as_str()));
    assert_eq!(unused.count(), 0, "rights that nobody uses: {:?}", allowed.difference(&used).collect::<Vec<_>>());
}

// Feature: k8s-workload-rightsizing, Property 32: API call efficiency
#[tokio::test(start_paused = true)]
async fn an_idle_controller_asks_less_than_once_a_second_and_writes_nothing_but_its_lease() {
    let mut harness = Harness::new().await;
    for i in 0..20 {
        harness.deployment(&format!("web-{i}"), 1).await;
        harness.policy(&format!("p-{i}"), json!({"selector": {"workloadSelector": {"matchLabels": {"app": format!("web-{i}")}}}, "updateStrategy": {"cooldown": "7d"}}));
    }
    let mut options = Harness::options();
    options.leader_election = true;
    harness.start(options);
    minutes(10).await;
    harness.api.clear_journal();
    let before = harness.api.request_count();
    minutes(30).await;
    let asked = harness.api.request_count() - before;
    assert!(asked < 30 * 60, "{asked} requests in half an hour, of 20 policies evaluated each minute");
    let writes = harness.writes(|entry| entry.resource != "leases");
    assert!(writes.is_empty(), "{:?}", writes.iter().map(|w| &w.path).collect::<Vec<_>>());
    assert!(*harness.provider.questions.lock().unwrap() >= 20 * 30, "all policies were evaluated");
}

#[tokio::test(start_paused = true)]
async fn our_own_status_wakes_nobody_and_a_new_spec_is_taken_up_at_once() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"mode": "Recommend", "reconciliationInterval": "1h"}));
    harness.start(Harness::options());
    minutes(30).await;
    assert_eq!(*harness.provider.questions.lock().unwrap(), 1);
    harness.patch("OptimizationPolicy", "optipod-system", "p", &json!({"spec": {"mode": "Auto"}}));
    seconds(2).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_may_no_longer_resize_brings_its_size_to_the_template_as_a_change_of_its_own() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(5).await;
    harness.api.clear_journal();
    let recreate = json!({"spec": {"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}}});
    harness.patch("OptimizationPolicy", "optipod-system", "p", &recreate);
    minutes(5).await;
    let writes = harness.writes(|_| true);
    let change = writes.iter().position(|write| write.resource == "deployments").unwrap();
    let announced = writes[..change].iter().rfind(|write| write.resource == "optimizationpolicies").unwrap();
    assert_eq!(announced.body["status"]["workloads"][0]["method"], "Rollout");
    assert_eq!(announced.body["status"]["workloads"][0]["previous"][0]["cpu"], "500m", "the template's own requests");
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    assert_eq!(harness.changes().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn injected_containers_are_resized_and_never_applied() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.provider.set("proxy", 0.05, 50.0);
    // As a mutating webhook does it: the pod has a container that the template lacks.
    let template = harness.workload("Deployment", "web")["spec"]["template"].clone();
    let mut pod = harness.pods("web")[0].clone();
    let owner = pod["metadata"]["ownerReferences"].clone();
    let name = pod["metadata"]["name"].as_str().unwrap().to_owned();
    harness.api.delete("v1", "Pod", SHOP, &name).unwrap();
    pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"namespace": SHOP, "name": name, "labels": {"app": "web", "pod-template-hash": pod["metadata"]["labels"]["pod-template-hash"]}, "ownerReferences": owner},
        "spec": {"containers": [container("web", "500m", "512Mi"), container("proxy", "200m", "128Mi")]}});
    seconds(60).await;
    let replacement = harness.pods("web").into_iter().next().unwrap();
    if replacement["metadata"]["name"] != name.as_str() {
        harness.api.delete("v1", "Pod", SHOP, replacement["metadata"]["name"].as_str().unwrap()).unwrap();
    }
    harness.api.create(pod).unwrap();
    seconds(60).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(5).await;
    let resized = harness.changes().iter().any(|write| write.body.to_string().contains("proxy"));
    assert!(resized, "{:?}", harness.changes());
    assert_eq!(harness.workload("Deployment", "web")["spec"]["template"], template);
}

#[test]
fn it_runs_on_a_runtime_of_many_threads_too() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let api = optipod_sim::SimApi::new(optipod_sim::SimOptions::default());
        api.install_crd(optipod::policy::crd::crd()).unwrap();
        let deps = optipod::controller::Deps {
            client: api.client(),
            providers: optipod::controller::Providers::new("none"),
            metrics: optipod::telemetry::Metrics::new().unwrap(),
            clock: optipod::clock::Clock::system(),
        };
        let controller = optipod::controller::Controller::new(deps, Harness::options());
        let readiness = controller.readiness();
        let stop = tokio_util::sync::CancellationToken::new();
        let task = tokio::spawn(controller.run(stop.clone()));
        let ready = async {
            while !readiness.is_ready() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), ready).await.unwrap();
        stop.cancel();
        tokio::time::timeout(Duration::from_secs(10), task).await.unwrap().unwrap();
    });
}
