//! Events on a policy tell what holds its workloads, and do not flood.

use crate::harness::{Harness, SHOP, minutes, seconds};
use serde_json::{Value, json};

fn hold(harness: &Harness, name: &str, value: &Value) {
    harness.patch("Deployment", SHOP, name, &json!({"metadata": {"annotations": {"optipod.io/hold": value}}}));
}

/// How often the policy's events tell of `reason`, repetitions included.
fn told(harness: &Harness, reason: &str) -> u64 {
    let events = harness.api.list("v1", "Event");
    let of_it = events.iter().filter(|event| event["involvedObject"]["name"] == "p" && event["reason"] == reason);
    of_it.map(|event| event["series"]["count"].as_u64().unwrap_or(1)).sum()
}

#[tokio::test(start_paused = true)]
async fn what_holds_a_workload_is_told_on_the_policy_once_while_it_comes_and_goes_and_after_a_restart() {
    let mut harness = Harness::new().await;
    harness.deployment("api", 1).await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    for name in ["api", "web"] {
        hold(&harness, name, &json!("true"));
    }
    minutes(2).await;
    let events = harness.api.list("v1", "Event");
    let event = events.iter().find(|event| event["reason"] == "HeldByAnnotation").unwrap();
    assert_eq!((&event["type"], &event["involvedObject"]["kind"]), (&json!("Normal"), &json!("OptimizationPolicy")));
    let note = event["message"].as_str().unwrap();
    let place =
        "2 workloads, the first Deployment shop/api: annotation optipod.io/hold on Deployment shop/api; remove it";
    assert!(note.starts_with(place), "{note}");
    for round in 0..20 {
        for name in ["api", "web"] {
            hold(&harness, name, &if round % 2 == 0 { Value::Null } else { json!("true") });
        }
        minutes(5).await;
        if round == 9 {
            assert_eq!(harness.entry("p", "web")["reason"], "HeldByAnnotation");
            harness.stop().await;
            harness.start(Harness::options());
        }
    }
    assert_eq!(told(&harness, "HeldByAnnotation"), 1, "{:?}", harness.events("p"));
    hold(&harness, "web", &Value::Null);
    minutes(70).await;
    hold(&harness, "web", &json!("true"));
    minutes(2).await;
    assert_eq!(told(&harness, "HeldByAnnotation"), 1, "api has had it all the time");
    hold(&harness, "api", &Value::Null);
    hold(&harness, "web", &Value::Null);
    minutes(70).await;
    hold(&harness, "web", &json!("true"));
    minutes(2).await;
    assert_eq!(told(&harness, "HeldByAnnotation"), 2, "none has had it for an hour");
    assert!(harness.events("api").iter().chain(&harness.events("web")).all(|reason| reason != "HeldByAnnotation"));
}

#[tokio::test(start_paused = true)]
async fn a_policy_that_is_covered_by_another_says_so_once_and_not_again_after_a_restart() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("first", json!({"weight": 900}));
    harness.policy("p", json!({}));
    for _ in 0..3 {
        harness.start(Harness::options());
        minutes(5).await;
        harness.stop().await;
    }
    assert_eq!(harness.events("p"), ["OverriddenBy"]);
}

#[tokio::test(start_paused = true)]
async fn a_policy_tells_that_it_was_disabled_and_does_so_once() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({"mode": "Recommend"}));
    harness.start(Harness::options());
    minutes(2).await;
    assert_eq!(harness.events("p"), [""; 0]);
    for mode in ["Disabled", "Disabled"] {
        harness.patch("OptimizationPolicy", "optipod-system", "p", &json!({"spec": {"mode": mode}}));
        minutes(10).await;
        harness.stop().await;
        harness.start(Harness::options());
    }
    assert_eq!(told(&harness, "PolicyDisabled"), 1);
    assert_eq!(harness.events("p"), ["PolicyDisabled"]);
}

#[tokio::test(start_paused = true)]
async fn the_brake_is_told_each_time_that_it_is_set() {
    let mut harness = Harness::new().await;
    harness.deployment("web", 1).await;
    harness.policy("p", json!({}));
    harness.start(Harness::options());
    for times in 1..=3 {
        let brake = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"namespace": "optipod-system", "name": "optipod-brake"}});
        harness.api.create(brake).unwrap();
        minutes(2).await;
        assert_eq!(told(&harness, "BrakeOn"), times);
        harness.api.delete("v1", "ConfigMap", "optipod-system", "optipod-brake").unwrap();
        minutes(2).await;
    }
    seconds(1).await;
}
