//! The same seed gives the same bytes: requests, answers, metrics and ledger.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use optipod_sim::{ClusterOptions, Fault, FaultRule, Scenario, SimApi, SimCluster, SimOptions};
use serde_json::json;

fn run(seed: u64) -> (String, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let api = SimApi::new(SimOptions { seed, ..SimOptions::default() });
        let options = ClusterOptions { seed, ..ClusterOptions::default() };
        let cluster = SimCluster::new(&api, options);
        Scenario::demo(seed).install(&cluster).unwrap();
        let running = cluster.clone();
        tokio::spawn(async move { running.run().await });
        api.faults().add(FaultRule::new(Fault::Status(503)).verb("patch").probability(0.3));
        api.faults().add(FaultRule::new(Fault::CutWatch(Duration::from_secs(40))).on("pods").probability(0.5));
        let watched = Api::<Pod>::all(api.client());
        tokio::spawn(async move {
            let stream = watcher(watched, watcher::Config::default()).backoff(watcher::DefaultBackoff::default());
            let mut stream = Box::pin(stream);
            while stream.next().await.is_some() {}
        });
        let deployments = Api::<Deployment>::namespaced(api.client(), "shop");
        for round in 0..20 {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let patch = json!({"spec": {"template": {"metadata": {"annotations": {"round": round.to_string()}}}}});
            let _ = deployments.patch("cart", &PatchParams::default(), &Patch::Strategic(patch)).await;
        }
        let journal = serde_json::to_string(&api.journal()).unwrap();
        let objects = serde_json::to_string(&api.list("v1", "Pod")).unwrap();
        (journal + &objects, cluster.truth().dump())
    })
}

#[test]
fn the_same_seed_gives_the_same_journal_objects_and_ledger() {
    let (journal, ledger) = run(7);
    assert!(journal.contains("\"verb\":\"watch\"") && journal.contains("503"));
    let (again, ledger_again) = run(7);
    assert!(journal == again, "journal or objects differ");
    assert!(ledger == ledger_again, "ledgers differ");
    assert!(ledger != run(8).1, "another seed, another day");
}
