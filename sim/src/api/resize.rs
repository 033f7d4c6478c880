//! The rules of `pods/resize` (`podResizeStrategy` and `ValidatePodResize` of Kubernetes 1.37).
//!
//! What it may not know: quotas, LimitRanges and nodes; those are admission.
//! Invariant: nothing but resources, of containers and of the pod itself, changes, in whatever form the change was sent.

use serde_json::Value;

use super::kinds::Kind;
use super::pods::{CONTAINER_LISTS, RESIZABLE, qos_class};
use super::status::{FieldError, StatusError};
use super::validate;
use crate::json::{At as _, list_at, list_at_mut, map_at, set, str_at};

/// The old pod with only the resources of the new one; other changes are dropped in silence.
pub(crate) fn keep_only_resources(old: &Value, new: &Value) -> Value {
    let mut out = old.clone();
    for list in CONTAINER_LISTS {
        let pointer = format!("/spec/{list}");
        let (before, after) = (list_at(old, &pointer), list_at(new, &pointer));
        let reordered = before.len() != after.len()
            || before.iter().zip(after).any(|(a, b)| str_at(a, "/name") != str_at(b, "/name"));
        if reordered {
            // Validation names what is wrong with it.
            set(&mut out, &["spec", list], after.to_vec());
            continue;
        }
        for (container, wanted) in list_at_mut(&mut out, &pointer).into_iter().flatten().zip(after) {
            for field in ["resources", "resizePolicy"] {
                crate::json::carry(wanted, container, &[field]);
            }
        }
    }
    // A client that does not know the pod's own resources leaves them out, and they stay.
    if new.at("/spec/resources").is_some() {
        crate::json::carry(new, &mut out, &["spec", "resources"]);
    }
    // Left for validation to compare: uid is immutable, a stale version is refused before.
    crate::json::carry(new, &mut out, &["metadata", "uid"]);
    out
}

/// Refuses what the real server refuses.
pub(crate) fn validate_resize(kind: &Kind, old: &Value, new: &Value) -> Result<(), StatusError> {
    let mut errors = Vec::new();
    uid(old, new, &mut errors);
    let spec = |pod: &Value| pod.get("spec").cloned().unwrap_or_default();
    validate::pod_spec(&spec(new), "spec", &mut errors);
    let class = str_at(old, "/status/qosClass");
    if class != qos_class(&spec(new)) {
        let value = Value::String(class.to_owned());
        let rule = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", &value, rule));
    }
    if !node_supports_resize(old) {
        let rule = "Pod running on node without support for resize";
        errors.push(FieldError::forbidden("spec", rule));
    }
    let ordering = ordering(old, new);
    if ordering.is_empty() {
        removals_and_others(old, new, &mut errors);
    } else {
        errors.extend(ordering);
    }
    if errors.is_empty() { Ok(()) } else { Err(StatusError::invalid(kind, str_at(old, "/metadata/name"), &errors)) }
}

pub(crate) fn uid(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let (before, after) = (str_at(old, "/metadata/uid"), str_at(new, "/metadata/uid"));
    if before != after {
        let value = Value::String(after.to_owned());
        errors.push(FieldError::invalid("metadata.uid", &value, "field is immutable"));
    }
}

/// A kubelet that can resize reports `resources` in its container statuses.
fn node_supports_resize(pod: &Value) -> bool {
    list_at(pod, "/status/containerStatuses")
        .iter()
        .find(|status| status.at("/state/running").is_some())
        .is_none_or(|status| status.get("resources").is_some())
}

fn ordering(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for list in CONTAINER_LISTS {
        let pointer = format!("/spec/{list}");
        let (before, after) = (list_at(old, &pointer), list_at(new, &pointer));
        if before.len() != after.len() {
            let rule = format!("{list} may not be added or removed on resize");
            errors.push(FieldError::forbidden(format!("spec.{list}"), &rule));
            continue;
        }
        for (index, (a, b)) in before.iter().zip(after).enumerate() {
            if str_at(a, "/name") != str_at(b, "/name") {
                let rule = format!("{list} may not be renamed or reordered on resize");
                let field = format!("spec.{list}[{index}].name");
                errors.push(FieldError::forbidden(field, &rule));
            }
        }
    }
    errors
}

fn removals_and_others(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    for list in CONTAINER_LISTS {
        let pointer = format!("/spec/{list}");
        let pairs = list_at(old, &pointer).iter().zip(list_at(new, &pointer));
        for (index, (before, after)) in pairs.enumerate() {
            let at = format!("spec.{list}[{index}]");
            removals(before, after, &at, errors);
            if without_resizable(before) == without_resizable(after) {
                continue;
            }
            errors.push(match list {
                "containers" => FieldError::forbidden("spec", "only cpu and memory resources are mutable"),
                _ => FieldError::forbidden(
                    at,
                    "only cpu and memory resources for init or sidecar containers are mutable",
                ),
            });
        }
    }
}

fn removals(before: &Value, after: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for which in ["requests", "limits"] {
        let pointer = format!("/resources/{which}");
        let have = map_at(before, &pointer).into_iter().flatten();
        let gone = |name: &String| map_at(after, &pointer).is_none_or(|m| !m.contains_key(name));
        if have.into_iter().any(|(name, _)| gone(name)) {
            let rule = format!("resource {which} cannot be removed");
            errors.push(FieldError::forbidden(format!("{at}.resources.{which}"), &rule));
        }
    }
}

fn without_resizable(container: &Value) -> Value {
    let mut out = container.clone();
    for which in ["requests", "limits"] {
        for name in RESIZABLE {
            crate::json::remove(&mut out, &["resources", which, name]);
        }
        if map_at(&out, &format!("/resources/{which}")).is_some_and(serde_json::Map::is_empty) {
            crate::json::remove(&mut out, &["resources", which]);
        }
    }
    out
}
