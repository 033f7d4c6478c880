//! Create, update, patch and delete: from a request to the stored object.
//!
//! The order of `k8s.io/apiserver`: version and uid, scope of the subresource, defaults, validation,
//! admission, generation, field managers, no-op check, store.
//! What it may not know: HTTP, faults, access rules.
//! Invariant: whatever is refused leaves the store untouched, and so does a dry run or a no-op.

use std::sync::Arc;

use serde_json::{Value, json};

use super::apply::{self, Manager};
use super::kinds::Kind;
use super::route::Target;
use super::state::State;
use super::status::{FieldError, StatusError};
use super::store::{Key, Obj};
use super::{admission, crd, normal, resize, strategic, validate};
use crate::json::{At as _, carry, int_at, list_at, set, str_at};

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

/// How an update arrives, which decides what a wrong uid answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    Put,
    Patch,
    Apply,
}

impl State {
    /// POST.
    pub(crate) fn create(
        &mut self,
        target: &Target,
        body: Value,
        writer: &Writer,
    ) -> Result<Written, StatusError> {
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

    fn prepare_create(
        &mut self,
        target: &Target,
        object: &mut Value,
        writer: &Writer,
    ) -> Result<(), StatusError> {
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
        set(
            object,
            &["metadata", "creationTimestamp"],
            writer.now.as_str(),
        );
        let uid = self.store.next_uid();
        set(object, &["metadata", "uid"], uid);
        if kind.generation {
            set(object, &["metadata", "generation"], 1);
        }
        crate::json::remove(object, &["metadata", "managedFields"]);
        validate::decode(kind, object)?;
        if kind.is("", "pods") {
            admission::apply_limit_ranges(&self.store, object);
        }
        normal::normalise(kind, object);
        crd::default_and_prune(kind, object);
        validate::validate(kind, None, object)?;
        crd::validate(kind, None, object)?;
        if kind.is("", "pods") {
            admission::check_limit_ranges(&self.store, kind, object)?;
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
        if target
            .name
            .as_deref()
            .is_some_and(|name| name != str_at(object, "/metadata/name"))
        {
            return Err(name_mismatch(object, target));
        }
        Ok(())
    }

    fn store_new(&mut self, kind: &Arc<Kind>, object: Value, writer: &Writer) -> Written {
        let answer = if writer.dry_run {
            Arc::new(object)
        } else {
            self.store.put(kind, object)
        };
        self.after_write(kind, &answer);
        Written {
            code: 201,
            answer,
            before: None,
            changed: !writer.dry_run,
        }
    }

    /// PUT.
    pub(crate) fn update(
        &mut self,
        target: &Target,
        body: Value,
        writer: &Writer,
    ) -> Result<Written, StatusError> {
        let kind = &*target.kind;
        check_type(kind, &body)?;
        let Some(old) = self.lookup(target) else {
            if kind.plural == "leases" && target.subresource.is_none() {
                return self.create(target, body, writer);
            }
            return Err(StatusError::not_found(kind, target.name()));
        };
        if str_at(&body, "/metadata/resourceVersion").is_empty() && !kind.unconditional_update() {
            let error = FieldError::invalid(
                "metadata.resourceVersion",
                &json!(0),
                "must be specified for an update",
            );
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
        let old = self
            .lookup(target)
            .ok_or_else(|| StatusError::not_found(&target.kind, target.name()))?;
        let new = patched(&target.kind, &old, media, body)?;
        self.replace(target, &old, new, How::Patch, writer)
    }

    fn server_side_apply(
        &mut self,
        target: &Target,
        body: &Value,
        writer: &Writer,
    ) -> Result<Written, StatusError> {
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
            admission::apply_limit_ranges(&self.store, &mut new);
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

    fn judge_update(
        &self,
        target: &Target,
        kind: &Kind,
        old: &Obj,
        new: &Value,
    ) -> Result<(), StatusError> {
        match target.subresource() {
            "resize" => {
                resize::validate_resize(kind, old, new)?;
                admission::check_limit_ranges(&self.store, kind, new)?;
                admission::check_quotas(&self.store, kind, Some(old), new)?;
                if int_at(old, "/metadata/generation", 0) == int_at(new, "/metadata/generation", 0)
                {
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

    fn store_changed(
        &mut self,
        kind: &Arc<Kind>,
        old: &Obj,
        mut new: Value,
        writer: &Writer,
    ) -> Written {
        carry(old, &mut new, &["metadata", "resourceVersion"]);
        let before = Some(Arc::clone(old));
        let unchanged = new == **old;
        if unchanged || writer.dry_run {
            return Written {
                code: 200,
                answer: Arc::new(new),
                before,
                changed: false,
            };
        }
        let done = !str_at(&new, "/metadata/deletionTimestamp").is_empty()
            && list_at(&new, "/metadata/finalizers").is_empty()
            && !kind.is("", "pods");
        let answer = self.store.put(kind, new);
        if done {
            self.store.remove(kind, &Key::of(&answer));
        }
        self.after_write(kind, &answer);
        Written {
            code: 200,
            answer,
            before,
            changed: true,
        }
    }

    pub(crate) fn lookup(&self, target: &Target) -> Option<Obj> {
        let key = Key::new(target.namespace(), target.name());
        self.store.get(&target.kind, &key)
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

fn manager(
    kind: &Kind,
    writer: &Writer,
    operation: &'static str,
    subresource: &str,
) -> Option<Manager> {
    Some(Manager {
        name: writer.manager.clone().filter(|name| !name.is_empty())?,
        operation,
        subresource: subresource.to_owned(),
        api_version: kind.api_version(),
    })
}

fn check_type(kind: &Kind, object: &Value) -> Result<(), StatusError> {
    if !object.is_object() {
        return Err(StatusError::bad_request(
            "the object provided is unrecognized (must be of type object)",
        ));
    }
    let (version, name) = (str_at(object, "/apiVersion"), str_at(object, "/kind"));
    if version == kind.api_version() && name == kind.kind {
        return Ok(());
    }
    Err(StatusError::bad_request(format!(
        "the API version in the data ({version}, Kind={name}) does not match the expected API \
         version ({})",
        kind.api_version()
    )))
}

fn name_mismatch(object: &Value, target: &Target) -> StatusError {
    StatusError::bad_request(format!(
        "the name of the object ({}) does not match the name on the URL ({})",
        str_at(object, "/metadata/name"),
        target.name()
    ))
}

/// Computes the patched object.
fn patched(kind: &Kind, old: &Value, media: &str, body: &Value) -> Result<Value, StatusError> {
    let mut new = old.clone();
    match media {
        "application/merge-patch+json" => json_patch::merge(&mut new, body),
        "application/strategic-merge-patch+json" if !kind.custom => {
            strategic::merge(&mut new, body);
        }
        "application/json-patch+json" => {
            let patch: json_patch::Patch = serde_json::from_value(body.clone())
                .map_err(|e| StatusError::bad_request(format!("error decoding patch: {e}")))?;
            json_patch::patch(&mut new, &patch).map_err(|_| {
                let message = "the server rejected our request due to an error in our request";
                StatusError::new(422, "Invalid", message)
            })?;
        }
        _ => {
            let mut accepted = vec![
                "application/json-patch+json",
                "application/merge-patch+json",
            ];
            if !kind.custom {
                accepted.push("application/strategic-merge-patch+json");
            }
            accepted.push("application/apply-patch+yaml");
            return Err(StatusError::unsupported_media(&accepted.join(", ")));
        }
    }
    Ok(new)
}

/// The part of an applied configuration that its subresource takes.
fn appliable(kind: &Kind, target: &Target, body: &Value) -> Result<Value, StatusError> {
    check_type(kind, body)?;
    if body
        .at("/metadata/managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(StatusError::bad_request(
            "metadata.managedFields must be nil",
        ));
    }
    let mut config = body.clone();
    set(&mut config, &["metadata", "name"], target.name());
    match target.subresource() {
        "status" => {
            if let Some(map) = config.as_object_mut() {
                map.retain(|key, _| {
                    ["apiVersion", "kind", "metadata", "status"].contains(&key.as_str())
                });
            }
        }
        _ if kind.status => drop(crate::json::remove(&mut config, &["status"])),
        _ => {}
    }
    normal::normalise_config(kind, &mut config);
    Ok(config)
}

/// Refuses another name, a stale version and (for PUT) another uid.
fn check_identity(target: &Target, old: &Value, new: &Value, how: How) -> Result<(), StatusError> {
    let kind = &target.kind;
    let version = |object| str_at(object, "/metadata/resourceVersion");
    if str_at(new, "/metadata/name") != target.name() {
        return Err(name_mismatch(new, target));
    }
    if !version(new).is_empty() && version(new) != version(old) {
        return Err(StatusError::stale(kind, target.name()));
    }
    let (uid, given) = (str_at(old, "/metadata/uid"), str_at(new, "/metadata/uid"));
    if how == How::Put && !given.is_empty() && given != uid {
        let why =
            format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(StatusError::conflict(kind, target.name(), &why));
    }
    Ok(())
}

/// Keeps from `new` only what may change through this subresource.
fn scoped(kind: &Kind, subresource: &str, old: &Value, mut new: Value, how: How) -> Value {
    let mut out = match subresource {
        "status" => {
            let mut out = old.clone();
            carry(&new, &mut out, &["status"]);
            out
        }
        "resize" => resize::keep_only_resources(old, &new),
        _ => {
            if kind.status {
                carry(old, &mut new, &["status"]);
            }
            new.clone()
        }
    };
    for field in [
        "namespace",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        carry(old, &mut out, &["metadata", field]);
    }
    if how == How::Apply {
        carry(&new, &mut out, &["metadata", "managedFields"]);
    }
    if str_at(&out, "/metadata/uid").is_empty() {
        carry(old, &mut out, &["metadata", "uid"]);
    }
    set(&mut out, &["apiVersion"], kind.api_version());
    set(&mut out, &["kind"], kind.kind.as_str());
    out
}

/// Bumps `metadata.generation` where the real server does.
fn raise_generation(kind: &Kind, old: &Value, new: &mut Value) {
    if !kind.generation {
        return;
    }
    let differs = if kind.custom {
        let rest = |object: &Value| {
            let mut rest = object.clone();
            for field in ["metadata", "status", "apiVersion", "kind"] {
                crate::json::remove(&mut rest, &[field]);
            }
            rest
        };
        rest(old) != rest(new)
    } else {
        let annotations = "/metadata/annotations";
        let noted = kind.is("apps", "deployments") && old.at(annotations) != new.at(annotations);
        noted || old.get("spec") != new.get("spec")
    };
    if differs {
        let generation = int_at(old, "/metadata/generation", 0) + 1;
        set(new, &["metadata", "generation"], generation);
    }
}
