//! Changes that do harm are taken back, once, and a policy that does harm again and again is stopped.

use crate::harness::{Harness, SHOP, minutes, seconds};
use optipod_sim::{Entry, Fault, FaultRule};
use serde_json::{Value, json};

const RECREATE: fn() -> Value = || json!({"updateStrategy": {"allowInPlaceResize": false, "allowRecreate": true}});

/// The CPU request that each write gives container `web`, in order.
fn given(changes: &[Entry], resource: &str) -> Vec<String> {
    let of = |entry: &Entry| {
        let spec = if entry.resource == "pods" { "/spec" } else { "/spec/template/spec" };
        let containers = entry.body.pointer(&format!("{spec}/containers")).and_then(Value::as_array).unwrap();
        let found = containers.iter().find(|container| container["name"] == "web").unwrap();
        found["resources"]["requests"][resource].as_str().unwrap_or_default().to_owned()
    };
    changes.iter().map(of).collect()
}

fn memory(harness: &Harness, workload: &str) -> Vec<String> {
    let of = |pod: &Value| pod["spec"]["containers"][0]["resources"]["requests"]["memory"].as_str().unwrap().to_owned();
    harness.pods(workload).iter().map(of).collect()
}

fn reasons(harness: &Harness, workload: &str) -> (String, String, String) {
    let entry = harness.entry("p", workload);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    (text(&entry["reason"]), text(&entry["cause"]), text(&entry["rolledBack"]["reason"]))
}

fn said(reason: &str, cause: &str, harm: &str) -> (String, String, String) {
    (reason.to_owned(), cause.to_owned(), harm.to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_after_a_resize_puts_the_requests_back_and_holds() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.need("web", 0.3, 0.0);
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["500m"]);
    assert_eq!(given(&harness.changes(), "cpu"), ["250m", "500m"], "there and back");
    let template = &harness.workload("Deployment", "web")["spec"]["template"];
    assert_eq!(template["spec"]["containers"][0]["resources"]["requests"]["cpu"], "500m");
    let entry = harness.entry("p", "web");
    assert_eq!(reasons(&harness, "web"), said("RolledBack", "Rollback", "CrashLoop"), "{entry}");
    assert_eq!(entry["rolledBack"]["container"], "web");
    assert_eq!(entry["rolledBack"]["size"][0], json!({"container": "web", "cpu": "250m", "memory": "256Mi"}));
    assert_eq!(entry["rolledBack"]["restored"][0], json!({"container": "web", "cpu": "500m", "memory": "512Mi"}));
    assert!(entry["message"].as_str().unwrap().contains("crash loop"), "{entry}");
    assert_eq!(harness.events("web"), ["ResizeApplied", "RolledBack"]);
    // Once for this recommendation, however long it stays.
    minutes(120).await;
    assert_eq!(harness.changes().len(), 2);
    assert_eq!(reasons(&harness, "web").0, "RolledBack");
    assert_eq!(harness.events("web"), ["ResizeApplied", "RolledBack"], "told once");
}

#[tokio::test(start_paused = true)]
async fn another_recommendation_is_acted_upon_and_the_one_that_failed_is_not() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.need("web", 0.3, 0.0);
    harness.policy("p", json!({"updateStrategy": {"cooldown": "5m"}}));
    harness.start(Harness::options());
    minutes(10).await;
    assert_eq!(given(&harness.changes(), "cpu"), ["250m", "500m"]);
    // 1.2 × 0.22 is within 10 % of what failed, 1.2 × 0.3 is not.
    harness.provider.set("web", 0.22, 100.0);
    minutes(20).await;
    assert_eq!(harness.changes().len(), 2);
    harness.provider.set("web", 0.3, 300.0);
    minutes(10).await;
    assert_eq!(given(&harness.changes(), "cpu"), ["250m", "500m", "360m"]);
    assert_eq!(harness.cpu("web", "web"), ["360m"]);
    let entry = harness.entry("p", "web");
    assert_eq!((&entry["status"], &entry["cause"]), (&json!("Applied"), &json!("Recommend")), "{entry}");
    // The size that failed stays barred for a day.
    harness.provider.set("web", 0.1, 100.0);
    minutes(60).await;
    assert_eq!(given(&harness.changes(), "cpu")[2..], ["360m"]);
}

