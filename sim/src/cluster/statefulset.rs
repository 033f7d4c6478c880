//! The StatefulSet controller: pods with ordinals, one after the other.
//!
//! What it may not know: volumes and services.
//! Invariant: with `OrderedReady`, a pod is made or replaced only when all others are ready.

use serde_json::{Value, json};

use super::controllers::Again;
use super::objects::{Plane, is_deleting, is_ready, pod_from_template, template_hash};
use crate::api::store::{Key, Obj};
use crate::json::{At as _, int_at, set, str_at};

const REVISION: &str = "controller-revision-hash";

/// Brings one StatefulSet a step further; says whether to come back later.
pub(crate) fn reconcile(plane: &mut Plane<'_>, key: &Key) -> Again {
    let Some(owner) = plane.get("statefulsets", key).filter(|s| !is_deleting(s)) else {
        return Again::OnChange;
    };
    let name = str_at(&owner, "/metadata/name").to_owned();
    let hash = template_hash(owner.at("/spec/template").unwrap_or(&Value::Null));
    let update = format!("{name}-{hash}");
    let wanted = int_at(&owner, "/spec/replicas", 1);
    let refused = step(plane, &owner, &update, wanted);
    write_status(plane, &owner, &update, wanted);
    if refused { Again::BackOff } else { Again::OnChange }
}

fn ordinal(pod: &Value) -> i64 {
    let name = str_at(pod, "/metadata/name");
    name.rsplit('-').next().and_then(|n| n.parse().ok()).unwrap_or(-1)
}

fn pods(plane: &Plane<'_>, owner: &Value) -> Vec<Obj> {
    let mut pods = plane.owned("pods", owner);
    pods.sort_by_key(|pod| ordinal(pod));
    pods
}

fn step(plane: &mut Plane<'_>, owner: &Value, update: &str, wanted: i64) -> bool {
    let ordered = str_at(owner, "/spec/podManagementPolicy") != "Parallel";
    let have = pods(plane, owner);
    for number in 0..wanted {
        match have.iter().find(|pod| ordinal(pod) == number) {
            None => {
                if create(plane, owner, update, number).is_err() {
                    return true;
                }
                if ordered {
                    return false;
                }
            }
            Some(pod) if ordered && (is_deleting(pod) || !is_ready(pod)) => {
                return replace_broken(plane, owner, update, pod);
            }
            Some(_) => {}
        }
    }
    if let Some(last) = have.iter().rev().find(|pod| ordinal(pod) >= wanted) {
        if !is_deleting(last) {
            plane.delete("pods", last);
        }
        return false;
    }
    roll(plane, owner, update, &have);
    false
}

/// A pod of an old revision that never gets ready is replaced at once, so that a fix can land.
fn replace_broken(plane: &mut Plane<'_>, owner: &Value, update: &str, pod: &Value) -> bool {
    let outdated = revision(pod) != update;
    if outdated && !is_deleting(pod) && rolls(owner) {
        plane.delete("pods", pod);
    }
    false
}

fn revision(pod: &Value) -> &str {
    str_at(pod, "/metadata/labels/controller-revision-hash")
}

fn rolls(owner: &Value) -> bool {
    str_at(owner, "/spec/updateStrategy/type") != "OnDelete"
}

fn create(plane: &mut Plane<'_>, owner: &Value, update: &str, number: i64) -> Result<Obj, String> {
    let template = owner.at("/spec/template").cloned().unwrap_or_default();
    let name = format!("{}-{number}", str_at(owner, "/metadata/name"));
    let mut pod = pod_from_template(owner, "StatefulSet", &template, &name);
    set(&mut pod, &["metadata", "labels", REVISION], update);
    set(&mut pod, &["metadata", "labels", "statefulset.kubernetes.io/pod-name"], name);
    set(&mut pod, &["metadata", "labels", "apps.kubernetes.io/pod-index"], number.to_string());
    plane.create("pods", pod).map_err(|error| error.message)
}

/// Replaces the highest outdated pod, when all are ready.
fn roll(plane: &mut Plane<'_>, owner: &Value, update: &str, have: &[Obj]) {
    let settled = have.iter().all(|pod| is_ready(pod) && !is_deleting(pod));
    if !settled || !rolls(owner) {
        return;
    }
    let partition = int_at(owner, "/spec/updateStrategy/rollingUpdate/partition", 0);
    let outdated = have.iter().rev().find(|pod| revision(pod) != update && ordinal(pod) >= partition);
    if let Some(pod) = outdated {
        plane.delete("pods", pod);
    }
}

fn write_status(plane: &mut Plane<'_>, owner: &Value, update: &str, wanted: i64) {
    let living: Vec<Obj> = pods(plane, owner).into_iter().filter(|pod| !is_deleting(pod)).collect();
    let updated = living.iter().filter(|pod| revision(pod) == update).count();
    let ready = living.iter().filter(|pod| is_ready(pod)).count();
    let before = str_at(owner, "/status/currentRevision");
    let complete = i64::try_from(updated).is_ok_and(|n| n == wanted) && updated == ready;
    let current = if before.is_empty() || complete { update } else { before };
    let mut status = json!({
        "observedGeneration": int_at(owner, "/metadata/generation", 1),
        "replicas": living.len(), "readyReplicas": ready, "availableReplicas": ready,
        "updatedReplicas": updated, "currentRevision": current, "updateRevision": update,
        "collisionCount": 0,
    });
    let on_current = living.iter().filter(|pod| revision(pod) == current).count();
    if on_current > 0 {
        set(&mut status, &["currentReplicas"], on_current);
    }
    plane.put_status("statefulsets", owner, status);
}
