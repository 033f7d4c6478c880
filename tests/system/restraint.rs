//! What the controller does not change, and what it says of it.

use crate::harness::{Harness, SHOP, container, minutes, seconds};
use serde_json::json;

// Feature: k8s-workload-rightsizing, Property 18: Recommend mode stores only
#[tokio::test(start_paused = true)]
async fn recommend_writes_nothing_but_status_and_only_when_it_changes() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.policy("p", json!({"mode": "Recommend"}));
    harness.start(Harness::options());
    minutes(30).await;
    assert!(harness.changes().is_empty(), "{:?}", harness.changes());
    let entry = harness.entry("p", "web");
    assert_eq!(entry["status"], "Published");
    assert_eq!(entry["recommendations"][0]["cpu"], "120m");
    assert_eq!(entry["recommendations"][0]["current"]["cpu"], "500m");
    assert_eq!(harness.condition("p", "Ready")["reason"], "PolicyValid");
    assert_eq!(harness.condition("p", "MetricsAvailable")["status"], "True");
    assert_eq!(harness.status_writes(), 1, "30 cycles with the same result write one status");
    let first = entry["lastRecommendation"].clone();
    // Feature: k8s-workload-rightsizing, Property 9: Recommend mode updates periodically
    harness.provider.set("web", 0.2, 100.0);
    minutes(2).await;
    let entry = harness.entry("p", "web");
    assert_eq!(entry["recommendations"][0]["cpu"], "240m");
    assert_ne!(entry["lastRecommendation"], first);
    assert_eq!(harness.status_writes(), 2);
}

// Feature: k8s-workload-rightsizing, Property 29: Global dry-run mode
#[tokio::test(start_paused = true)]
async fn dry_run_publishes_and_says_so() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.policy("p", json!({}));
    let mut options = Harness::options();
    options.dry_run = true;
    harness.start(options);
    minutes(10).await;
    assert!(harness.changes().is_empty());
    let entry = harness.entry("p", "web");
    assert_eq!((entry["status"].as_str(), entry["reason"].as_str()), (Some("Skipped"), Some("DryRun")));
    assert_eq!(entry["recommendations"][0]["cpu"], "120m");
    assert_eq!(harness.condition("p", "Applying")["reason"], "DryRun");
}

// Feature: k8s-workload-rightsizing, Property 19: Disabled mode stops processing
#[tokio::test(start_paused = true)]
async fn disabled_asks_for_nothing_and_keeps_the_status_that_was_there() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(5).await;
    let before = harness.status("p");
    harness.patch("OptimizationPolicy", "optipod-system", "p", &json!({"spec": {"mode": "Disabled"}}));
    seconds(5).await;
    let (changes, questions) = (harness.changes().len(), *harness.provider.questions.lock().unwrap());
    harness.provider.set("web", 1.0, 900.0);
    minutes(60).await;
    assert_eq!(harness.changes().len(), changes);
    assert_eq!(*harness.provider.questions.lock().unwrap(), questions);
    let after = harness.status("p");
    assert_eq!((&after["workloads"], &after["summary"]), (&before["workloads"], &before["summary"]));
    assert_eq!(after["observedGeneration"], 2);
    assert_eq!(harness.condition("p", "Applying")["reason"], "DisabledMode");
}

#[tokio::test(start_paused = true)]
async fn a_hold_on_the_workload_stops_a_running_batch_and_removing_it_resumes() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 6).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    seconds(4).await;
    let hold = |value: serde_json::Value| json!({"metadata": {"annotations": {"optipod.io/hold": value}}});
    harness.patch("Deployment", SHOP, "web", &hold(json!("until we know more")));
    seconds(1).await;
    let done = harness.changes().len();
    assert!(done < 6);
    minutes(10).await;
    assert_eq!(harness.changes().len(), done);
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "HeldByAnnotation");
    assert_eq!(entry["target"][0]["cpu"], "250m", "the size decided stays through the hold");
    harness.patch("Deployment", SHOP, "web", &hold(json!(null)));
    minutes(5).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 6]);
}

