//! The Deployment controller: rolling updates over ReplicaSets, and the status that tells of them.
//!
//! What it may not know: pods, but through the status of ReplicaSets.
//! Invariant: never more than `replicas + maxSurge` pods wanted, never fewer available than
//! `replicas − maxUnavailable` by its own doing.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::controllers::Again;
use super::objects::{Plane, is_deleting, owner_reference, set_condition, template_hash};
use crate::api::store::{Key, Obj};
use crate::json::{At as _, int_at, list_at, map_at, remove, set, str_at};

/// Annotations that stay on the Deployment.
const NOT_COPIED: &[&str] = &["kubectl.kubernetes.io/last-applied-configuration", REVISION];
const REVISION: &str = "deployment.kubernetes.io/revision";

/// Brings one Deployment a step further; says whether to come back without a change.
pub(crate) fn reconcile(plane: &mut Plane<'_>, key: &Key) -> Again {
    let Some(deployment) = plane.get("deployments", key).filter(|d| !is_deleting(d)) else {
        return Again::OnChange;
    };
    let paused = deployment.at("/spec/paused") == Some(&Value::Bool(true));
    let hash = template_hash(deployment.at("/spec/template").unwrap_or(&Value::Null));
    if !paused {
        ensure_new_set(plane, &deployment, &hash);
    }
    let sets = Sets::read(plane, &deployment, &hash);
    if let (false, Some(new)) = (paused, &sets.new) {
        roll(plane, &deployment, new, &sets.old);
    } else if let Some(only) = sets.new.as_ref().or(sets.old.first()) {
        scale(plane, only, desired(&deployment));
    }
    clean_up(plane, &deployment, &sets.old);
    let sets = Sets::read(plane, &deployment, &hash);
    if write_status(plane, &deployment, &sets) { Again::Later } else { Again::OnChange }
}

struct Sets {
    new: Option<Obj>,
    /// Oldest first.
    old: Vec<Obj>,
}

impl Sets {
    fn read(plane: &Plane<'_>, deployment: &Value, hash: &str) -> Self {
        let mut old = plane.owned("replicasets", deployment);
        old.sort_by_key(|set| (revision(set), str_at(set, "/metadata/name").to_owned()));
        let at = old.iter().position(|set| str_at(set, "/metadata/labels/pod-template-hash") == hash);
        let new = at.map(|at| old.remove(at));
        Self { new, old }
    }

    fn all(&self) -> impl Iterator<Item = &Obj> {
        self.new.iter().chain(&self.old)
    }
}

fn desired(deployment: &Value) -> i64 {
    int_at(deployment, "/spec/replicas", 1)
}

fn revision(object: &Value) -> i64 {
    annotation(object, REVISION).parse().unwrap_or(0)
}

fn annotation<'a>(object: &'a Value, name: &str) -> &'a str {
    map_at(object, "/metadata/annotations").and_then(|map| map.get(name)).and_then(Value::as_str).unwrap_or_default()
}

/// Makes the ReplicaSet of the current template, or brings its annotations up to date.
fn ensure_new_set(plane: &mut Plane<'_>, deployment: &Value, hash: &str) {
    let sets = Sets::read(plane, deployment, hash);
    let latest = sets.old.iter().map(|set| revision(set)).max().unwrap_or(0);
    let number = match &sets.new {
        Some(new) if revision(new) > latest => revision(new),
        _ => latest + 1,
    };
    let annotations = copied_annotations(deployment, number);
    match sets.new {
        None => {
            let set = new_set(deployment, hash, &annotations);
            // Refused only if somebody else took the name; then the next run sees it.
            let _ = plane.create("replicasets", set);
        }
        Some(new) if new.at("/metadata/annotations") != Some(&annotations) => {
            let mut object = Value::clone(&new);
            set(&mut object, &["metadata", "annotations"], annotations);
            plane.put("replicasets", object);
        }
        Some(_) => {}
    }
    if annotation(deployment, REVISION) != number.to_string() {
        let key = Key::of(deployment);
        if let Some(fresh) = plane.get("deployments", &key) {
            let mut object = Value::clone(&fresh);
            set(&mut object, &["metadata", "annotations", REVISION], number.to_string());
            plane.put("deployments", object);
        }
    }
}

fn copied_annotations(deployment: &Value, number: i64) -> Value {
    let mut annotations = map_at(deployment, "/metadata/annotations").cloned().unwrap_or_default();
    annotations.retain(|name, _| !NOT_COPIED.contains(&name.as_str()));
    let replicas = desired(deployment);
    annotations.insert(REVISION.to_owned(), number.to_string().into());
    annotations.insert("deployment.kubernetes.io/desired-replicas".to_owned(), replicas.to_string().into());
    annotations.insert(
        "deployment.kubernetes.io/max-replicas".to_owned(),
        (replicas + max_surge(deployment)).to_string().into(),
    );
    Value::Object(annotations)
}