#[tokio::test(start_paused = true)]
async fn an_oom_kill_after_less_memory_gives_it_back_and_it_is_not_taken_again() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.need("web", 0.0, 300.0);
    harness.policy("p", json!({"updateStrategy": {"cooldown": "5m"}}));
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(memory(&harness, "web"), ["512Mi"; 2]);
    assert_eq!(reasons(&harness, "web"), said("RolledBack", "Rollback", "OOMKilled"));
    assert_eq!(given(&harness.changes(), "memory"), ["256Mi", "256Mi", "512Mi", "512Mi"]);
    let message = harness.entry("p", "web")["message"].as_str().unwrap().to_owned();
    assert!(message.contains("the next change is possible from"), "256Mi × 1.2 is another size: {message}");
    // CPU was not to blame. Memory stays for a day, whatever is recommended.
    harness.provider.set("web", 0.1, 270.0);
    minutes(60).await;
    assert_eq!((harness.cpu("web", "web"), memory(&harness, "web")), (vec!["125m".into(); 2], vec!["512Mi".into(); 2]));
    assert!(
        given(&harness.changes(), "memory")[4..].iter().all(|given| given == "512Mi"),
        "{:?}",
        given(&harness.changes(), "memory")
    );
    let entry = harness.entry("p", "web");
    assert_eq!(said(entry["reason"].as_str().unwrap(), "Recommend", "OOMKilled"), reasons(&harness, "web"));
    assert_eq!(entry["reason"], "RaisedRecently", "{entry}");
    // More is given at any time.
    harness.provider.set("web", 0.1, 500.0);
    minutes(15).await;
    assert_eq!(memory(&harness, "web"), ["600Mi"; 2]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_rollout_is_followed_by_one_with_the_requests_of_before() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 2).await;
    harness.patch("Deployment", SHOP, "web", &json!({"spec": {"progressDeadlineSeconds": 120}}));
    minutes(1).await;
    harness.policy("p", RECREATE());
    harness.cluster.break_starts(SHOP, "Deployment", "web", true);
    harness.start(Harness::options());
    minutes(1).await;
    assert_eq!(given(&harness.changes(), "cpu"), ["250m"]);
    assert_eq!(harness.entry("p", "web")["reason"], "RolloutInProgress");
    minutes(3).await;
    let writes = harness.changes();
    assert_eq!(given(&writes, "cpu"), ["250m", "500m"]);
    let back = &writes[1];
    assert_eq!((back.content_type.as_str(), back.field_manager.as_str()), ("application/apply-patch+yaml", "optipod"));
    assert_eq!(back.body["metadata"]["annotations"]["optipod.io/cause"], "Rollback");
    assert!(back.body["metadata"]["annotations"]["optipod.io/previous-requests"].as_str().unwrap().contains("250m"));
    let deployment = harness.workload("Deployment", "web");
    let resources = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(resources, &json!({"requests": {"cpu": "500m", "memory": "512Mi"}}));
    harness.cluster.break_starts(SHOP, "Deployment", "web", false);
    minutes(30).await;
    assert_eq!(harness.changes().len(), 2);
    assert_eq!(harness.cpu("web", "web"), ["500m"; 2]);
    let (reason, cause, harm) = reasons(&harness, "web");
    assert_eq!((reason.as_str(), cause.as_str()), ("RolledBack", "Rollback"));
    assert!(["NotReady", "RolloutStuck"].contains(&harm.as_str()), "{harm}");
    assert_eq!(harness.events("web"), ["RolloutApplied", "RolledBack"]);
}

#[tokio::test(start_paused = true)]
async fn a_first_request_goes_away_with_the_rollout_that_brought_it() {
    let mut harness = Harness::new().await;
    let bare = json!([{"name": "web", "image": "example/app", "resources": {"requests": {"cpu": "500m"}}}]);
    harness.deployment_with("web", 1, &bare).await;
    harness.policy("p", RECREATE());
    harness.need("web", 0.3, 0.0);
    harness.start(Harness::options());
    minutes(10).await;
    let deployment = harness.workload("Deployment", "web");
    let resources = &deployment["spec"]["template"]["spec"]["containers"][0]["resources"];
    assert_eq!(resources, &json!({"requests": {"cpu": "500m"}}));
    assert_eq!(harness.changes().len(), 2);
    assert_eq!(reasons(&harness, "web"), said("RolledBack", "Rollback", "CrashLoop"));
}