#[tokio::test(start_paused = true)]
async fn a_hold_on_the_namespace_or_a_pod_holds_too() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.patch("Namespace", "", SHOP, &json!({"metadata": {"annotations": {"optipod.io/hold": "true"}}}));
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(harness.entry("p", "web")["reason"], "HeldByAnnotation");
    harness.patch("Namespace", "", SHOP, &json!({"metadata": {"annotations": {"optipod.io/hold": "false"}}}));
    let pod = harness.pods("web")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    harness.patch("Pod", SHOP, &pod, &json!({"metadata": {"annotations": {"optipod.io/hold": "true"}}}));
    minutes(3).await;
    assert!(harness.entry("p", "web")["message"].as_str().unwrap().contains(&pod));
    assert!(harness.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_on_utilization_holds_its_resource_only() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    let target = json!({"type": "Utilization", "averageUtilization": 70});
    harness
        .api
        .create(json!({
            "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"namespace": SHOP, "name": "web-hpa"},
            "spec": {"maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]},
        }))
        .unwrap();
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(5).await;
    let requests = &harness.pods("web")[0]["spec"]["containers"][0]["resources"]["requests"];
    assert_eq!(*requests, json!({"cpu": "500m", "memory": "256Mi"}), "memory moves, CPU does not");
}

#[tokio::test(start_paused = true)]
async fn of_two_policies_the_heavier_acts_and_the_other_says_so() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("auto", json!({"weight": 10}));
    harness.policy("recommend", json!({"weight": 20, "mode": "Recommend"}));
    harness.start(Harness::options());
    minutes(3).await;
    let entry = harness.entry("auto", "web");
    assert_eq!(entry["reason"], "OverriddenBy");
    assert!(entry["message"].as_str().unwrap().contains("optipod-system/recommend"));
    assert_eq!(harness.entry("recommend", "web")["status"], "Published");
    assert!(harness.changes().is_empty());
    harness.api.delete("optipod.io/v1alpha1", "OptimizationPolicy", "optipod-system", "recommend").unwrap();
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
}

#[tokio::test(start_paused = true)]
async fn a_container_that_was_never_sized_is_its_owners_to_change() {
    let mut harness = Harness::new().await;
    harness
        .deployment_with("web", 1, &json!([container("web", "500m", "512Mi"), container("side", "50m", "64Mi")]))
        .await;
    let recreate = json!({"allowInPlaceResize": false, "allowRecreate": true, "cooldown": "5m"});
    harness.policy("p", json!({"updateStrategy": recreate, "containers": [{"name": "side", "exclude": true}]}));
    harness.start(Harness::options());
    minutes(3).await;
    let requests = json!([{"name": "side", "resources": {"requests": {"cpu": "70m"}}}]);
    harness
        .api
        .patch(
            "apps/v1",
            "Deployment",
            SHOP,
            "web",
            "helm",
            &json!({"spec": {"template": {"spec": {"containers": requests}}}}),
        )
        .unwrap();
    minutes(10).await;
    assert_eq!(harness.cpu("web", "web"), ["125m"], "the next step was made");
    assert_eq!(harness.cpu("web", "side"), ["70m"]);
}

#[tokio::test(start_paused = true)]
async fn what_another_manager_took_back_is_not_fought_over() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness
        .policy("p", json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true, "cooldown": "1m"}}));
    harness.start(Harness::options());
    minutes(5).await;
    let writes = harness.changes().len();
    let requests = json!({"spec": {"template": {"spec": {"containers": [{"name": "web", "resources": {"requests": {"cpu": "500m"}}}]}}}});
    harness.api.patch("apps/v1", "Deployment", SHOP, "web", "helm", &requests).unwrap();
    minutes(30).await;
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "RevertedByOther", "{entry}");
    assert!(entry["message"].as_str().unwrap().contains("helm"));
    assert!(harness.changes().len() - writes <= 1, "at most a step that began before");
    assert!(harness.events("web").contains(&"RevertedByOther".to_owned()));
}
