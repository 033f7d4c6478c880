//! What a deleted policy leaves behind: `updateStrategy.onDelete`.

use crate::harness::{Harness, minutes, seconds};
use optipod::controller::{ControllerOptions, Uninstalled, uninstall};
use optipod::policy::PolicyId;
use optipod_sim::{Deny, Entry};
use serde_json::{Value, json};
use std::time::Duration;

const OPERATOR: &str = "optipod-system";

fn restoring() -> Value {
    json!({"updateStrategy": {"onDelete": "Restore"}})
}

fn by_rollout() -> Value {
    json!({"updateStrategy": {"onDelete": "Restore", "allowInPlaceResize": false, "allowRecreate": true}})
}

fn policy(harness: &Harness) -> Option<Value> {
    harness.api.get("optipod.io/v1alpha1", "OptimizationPolicy", OPERATOR, "p")
}

fn finalizers(harness: &Harness) -> Value {
    policy(harness).unwrap()["metadata"]["finalizers"].clone()
}

fn delete(harness: &Harness) {
    harness.api.delete("optipod.io/v1alpha1", "OptimizationPolicy", OPERATOR, "p").unwrap();
}

fn brake(harness: &Harness) {
    let object =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": OPERATOR, "name": "optipod-brake"}});
    harness.api.create(object).unwrap();
}

fn of_policy(entry: &Entry) -> bool {
    entry.resource == "optimizationpolicies" && entry.subresource.is_empty()
}

/// Deployment `web` with three pods, changed from 500m to 250m.
async fn changed(spec: Value) -> Harness {
    let mut harness = Harness::new().await;
    harness.deployment("web", 3).await;
    harness.policy("p", spec);
    harness.start(Harness::options());
    minutes(10).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3]);
    harness
}

#[tokio::test(start_paused = true)]
async fn resized_pods_get_back_what_they_had_and_then_the_policy_goes() {
    let harness = changed(restoring()).await;
    assert_eq!(finalizers(&harness), json!(["optipod.io/restore"]));
    let all = harness.writes(|entry| of_policy(entry) || entry.resource == "pods");
    assert!(of_policy(&all[0]), "the promise comes before the first change: {:?}", all[0]);

    delete(&harness);
    minutes(1).await;

    assert!(policy(&harness).is_none());
    assert_eq!(harness.cpu("web", "web"), ["500m"; 3]);
    assert!(harness.events("web").contains(&"Restored".to_owned()), "{:?}", harness.events("web"));
    let writes = harness.changes().len();
    minutes(60).await;
    assert_eq!(harness.changes().len(), writes, "nothing comes after it");
}

#[tokio::test(start_paused = true)]
async fn a_template_gets_back_what_it_had_with_its_owners() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    let before = harness.workload("Deployment", "web")["spec"]["template"].clone();
    harness.policy("p", by_rollout());
    harness.start(Harness::options());
    minutes(40).await;
    assert_eq!(harness.cpu("web", "web"), ["125m"; 2]);

    delete(&harness);
    minutes(5).await;

    let after = harness.workload("Deployment", "web");
    assert_eq!(after["spec"]["template"], before);
    let managers = after["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().all(|entry| entry["manager"] != "optipod"), "{managers:?}");
    assert!(policy(&harness).is_none());
}

#[tokio::test(start_paused = true)]
async fn by_default_a_policy_has_no_finalizer_and_its_changes_stay() {
    let harness = changed(json!({})).await;
    assert_eq!(finalizers(&harness), Value::Null);
    delete(&harness);
    assert!(policy(&harness).is_none(), "at once");
    minutes(60).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_asks_for_it_no_longer_loses_its_finalizer_and_no_other() {
    let harness = changed(restoring()).await;
    let two = json!({"metadata": {"finalizers": ["optipod.io/restore", "example.com/other"]}});
    harness.patch("OptimizationPolicy", OPERATOR, "p", &two);
    harness.patch("OptimizationPolicy", OPERATOR, "p", &json!({"spec": {"updateStrategy": {"onDelete": "Keep"}}}));
    minutes(2).await;
    assert_eq!(finalizers(&harness), json!(["example.com/other"]));
}

#[tokio::test(start_paused = true)]
async fn only_a_policy_that_may_change_something_gets_the_finalizer() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"mode": "Recommend", "updateStrategy": {"onDelete": "Restore"}}));
    harness.start(Harness::options());
    minutes(5).await;
    assert_eq!(finalizers(&harness), Value::Null);
    harness.patch("OptimizationPolicy", OPERATOR, "p", &json!({"spec": {"mode": "Auto"}}));
    minutes(5).await;
    assert_eq!(finalizers(&harness), json!(["optipod.io/restore"]));
    harness.patch("OptimizationPolicy", OPERATOR, "p", &json!({"spec": {"mode": "Recommend"}}));
    minutes(5).await;
    assert_eq!(finalizers(&harness), json!(["optipod.io/restore"]), "what it changed is still to be put back");
}

#[tokio::test(start_paused = true)]
async fn without_the_finalizer_nothing_is_changed() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.api.deny(Deny::new("patch", "optimizationpolicies"));
    harness.policy("p", restoring());
    harness.start(Harness::options());
    minutes(10).await;
    assert_eq!(harness.changes().len(), 0);
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "WriteFailed");
    assert!(entry["message"].as_str().unwrap().contains("onDelete: Restore"), "{entry}");
    harness.api.allow_all();
    minutes(10).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
}

