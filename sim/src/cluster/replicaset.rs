//! The ReplicaSet controller: as many pods as asked for.
//!
//! What it may not know: Deployments.
//! Invariant: pods are made and deleted one reconcile at a time until the numbers agree; a refused
//! creation is reported in `ReplicaFailure` and tried again.

use serde_json::{Value, json};

use super::controllers::Again;
use super::objects::{Plane, is_deleting, is_ready, pod_from_template, set_condition};
use crate::api::pods::is_terminal;
use crate::api::store::{Key, Obj};
use crate::json::{At as _, int_at, list_at, set, str_at};

/// Brings one ReplicaSet closer to what it asks for; says whether to come back later.
pub(crate) fn reconcile(plane: &mut Plane<'_>, key: &Key) -> Again {
    let Some(set) = plane.get("replicasets", key) else {
        return Again::OnChange;
    };
    if is_deleting(&set) {
        return Again::OnChange;
    }
    let mut pods = living(plane, &set);
    let wanted = usize::try_from(int_at(&set, "/spec/replicas", 1)).unwrap_or(0);
    let mut refusal = None;
    while pods.len() < wanted && refusal.is_none() {
        match create_pod(plane, &set) {
            Ok(pod) => pods.push(pod),
            Err(message) => refusal = Some(message),
        }
    }
    if pods.len() > wanted {
        delete_excess(plane, pods, wanted);
    }
    let again = if refusal.is_some() { Again::BackOff } else { Again::OnChange };
    write_status(plane, &set, refusal);
    again
}

fn living(plane: &Plane<'_>, set: &Value) -> Vec<Obj> {
    let mut pods = plane.owned("pods", set);
    pods.retain(|pod| !is_deleting(pod) && !is_terminal(pod));
    pods
}

fn create_pod(plane: &mut Plane<'_>, set: &Value) -> Result<Obj, String> {
    let template = set.at("/spec/template").cloned().unwrap_or_default();
    let prefix = format!("{}-", str_at(set, "/metadata/name"));
    let suffix = plane.state.next_suffix(&prefix);
    let pod = pod_from_template(set, "ReplicaSet", &template, &format!("{prefix}{suffix}"));
    plane.create("pods", pod).map_err(|error| error.message)
}

/// Deletes those not ready first, then the youngest.
fn delete_excess(plane: &mut Plane<'_>, mut pods: Vec<Obj>, wanted: usize) {
    let age = |pod: &Obj| str_at(pod, "/metadata/creationTimestamp").to_owned();
    pods.sort_by(|a, b| {
        let ready = is_ready(b).cmp(&is_ready(a));
        ready.then_with(|| age(a).cmp(&age(b))).then_with(|| Key::of(a).cmp(&Key::of(b)))
    });
    for pod in pods.iter().skip(wanted) {
        plane.delete("pods", pod);
    }
}

fn write_status(plane: &mut Plane<'_>, replica_set: &Value, refusal: Option<String>) {
    let pods = living(plane, replica_set);
    let ready = pods.iter().filter(|pod| is_ready(pod)).count();
    let mut status = json!({
        "replicas": pods.len(), "fullyLabeledReplicas": pods.len(), "readyReplicas": ready,
        "availableReplicas": ready,
        "observedGeneration": int_at(replica_set, "/metadata/generation", 1),
    });
    if let Some(message) = refusal {
        let mut conditions = list_at(replica_set, "/status/conditions").to_vec();
        let failure = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": message});
        set_condition(&mut conditions, failure, &plane.time());
        set(&mut status, &["conditions"], conditions);
    }
    plane.put_status("replicasets", replica_set, status);
}
