//! When nothing may be changed: without usage, in Recommend and Disabled, in dry-run.

use crate::cases::simulate_all;
use crate::harness::{Harness, minutes, seconds};
use crate::world::{cluster, told, workloads};
use optipod_sim::Entry;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use std::time::Duration;

/// What the controller wrote beside policies' statuses, events and its lease, by the journal.
fn modifications(harness: &Harness) -> Vec<String> {
    let is_own = |write: &Entry| {
        let status = write.resource == "optimizationpolicies" && write.subresource == "status";
        status || ["events", "leases"].contains(&write.resource.as_str())
    };
    harness.writes(|write| !is_own(write)).iter().map(|write| format!("{} {}", write.method, write.path)).collect()
}

/// An update strategy of any kind that is valid with every mode.
fn strategies() -> impl Strategy<Value = Value> {
    let directions = select(vec!["Both", "IncreaseOnly", "DecreaseOnly"]);
    (any::<[bool; 2]>(), 0..=100u32, 1..=100u32, directions).prop_map(
        |([recreate, requests_only], change, decrease, direction)| {
            json!({"allowInPlaceResize": !recreate, "allowRecreate": recreate, "updateRequestsOnly": requests_only,
                "minChangePercent": change, "maxDecreasePercent": decrease, "direction": direction, "cooldown": "1m"})
        },
    )
}

/// How usage can be missing.
#[derive(Clone, Copy, Debug)]
enum Missing {
    Unreachable,
    Unknown,
    /// It stopped coming in this many minutes ago.
    Stopped(u64),
}

fn missing() -> impl Strategy<Value = Missing> {
    prop_oneof![Just(Missing::Unreachable), Just(Missing::Unknown), (11..500u64).prop_map(Missing::Stopped)]
}

// Feature: k8s-workload-rightsizing, Property 7: Missing metrics prevent changes
#[test]
fn property_7_without_usage_nothing_is_changed_and_a_condition_says_why() {
    simulate_all((workloads(), missing()), async |(workloads, missing)| {
        let mut harness = cluster(&workloads).await;
        match missing {
            Missing::Unreachable => harness.provider.set_down(true),
            Missing::Stopped(ago) => harness.provider.set_age(Duration::from_mins(ago)),
            Missing::Unknown => {
                for container in workloads.iter().flat_map(|workload| &workload.containers) {
                    harness.provider.forget(&container.name);
                }
            }
        }
        harness.policy("p", json!({}));
        harness.start(Harness::options());
        seconds(70).await;
        assert_eq!(modifications(&harness), [] as [&str; 0], "{missing:?}");
        let condition = harness.condition("p", "MetricsAvailable");
        assert_eq!(condition["status"], "False", "{missing:?}: {condition}");
        assert!(!condition["reason"].as_str().unwrap().is_empty() && condition["message"].as_str().unwrap().len() > 20);
        for workload in &workloads {
            assert!(harness.entry("p", &workload.name)["message"].as_str().unwrap().len() > 20);
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 8: Recommend mode prevents modifications
#[test]
fn property_8_recommend_writes_nothing_but_status_whatever_happens() {
    let case = (workloads(), strategies(), strategies(), any::<bool>(), 0.1..3.0f64);
    simulate_all(case, async |(workloads, strategy, other, hindered, factor)| {
        let mut harness = cluster(&workloads).await;
        harness.api.serve_resize(!hindered);
        harness.policy("p", json!({"mode": "Recommend", "updateStrategy": strategy}));
        harness.policy("q", json!({"mode": "Recommend", "weight": 200, "updateStrategy": other}));
        harness.start(Harness::options());
        seconds(65).await;
        for container in workloads.iter().flat_map(|workload| &workload.containers) {
            harness.provider.set(&container.name, container.cores_used() * factor, container.mebibytes_used() * factor);
        }
        harness.api.delete("optipod.io/v1alpha1", "OptimizationPolicy", "optipod-system", "q").unwrap();
        seconds(65).await;
        assert_eq!(modifications(&harness), [] as [&str; 0]);
        assert!(harness.status_writes() >= 2, "it was at work");
    });
}

// Feature: k8s-workload-rightsizing, Property 18: Recommend mode stores only
#[test]
fn property_18_recommend_evaluates_every_interval_and_stores_what_it_would_do() {
    simulate_all((workloads(), 1..=4u64), async |(workloads, cycles)| {
        let mut harness = cluster(&workloads).await;
        harness.policy("p", json!({"mode": "Recommend"}));
        harness.start(Harness::options());
        seconds(60 * cycles + 1).await;
        let evaluated = *harness.provider.questions.lock().unwrap() as u64;
        assert!(evaluated > cycles, "{evaluated} evaluations in {cycles} intervals");
        assert_eq!(modifications(&harness), [] as [&str; 0]);
        let status = harness.status("p");
        for workload in &workloads {
            let entries = status["workloads"].as_array().cloned().unwrap_or_default();
            let entry = entries.into_iter().find(|entry| entry["name"] == workload.name).unwrap_or_default();
            assert_eq!(entry["status"], "Published", "{} in {status}", workload.name);
            assert_eq!(told(&entry), workload.recommended());
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 19: Disabled mode stops processing
#[test]
fn property_19_disabled_changes_and_asks_nothing_and_keeps_what_the_status_says() {
    let case = (workloads(), select(vec!["Auto", "Recommend"]), 1..120u64, 0.1..3.0f64);
    simulate_all(case, async |(workloads, mode, moment, factor)| {
        let mut harness = cluster(&workloads).await;
        harness.policy("p", json!({"mode": mode}));
        harness.start(Harness::options());
        seconds(moment).await;
        harness.patch("OptimizationPolicy", "optipod-system", "p", &json!({"spec": {"mode": "Disabled"}}));
        seconds(1).await;
        let (before, questions) = (harness.status("p"), *harness.provider.questions.lock().unwrap());
        harness.api.clear_journal();
        for container in workloads.iter().flat_map(|workload| &workload.containers) {
            harness.provider.set(&container.name, container.cores_used() * factor, container.mebibytes_used() * factor);
        }
        minutes(3).await;
        assert_eq!(modifications(&harness), [] as [&str; 0]);
        assert_eq!(*harness.provider.questions.lock().unwrap(), questions, "nothing is evaluated");
        let after = harness.status("p");
        assert_eq!((&after["workloads"], &after["summary"]), (&before["workloads"], &before["summary"]));
        assert_eq!(after["workloads"].as_array().unwrap().len(), workloads.len());
    });
}

// Feature: k8s-workload-rightsizing, Property 29: Global dry-run mode
#[test]
fn property_29_dry_run_changes_nothing_and_shows_every_recommendation_and_itself() {
    simulate_all((workloads(), strategies()), async |(workloads, strategy)| {
        let mut harness = cluster(&workloads).await;
        harness.policy("p", json!({"updateStrategy": strategy}));
        let mut options = Harness::options();
        options.dry_run = true;
        harness.start(options);
        seconds(65).await;
        assert_eq!(modifications(&harness), [] as [&str; 0]);
        assert_eq!(harness.condition("p", "Applying")["reason"], "DryRun");
        for workload in &workloads {
            let entry = harness.entry("p", &workload.name);
            assert_eq!(entry["reason"], "DryRun", "{entry}");
            assert_eq!(told(&entry), workload.recommended());
        }
    });
}
