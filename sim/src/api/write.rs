//! Create, update, patch and delete: from a request to the stored object.
//!
//! The order of `k8s.io/apiserver`: version and uid, scope of the subresource, defaults, validation,
//! admission, generation, field managers, no-op check, store.
//! What it may not know: HTTP, faults, access rules.
//! Invariant: whatever is refused leaves the store untouched, and so does a dry run or a no-op.

use std::sync::Arc;

use serde_json::{Value, json};

use super::apply::{self, Manager};
use super::change::{
    How, appliable, check_identity, check_type, manager, name_mismatch, patched, raise_generation, scoped,
};
use super::kinds::Kind;
use super::route::Target;
use super::state::State;
use super::status::{FieldError, StatusError};
use super::store::{Key, Obj};
use super::{admission, crd, events, limit_ranges, normal, resize, validate};
use crate::json::{carry, int_at, list_at, set, str_at};

/// Who writes, and how.
#[derive(Clone, Debug)]
pub(crate) struct Writer {
    /// Field manager; `None` for the simulated cluster itself, which leaves no trace.
    pub(crate) manager: Option<String>,
    pub(crate) dry_run: bool,
    pub(crate) force: bool,
    /// Now, as `metav1.Time`.
    pub(crate) now: String,
}

/// A successful write.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) code: u16,
    pub(crate) answer: Obj,
    pub(crate) before: Option<Obj>,
    pub(crate) changed: bool,
}

impl State {
    /// POST.
    pub(crate) fn create(&mut self, target: &Target, body: Value, writer: &Writer) -> Result<Written, StatusError> {
        let kind = Arc::clone(&target.kind);
        let mut object = body;
        self.prepare_create(target, &mut object, writer)?;
        let mut traced = object.clone();
        if let Some(manager) = manager(&kind, writer, "Update", "") {
            let nothing = json!({});
            apply::record_update(&kind, &nothing, &mut traced, &manager, &writer.now);
        }
        Ok(self.store_new(&kind, traced, writer))
    }

    fn prepare_create(&mut self, target: &Target, object: &mut Value, writer: &Writer) -> Result<(), StatusError> {
        let kind = &*target.kind;
        check_type(kind, object)?;
        self.name_new(target, object)?;
        if !str_at(object, "/metadata/resourceVersion").is_empty() {
            let message = "resourceVersion should not be set on objects to be created";
            return Err(StatusError::new(500, "InternalError", message));
        }
        let key = Key::of(object);
        if self.store.get(kind, &key).is_some() {
            return Err(StatusError::already_exists(kind, &key.name));
        }
        if kind.status && !kind.is("", "nodes") {
            crate::json::remove(object, &["status"]);
        }
        set(object, &["metadata", "creationTimestamp"], writer.now.as_str());
        let uid = self.store.next_uid();
        set(object, &["metadata", "uid"], uid);
        if kind.generation {
            set(object, &["metadata", "generation"], 1);
        }
        crate::json::remove(object, &["metadata", "managedFields"]);
        validate::decode(kind, object)?;
        if kind.is("", "pods") {
            limit_ranges::apply(&self.store, object);
        }
        normal::normalise(kind, object);
        crd::default_and_prune(kind, object);
        validate::validate(kind, None, object)?;
        crd::validate(kind, None, object)?;
        if kind.is("", "pods") {
            limit_ranges::check(&self.store, kind, object)?;
            admission::check_quotas(&self.store, kind, None, object)?;
        }
        Ok(())
    }

