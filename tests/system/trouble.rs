//! Denied rights, refused writes, lost answers, silent providers, restarts.

use crate::harness::{Harness, SHOP, minutes, seconds};
use optipod::controller::ControllerOptions;
use optipod_sim::{Deny, Fault, FaultRule};
use serde_json::json;
use std::time::Duration;

// Feature: k8s-workload-rightsizing, Property 28: RBAC respect
#[tokio::test(start_paused = true)]
async fn without_the_right_to_resize_the_reason_is_told_and_others_go_on() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.api.create_namespace("bank", &json!({})).unwrap();
    harness.api.deny(Deny::new("patch", "pods/resize").outside(&[SHOP]));
    let labels = json!({"app": "teller"});
    harness
        .api
        .create(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "bank", "name": "teller"},
            "spec": {"replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": {"containers": [crate::harness::container("web", "500m", "512Mi")]}}},
        }))
        .unwrap();
    minutes(1).await;
    harness.policy("p", json!({"selector": {"namespaces": {"allow": [SHOP, "bank"]}}}));
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(harness.entry("p", "teller")["reason"], "ResizeForbidden");
    assert_eq!(harness.events("teller"), ["ResizeForbidden"]);
    assert_eq!(harness.cpu("teller", "web"), ["500m"]);
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    assert!(harness.changes().iter().all(|write| write.namespace == SHOP), "it was not even tried");
    assert_eq!(harness.status("p")["workloads"][0]["name"], "teller", "what needs attention comes first");
}

#[tokio::test(start_paused = true)]
async fn where_limits_may_not_change_a_policy_that_moves_them_holds_and_others_act() {
    let mut harness = Harness::new().await;
    harness.deployment("both", 2).await;
    harness.deployment("requests", 2).await;
    for (name, requests_only) in [("both", false), ("requests", true)] {
        let selector = json!({"workloadSelector": {"matchLabels": {"app": name}}});
        harness.policy(name, json!({"selector": selector, "updateStrategy": {"updateRequestsOnly": requests_only}}));
    }
    harness.start(ControllerOptions { allow_limit_changes: false, ..Harness::options() });
    minutes(10).await;
    let entry = harness.entry("both", "both");
    assert_eq!((&entry["status"], &entry["reason"]), (&json!("Skipped"), &json!("LimitsNotAllowed")));
    assert_eq!(entry["recommendations"].as_array().map(Vec::len), Some(1), "it is recommended all the same");
    assert_eq!(harness.events("both"), ["LimitsNotAllowed"]);
    assert_eq!(
        (harness.cpu("both", "web"), harness.cpu("requests", "web")),
        (vec!["500m".to_owned(); 2], vec!["250m".to_owned(); 2])
    );
}

#[tokio::test(start_paused = true)]
async fn a_failing_server_is_asked_again_later_and_the_change_comes_about() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    let fault = harness.api.faults().add(FaultRule::new(Fault::Status(503)).verb("patch").on("pods/resize").times(2));
    harness.start(Harness::options());
    seconds(10).await;
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "WriteFailed", "{entry}");
    assert_eq!(harness.changes().len(), 1, "not tried again at once");
    assert!(harness.events("web").contains(&"ResizeFailed".to_owned()));
    minutes(5).await;
    assert_eq!(harness.api.faults().struck(fault), 2);
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    assert_eq!(harness.entry("p", "web")["status"], "Applied");
}

#[tokio::test(start_paused = true)]
async fn a_write_whose_answer_was_lost_counts_as_made() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"updateStrategy": {"cooldown": "30m"}}));
    harness.api.faults().add(FaultRule::new(Fault::DropAfter).verb("patch").on("pods/resize").times(1));
    harness.start(Harness::options());
    minutes(20).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"], "one step, not two");
    assert_eq!(harness.changes().len(), 1);
    assert_eq!(harness.entry("p", "web")["status"], "Applied");
}

#[tokio::test(start_paused = true)]
async fn a_hanging_server_holds_nothing_up_for_longer_than_the_deadline() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.deployment("zebra", 1).await;
    harness.policy("p", json!({}));
    harness.api.faults().add(FaultRule::new(Fault::Hang).verb("patch").on("pods/resize").times(1));
    harness.start(Harness::options());
    seconds(15).await;
    assert_eq!(harness.cpu("zebra", "web"), ["250m"]);
    assert_eq!(harness.entry("p", "web")["reason"], "WriteFailed");
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
}

