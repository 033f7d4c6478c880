//! The steps of a write that need no store: compute the new object, and judge it against the old one.
//!
//! What it may not know: the store, admission, who is allowed.
//! Invariant: pure; what a subresource may not change is taken from the old object.

use serde_json::Value;

use super::apply::Manager;
use super::kinds::Kind;
use super::route::Target;
use super::status::StatusError;
use super::write::Writer;
use super::{normal, resize, strategic};
use crate::json::{At as _, carry, int_at, set, str_at};

/// How an update arrives, which decides what a wrong uid answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    Put,
    Patch,
    Apply,
}

pub(crate) fn manager(kind: &Kind, writer: &Writer, operation: &'static str, subresource: &str) -> Option<Manager> {
    Some(Manager {
        name: writer.manager.clone().filter(|name| !name.is_empty())?,
        operation,
        subresource: subresource.to_owned(),
        api_version: kind.api_version(),
    })
}

pub(crate) fn check_type(kind: &Kind, object: &Value) -> Result<(), StatusError> {
    if !object.is_object() {
        return Err(StatusError::bad_request("the object provided is unrecognized (must be of type object)"));
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

pub(crate) fn name_mismatch(object: &Value, target: &Target) -> StatusError {
    StatusError::bad_request(format!(
        "the name of the object ({}) does not match the name on the URL ({})",
        str_at(object, "/metadata/name"),
        target.name()
    ))
}

/// Computes the patched object.
pub(crate) fn patched(kind: &Kind, old: &Value, media: &str, body: &Value) -> Result<Value, StatusError> {
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
            let mut accepted = vec!["application/json-patch+json", "application/merge-patch+json"];
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
pub(crate) fn appliable(kind: &Kind, target: &Target, body: &Value) -> Result<Value, StatusError> {
    check_type(kind, body)?;
    if body.at("/metadata/managedFields").is_some_and(|fields| !fields.is_null()) {
        return Err(StatusError::bad_request("metadata.managedFields must be nil"));
    }
    let mut config = body.clone();
    set(&mut config, &["metadata", "name"], target.name());
    match target.subresource() {
        "status" => {
            if let Some(map) = config.as_object_mut() {
                map.retain(|key, _| ["apiVersion", "kind", "metadata", "status"].contains(&key.as_str()));
            }
        }
        _ if kind.status => drop(crate::json::remove(&mut config, &["status"])),
        _ => {}
    }
    normal::normalise_config(kind, &mut config);
    Ok(config)
}

/// Refuses another name, a stale version and (for PUT) another uid.
pub(crate) fn check_identity(target: &Target, old: &Value, new: &Value, how: How) -> Result<(), StatusError> {
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
        let why = format!("Precondition failed: UID in precondition: {given}, UID in object meta: {uid}");
        return Err(StatusError::conflict(kind, target.name(), &why));
    }
    Ok(())
}

/// Keeps from `new` only what may change through this subresource.
pub(crate) fn scoped(kind: &Kind, subresource: &str, old: &Value, mut new: Value, how: How) -> Value {
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
    for field in ["namespace", "creationTimestamp", "generation", "deletionTimestamp", "deletionGracePeriodSeconds"] {
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
pub(crate) fn raise_generation(kind: &Kind, old: &Value, new: &mut Value) {
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