#[tokio::test(start_paused = true)]
async fn a_first_request_that_a_resize_added_stays_and_the_status_says_so() {
    let mut harness = Harness::new().await;
    let bare = json!([{"name": "web", "image": "example/app", "resources": {"requests": {"cpu": "500m"}}}]);
    harness.deployment_with("web", 1, &bare).await;
    harness.policy("p", json!({}));
    harness.need("web", 0.3, 0.0);
    harness.start(Harness::options());
    minutes(10).await;
    let requests = &harness.pods("web")[0]["spec"]["containers"][0]["resources"]["requests"];
    assert_eq!(requests, &json!({"cpu": "500m", "memory": "120Mi"}));
    let entry = harness.entry("p", "web");
    assert_eq!(entry["reason"], "RolledBack");
    assert!(entry["message"].as_str().unwrap().contains("first requests, which cannot be removed in place"), "{entry}");
    minutes(30).await;
    assert_eq!(harness.changes().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_crash_loop_of_before_is_not_the_changes_fault() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    // It needs more than it ever had.
    harness.need("web", 0.9, 0.0);
    minutes(5).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(60).await;
    assert!(!harness.changes().is_empty());
    assert!(given(&harness.changes(), "cpu").iter().all(|cpu| cpu != "500m"), "{:?}", given(&harness.changes(), "cpu"));
    assert!(harness.entry("p", "web")["rolledBack"].is_null());
    assert!(!harness.events("web").contains(&"RolledBack".to_owned()));
}

#[tokio::test(start_paused = true)]
async fn somebody_elses_bad_release_after_a_change_is_not_the_changes_fault() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(2).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    let image = json!({"spec": {"template": {"metadata": {"annotations": {"release": "2"}}}}});
    harness.need("web", 0.9, 0.0);
    harness.patch("Deployment", SHOP, "web", &image);
    minutes(30).await;
    assert!(harness.entry("p", "web")["rolledBack"].is_null(), "{}", harness.entry("p", "web"));
}

#[tokio::test(start_paused = true)]
async fn a_hold_and_a_dry_run_stop_a_rollback_too() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    seconds(30).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    harness.need("web", 0.3, 0.0);
    harness.patch("Deployment", SHOP, "web", &json!({"metadata": {"annotations": {"optipod.io/hold": "true"}}}));
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"], "held");
    harness.stop().await;
    let mut options = Harness::options();
    options.dry_run = true;
    harness.start(options);
    harness.patch("Deployment", SHOP, "web", &json!({"metadata": {"annotations": {"optipod.io/hold": null}}}));
    minutes(1).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"], "dry-run");
    harness.stop().await;
    harness.start(Harness::options());
    minutes(1).await;
    assert_eq!(harness.cpu("web", "web"), ["500m"], "what is due is made up for");
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_the_watch_the_rollback_and_the_hold() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    seconds(30).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    harness.stop().await;
    harness.need("web", 0.3, 0.0);
    minutes(2).await;
    harness.start(Harness::options());
    minutes(1).await;
    assert_eq!(harness.cpu("web", "web"), ["500m"], "the watch goes on");
    harness.stop().await;
    harness.start(Harness::options());
    minutes(60).await;
    assert_eq!(given(&harness.changes(), "cpu"), ["250m", "500m"], "the hold stays");
    assert_eq!(reasons(&harness, "web"), said("RolledBack", "Rollback", "CrashLoop"));
}

#[tokio::test(start_paused = true)]
async fn a_rollback_that_fails_on_the_way_is_completed_and_its_status_came_first() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 3).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    minutes(2).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"; 3]);
    // The first write back is carried out, the second fails, and the controller is restarted before it is tried again.
    let failing = FaultRule::new(Fault::Status(503)).verb("patch").on("pods/resize").nth(2);
    harness.api.faults().add(failing);
    harness.need("web", 0.3, 0.0);
    seconds(45).await;
    let back = harness.cpu("web", "web").iter().filter(|cpu| *cpu == "500m").count();
    assert_eq!(back, 1, "{:?}", harness.cpu("web", "web"));
    harness.stop().await;
    harness.start(Harness::options());
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["500m"; 3]);
    let writes = harness.writes(|_| true);
    let first = writes.iter().position(|write| write.resource == "pods" && write.body.to_string().contains("500m"));
    let status = writes[..first.unwrap()].iter().rfind(|write| write.resource == "optimizationpolicies").unwrap();
    let entry = &status.body["status"]["workloads"][0];
    assert_eq!((&entry["cause"], &entry["target"][0]["cpu"]), (&json!("Rollback"), &json!("500m")), "{entry}");
    assert_eq!(entry["rolledBack"]["size"][0]["cpu"], "250m");
}