fn new_set(deployment: &Value, hash: &str, annotations: &Value) -> Value {
    let mut template = deployment.at("/spec/template").cloned().unwrap_or_default();
    set(&mut template, &["metadata", "labels", "pod-template-hash"], hash);
    let mut selector = deployment.at("/spec/selector").cloned().unwrap_or_default();
    set(&mut selector, &["matchLabels", "pod-template-hash"], hash);
    let labels = template.at("/metadata/labels").cloned().unwrap_or_default();
    json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {"name": format!("{}-{hash}", str_at(deployment, "/metadata/name")),
            "namespace": str_at(deployment, "/metadata/namespace"), "labels": labels,
            "annotations": annotations,
            "ownerReferences": owner_reference("Deployment", "apps/v1", deployment)},
        "spec": {"replicas": 0, "selector": selector, "template": template}})
}

/// `25%` or a number, of the wanted replicas.
fn bound(deployment: &Value, field: &str, round_up: bool) -> i64 {
    let replicas = desired(deployment);
    match deployment.at(&format!("/spec/strategy/rollingUpdate/{field}")) {
        Some(Value::Number(number)) => number.as_i64().unwrap_or(0),
        Some(Value::String(text)) => {
            let percent: i64 = text.trim_end_matches('%').parse().unwrap_or(25);
            let scaled = percent * replicas;
            if round_up { (scaled + 99) / 100 } else { scaled / 100 }
        }
        _ => 0,
    }
}

fn max_surge(deployment: &Value) -> i64 {
    bound(deployment, "maxSurge", true)
}

fn max_unavailable(deployment: &Value) -> i64 {
    let allowed = bound(deployment, "maxUnavailable", false);
    // Both zero would never move; the real server refuses it, and its defaulting gives 1 here.
    if allowed == 0 && max_surge(deployment) == 0 { 1 } else { allowed }
}

fn roll(plane: &mut Plane<'_>, deployment: &Value, new: &Obj, old: &[Obj]) {
    let wanted = desired(deployment);
    let old_pods: i64 = old.iter().map(|set| int_at(set, "/spec/replicas", 0)).sum();
    let new_pods = int_at(new, "/spec/replicas", 0);
    if str_at(deployment, "/spec/strategy/type") == "Recreate" {
        for set in old {
            scale(plane, set, 0);
        }
        let gone = old.iter().all(|set| int_at(set, "/status/replicas", 0) == 0);
        if gone {
            scale(plane, new, wanted);
        }
        return;
    }
    if new_pods > wanted {
        scale(plane, new, wanted);
        return;
    }
    let room = (wanted + max_surge(deployment) - old_pods - new_pods).max(0);
    if new_pods < wanted && room > 0 {
        scale(plane, new, (new_pods + room).min(wanted));
        return;
    }
    scale_old_down(plane, deployment, new, old);
}

/// Takes from the old sets what availability allows: broken pods first, then the oldest set's.
fn scale_old_down(plane: &mut Plane<'_>, deployment: &Value, new: &Value, old: &[Obj]) {
    let available = |set: &Value| int_at(set, "/status/availableReplicas", 0);
    let least = desired(deployment) - max_unavailable(deployment);
    let now_available: i64 = available(new) + old.iter().map(|set| available(set)).sum::<i64>();
    let mut spare = (now_available - least).max(0);
    for set in old {
        let have = int_at(set, "/spec/replicas", 0);
        let broken = (have - available(set)).max(0);
        let healthy = (have - broken).min(spare);
        spare -= healthy;
        scale(plane, set, have - broken - healthy);
    }
}

fn scale(plane: &mut Plane<'_>, replica_set: &Value, replicas: i64) {
    if int_at(replica_set, "/spec/replicas", 0) == replicas {
        return;
    }
    let Some(fresh) = plane.get("replicasets", &Key::of(replica_set)) else {
        return;
    };
    let mut object = Value::clone(&fresh);
    let generation = int_at(&fresh, "/metadata/generation", 1) + 1;
    set(&mut object, &["spec", "replicas"], replicas);
    set(&mut object, &["metadata", "generation"], generation);
    plane.put("replicasets", object);
}

/// Deletes empty old sets beyond the history limit.
fn clean_up(plane: &mut Plane<'_>, deployment: &Value, old: &[Obj]) {
    let keep = usize::try_from(int_at(deployment, "/spec/revisionHistoryLimit", 10)).unwrap_or(0);
    let empty: Vec<&Obj> = old
        .iter()
        .filter(|set| int_at(set, "/spec/replicas", 0) == 0 && int_at(set, "/status/replicas", 0) == 0)
        .collect();
    for set in empty.iter().take(empty.len().saturating_sub(keep)) {
        plane.delete("replicasets", set);
    }
}

