//! How changes are made: in place where that is possible, by replacing pods where the policy allows it, else not.

use crate::cases::simulate_all;
use crate::harness::{Harness, minutes, seconds};
use crate::world::{Workload, changes, cluster, events, workloads, writes_to};
use proptest::option;
use proptest::prelude::*;
use serde_json::{Value, json};

/// Workloads whose every container uses much more than it requests.
fn starving() -> impl Strategy<Value = Vec<Workload>> {
    (workloads(), 1.5..3.0f64).prop_map(|(mut all, factor)| {
        for container in all.iter_mut().flat_map(|workload| &mut workload.containers) {
            container.uses = (factor, factor);
        }
        all
    })
}

/// What keeps pods from being resized without a restart.
#[derive(Clone, Copy, Debug)]
enum Obstacle {
    NotServed,
    NotAllowed,
    ContainersRestart,
}

fn obstacles() -> impl Strategy<Value = Obstacle> {
    prop_oneof![Just(Obstacle::NotServed), Just(Obstacle::NotAllowed), Just(Obstacle::ContainersRestart)]
}

/// A cluster where changes need their pods or containers to be restarted.
async fn hindered(workloads: &[Workload], obstacle: Obstacle) -> Harness {
    let harness = Harness::new().await;
    harness.api.serve_resize(!matches!(obstacle, Obstacle::NotServed));
    for workload in workloads {
        let mut manifest = workload.manifest();
        if matches!(obstacle, Obstacle::ContainersRestart) {
            let restart = |resource: &str| json!({"resourceName": resource, "restartPolicy": "RestartContainer"});
            for container in manifest["spec"]["template"]["spec"]["containers"].as_array_mut().unwrap() {
                container["resizePolicy"] = json!([restart("cpu"), restart("memory")]);
            }
        }
        harness.api.create(manifest).unwrap();
        for container in &workload.containers {
            harness.provider.set(&container.name, container.cores_used(), container.mebibytes_used());
        }
    }
    minutes(1).await;
    harness
}

// Feature: k8s-workload-rightsizing, Property 6: Fallback strategy respect
#[test]
fn property_6_what_needs_a_restart_is_changed_only_where_recreate_is_allowed_and_else_a_warning_tells() {
    simulate_all((starving(), any::<bool>(), obstacles()), async |(workloads, recreate, obstacle)| {
        // A policy that allows neither way is not valid.
        let in_place = !recreate || !matches!(obstacle, Obstacle::NotAllowed);
        let obstacle =
            if recreate || !matches!(obstacle, Obstacle::NotAllowed) { obstacle } else { Obstacle::NotServed };
        let mut harness = hindered(&workloads, obstacle).await;
        let strategy = json!({"allowInPlaceResize": in_place, "allowRecreate": recreate});
        harness.policy("p", json!({"updateStrategy": strategy}));
        harness.start(Harness::options());
        seconds(30).await;
        for workload in &workloads {
            let written = writes_to(&harness, &workload.name);
            let warned =
                events(&harness, &workload.name).iter().any(|(kind, _, note)| kind == "Warning" && note.len() > 20);
            assert_eq!(written.is_empty(), !recreate, "{obstacle:?}: {written:?}");
            assert_eq!(warned, !recreate, "{obstacle:?}: {:?}", events(&harness, &workload.name));
        }
    });
}

/// A resize was tried of every workload where it is served, and else of none, with the reason.
fn tells(harness: &Harness, workloads: &[Workload], served: bool) {
    for workload in workloads {
        let tried = writes_to(harness, &workload.name);
        assert_eq!(!tried.is_empty(), served, "{tried:?}");
        let reason = harness.entry("p", &workload.name)["reason"].clone();
        assert_eq!(reason == "ResizeNotServed", !served, "{reason}");
    }
}

// Feature: k8s-workload-rightsizing, Property 20: Feature gate detection
#[test]
fn property_20_whether_the_cluster_resizes_in_place_is_detected_also_when_that_changes() {
    simulate_all((starving(), any::<bool>(), any::<bool>()), async |(workloads, served, served_later)| {
        let mut harness = cluster(&workloads).await;
        harness.api.serve_resize(served);
        harness.policy("p", json!({"updateStrategy": {"cooldown": "1m"}}));
        harness.start(Harness::options());
        seconds(30).await;
        tells(&harness, &workloads, served);
        harness.api.serve_resize(served_later);
        // Discovery is read again after ten minutes.
        minutes(11).await;
        harness.api.clear_journal();
        for container in workloads.iter().flat_map(|workload| &workload.containers) {
            harness.provider.set(&container.name, 3.3, 6000.0);
        }
        seconds(70).await;
        tells(&harness, &workloads, served_later);
    });
}

// Feature: k8s-workload-rightsizing, Property 21: In-place resize preference
#[test]
fn property_21_where_pods_can_be_resized_they_are_not_replaced() {
    simulate_all((workloads(), any::<bool>()), async |(workloads, requests_only)| {
        let mut harness = cluster(&workloads).await;
        let strategy = json!({"allowInPlaceResize": true, "allowRecreate": true, "updateRequestsOnly": requests_only});
        harness.policy("p", json!({"updateStrategy": strategy}));
        harness.start(Harness::options());
        seconds(40).await;
        let replaced: Vec<_> = changes(&harness).into_iter().filter(|change| !change.in_place).collect();
        assert!(replaced.is_empty(), "{replaced:?}");
        for workload in &workloads {
            let differs = |uses: f64| !(0.75..1.0).contains(&uses);
            let needs =
                workload.containers.iter().any(|container| differs(container.uses.0) || differs(container.uses.1));
            assert_eq!(!writes_to(&harness, &workload.name).is_empty(), needs, "{workload:?}");
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 22: Recreate strategy availability
#[test]
fn property_22_without_in_place_resize_pods_are_replaced_where_allowed_and_by_default_nothing_is_changed() {
    simulate_all((starving(), option::of(any::<bool>())), async |(workloads, recreate)| {
        let mut harness = hindered(&workloads, Obstacle::NotServed).await;
        let strategy = recreate.map_or(json!({}), |recreate| json!({"allowRecreate": recreate}));
        harness.policy("p", json!({"updateStrategy": strategy}));
        harness.start(Harness::options());
        seconds(30).await;
        for workload in &workloads {
            let written = writes_to(&harness, &workload.name);
            if recreate == Some(true) {
                let of_template = |path: &str| path.contains(&format!("/{}s/", workload.kind.to_lowercase()));
                assert!(!written.is_empty() && written.iter().all(|write| of_template(&write.path)), "{written:?}");
            } else {
                assert!(written.is_empty(), "{written:?}");
                let entry: Value = harness.entry("p", &workload.name);
                assert_eq!(
                    (entry["status"].as_str(), entry["reason"].as_str()),
                    (Some("Skipped"), Some("ResizeNotServed"))
                );
            }
        }
    });
}