    /// Sets namespace and name of a new object, and checks them against the path.
    fn name_new(&mut self, target: &Target, object: &mut Value) -> Result<(), StatusError> {
        if target.kind.namespaced {
            let namespace = target.namespace();
            let given = str_at(object, "/metadata/namespace");
            if !given.is_empty() && given != namespace {
                return Err(StatusError::bad_request(
                    "the namespace of the provided object does not match the namespace sent on \
                     the request",
                ));
            }
            let namespaces = self.store.list_named("namespaces", None);
            if !namespaces.into_iter().any(|(key, _)| key.name == namespace) {
                let kind = self.registry.find("", "v1", "namespaces");
                let missing = kind.map(|kind| StatusError::not_found(&kind, namespace));
                return Err(missing.unwrap_or_else(StatusError::no_such_path));
            }
            set(object, &["metadata", "namespace"], namespace);
        }
        if str_at(object, "/metadata/name").is_empty() {
            let prefix = str_at(object, "/metadata/generateName").to_owned();
            if !prefix.is_empty() {
                let name = format!("{prefix}{}", self.next_suffix(&prefix));
                set(object, &["metadata", "name"], name);
            }
        }
        if target.name.as_deref().is_some_and(|name| name != str_at(object, "/metadata/name")) {
            return Err(name_mismatch(object, target));
        }
        Ok(())
    }

    fn store_new(&mut self, kind: &Arc<Kind>, object: Value, writer: &Writer) -> Written {
        let answer = if writer.dry_run {
            Arc::new(object)
        } else {
            let stored = self.store.put(kind, events::stored(kind, object));
            Arc::new(events::shown(kind, Value::clone(&stored)))
        };
        self.after_write(kind, &answer);
        Written { code: 201, answer, before: None, changed: !writer.dry_run }
    }

    /// PUT.
    pub(crate) fn update(&mut self, target: &Target, body: Value, writer: &Writer) -> Result<Written, StatusError> {
        let kind = &*target.kind;
        check_type(kind, &body)?;
        let Some(old) = self.lookup(target) else {
            if kind.plural == "leases" && target.subresource.is_none() {
                return self.create(target, body, writer);
            }
            return Err(StatusError::not_found(kind, target.name()));
        };
        if str_at(&body, "/metadata/resourceVersion").is_empty() && !kind.unconditional_update() {
            let error = FieldError::invalid("metadata.resourceVersion", &json!(0), "must be specified for an update");
            return Err(StatusError::invalid(kind, target.name(), &[error]));
        }
        self.replace(target, &old, body, How::Put, writer)
    }

    /// PATCH of any type.
    pub(crate) fn patch(
        &mut self,
        target: &Target,
        content_type: &str,
        body: &Value,
        writer: &Writer,
    ) -> Result<Written, StatusError> {
        let media = content_type.split(';').next().unwrap_or_default().trim();
        if media == "application/apply-patch+yaml" {
            return self.server_side_apply(target, body, writer);
        }
        let old = self.lookup(target).ok_or_else(|| StatusError::not_found(&target.kind, target.name()))?;
        let new = patched(&target.kind, &old, media, body)?;
        self.replace(target, &old, new, How::Patch, writer)
    }

    fn server_side_apply(&mut self, target: &Target, body: &Value, writer: &Writer) -> Result<Written, StatusError> {
        let kind = Arc::clone(&target.kind);
        let manager = manager(&kind, writer, "Apply", target.subresource())
            .ok_or_else(|| StatusError::bad_request("fieldManager is required for apply patch"))?;
        let config = appliable(&kind, target, body)?;
        let Some(old) = self.lookup(target) else {
            return self.apply_new(target, &kind, &config, &manager, writer);
        };
        let new = apply::apply(&kind, &old, &config, &manager, writer.force, &writer.now)?;
        self.replace(target, &old, new, How::Apply, writer)
    }

