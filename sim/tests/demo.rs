//! The demo's cluster is what its description promises.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::Duration;

use optipod_sim::{ClusterOptions, Scenario, SimApi, SimCluster, SimOptions, WorkloadKind};
use serde_json::Value;

#[test]
fn the_demo_has_all_kinds_of_workload_in_several_namespaces() {
    let scenario = Scenario::demo(1);
    assert_eq!((scenario.workloads.len(), scenario.nodes.len()), (51, 12));
    for kind in [WorkloadKind::Deployment, WorkloadKind::StatefulSet, WorkloadKind::DaemonSet] {
        assert!(scenario.workloads.iter().filter(|w| w.kind == kind).count() >= 2, "{kind:?}");
    }
    let namespaces: BTreeSet<&str> = scenario.workloads.iter().map(|w| w.namespace.as_str()).collect();
    assert!(namespaces.len() >= 6);
    let containers: Vec<usize> = scenario.workloads.iter().map(|w| w.containers.len()).collect();
    assert_eq!((containers.iter().min(), containers.iter().max()), (Some(&1), Some(&3)));
}

#[tokio::test(start_paused = true)]
async fn every_pod_of_the_demo_gets_ready_and_all_three_qos_classes_are_there() {
    let api = SimApi::new(SimOptions::default());
    let cluster = SimCluster::new(&api, ClusterOptions::default());
    Scenario::demo(1).install(&cluster).unwrap();
    assert!(cluster.settle(Duration::from_mins(5)).await);
    let pods = api.list("v1", "Pod");
    let classes: BTreeSet<String> =
        pods.iter().map(|pod| pod["status"]["qosClass"].as_str().unwrap().to_owned()).collect();
    assert_eq!(classes.len(), 3);
    assert!((140..=170).contains(&pods.len()), "{}", pods.len());
    let unready: Vec<&Value> = pods.iter().filter(|pod| pod["status"]["phase"] != "Running").collect();
    assert!(unready.is_empty());
}
