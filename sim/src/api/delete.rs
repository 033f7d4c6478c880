//! Deletion: at once, after finalizers, or after the kubelet's grace.
//!
//! What it may not know: HTTP. Garbage collection of dependents is a controller of the simulated
//! cluster, as it is one of the real control plane.
//! Invariant: an object with finalizers stays until the last one is taken away.

use std::sync::Arc;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::route::Target;
use super::state::State;
use super::status::StatusError;
use super::store::{Key, Obj};
use super::write::{Writer, Written};
use crate::json::{list_at, set, str_at};

impl State {
    /// DELETE of one object; `body` holds the `DeleteOptions`.
    pub(crate) fn delete(&mut self, target: &Target, body: &Value, writer: &Writer) -> Result<Written, StatusError> {
        let kind = Arc::clone(&target.kind);
        let old = self.lookup(target).ok_or_else(|| StatusError::not_found(&kind, target.name()))?;
        check_preconditions(&kind, target.name(), &old, body)?;
        let dry_run = writer.dry_run || !list_at(body, "/dryRun").is_empty();
        let changed = !dry_run && self.delete_object(&kind, &old, body, &writer.now);
        let gone = self.lookup(target).is_none() || dry_run;
        let answer = if gone && !kind.is("", "pods") {
            Arc::new(success(&kind, &old))
        } else {
            self.lookup(target).unwrap_or_else(|| Arc::clone(&old))
        };
        Ok(Written { code: 200, answer, before: Some(old), changed })
    }

    /// DELETE of a collection.
    pub(crate) fn delete_collection(
        &mut self,
        kind: &Arc<Kind>,
        objects: &[Obj],
        body: &Value,
        writer: &Writer,
    ) -> bool {
        let mut changed = false;
        if !writer.dry_run {
            for object in objects {
                changed |= self.delete_object(kind, object, body, &writer.now);
            }
        }
        changed
    }

    /// Deletes or marks; says whether anything changed.
    fn delete_object(&mut self, kind: &Arc<Kind>, old: &Obj, body: &Value, now: &str) -> bool {
        let key = Key::of(old);
        let grace = grace_seconds(self.kubelets, kind, old, body);
        let waits = grace > 0 || !list_at(old, "/metadata/finalizers").is_empty();
        let marked = !str_at(old, "/metadata/deletionTimestamp").is_empty();
        if waits && marked {
            return false;
        }
        if waits {
            let mut object = Value::clone(old);
            set(&mut object, &["metadata", "deletionTimestamp"], now);
            set(&mut object, &["metadata", "deletionGracePeriodSeconds"], grace);
            // As the API server does for every object that counts generations.
            let generation = crate::json::int_at(&object, "/metadata/generation", 0);
            if generation > 0 {
                set(&mut object, &["metadata", "generation"], generation + 1);
            }
            self.store.put(kind, object);
            return true;
        }
        if kind.is("", "namespaces") {
            self.empty_namespace(&key.name);
        }
        self.store.remove(kind, &key);
        self.after_write(kind, old);
        true
    }

    fn empty_namespace(&mut self, namespace: &str) {
        let kinds: Vec<Arc<Kind>> = self.registry.iter().filter(|k| k.namespaced).cloned().collect();
        for kind in kinds {
            let keys: Vec<Key> = self.store.list(&kind, Some(namespace)).map(|(key, _)| key.clone()).collect();
            for key in keys {
                self.store.remove(&kind, &key);
            }
        }
    }
}

/// Only pods that a kubelet runs are given time.
fn grace_seconds(kubelets: bool, kind: &Kind, pod: &Value, body: &Value) -> i64 {
    if !kubelets || !kind.is("", "pods") || str_at(pod, "/spec/nodeName").is_empty() {
        return 0;
    }
    let default = crate::json::int_at(pod, "/spec/terminationGracePeriodSeconds", 30);
    crate::json::int_at(body, "/gracePeriodSeconds", default)
}

fn check_preconditions(kind: &Kind, name: &str, old: &Value, body: &Value) -> Result<(), StatusError> {
    for (field, word) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
        let wanted = str_at(body, &format!("/preconditions/{field}"));
        let have = str_at(old, &format!("/metadata/{field}"));
        if !wanted.is_empty() && wanted != have {
            let why = format!("Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {have}");
            return Err(StatusError::conflict(kind, name, &why));
        }
    }
    Ok(())
}

fn success(kind: &Kind, old: &Value) -> Value {
    let mut details = json!({"name": str_at(old, "/metadata/name"), "kind": kind.plural,
        "uid": str_at(old, "/metadata/uid")});
    if !kind.group.is_empty() {
        set(&mut details, &["group"], kind.group.as_str());
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
        "details": details})
}