/// Writes the status; says whether a rollout is under way.
fn write_status(plane: &mut Plane<'_>, deployment: &Value, sets: &Sets) -> bool {
    let Some(fresh) = plane.get("deployments", &Key::of(deployment)) else {
        return false;
    };
    let sum = |field: &str| -> i64 {
        let pointer = format!("/status/{field}");
        sets.all().map(|set| int_at(set, &pointer, 0)).sum()
    };
    let wanted = desired(&fresh);
    let updated = sets.new.as_ref().map_or(0, |set| int_at(set, "/status/replicas", 0));
    let (replicas, available) = (sum("replicas"), sum("availableReplicas"));
    let mut status = json!({"observedGeneration": int_at(&fresh, "/metadata/generation", 1)});
    for (field, number) in [
        ("replicas", replicas),
        ("updatedReplicas", updated),
        ("readyReplicas", sum("readyReplicas")),
        ("availableReplicas", available),
        ("unavailableReplicas", (wanted.max(replicas) - available).max(0)),
    ] {
        if number != 0 {
            set(&mut status, &[field], number);
        }
    }
    let complete = updated == wanted && replicas == wanted && available == wanted;
    let conditions = conditions(plane, &fresh, sets, &status, complete);
    set(&mut status, &["conditions"], conditions);
    plane.put_status("deployments", &fresh, status);
    !complete
}

fn conditions(plane: &Plane<'_>, deployment: &Value, sets: &Sets, status: &Value, complete: bool) -> Vec<Value> {
    let now = plane.time();
    let mut conditions = list_at(deployment, "/status/conditions").to_vec();
    let least = desired(deployment) - max_unavailable(deployment);
    let enough = int_at(status, "/availableReplicas", 0) >= least;
    let available = if enough {
        json!({"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable",
            "message": "Deployment has minimum availability.", "lastUpdateTime": now})
    } else {
        json!({"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable",
            "message": "Deployment does not have minimum availability.", "lastUpdateTime": now})
    };
    set_quietly(&mut conditions, available, &now);
    let progressing = progressing(plane, deployment, sets, status, complete);
    set_quietly(&mut conditions, progressing, &now);
    let failure = sets.all().flat_map(|set| list_at(set, "/status/conditions")).next();
    conditions.retain(|condition| str_at(condition, "/type") != "ReplicaFailure");
    conditions.extend(failure.cloned());
    conditions
}

fn progressing(plane: &Plane<'_>, deployment: &Value, sets: &Sets, status: &Value, complete: bool) -> Value {
    let now = plane.time();
    let name = sets.new.as_ref().map(|set| str_at(set, "/metadata/name")).unwrap_or_default();
    if complete {
        return json!({"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable",
            "message": format!("ReplicaSet \"{name}\" has successfully progressed."),
            "lastUpdateTime": now});
    }
    let before =
        list_at(deployment, "/status/conditions").iter().find(|condition| str_at(condition, "/type") == "Progressing");
    let fields = ["replicas", "updatedReplicas", "readyReplicas", "availableReplicas", "observedGeneration"];
    let moved = fields.iter().any(|field| status.get(*field) != deployment.at(&format!("/status/{field}")));
    if let (Some(before), false) = (before, moved) {
        if deadline_passed(plane.now, deployment, before) {
            return json!({"type": "Progressing", "status": "False",
                "reason": "ProgressDeadlineExceeded",
                "message": format!("ReplicaSet \"{name}\" has timed out progressing."),
                "lastUpdateTime": str_at(before, "/lastUpdateTime")});
        }
        return before.clone();
    }
    json!({"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated",
        "message": format!("ReplicaSet \"{name}\" is progressing."), "lastUpdateTime": now})
}

fn deadline_passed(now: Timestamp, deployment: &Value, condition: &Value) -> bool {
    let since = str_at(condition, "/lastUpdateTime").parse::<Timestamp>();
    let deadline = int_at(deployment, "/spec/progressDeadlineSeconds", 600);
    let wrong = str_at(condition, "/reason") == "ProgressDeadlineExceeded";
    wrong || since.is_ok_and(|since| now.duration_since(since) > SignedDuration::from_secs(deadline))
}

/// Sets a condition unless only its update time differs, so that status settles.
fn set_quietly(conditions: &mut Vec<Value>, condition: Value, now: &str) {
    let essence = |c: &Value| {
        let mut c = c.clone();
        remove(&mut c, &["lastUpdateTime"]);
        remove(&mut c, &["lastTransitionTime"]);
        c
    };
    if !conditions.iter().any(|have| essence(have) == essence(&condition)) {
        set_condition(conditions, condition, now);
    }
}
