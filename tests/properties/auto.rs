//! What Auto changes: when it should, as far as it should, and nothing else.

use crate::cases::simulate_all;
use crate::harness::{Harness, minutes, seconds};
use crate::world::{Change, changes, cluster, limited_workloads, recommended, requests, workloads, writes_to};
use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;

const MIB: u64 = 1 << 20;

/// The request after one step: the recommendation where it is worth a change (10 %), and down by at most a half.
fn one_step(current: u64, wanted: u64) -> u64 {
    if wanted.abs_diff(current) * 100 < current * 10 { current } else { wanted.max(current / 2) }
}

// Feature: k8s-workload-rightsizing, Property 2: Sufficient data triggers updates
#[test]
fn property_2_with_enough_data_auto_brings_every_pod_to_what_the_policy_says() {
    simulate_all(workloads(), async |workloads| {
        let mut harness = cluster(&workloads).await;
        harness.policy("p", json!({}));
        harness.start(Harness::options());
        minutes(2).await;
        for workload in &workloads {
            for container in &workload.containers {
                let (cpu, memory) = recommended(container.cores_used(), container.mebibytes_used());
                let memory = one_step(container.mebibytes * MIB, memory * MIB).next_multiple_of(MIB);
                let expected = (one_step(container.millicores, cpu), memory);
                for got in requests(&harness, workload, &container.name) {
                    assert_eq!(got, expected, "{container:?}");
                }
            }
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 3: Updates preserve limits
#[test]
fn property_3_limits_stay_unless_the_policy_lets_them_move() {
    simulate_all((limited_workloads(), any::<[bool; 3]>()), async |(workloads, [stay, more_stay, recreate])| {
        let stay = stay || more_stay;
        let mut harness = cluster(&workloads).await;
        let strategy = json!({"updateRequestsOnly": stay, "allowInPlaceResize": !recreate, "allowRecreate": recreate});
        harness.policy("p", json!({"updateStrategy": strategy}));
        harness.start(Harness::options());
        seconds(40).await;
        for change in changes(&harness) {
            if stay {
                assert_eq!(change.before["limits"], change.after["limits"], "{change:?}");
            }
            let within = |request: Option<u64>, limit: Option<u64>| limit.is_none() || request <= limit;
            let of = |list| (Change::millicores(&change.after, list), Change::bytes(&change.after, list));
            let (requests, limits) = (of("requests"), of("limits"));
            assert!(within(requests.0, limits.0) && within(requests.1, limits.1), "{change:?}");
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 5: Memory decrease safety
#[test]
fn property_5_memory_is_never_lowered_in_place_below_what_was_used_at_the_peak() {
    let case = (limited_workloads(), vec(1.0..3.0f64, 6), any::<bool>());
    simulate_all(case, async |(workloads, peaks, requests_only)| {
        let mut harness = cluster(&workloads).await;
        let containers: Vec<_> = workloads.iter().flat_map(|workload| &workload.containers).collect();
        let peak = |name: &str| {
            let index = containers.iter().position(|container| container.name == name).unwrap();
            containers[index].mebibytes_used() * peaks[index]
        };
        for container in &containers {
            harness.provider.set_peak(&container.name, peak(&container.name));
        }
        let strategy = json!({"updateRequestsOnly": requests_only, "maxDecreasePercent": 100});
        harness.policy("p", json!({"updateStrategy": strategy}));
        harness.start(Harness::options());
        seconds(40).await;
        for change in changes(&harness) {
            for list in ["requests", "limits"] {
                let (before, after) = (Change::bytes(&change.before, list), Change::bytes(&change.after, list));
                let mebibytes = after.unwrap_or(u64::MAX) as f64 / MIB as f64;
                let safe = after >= before || mebibytes >= peak(&change.container);
                assert!(
                    safe || !change.in_place,
                    "{list} below the peak of {} Mi: {change:?}",
                    peak(&change.container)
                );
            }
        }
    });
}

// Feature: k8s-workload-rightsizing, Property 17: Auto mode applies changes
#[test]
fn property_17_new_usage_is_applied_within_the_interval_whenever_it_comes() {
    let case = (workloads(), 1..=2u64, 1..170u64);
    simulate_all(case, async |(mut workloads, interval, moment)| {
        // As large as they should be until then: no cooldown is in the way.
        for container in workloads.iter_mut().flat_map(|workload| &mut workload.containers) {
            container.uses = (0.83, 0.83);
        }
        let mut harness = cluster(&workloads).await;
        harness.policy(
            "p",
            json!({"reconciliationInterval": format!("{interval}m"), "updateStrategy": {"cooldown": "1m"}}),
        );
        harness.start(Harness::options());
        seconds(moment).await;
        assert_eq!(harness.changes().len(), 0, "nothing to do yet");
        for container in workloads.iter().flat_map(|workload| &workload.containers) {
            harness.provider.set(&container.name, 3.2, 5000.0);
        }
        seconds(60 * interval + 1).await;
        for workload in &workloads {
            let written = writes_to(&harness, &workload.name);
            assert!(!written.is_empty(), "{} was not changed within {interval} min", workload.name);
        }
    });
}
