//! The DaemonSet controller: one pod on each node.
//!
//! What it may not know: taints and affinity; every node takes every DaemonSet.
//! Invariant: at most `maxUnavailable` pods are taken down at a time in a rolling update.

use serde_json::{Value, json};

use super::controllers::Again;
use super::objects::{Plane, is_deleting, is_ready, pod_from_template, template_hash};
use crate::api::store::{Key, Obj};
use crate::json::{At as _, int_at, set, str_at};

/// Brings one DaemonSet a step further; says whether to come back later.
pub(crate) fn reconcile(plane: &mut Plane<'_>, key: &Key) -> Again {
    let Some(owner) = plane.get("daemonsets", key).filter(|d| !is_deleting(d)) else {
        return Again::OnChange;
    };
    let hash = template_hash(owner.at("/spec/template").unwrap_or(&Value::Null));
    let nodes: Vec<String> = plane
        .kind("nodes")
        .into_iter()
        .flat_map(|kind| {
            let nodes = plane.state.store.list(&kind, None);
            nodes.map(|(key, _)| key.name.clone()).collect::<Vec<_>>()
        })
        .collect();
    let refused = cover_nodes(plane, &owner, &hash, &nodes);
    roll(plane, &owner, &hash);
    write_status(plane, &owner, &hash, nodes.len());
    if refused { Again::BackOff } else { Again::OnChange }
}

fn cover_nodes(plane: &mut Plane<'_>, owner: &Value, hash: &str, nodes: &[String]) -> bool {
    let have = plane.owned("pods", owner);
    let mut refused = false;
    for node in nodes {
        let covered = have.iter().any(|pod| str_at(pod, "/spec/nodeName") == node);
        if !covered {
            refused |= create(plane, owner, hash, node).is_err();
        }
    }
    for pod in have.iter().filter(|pod| !is_deleting(pod)) {
        if !nodes.iter().any(|node| node == str_at(pod, "/spec/nodeName")) {
            plane.delete("pods", pod);
        }
    }
    refused
}

fn create(plane: &mut Plane<'_>, owner: &Value, hash: &str, node: &str) -> Result<Obj, String> {
    let template = owner.at("/spec/template").cloned().unwrap_or_default();
    let prefix = format!("{}-", str_at(owner, "/metadata/name"));
    let suffix = plane.state.next_suffix(&prefix);
    let mut pod = pod_from_template(owner, "DaemonSet", &template, &format!("{prefix}{suffix}"));
    set(&mut pod, &["metadata", "labels", "controller-revision-hash"], hash);
    set(&mut pod, &["spec", "nodeName"], node);
    plane.create("pods", pod).map_err(|error| error.message)
}

fn revision(pod: &Value) -> &str {
    str_at(pod, "/metadata/labels/controller-revision-hash")
}

fn roll(plane: &mut Plane<'_>, owner: &Value, hash: &str) {
    if str_at(owner, "/spec/updateStrategy/type") == "OnDelete" {
        return;
    }
    let allowed = int_at(owner, "/spec/updateStrategy/rollingUpdate/maxUnavailable", 1);
    let pods = plane.owned("pods", owner);
    let down = pods.iter().filter(|pod| is_deleting(pod) || !is_ready(pod)).count();
    let room = usize::try_from(allowed).unwrap_or(1).saturating_sub(down);
    let outdated: Vec<Obj> = pods.into_iter().filter(|pod| revision(pod) != hash && !is_deleting(pod)).collect();
    // Broken ones do not count against the room: replacing them takes nothing away.
    let (broken, healthy): (Vec<_>, Vec<_>) = outdated.into_iter().partition(|pod| !is_ready(pod));
    for pod in broken.iter().chain(healthy.iter().take(room)) {
        plane.delete("pods", pod);
    }
}

fn write_status(plane: &mut Plane<'_>, owner: &Value, hash: &str, nodes: usize) {
    let mut pods = plane.owned("pods", owner);
    pods.retain(|pod| !is_deleting(pod));
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let updated = pods.iter().filter(|pod| revision(pod) == hash).count();
    let mut status = json!({
        "observedGeneration": int_at(owner, "/metadata/generation", 1),
        "currentNumberScheduled": pods.len(), "desiredNumberScheduled": nodes,
        "numberMisscheduled": 0, "numberReady": ready, "numberAvailable": ready,
        "updatedNumberScheduled": updated,
    });
    if nodes > ready {
        set(&mut status, &["numberUnavailable"], nodes - ready);
    }
    plane.put_status("daemonsets", owner, status);
}
