use super::*;
use crate::controller::ingest;
use crate::policy::OptimizationPolicy;
use crate::workload::WorkloadKind;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::runtime::watcher::Event;
use serde_json::{Value, json};

fn parse<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn config_map(data: Value) -> ConfigMap {
    parse(json!({"metadata": {"namespace": "optipod-system", "name": CONFIG_MAP}, "data": data}))
}

fn policy(mode: &str, generation: i64) -> Policy {
    let object: OptimizationPolicy = parse(json!({
        "apiVersion": "optipod.io/v1alpha1", "kind": "OptimizationPolicy",
        "metadata": {"namespace": "shop", "name": "p", "uid": "u", "generation": generation, "creationTimestamp": "2026-01-01T00:00:00Z"},
        "spec": {"mode": mode, "selector": {"namespaces": {"allow": ["shop"]}},
            "resourceBounds": {"cpu": {"min": "10m", "max": "4"}, "memory": {"min": "16Mi", "max": "8Gi"}}},
    }));
    Policy::resolve(&object).unwrap()
}

fn web() -> WorkloadId {
    WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() }
}

fn annotations(held: bool) -> Value {
    if held { json!({"optipod.io/hold": "true"}) } else { json!({}) }
}

fn owned_by(kind: &str, uid: &str) -> Value {
    json!([{"apiVersion": "apps/v1", "kind": kind, "name": uid, "uid": uid, "controller": true}])
}

fn set_namespace(cluster: &mut Cluster, held: bool) {
    let object = parse(json!({"metadata": {"name": "shop", "annotations": annotations(held)}}));
    cluster.namespaces.take(Event::Apply(object), |_| "shop".into(), |o| Some(ingest::namespace(o)));
}

fn set_workload(cluster: &mut Cluster, held: bool) {
    let object: Deployment = parse(json!({
        "metadata": {"namespace": "shop", "name": "web", "uid": "d", "annotations": annotations(held)},
        "spec": {"selector": {}, "template": {}},
    }));
    cluster.deployments.take(Event::Apply(object), |_| web(), |o| Some(ingest::deployment(o)));
}

fn set_pod(cluster: &mut Cluster, held: bool, phase: &str) {
    let object: Pod = parse(json!({
        "metadata": {"namespace": "shop", "name": "web-1", "uid": "1", "annotations": annotations(held), "ownerReferences": owned_by("ReplicaSet", "rs")},
        "status": {"phase": phase},
    }));
    let diffs = cluster.pods.take(Event::Apply(object), |o| ingest::object_key(&o.metadata), |o| ingest::pod(&o));
    cluster.note_pods(diffs);
}

fn set_policy(cluster: &mut Cluster, policy: &Policy) {
    let object = PolicyObject {
        id: policy.id.clone(),
        uid: policy.uid.clone(),
        generation: policy.generation,
        deleting: None,
        kept: false,
        parsed: Ok(policy.clone()),
    };
    cluster.policies.take(Event::Apply(object), |o| o.id.clone(), Some);
}

/// A Deployment with one pod and policy [`policy`], nothing held.
fn cluster() -> Cluster {
    let mut cluster = Cluster::default();
    let set = parse(
        json!({"metadata": {"namespace": "shop", "name": "rs", "uid": "rs", "ownerReferences": owned_by("Deployment", "d")}}),
    );
    let diffs = cluster.replica_sets.take(Event::Apply(set), |_| ("shop".into(), "rs".into()), ingest::replica_set);
    cluster.note_replica_sets(diffs);
    set_namespace(&mut cluster, false);
    set_workload(&mut cluster, false);
    set_pod(&mut cluster, false, "Running");
    set_policy(&mut cluster, &policy("Auto", 1));
    cluster.take_brake(Event::Init);
    cluster.take_brake(Event::InitDone);
    cluster
}

fn code(answer: Result<(), WriteError>) -> &'static str {
    match answer {
        Ok(()) => "write",
        Err(WriteError::Held(reason)) => reason.code(),
        Err(error) => error.code(),
    }
}

fn pull(cluster: &mut Cluster, data: Value) {
    cluster.take_brake(Event::Apply(config_map(data)));
}

