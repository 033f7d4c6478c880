//! What an Auto policy changes, and how.

use crate::harness::{Harness, SHOP, container, minutes, seconds};
use optipod_sim::{Fault, FaultRule};
use serde_json::json;
use std::time::Duration;

// Feature: k8s-workload-rightsizing, Property 17: Auto mode applies changes
#[tokio::test(start_paused = true)]
async fn auto_resizes_the_pods_in_batches_and_leaves_the_template_alone() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 3).await;
    let generation = harness.workload("Deployment", "web")["metadata"]["generation"].clone();
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    seconds(2).await;
    let resized = harness.cpu("web", "web").iter().filter(|cpu| *cpu != "500m").count();
    assert_eq!(resized, 1, "5 % of 3 pods are one at a time: {:?}", harness.cpu("web", "web"));
    minutes(5).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3], "one step lowers by at most half");
    assert!(harness.changes().iter().all(|write| write.resource == "pods" && write.subresource == "resize"));
    assert_eq!(harness.changes().len(), 3, "each pod is resized once");
    let deployment = harness.workload("Deployment", "web");
    assert_eq!(deployment["metadata"]["generation"], generation);
    assert_eq!(deployment["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"], "500m");
    let entry = harness.entry("p", "web");
    assert_eq!((entry["status"].as_str(), entry["method"].as_str()), (Some("Applied"), Some("Resize")), "{entry}");
    assert_eq!(entry["previous"][0]["cpu"], "500m");
    assert_eq!(entry["target"][0]["cpu"], "250m");
    assert_eq!(harness.events("web"), ["ResizeApplied"]);
}

#[tokio::test(start_paused = true)]
async fn new_pods_are_brought_to_the_size_decided_before() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(3).await;
    harness.patch("Deployment", SHOP, "web", &json!({"spec": {"replicas": 4}}));
    minutes(5).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 4]);
}

#[tokio::test(start_paused = true)]
async fn a_recreate_only_policy_applies_the_template_once_with_every_container() {
    let mut harness = Harness::new().await;
    let mut limited = container("side", "50m", "64Mi");
    limited["resources"]["limits"] = json!({"cpu": "100m", "memory": "64Mi"});
    harness.deployment_with("web", 2, &json!([container("web", "500m", "512Mi"), limited])).await;
    harness.policy("p", json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}}));
    harness.start(Harness::options());
    minutes(10).await;
    let writes = harness.changes();
    assert_eq!(writes.len(), 1, "{writes:?}");
    let write = &writes[0];
    assert_eq!((write.resource.as_str(), write.field_manager.as_str()), ("deployments", "optipod"));
    assert_eq!(write.content_type, "application/apply-patch+yaml");
    let deployment = harness.workload("Deployment", "web");
    let containers = &deployment["spec"]["template"]["spec"]["containers"];
    assert_eq!(containers[0]["resources"]["requests"], json!({"cpu": "250m", "memory": "256Mi"}));
    let side = json!({"requests": {"cpu": "50m", "memory": "64Mi"}, "limits": {"cpu": "100m", "memory": "64Mi"}});
    assert_eq!(containers[1]["resources"], side, "the other container's requests and limits survive");
    let notes = &deployment["metadata"]["annotations"];
    assert_eq!(notes["optipod.io/cause"], "Recommend");
    assert!(notes["optipod.io/previous-requests"].as_str().unwrap().contains("500m"));
    assert!(deployment["spec"]["template"]["metadata"]["annotations"].is_null(), "our notes are not the template's");
    assert_eq!(harness.cpu("web", "web"), ["250m"; 2], "the pods were replaced");
    let entry = harness.entry("p", "web");
    assert_eq!((entry["status"].as_str(), entry["method"].as_str()), (Some("Applied"), Some("Rollout")), "{entry}");
}

#[tokio::test(start_paused = true)]
async fn stateful_sets_and_daemon_sets_are_resized_alike() {
    let mut harness = Harness::new().await;
    for (kind, name) in [("StatefulSet", "db"), ("DaemonSet", "agent")] {
        let labels = json!({ "app": name });
        let template =
            json!({"metadata": {"labels": labels}, "spec": {"containers": [container("web", "500m", "512Mi")]}});
        let spec =
            json!({"selector": {"matchLabels": labels}, "template": template, "serviceName": name, "replicas": 2});
        let mut object =
            json!({"apiVersion": "apps/v1", "kind": kind, "metadata": {"namespace": SHOP, "name": name}, "spec": spec});
        if kind == "DaemonSet" {
            object["spec"].as_object_mut().unwrap().retain(|key, _| key != "serviceName" && key != "replicas");
        }
        harness.api.create(object).unwrap();
    }
    minutes(3).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(harness.cpu("db", "web"), ["250m"; 2]);
    assert_eq!(harness.cpu("agent", "web"), ["250m"; 2]);
}

