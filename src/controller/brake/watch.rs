//! The watch on the ConfigMap `optipod-brake`.
//!
//! Invariant: from an error on until the next complete list the brake counts as not seen, and nothing is changed. A brake
//! that silently does not work is worse than a pause.

use super::{CONFIG_MAP, WATCH};
use crate::controller::cluster::Cluster;
use crate::controller::watch::{FIRST_WAIT, LONGEST_WAIT, Shared};
use crate::telemetry::Metrics;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher;
use kube::runtime::watcher::{Config, Event};
use kube::{Api, Client};
use std::pin::pin;

/// Follows the ConfigMap in `namespace` for ever.
pub(in crate::controller) async fn follow(client: Client, namespace: String, shared: Shared, metrics: Metrics) {
    let api: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let one = Config::default().fields(&format!("metadata.name={CONFIG_MAP}"));
    let mut wait = FIRST_WAIT;
    loop {
        // A watch of its own after each error begins with a list, whose end tells that it works again.
        let mut events = pin!(watcher(api.clone(), one.clone()));
        while let Some(event) = events.next().await {
            match event {
                Ok(event) => {
                    if matches!(event, Event::InitDone) {
                        wait = FIRST_WAIT;
                    }
                    take(&shared, &metrics, event);
                }
                Err(error) => {
                    tracing::warn!(watch = WATCH, %error, retry_in = ?wait, "the brake cannot be seen; nothing is changed until it can");
                    break;
                }
            }
        }
        shared.take(Cluster::lose_brake);
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(LONGEST_WAIT);
    }
}

fn take(shared: &Shared, metrics: &Metrics, event: Event<ConfigMap>) {
    let mut changed = false;
    shared.take(|cluster| changed = cluster.take_brake(event));
    let (brake, unknown) = shared.with(|cluster| {
        let brake = cluster.brake().cloned();
        let names = brake.iter().flat_map(|brake| brake.namespaces.clone());
        let unknown: Vec<String> = names.filter(|name| cluster.namespaces.get(name).is_none()).collect();
        (brake, unknown)
    });
    metrics.set_brake(brake.is_some());
    match brake.filter(|_| changed) {
        Some(brake) => {
            tracing::warn!(brake = brake.brake.place, why = brake.brake.why, namespaces = ?brake.namespaces, ?unknown, "the brake is on");
        }
        None if changed => tracing::info!("the brake is off"),
        None => {}
    }
}