#[tokio::test(start_paused = true)]
async fn a_stale_version_is_fetched_again_once() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.api.faults().add(FaultRule::new(Fault::Conflict).verb("patch").on("pods/resize").times(1));
    harness.start(Harness::options());
    seconds(2).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    assert_eq!(harness.changes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_refused_change_is_as_if_it_had_not_begun() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.api.faults().add(FaultRule::new(Fault::Status(422)).verb("patch").on("pods/resize").times(1));
    harness.start(Harness::options());
    seconds(5).await;
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "WriteRefused", "{entry}");
    assert!(entry["lastApplied"].is_null() && entry["target"].is_null(), "{entry}");
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"], "tried again after a while");
}

// Feature: k8s-workload-rightsizing, Property 7: Missing metrics prevent changes
#[tokio::test(start_paused = true)]
async fn without_a_provider_nothing_is_changed_and_the_policy_says_why() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.provider.set_down(true);
    harness.policy("p", json!({}));
    harness.policy("q", json!({"mode": "Recommend", "weight": 1, "metricsConfig": {"provider": "nowhere"}}));
    harness.start(Harness::options());
    minutes(5).await;
    assert!(harness.changes().is_empty());
    let condition = harness.condition("p", "MetricsAvailable");
    assert_eq!(
        (condition["status"].as_str(), condition["reason"].as_str()),
        (Some("False"), Some("MetricsUnavailable"))
    );
    assert_eq!(harness.entry("p", "web")["reason"], "MetricsUnavailable");
    assert_eq!(harness.events("p"), ["MetricsUnavailable"], "told once");
    assert!(harness.events("web").iter().all(|reason| reason != "MetricsUnavailable"), "and not for each workload");
    assert!(harness.condition("q", "MetricsAvailable")["message"].as_str().unwrap().contains("nowhere"));
    harness.provider.set_down(false);
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    assert_eq!(harness.condition("p", "MetricsAvailable")["status"], "True");
}

#[tokio::test(start_paused = true)]
async fn where_the_status_cannot_be_written_nothing_is_changed() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    let fault = harness.api.faults().add(FaultRule::new(Fault::Status(500)).on("optimizationpolicies/status"));
    harness.start(Harness::options());
    minutes(3).await;
    assert!(harness.changes().is_empty());
    harness.api.faults().remove(fault);
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
}

#[tokio::test(start_paused = true)]
async fn only_the_leader_acts_and_a_stopped_one_hands_over_at_once() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"updateStrategy": {"cooldown": "5m"}}));
    let elected = |identity: &str| {
        let mut options = Harness::options();
        options.leader_election = true;
        options.identity = identity.to_owned();
        options
    };
    harness.start(elected("first"));
    seconds(5).await;
    let stop = tokio_util::sync::CancellationToken::new();
    let second = tokio::spawn(harness.controller(elected("second")).run(stop.clone()));
    minutes(2).await;
    let lease = |harness: &Harness| {
        let lease = harness.api.get("coordination.k8s.io/v1", "Lease", "optipod-system", "optipod-controller").unwrap();
        lease["spec"]["holderIdentity"].as_str().unwrap().to_owned()
    };
    assert_eq!(lease(&harness), "first");
    assert_eq!(harness.cpu("web", "web"), ["250m"], "one step by one controller");
    let took = harness.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
    seconds(5).await;
    assert_eq!(lease(&harness), "second");
    assert_eq!(harness.changes().len(), 1, "the new leader knows of the cooldown");
    minutes(5).await;
    assert_eq!(harness.cpu("web", "web"), ["125m"]);
    stop.cancel();
    second.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_renew_stops_writing_before_its_lease_ends() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    let mut options = Harness::options();
    options.leader_election = true;
    harness.start(options);
    seconds(10).await;
    harness.api.faults().add(FaultRule::new(Fault::Status(503)).on("leases.coordination.k8s.io"));
    seconds(25).await;
    harness.policy("p", json!({}));
    minutes(10).await;
    assert!(harness.changes().is_empty());
    assert_eq!(harness.status_writes(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_lost_its_lease_for_a_moment_reads_anew_what_was_done_meanwhile() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"mode": "Recommend", "reconciliationInterval": "10m"}));
    let mut options = Harness::options();
    options.leader_election = true;
    harness.start(options);
    minutes(1).await;
    let status_reads = |harness: &Harness| {
        let journal = harness.api.journal();
        journal.iter().filter(|e| e.verb == "list" && e.path.contains("metadata.name%3Dp")).count()
    };
    assert_eq!(status_reads(&harness), 1);
    let hold = |harness: &Harness, holder: &str| {
        let spec = json!({"spec": {"holderIdentity": holder, "leaseTransitions": 2}});
        let place = ("optipod-system", "optipod-controller");
        harness.api.patch("coordination.k8s.io/v1", "Lease", place.0, place.1, "other", &spec).unwrap();
    };
    hold(&harness, "other");
    seconds(10).await;
    hold(&harness, "");
    minutes(12).await;
    assert_eq!(status_reads(&harness), 2, "the first evaluation after the other leader begins with the status");
}

