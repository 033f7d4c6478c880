//! Many namespaces: what is found in them, and what may be done there.

use crate::cases::simulate_all;
use crate::harness::{Harness, minutes, seconds};
use crate::world::{Container, Workload, events, kinds, writes_to};
use optipod_sim::Deny;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::{select, subsequence};
use serde_json::{Value, json};
use std::collections::BTreeSet;

const NAMESPACES: [&str; 3] = ["shop", "bank", "mill"];

/// Workloads of any kind over all namespaces, with a tier and mostly a team as labels; each uses twice its request.
fn scattered() -> impl Strategy<Value = Vec<Workload>> {
    let one = (
        kinds(),
        select(NAMESPACES.to_vec()),
        select(vec!["web", "db"]),
        option::weighted(0.7, select(vec!["a", "b"])),
    );
    vec(one, 1..=6).prop_map(|all| {
        let one = |(index, (kind, namespace, tier, team)): (usize, (_, &str, _, Option<&str>))| {
            let name = format!("w{index}");
            let mut labels = json!({"tier": tier});
            if let Some(team) = team {
                labels["team"] = json!(team);
            }
            let container = Container {
                name: format!("{name}a"),
                millicores: 100,
                mebibytes: 100,
                limit_factor: None,
                uses: (2.0, 2.0),
            };
            Workload { kind, name, namespace: namespace.to_owned(), labels, replicas: 1, containers: vec![container] }
        };
        all.into_iter().enumerate().map(one).collect()
    })
}

async fn populated(workloads: &[Workload]) -> Harness {
    let harness = Harness::new().await;
    for namespace in &NAMESPACES[1..] {
        harness.api.create_namespace(namespace, &json!({})).unwrap();
    }
    for workload in workloads {
        harness.api.create(workload.manifest()).unwrap();
        for container in &workload.containers {
            harness.provider.set(&container.name, container.cores_used(), container.mebibytes_used());
        }
    }
    harness
}

fn of(entry: &Value) -> (String, String, String) {
    let text = |field: &str| entry[field].as_str().unwrap().to_owned();
    (text("kind"), text("namespace"), text("name"))
}

// Feature: k8s-workload-rightsizing, Property 16: Workload discovery
#[test]
fn property_16_every_workload_that_matches_is_found_and_no_other_also_those_that_come_later() {
    let selectors = (option::of(select(vec!["web", "db"])), option::of(select(vec!["a", "b"])));
    let lists = subsequence(NAMESPACES.to_vec(), 1..=3);
    let case = (scattered(), selectors, lists, any::<prop::sample::Index>());
    simulate_all(case, async |(workloads, (tier, team), namespaces, later)| {
        let later = later.index(workloads.len() + 1);
        let mut harness = populated(&workloads[..later]).await;
        let mut labels = serde_json::Map::new();
        labels.extend(tier.map(|tier| ("tier".to_owned(), json!(tier))));
        labels.extend(team.map(|team| ("team".to_owned(), json!(team))));
        let selector = json!({"workloadSelector": {"matchLabels": labels}, "namespaces": {"allow": namespaces}});
        harness.policy("p", json!({"mode": "Recommend", "selector": selector}));
        harness.start(Harness::options());
        seconds(2).await;
        for workload in &workloads[later..] {
            harness.api.create(workload.manifest()).unwrap();
        }
        seconds(62).await;
        let has = |workload: &Workload, label: &str, wanted: Option<&str>| {
            wanted.is_none() || workload.labels[label].as_str() == wanted
        };
        let matches = |workload: &&Workload| {
            has(workload, "tier", tier)
                && has(workload, "team", team)
                && namespaces.contains(&workload.namespace.as_str())
        };
        let expected: BTreeSet<_> = workloads
            .iter()
            .filter(matches)
            .map(|workload| (workload.kind.to_owned(), workload.namespace.clone(), workload.name.clone()))
            .collect();
        let status = harness.status("p");
        let found: BTreeSet<_> = status["workloads"].as_array().unwrap().iter().map(of).collect();
        assert_eq!(found, expected);
    });
}

// Feature: k8s-workload-rightsizing, Property 28: RBAC respect
#[test]
fn property_28_where_a_right_is_missing_nothing_is_tried_it_is_told_and_the_rest_goes_on() {
    let case = (scattered(), subsequence(NAMESPACES.to_vec(), 0..=3), any::<bool>());
    simulate_all(case, async |(workloads, denied, recreate)| {
        let mut harness = populated(&workloads).await;
        minutes(1).await;
        let granted: Vec<&str> = NAMESPACES.into_iter().filter(|namespace| !denied.contains(namespace)).collect();
        if !denied.is_empty() {
            let resources = ["pods/resize", "deployments.apps", "statefulsets.apps", "daemonsets.apps"];
            for resource in resources {
                harness.api.deny(Deny::new("patch", resource).outside(&granted));
            }
        }
        let strategy = json!({"allowInPlaceResize": !recreate, "allowRecreate": recreate});
        let selector = json!({"namespaces": {"allow": NAMESPACES}});
        harness.policy("p", json!({"selector": selector, "updateStrategy": strategy}));
        harness.start(Harness::options());
        seconds(20).await;
        for workload in &workloads {
            let written = writes_to(&harness, &workload.name);
            let may = granted.contains(&workload.namespace.as_str());
            assert_eq!(!written.is_empty(), may, "{} in {}: {written:?}", workload.name, workload.namespace);
            if !may {
                let reason = if recreate { "RolloutForbidden" } else { "ResizeForbidden" };
                assert_eq!(harness.entry("p", &workload.name)["reason"], reason);
                let events = events(&harness, &workload.name);
                assert!(events.iter().any(|(kind, told, _)| kind == "Warning" && told == reason), "{events:?}");
            }
        }
    });
}