    fn apply_new(
        &mut self,
        target: &Target,
        kind: &Arc<Kind>,
        config: &Value,
        manager: &Manager,
        writer: &Writer,
    ) -> Result<Written, StatusError> {
        if target.subresource.is_some() {
            return Err(StatusError::not_found(kind, target.name()));
        }
        let uid = str_at(config, "/metadata/uid");
        if !uid.is_empty() {
            let why = format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was \
                 found"
            );
            return Err(StatusError::conflict(kind, target.name(), &why));
        }
        let applied = apply::apply(kind, &json!({}), config, manager, true, &writer.now)?;
        let mut object = config.clone();
        self.prepare_create(target, &mut object, writer)?;
        carry(&applied, &mut object, &["metadata", "managedFields"]);
        Ok(self.store_new(kind, object, writer))
    }

    /// Stores the new state of an existing object.
    fn replace(
        &mut self,
        target: &Target,
        old: &Obj,
        new: Value,
        how: How,
        writer: &Writer,
    ) -> Result<Written, StatusError> {
        let kind = Arc::clone(&target.kind);
        check_identity(target, old, &new, how)?;
        let mut new = scoped(&kind, target.subresource(), old, new, how);
        validate::decode(&kind, &new)?;
        if target.subresource() == "resize" {
            limit_ranges::apply(&self.store, &mut new);
            // Annotations cannot change through resize, not even the plugin's own.
            carry(old, &mut new, &["metadata", "annotations"]);
        }
        normal::normalise(&kind, &mut new);
        crd::default_and_prune(&kind, &mut new);
        raise_generation(&kind, old, &mut new);
        self.judge_update(target, &kind, old, &new)?;
        if how != How::Apply {
            carry(old, &mut new, &["metadata", "managedFields"]);
            if let Some(manager) = manager(&kind, writer, "Update", target.subresource()) {
                apply::record_update(&kind, old, &mut new, &manager, &writer.now);
            }
        }
        Ok(self.store_changed(&kind, old, new, writer))
    }

    fn judge_update(&self, target: &Target, kind: &Kind, old: &Obj, new: &Value) -> Result<(), StatusError> {
        match target.subresource() {
            "resize" => {
                resize::validate_resize(kind, old, new)?;
                limit_ranges::check(&self.store, kind, new)?;
                admission::check_quotas(&self.store, kind, Some(old), new)?;
                if int_at(old, "/metadata/generation", 0) == int_at(new, "/metadata/generation", 0) {
                    return Ok(());
                }
                admission::check_node(&self.store, kind, new)
            }
            "status" => crd::validate(kind, Some(old), new),
            _ => {
                let mut errors = Vec::new();
                resize::uid(old, new, &mut errors);
                if !errors.is_empty() {
                    return Err(StatusError::invalid(kind, target.name(), &errors));
                }
                validate::validate(kind, Some(old), new)?;
                crd::validate(kind, Some(old), new)
            }
        }
    }

    fn store_changed(&mut self, kind: &Arc<Kind>, old: &Obj, mut new: Value, writer: &Writer) -> Written {
        carry(old, &mut new, &["metadata", "resourceVersion"]);
        let before = Some(Arc::clone(old));
        let unchanged = new == **old;
        if unchanged || writer.dry_run {
            return Written { code: 200, answer: Arc::new(new), before, changed: false };
        }
        let done = !str_at(&new, "/metadata/deletionTimestamp").is_empty()
            && list_at(&new, "/metadata/finalizers").is_empty()
            && !kind.is("", "pods");
        let stored = self.store.put(kind, events::stored(kind, new));
        let answer = Arc::new(events::shown(kind, Value::clone(&stored)));
        if done {
            self.store.remove(kind, &Key::of(&answer));
        }
        self.after_write(kind, &answer);
        Written { code: 200, answer, before, changed: true }
    }

    pub(crate) fn lookup(&self, target: &Target) -> Option<Obj> {
        let key = Key::new(target.namespace(), target.name());
        let object = self.store.get(&target.kind, &key)?;
        if target.kind.plural != "events" {
            return Some(object);
        }
        let shown = events::shown(&target.kind, Value::clone(&object));
        Some(Arc::new(shown))
    }

    /// What the controllers inside a real control plane would do at once: quota usage.
    pub(crate) fn after_write(&mut self, kind: &Kind, object: &Value) {
        if !kind.is("", "pods") && !kind.is("", "resourcequotas") {
            return;
        }
        let Some(quotas) = self.registry.find("", "v1", "resourcequotas") else {
            return;
        };
        let namespace = str_at(object, "/metadata/namespace");
        let stale: Vec<Value> = self
            .store
            .list(&quotas, Some(namespace))
            .filter_map(|(_, quota)| {
                let status = admission::quota_status(&self.store, quota)?;
                let mut quota = Value::clone(quota);
                set(&mut quota, &["status"], status);
                Some(quota)
            })
            .collect();
        for quota in stale {
            self.store.put(&quotas, quota);
        }
    }
}