#[tokio::test(start_paused = true)]
async fn a_brake_holds_what_a_deleted_policy_puts_back() {
    let harness = changed(restoring()).await;
    brake(&harness);
    seconds(1).await;
    let writes = harness.changes().len();
    delete(&harness);
    minutes(30).await;
    assert_eq!(harness.changes().len(), writes);
    let ready = harness.condition("p", "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("Deleting")));
    assert!(ready["message"].as_str().unwrap().contains("optipod-brake"), "{ready}");
    harness.api.delete("v1", "ConfigMap", OPERATOR, "optipod-brake").unwrap();
    minutes(1).await;
    assert_eq!(harness.cpu("web", "web"), ["500m"; 3]);
    assert!(policy(&harness).is_none());
}

#[tokio::test(start_paused = true)]
async fn disabled_stops_this_too_and_the_policy_goes() {
    let harness = changed(restoring()).await;
    harness.patch("OptimizationPolicy", OPERATOR, "p", &json!({"spec": {"mode": "Disabled"}}));
    minutes(1).await;
    let writes = harness.changes().len();
    delete(&harness);
    minutes(1).await;
    assert!(policy(&harness).is_none());
    assert_eq!(harness.changes().len(), writes);
}

#[tokio::test(start_paused = true)]
async fn what_was_deleted_while_no_controller_ran_is_put_back_by_the_next_one() {
    let mut harness = changed(restoring()).await;
    harness.stop().await;
    delete(&harness);
    minutes(10).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3]);
    harness.start(Harness::options());
    minutes(1).await;
    assert_eq!(harness.cpu("web", "web"), ["500m"; 3]);
    assert!(policy(&harness).is_none());
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_put_back_is_told_and_does_not_keep_the_policy_for_ever() {
    let harness = changed(restoring()).await;
    harness.api.deny(Deny::new("patch", "pods/resize"));
    delete(&harness);
    minutes(5).await;
    assert!(policy(&harness).is_some(), "it is tried for a while");
    minutes(10).await;
    assert!(policy(&harness).is_none());
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3]);
    let events = harness.api.list("v1", "Event");
    let told = events.iter().find(|event| event["reason"] == "RestoreFailed").unwrap();
    let text = told["message"].as_str().unwrap();
    assert!(text.contains("pods/resize") && text.contains("optipod restore -n shop Deployment/web"), "{text}");
}

#[tokio::test(start_paused = true)]
async fn many_workloads_are_put_back_at_the_rate_of_changes() {
    let mut harness = Harness::new().await;
    for name in ["a", "b", "c"] {
        harness.deployment(name, 1).await;
    }
    harness.policy("p", restoring());
    harness.start(ControllerOptions { max_updates_per_minute: 1, ..Harness::options() });
    minutes(20).await;
    let changed =
        |harness: &Harness| ["a", "b", "c"].iter().filter(|name| harness.cpu(name, "web") != ["500m"]).count();
    assert_eq!(changed(&harness), 3);
    delete(&harness);
    seconds(30).await;
    assert_eq!(changed(&harness), 2);
    minutes(1).await;
    assert_eq!(changed(&harness), 1);
    minutes(2).await;
    assert_eq!(changed(&harness), 0);
    assert!(policy(&harness).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_neither_promises_nor_puts_back() {
    let mut harness = changed(restoring()).await;
    harness.stop().await;
    let writes = harness.writes(|entry| of_policy(entry) || entry.resource == "pods").len();
    delete(&harness);
    harness.start(ControllerOptions { dry_run: true, ..Harness::options() });
    minutes(20).await;
    assert_eq!(harness.writes(|entry| of_policy(entry) || entry.resource == "pods").len(), writes);
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3]);
    let ready = harness.condition("p", "Ready");
    assert_eq!(ready["reason"], "Deleting");
    let message = ready["message"].as_str().unwrap();
    assert!(message.contains("dry run") && message.contains("finalizer"), "{message}");
}

#[tokio::test(start_paused = true)]
async fn uninstalling_waits_for_what_is_put_back_and_leaves_no_policy() {
    let harness = changed(restoring()).await;
    let done = uninstall(harness.api.client(), Duration::from_mins(5)).await.unwrap();
    assert_eq!(done, Uninstalled { policies: 1, ..Uninstalled::default() });
    assert_eq!(harness.cpu("web", "web"), ["500m"; 3]);
    assert!(policy(&harness).is_none());
}

#[tokio::test(start_paused = true)]
async fn uninstalling_ends_without_a_controller_too() {
    let mut harness = changed(restoring()).await;
    harness.stop().await;
    let done = uninstall(harness.api.client(), Duration::from_mins(5)).await.unwrap();
    let forced = vec![PolicyId { namespace: OPERATOR.into(), name: "p".into() }];
    assert_eq!(done, Uninstalled { policies: 1, forced, kept: Vec::new() });
    assert!(policy(&harness).is_none());
    let again = uninstall(harness.api.client(), Duration::from_mins(5)).await.unwrap();
    assert_eq!(again, Uninstalled::default());
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_was_put_back_from_a_backup_goes_although_its_finalizer_is_not_ours_alone() {
    let mut harness = changed(restoring()).await;
    harness.stop().await;
    let mut copy = policy(&harness).unwrap();
    for field in ["uid", "resourceVersion", "managedFields", "creationTimestamp", "generation"] {
        copy["metadata"].as_object_mut().unwrap().remove(field);
    }
    uninstall(harness.api.client(), Duration::from_mins(5)).await.unwrap();
    harness.api.create(copy).unwrap();
    assert_eq!(finalizers(&harness), json!(["optipod.io/restore"]));
    let done = uninstall(harness.api.client(), Duration::from_mins(5)).await.unwrap();
    assert_eq!((done.policies, done.forced.len()), (1, 1));
    assert!(policy(&harness).is_none());
}
