//! What controllers share: finding, making and judging the objects they own.
//!
//! What it may not know: any one controller's rules.
//! Invariant: generated names and hashes depend on the objects only, never on the order of runs.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::api::kinds::Kind;
use crate::api::route::Target;
use crate::api::state::State;
use crate::api::status::StatusError;
use crate::api::store::{Key, Obj};
use crate::api::write::Writer;
use crate::json::{list_at, set, str_at};
use crate::rng::{fnv1a, name_suffix};

/// A controller's view of the control plane for one run.
pub(crate) struct Plane<'a> {
    pub(crate) state: &'a mut State,
    pub(crate) now: Timestamp,
}

impl Plane<'_> {
    pub(crate) fn time(&self) -> String {
        crate::clock::rfc3339(self.now)
    }

    fn writer(&self) -> Writer {
        Writer { manager: None, dry_run: false, force: false, now: self.time() }
    }

    /// The resource with this plural; the table of built-in kinds has all that controllers use.
    pub(crate) fn kind(&self, plural: &str) -> Option<Arc<Kind>> {
        self.state.registry.iter().find(|kind| kind.plural == plural && !kind.custom).cloned()
    }

    pub(crate) fn get(&self, plural: &str, key: &Key) -> Option<Obj> {
        let kind = self.kind(plural)?;
        self.state.store.get(&kind, key)
    }

    /// The objects in the namespace that this owner controls.
    pub(crate) fn owned(&self, plural: &str, owner: &Value) -> Vec<Obj> {
        let namespace = str_at(owner, "/metadata/namespace");
        let uid = str_at(owner, "/metadata/uid");
        let Some(kind) = self.kind(plural) else {
            return Vec::new();
        };
        self.state
            .store
            .list(&kind, Some(namespace))
            .filter(|(_, object)| controller_uid(object) == uid)
            .map(|(_, object)| Arc::clone(object))
            .collect()
    }

    /// Creates an object as the control plane does: validated and admitted, without a field manager.
    pub(crate) fn create(&mut self, plural: &str, object: Value) -> Result<Obj, StatusError> {
        let kind = self.kind(plural).ok_or_else(StatusError::no_such_path)?;
        let target = Target {
            namespace: kind.namespaced.then(|| str_at(&object, "/metadata/namespace").to_owned()),
            name: None,
            subresource: None,
            kind,
        };
        let writer = self.writer();
        self.state.create(&target, object, &writer).map(|written| written.answer)
    }

    /// Stores a changed object as it is (a controller's own fields).
    pub(crate) fn put(&mut self, plural: &str, object: Value) {
        if let Some(kind) = self.kind(plural) {
            let stored = self.state.store.put(&kind, object);
            self.state.after_write(&kind, &stored);
        }
    }

    /// Stores the status where it differs.
    pub(crate) fn put_status(&mut self, plural: &str, object: &Value, status: Value) {
        if object.get("status") != Some(&status) {
            let mut object = object.clone();
            set(&mut object, &["status"], status);
            self.put(plural, object);
        }
    }

    /// Deletes as the control plane does, with the pod's own grace.
    pub(crate) fn delete(&mut self, plural: &str, object: &Value) {
        let Some(kind) = self.kind(plural) else {
            return;
        };
        let key = Key::of(object);
        let target = Target {
            namespace: kind.namespaced.then(|| key.namespace.clone()),
            name: Some(key.name),
            subresource: None,
            kind,
        };
        let writer = self.writer();
        // Absent already is as good as deleted.
        let _ = self.state.delete(&target, &Value::Null, &writer);
    }
}

/// The uid of the controlling owner, or `""`.
pub(crate) fn controller_uid(object: &Value) -> &str {
    list_at(object, "/metadata/ownerReferences")
        .iter()
        .find(|owner| owner.get("controller") == Some(&Value::Bool(true)))
        .map(|owner| str_at(owner, "/uid"))
        .unwrap_or_default()
}

/// The reference that makes `owner` the controller of what carries it.
pub(crate) fn owner_reference(kind: &str, api_version: &str, owner: &Value) -> Value {
    json!([{"apiVersion": api_version, "kind": kind, "name": str_at(owner, "/metadata/name"),
        "uid": str_at(owner, "/metadata/uid"), "controller": true, "blockOwnerDeletion": true}])
}

/// The hash of a pod template, as letters for a name; the order of its keys does not matter.
pub(crate) fn template_hash(template: &Value) -> String {
    let mut text = String::new();
    canonical(template, &mut text);
    name_suffix(fnv1a(text.as_bytes()), 10)
}

fn canonical(value: &Value, out: &mut String) {
    match value {
        Value::Object(map) => {
            let mut keys: Vec<&String> = map.keys().collect();
            keys.sort();
            for key in keys {
                out.push_str(key);
                out.push(':');
                canonical(map.get(key).unwrap_or(&Value::Null), out);
                out.push(',');
            }
        }
        Value::Array(items) => {
            for item in items {
                canonical(item, out);
                out.push(';');
            }
        }
        scalar => out.push_str(&scalar.to_string()),
    }
}

/// A pod made from a template.
pub(crate) fn pod_from_template(owner: &Value, owner_kind: &str, template: &Value, name: &str) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": template.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "spec": template.get("spec").cloned().unwrap_or_default()});
    set(&mut pod, &["metadata", "name"], name);
    set(&mut pod, &["metadata", "namespace"], str_at(owner, "/metadata/namespace"));
    let reference = owner_reference(owner_kind, "apps/v1", owner);
    set(&mut pod, &["metadata", "ownerReferences"], reference);
    pod
}

pub(crate) fn is_deleting(object: &Value) -> bool {
    !str_at(object, "/metadata/deletionTimestamp").is_empty()
}

pub(crate) fn is_ready(pod: &Value) -> bool {
    list_at(pod, "/status/conditions").iter().any(|c| str_at(c, "/type") == "Ready" && str_at(c, "/status") == "True")
}

/// Sets a condition, keeping its transition time while its status stays.
pub(crate) fn set_condition(conditions: &mut Vec<Value>, mut condition: Value, now: &str) {
    let name = str_at(&condition, "/type").to_owned();
    let found = conditions.iter().position(|have| str_at(have, "/type") == name);
    let before = found.and_then(|at| conditions.get(at));
    let kept = before
        .filter(|have| str_at(have, "/status") == str_at(&condition, "/status"))
        .map(|have| str_at(have, "/lastTransitionTime").to_owned());
    set(&mut condition, &["lastTransitionTime"], kept.unwrap_or_else(|| now.to_owned()));
    match found.and_then(|at| conditions.get_mut(at)) {
        Some(have) => *have = condition,
        None => conditions.push(condition),
    }
}