#[tokio::test(start_paused = true)]
async fn one_more_step_follows_after_the_cooldown_which_a_restart_keeps() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"updateStrategy": {"cooldown": "20m"}}));
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    harness.stop().await;
    harness.start(Harness::options());
    minutes(12).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"], "17 minutes after the change the cooldown still holds");
    assert_eq!(harness.entry("p", "web")["reason"], "Cooldown");
    minutes(6).await;
    assert_eq!(harness.cpu("web", "web"), ["125m"]);
    assert_eq!(harness.changes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn previous_and_target_stand_in_the_status_before_the_first_patch() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.provider.set("web", 0.1, 900.0);
    harness.start(Harness::options());
    minutes(2).await;
    let writes = harness.writes(|_| true);
    let change = writes.iter().position(|write| write.subresource == "resize").unwrap();
    let status = writes[..change].iter().rfind(|write| write.resource == "optimizationpolicies").unwrap();
    let entry = &status.body["status"]["workloads"][0];
    assert_eq!((&entry["previous"][0]["cpu"], &entry["target"][0]["cpu"]), (&json!("500m"), &json!("250m")));
    assert_eq!(entry["status"], "Applying");
    assert!(
        entry["raised"][0]["memory"].is_string(),
        "what is raised is not lowered again, also after a crash: {entry}"
    );
    assert!(entry["reason"].is_null(), "{entry}");
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_disabled_stops_what_was_planned_by_it() {
    let mut harness = Harness::new().await;
    for i in 0..4 {
        harness.deployment(&format!("web-{i}"), 1).await;
    }
    harness.policy("p", json!({}));
    let slow = Fault::Latency(Duration::from_secs(5));
    harness.api.faults().add(FaultRule::new(slow).verb("patch").on("pods/resize"));
    harness.start(Harness::options());
    seconds(2).await;
    harness.patch("OptimizationPolicy", "optipod-system", "p", &json!({"spec": {"mode": "Disabled"}}));
    minutes(10).await;
    assert_eq!(harness.changes().len(), 1, "only the write that was under way");
    assert!(harness.events("web-1").is_empty(), "nothing failed: {:?}", harness.events("web-1"));
}

#[tokio::test(start_paused = true)]
async fn the_budgets_of_policy_and_controller_spread_changes_over_cycles() {
    let mut harness = Harness::new().await;
    for i in 0..6 {
        harness.deployment(&format!("web-{i}"), 1).await;
    }
    harness.policy("p", json!({"updateStrategy": {"maxUpdatesPerCycle": 2}}));
    harness.start(Harness::options());
    seconds(30).await;
    assert_eq!(harness.changes().len(), 2);
    assert_eq!(harness.entry("p", "web-5")["reason"], "BudgetSpent");
    minutes(2).await;
    assert_eq!(harness.changes().len(), 6);
    harness.stop().await;

    let mut harness = Harness::new().await;
    for i in 0..6 {
        harness.deployment(&format!("web-{i}"), 1).await;
    }
    harness.policy("p", json!({}));
    let mut options = Harness::options();
    options.max_updates_per_minute = 3;
    harness.start(options);
    seconds(5).await;
    assert_eq!(harness.changes().len(), 3);
    assert_eq!(harness.entry("p", "web-5")["reason"], "RateLimited");
    minutes(2).await;
    assert_eq!(harness.changes().len(), 6);
}

#[tokio::test(start_paused = true)]
async fn of_more_containers_than_a_status_may_list_all_are_sized_and_the_first_are_listed() {
    let mut harness = Harness::new().await;
    let names: Vec<String> = (0..70).map(|i| format!("c{i:02}")).collect();
    let containers: Vec<_> = names.iter().map(|name| container(name, "50m", "128Mi")).collect();
    harness.deployment_with("web", 1, &json!(containers)).await;
    for name in &names {
        harness.provider.set(name, 0.1, 100.0);
    }
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(10).await;
    assert_eq!(harness.cpu("web", "c69"), ["120m"]);
    let entry = harness.entry("p", "web");
    for list in ["recommendations", "target", "previous", "raised"] {
        assert_eq!(entry[list].as_array().unwrap().len(), 64, "{list}");
    }
    assert!(entry["message"].as_str().unwrap().ends_with("(64 of 70 containers are listed)"), "{entry}");
    let written = harness.status_writes();
    minutes(10).await;
    assert_eq!(harness.status_writes(), written, "what is cut is no change");
    assert!(harness.writes(|entry| entry.code >= 400).is_empty());
}

#[tokio::test(start_paused = true)]
async fn limits_that_were_set_stay_when_the_policy_leaves_limits_alone_from_then_on() {
    let mut harness = Harness::new().await;
    let limited = json!({"name": "web", "image": "example/app", "resources": {
        "requests": {"cpu": "500m", "memory": "512Mi"}, "limits": {"cpu": "1", "memory": "1Gi"}}});
    harness.deployment_with("web", 1, &json!([limited])).await;
    let strategy =
        json!({"allowInPlaceResize": false, "allowRecreate": true, "updateRequestsOnly": false, "cooldown": "1m"});
    harness.policy("p", json!({ "updateStrategy": strategy }));
    harness.start(Harness::options());
    minutes(10).await;
    let resources = |harness: &Harness| {
        harness.workload("Deployment", "web")["spec"]["template"]["spec"]["containers"][0]["resources"].clone()
    };
    let before = resources(&harness);
    assert_ne!(before["limits"], json!({"cpu": "1", "memory": "1Gi"}), "they moved with the requests");

    harness.patch(
        "OptimizationPolicy",
        "optipod-system",
        "p",
        &json!({"spec": {"updateStrategy": {"updateRequestsOnly": true}}}),
    );
    harness.provider.set("web", 0.05, 50.0);
    minutes(90).await;

    let after = resources(&harness);
    assert_ne!(after["requests"], before["requests"]);
    assert_eq!(after["limits"], before["limits"]);
}
