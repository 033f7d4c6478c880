//! What a policy's status says, and that it is true.

use crate::cases::simulate_all;
use crate::harness::{Harness, minutes, seconds};
use crate::world::{Workload, cluster, told, workloads, writes_to};
use jiff::Timestamp;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

// Feature: k8s-workload-rightsizing, Property 9: Recommend mode updates periodically
#[test]
fn property_9_each_cycle_of_recommend_brings_the_status_up_to_date() {
    simulate_all((workloads(), vec(0.2..4.0f64, 1..4)), async |(mut workloads, factors)| {
        let mut harness = cluster(&workloads).await;
        harness.policy("p", json!({"mode": "Recommend"}));
        harness.start(Harness::options());
        seconds(1).await;
        for factor in factors {
            for container in workloads.iter_mut().flat_map(|workload| &mut workload.containers) {
                container.uses = (container.uses.0 * factor, container.uses.1 / factor);
                harness.provider.set(&container.name, container.cores_used(), container.mebibytes_used());
            }
            minutes(1).await;
            for workload in &workloads {
                assert_eq!(told(&harness.entry("p", &workload.name)), workload.recommended());
            }
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 10: Recommendation format completeness
#[test]
fn property_10_every_container_has_both_requests_in_the_status_and_excluded_ones_have_none() {
    let modes = select(vec!["Auto", "Recommend"]);
    simulate_all((workloads(), modes, any::<bool>()), async |(workloads, mode, exclude)| {
        let mut harness = cluster(&workloads).await;
        let excluded = if exclude { json!([{"name": "w0a", "exclude": true}]) } else { json!([]) };
        harness.policy("p", json!({"mode": mode, "containers": excluded}));
        harness.start(Harness::options());
        seconds(1).await;
        for workload in &workloads {
            let mut expected = workload.recommended();
            if exclude {
                expected.remove("w0a");
            }
            // The double keeps only what the CRD's schema names, as kubectl shows it.
            let entry = harness.entry("p", &workload.name);
            assert_eq!(told(&entry), expected, "{entry}");
            assert_eq!((&entry["kind"], &entry["namespace"]), (&json!(workload.kind), &json!("shop")));
            for told in entry["recommendations"].as_array().unwrap() {
                assert!(told["current"]["cpu"].is_string() && told["current"]["memory"].is_string(), "{told}");
                assert!(told["explanation"].as_str().unwrap().contains("P90"), "{told}");
            }
        }
    });
}

fn time(value: &Value) -> Option<Timestamp> {
    Some(value.as_str()?.parse().unwrap())
}

// Feature: k8s-workload-rightsizing, Property 23: Status timestamp tracking
#[test]
fn property_23_the_status_says_when_it_last_recommended_and_last_changed() {
    simulate_all((workloads(), 61..200u64), async |(workloads, moment)| {
        let mut harness = cluster(&workloads).await;
        harness.policy("p", json!({"updateStrategy": {"cooldown": "1m"}}));
        let begun = harness.api.clock().now();
        harness.start(Harness::options());
        seconds(moment).await;
        let changed = harness.api.clock().now();
        for container in workloads.iter().flat_map(|workload| &workload.containers) {
            harness.provider.set(&container.name, 3.2, 5000.0);
        }
        seconds(30).await;
        let start = harness.api.clock().now().as_millisecond()
            - i64::try_from(harness.api.clock().elapsed().as_millis()).unwrap();
        for workload in &workloads {
            let entry = harness.entry("p", &workload.name);
            let recommended = time(&entry["lastRecommendation"]).unwrap();
            assert!(recommended >= begun, "{entry}");
            let is_new = told(&entry).values().all(|(cpu, _)| *cpu == 3840);
            assert_eq!(is_new, recommended.as_second() >= changed.as_second(), "since {changed}: {entry}");
            let last =
                writes_to(&harness, &workload.name).last().map(|write| start + i64::try_from(write.at_ms).unwrap());
            let applied = time(&entry["lastApplied"]).map(Timestamp::as_millisecond);
            assert_eq!(last.is_some(), applied.is_some(), "{entry}");
            if let (Some(last), Some(applied)) = (last, applied) {
                assert!(last.abs_diff(applied) <= 1000, "last write at {last} ms: {entry}");
            }
        }
    });
}

/// What keeps a workload from being changed, and the reason that must be told.
const OBSTACLES: [(&str, &str); 6] = [
    ("held", "HeldByAnnotation"),
    ("paused", "RolloutPaused"),
    ("unknown", "InsufficientData"),
    ("sized", "AlreadySized"),
    ("scaled", "HpaOnResource"),
    ("overridden", "OverriddenBy"),
];

/// Puts a Deployment into a state in which it is skipped.
fn obstruct(harness: &Harness, workload: &Workload, obstacle: &str) {
    let name = workload.name.as_str();
    let patch = |patch: Value| harness.patch("Deployment", "shop", name, &patch);
    let target = json!({"type": "Utilization", "averageUtilization": 80});
    let metric = |resource: &str| json!({"type": "Resource", "resource": {"name": resource, "target": target}});
    match obstacle {
        "held" => patch(json!({"metadata": {"annotations": {"optipod.io/hold": "x"}}})),
        "paused" => patch(json!({"spec": {"paused": true}})),
        "overridden" => harness.policy(
            &format!("of-{name}"),
            json!({"mode": "Recommend", "weight": 900,
            "selector": {"workloadSelector": {"matchLabels": workload.labels}}}),
        ),
        "scaled" => {
            let spec = json!({"maxReplicas": 9, "metrics": [metric("cpu"), metric("memory")],
                "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}});
            let meta = json!({"namespace": "shop", "name": name});
            let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": meta, "spec": spec});
            harness.api.create(object).unwrap();
        }
        _ => {}
    }
    for container in &workload.containers {
        let (cores, mebibytes) = (container.millicores as f64 / 1000.0, container.mebibytes as f64);
        match obstacle {
            "unknown" => harness.provider.forget(&container.name),
            "sized" => harness.provider.set(&container.name, cores / 1.2, mebibytes / 1.2),
            _ => harness.provider.set(&container.name, cores * 2.0, mebibytes * 2.0),
        }
    }
}

// Feature: k8s-workload-rightsizing, Property 24: Skip reason recording
#[test]
fn property_24_every_workload_that_is_skipped_says_why_and_what_to_do() {
    simulate_all((workloads(), vec(select(OBSTACLES.to_vec()), 3)), async |(mut workloads, obstacles)| {
        for workload in &mut workloads {
            workload.kind = "Deployment";
        }
        let mut harness = cluster(&workloads).await;
        for (workload, (obstacle, _)) in workloads.iter().zip(&obstacles) {
            obstruct(&harness, workload, obstacle);
        }
        harness.policy("p", json!({}));
        harness.start(Harness::options());
        seconds(5).await;
        for (workload, (obstacle, reason)) in workloads.iter().zip(&obstacles) {
            assert!(writes_to(&harness, &workload.name).is_empty(), "{obstacle}");
            let entry = harness.entry("p", &workload.name);
            assert_eq!(
                (&entry["status"], &entry["reason"]),
                (&json!("Skipped"), &json!(reason)),
                "{obstacle}: {entry}"
            );
            assert!(entry["message"].as_str().unwrap().len() > 20, "{entry}");
        }
    });
}
