//! Putting back what was there before: `optipod restore`.

use crate::harness::{Harness, SHOP, container, minutes};
use optipod::controller::{Undo, UndoError};
use optipod::workload::{WorkloadId, WorkloadKind};
use serde_json::json;

fn id(kind: WorkloadKind, name: &str) -> WorkloadId {
    WorkloadId { namespace: SHOP.to_owned(), kind, name: name.to_owned() }
}

fn web() -> WorkloadId {
    id(WorkloadKind::Deployment, "web")
}

fn managers(object: &serde_json::Value) -> Vec<&str> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    entries.iter().map(|entry| entry["manager"].as_str().unwrap()).collect()
}

fn notes(object: &serde_json::Value) -> Vec<&str> {
    let annotations = object["metadata"]["annotations"].as_object().unwrap();
    annotations.keys().map(String::as_str).filter(|key| key.starts_with("optipod.io/")).collect()
}

#[tokio::test(start_paused = true)]
async fn a_template_gets_back_what_it_had_before_the_first_of_several_changes() {
    let mut harness = Harness::new().await;
    let added = json!({"name": "bare", "image": "example/app", "resources": {"requests": {"cpu": "200m"}}});
    harness.deployment_with("web", 2, &json!([container("web", "500m", "512Mi"), added])).await;
    harness.provider.set("bare", 0.1, 100.0);
    let before = harness.workload("Deployment", "web")["spec"]["template"].clone();
    harness.policy("p", json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}}));
    harness.start(Harness::options());
    minutes(40).await;
    assert_eq!(harness.cpu("web", "web"), ["125m"; 2], "two steps, each by half");

    let undone = Undo::new(harness.api.client()).workload(&web(), true).await.unwrap();

    let after = harness.workload("Deployment", "web");
    assert_eq!(after["spec"]["template"], before, "the request that was added is removed");
    assert_eq!((undone.restored.len(), undone.left.len()), (2, 0), "{undone:?}");
    assert_eq!(notes(&after), ["optipod.io/hold"], "no note of ours is left");
    assert!(!managers(&after).contains(&"optipod"), "{:?}", managers(&after));
    let writes = harness.changes().len();
    minutes(60).await;
    assert_eq!(harness.changes().len(), writes, "the hold keeps OptiPod off");
    assert_eq!(harness.entry("p", "web")["reason"], "HeldByAnnotation");
    assert_eq!(harness.cpu("web", "web"), ["500m"; 2]);
    let again = Undo::new(harness.api.client()).workload(&web(), false).await.unwrap();
    assert_eq!(again, optipod::controller::Undone::default(), "there is nothing to put back twice");
}

#[tokio::test(start_paused = true)]
async fn resized_pods_get_back_what_the_template_has() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 3).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(10).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3]);
    let generation = harness.workload("Deployment", "web")["metadata"]["generation"].clone();
    harness.stop().await;

    let undone = Undo::new(harness.api.client()).workload(&web(), false).await.unwrap();

    assert_eq!(harness.cpu("web", "web"), ["500m"; 3]);
    assert_eq!(undone.restored.iter().filter(|restored| restored.pod.is_some()).count(), 3, "{undone:?}");
    let after = harness.workload("Deployment", "web");
    assert_eq!(after["metadata"]["generation"], generation, "nothing was rolled");
    assert!(after["metadata"]["annotations"]["optipod.io/hold"].is_null(), "it was not asked for");
}

#[tokio::test(start_paused = true)]
async fn what_somebody_has_changed_since_is_left_to_them() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}}));
    harness.start(Harness::options());
    minutes(10).await;
    harness.stop().await;
    let theirs = json!({"spec": {"template": {"spec": {"containers": [container("web", "300m", "256Mi")]}}}});
    harness.patch("Deployment", SHOP, "web", &theirs);

    let undone = Undo::new(harness.api.client()).workload(&web(), false).await.unwrap();

    let after = harness.workload("Deployment", "web");
    let requests = &after["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"];
    assert_eq!(*requests, json!({"cpu": "300m", "memory": "512Mi"}), "the memory was still ours");
    assert_eq!(undone.left, ["container web of the template: its requests were changed since"]);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_restored_is_an_error_that_says_so() {
    let harness = Harness::new().await;
    let undo = Undo::new(harness.api.client());
    let absent = undo.workload(&web(), true).await.unwrap_err();
    assert_eq!(absent.to_string(), "there is no shop/Deployment/web");
    let job = undo.workload(&id(WorkloadKind::Job, "import"), true).await.unwrap_err();
    assert!(matches!(job, UndoError::Kind(WorkloadKind::Job)), "{job}");
}