#[tokio::test(start_paused = true)]
async fn shutdown_ends_within_ten_seconds_even_while_a_write_hangs() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.api.faults().add(FaultRule::new(Fault::Hang).verb("patch").on("pods/resize"));
    harness.start(Harness::options());
    seconds(2).await;
    let took = harness.stop().await;
    assert!(took < Duration::from_secs(10), "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn readiness_names_the_watch_that_is_missing() {
    let harness = Harness::new().await;
    harness.api.deny(Deny::new("list", "horizontalpodautoscalers.autoscaling"));
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    let controller = harness.controller(Harness::options());
    let readiness = controller.readiness();
    assert_eq!(readiness.missing().len(), 13);
    let stop = tokio_util::sync::CancellationToken::new();
    let task = tokio::spawn(controller.run(stop.clone()));
    minutes(3).await;
    assert_eq!(readiness.missing(), ["horizontalpodautoscalers"]);
    assert_eq!(harness.entry("p", "web")["reason"], "WatchMissing", "recommended, and held");
    assert!(harness.changes().is_empty());
    harness.api.allow_all();
    minutes(3).await;
    assert!(readiness.is_ready());
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    stop.cancel();
    task.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_cannot_be_read_does_not_stop_the_others() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.api.faults().cut_watches();
    harness.policy("p", json!({}));
    // The schema lets it through; the controller's own check does not.
    harness.policy("bad", json!({"metricsConfig": {"rollingWindow": "5m", "minSpan": "10m"}, "mode": "Recommend"}));
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    let ready = harness.condition("bad", "Ready");
    assert_eq!((ready["status"].as_str(), ready["reason"].as_str()), (Some("False"), Some("ValidationFailed")));
    assert_eq!(harness.events("bad"), ["ValidationFailed"]);
}

#[tokio::test(start_paused = true)]
async fn an_expired_watch_is_taken_up_again() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.start(Harness::options());
    minutes(1).await;
    harness.api.faults().expire_history();
    harness.api.faults().cut_watches();
    harness.policy("p", json!({}));
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
}

#[tokio::test(start_paused = true)]
async fn all_eight_metrics_of_the_specification_are_set() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.policy("low", json!({"weight": 1}));
    harness.api.faults().add(FaultRule::new(Fault::Status(503)).verb("patch").on("pods/resize").times(1));
    harness.start(Harness::options());
    minutes(5).await;
    let text = harness.metrics.encode().unwrap();
    for line in [
        "optipod_workloads_monitored{namespace=\"optipod-system\",policy=\"p\"} 1",
        "optipod_workloads_updated{namespace=\"optipod-system\",policy=\"p\"} 1",
        "optipod_workloads_skipped{namespace=\"optipod-system\",policy=\"low\",reason=\"OverriddenBy\"} 1",
        "optipod_reconciliation_errors_total{error_type=\"Unavailable\",policy=\"optipod-system/p\"} 1",
        "optipod_applications_total{method=\"Resize\",policy=\"optipod-system/p\"} 1",
    ] {
        assert!(text.contains(line), "{line} is missing in\n{text}");
    }
    for name in [
        "optipod_reconciliation_duration_seconds_count",
        "optipod_metrics_collection_duration_seconds_count",
        "optipod_recommendations_total",
    ] {
        assert!(text.contains(name), "{name} is missing");
    }
}