type Brakes = (&'static str, fn(&mut Cluster));

/// In the order in which they answer.
const EACH: [Brakes; 7] = [
    ("WatchMissing", Cluster::lose_brake),
    ("BrakeOn", |c| pull(c, json!({}))),
    ("HeldByAnnotation", |c| set_namespace(c, true)),
    ("HeldByAnnotation", |c| set_workload(c, true)),
    ("HeldByAnnotation", |c| set_pod(c, true, "Running")),
    ("PolicyChanged", |c| set_policy(c, &policy("Disabled", 2))),
    ("PolicyChanged", |c| {
        c.policies.take(Event::Delete(policy("Auto", 1).id), Clone::clone, |_| None);
    }),
];

#[test]
fn every_brake_alone_stops_a_write_and_without_any_it_is_made() {
    let wanted = policy("Auto", 1);
    assert_eq!(code(may_write(&cluster(), false, &wanted, &web())), "write");
    assert_eq!(code(may_write(&cluster(), true, &wanted, &web())), "DryRun");
    assert_eq!(code(may_write(&cluster(), false, &policy("Recommend", 1), &web())), "PolicyChanged");
    for (expected, pull) in EACH {
        let mut cluster = cluster();
        pull(&mut cluster);
        assert_eq!(code(may_write(&cluster, false, &wanted, &web())), expected);
    }
}

#[test]
fn the_brake_with_the_longest_reach_answers() {
    for first in 0..EACH.len() {
        let mut cluster = cluster();
        // A broken watch answers before what it told earlier.
        for (_, pull) in EACH[first..].iter().rev() {
            pull(&mut cluster);
        }
        assert_eq!(code(may_write(&cluster, true, &policy("Auto", 1), &web())), EACH[first].0, "{first}");
    }
}

#[test]
fn a_pod_that_has_ended_holds_nothing() {
    let mut cluster = cluster();
    set_pod(&mut cluster, true, "Failed");
    assert_eq!(brakes(&cluster, &web()).hold(), None);
}

#[test]
fn the_config_map_holds_the_namespaces_it_names_and_in_doubt_all_of_them() {
    for (data, holds_shop) in [
        (json!({}), true),
        (json!({"reason": "incident 42"}), true),
        (json!({"namespaces": "shop"}), true),
        (json!({"namespaces": "bank, shop"}), true),
        (json!({"namespaces": "bank\nshop\n"}), true),
        (json!({"namespaces": "bank,api"}), false),
        (json!({"namespaces": " \n"}), true),
        (json!({"namespaces": "*"}), true),
        (json!({"namespaces": "- bank\n- api"}), true),
        (json!({"namespaces": "Bank"}), true),
        (json!({"namespaces": "bank;api"}), true),
    ] {
        let mut cluster = cluster();
        pull(&mut cluster, data.clone());
        assert_eq!(brakes(&cluster, &web()).hold().is_some(), holds_shop, "{data}");
        let limited = cluster.brake().is_some_and(|brake| !brake.namespaces.is_empty());
        assert_eq!(on_everything(&cluster).is_none(), limited, "{data}");
        cluster.take_brake(Event::Delete(config_map(data)));
        assert_eq!(brakes(&cluster, &web()).hold(), None);
    }
}

#[test]
fn its_reason_is_quoted_in_one_line_of_bounded_length() {
    let says = |reason: &str| {
        let mut cluster = cluster();
        pull(&mut cluster, json!({ "reason": reason }));
        brakes(&cluster, &web()).hold().unwrap().to_string()
    };
    assert_eq!(
        says(" incident 42,\n ask ops "),
        "the brake is on: ConfigMap optipod-system/optipod-brake says \"incident 42, ask ops\"; delete it to let OptiPod go on"
    );
    assert!(says("\n").starts_with("the brake is on: ConfigMap optipod-system/optipod-brake exists;"));
    assert!(says(&"é".repeat(1 << 20)).chars().count() < LONGEST_REASON + 120);
}

#[test]
fn every_policy_is_evaluated_at_once_when_the_brake_changes_or_is_seen_again() {
    let mut cluster = cluster();
    let woken = |cluster: &mut Cluster| !cluster.take_woken().is_empty();
    assert!(woken(&mut cluster));
    pull(&mut cluster, json!({}));
    assert!(woken(&mut cluster));
    pull(&mut cluster, json!({}));
    assert!(!woken(&mut cluster), "nothing has changed");
    cluster.lose_brake();
    assert!(!cluster.sees_brake() && cluster.missing().contains(&WATCH) && !woken(&mut cluster));
    cluster.take_brake(Event::Init);
    cluster.take_brake(Event::InitDone);
    assert!(cluster.brake().is_none() && cluster.sees_brake() && woken(&mut cluster));
}