/// Workloads that cannot live on less, one after another.
async fn roll_back(harness: &mut Harness, workloads: &[&str]) {
    harness.policy("p", json!({"updateStrategy": {"cooldown": "5m"}}));
    harness.start(Harness::options());
    for name in workloads {
        assert_ne!(harness.condition("p", "Applying")["reason"], "CircuitOpen");
        harness.need(name, 0.3, 0.0);
        harness.deployment(name, 1).await;
        minutes(5).await;
        assert_eq!(harness.cpu(name, "web"), ["500m"], "{name} was rolled back");
    }
}

#[tokio::test(start_paused = true)]
async fn the_third_rollback_in_an_hour_opens_the_policys_circuit_until_it_is_edited() {
    let mut harness = Harness::new().await;
    roll_back(&mut harness, &["a", "b", "c"]).await;
    harness.deployment("healthy", 1).await;
    minutes(10).await;
    let changes = harness.changes().len();
    assert_eq!(harness.cpu("healthy", "web"), ["500m"], "nothing is changed any more");
    assert_eq!(harness.entry("p", "healthy")["reason"], "CircuitOpen");
    let status = harness.status("p");
    assert_eq!((&status["circuit"]["rollbacks"], &status["circuit"]["changed"]), (&json!(3), &json!(3)), "{status}");
    let condition = harness.condition("p", "Applying");
    assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("CircuitOpen")));
    let told = harness.events("p").iter().filter(|reason| *reason == "CircuitOpen").count();
    assert_eq!(told, 1, "once, on the policy: {:?}", harness.events("p"));
    assert!(!harness.events("healthy").contains(&"CircuitOpen".to_owned()));
    // A restart does not close it, nor does time.
    harness.stop().await;
    harness.start(Harness::options());
    minutes(90).await;
    assert_eq!(harness.changes().len(), changes);
    assert_eq!(harness.entry("p", "healthy")["reason"], "CircuitOpen");
    // Any edit of the spec does.
    harness.patch("OptimizationPolicy", "optipod-system", "p", &json!({"spec": {"weight": 7}}));
    minutes(5).await;
    assert_eq!(harness.cpu("healthy", "web"), ["250m"]);
    assert_eq!(harness.condition("p", "Applying")["reason"], "AutoMode");
    assert_eq!(harness.cpu("a", "web"), ["500m"], "what was rolled back is held all the same");
    assert_eq!(harness.entry("p", "a")["reason"], "RolledBack");
}

#[tokio::test(start_paused = true)]
async fn a_rollback_under_an_open_circuit_is_still_made() {
    let mut harness = Harness::new().await;
    harness.deployment("late", 1).await;
    // Two of three changed workloads are enough.
    roll_back(&mut harness, &["a", "b"]).await;
    assert_eq!(harness.condition("p", "Applying")["reason"], "CircuitOpen");
    let (now, before) = (harness.cpu("late", "web"), harness.entry("p", "late")["previous"][0]["cpu"].clone());
    assert_ne!(json!(now), json!([before]));
    let pod = harness.pods("late")[0]["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(harness.cluster.crash(SHOP, &pod, "web", "OOMKilled"));
    minutes(5).await;
    assert_eq!(json!(harness.cpu("late", "web")), json!([before]), "{}", harness.entry("p", "late"));
}

#[tokio::test(start_paused = true)]
async fn the_brake_stops_a_rollback_which_is_made_when_it_is_released() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    seconds(30).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    let brake = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "optipod-system", "name": "optipod-brake"}});
    harness.api.create(brake).unwrap();
    harness.need("web", 0.3, 0.0);
    minutes(3).await;
    assert_eq!(harness.cpu("web", "web"), ["250m"]);
    assert_eq!(harness.entry("p", "web")["reason"], "BrakeOn");
    harness.api.delete("v1", "ConfigMap", "optipod-system", "optipod-brake").unwrap();
    minutes(2).await;
    assert_eq!(harness.cpu("web", "web"), ["500m"]);
    assert_eq!(reasons(&harness, "web"), said("RolledBack", "Rollback", "CrashLoop"));
}
