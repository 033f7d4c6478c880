//! Refusals of malformed objects: the part of the real server's validation that OptiPod can meet.
//!
//! What it may not know: the store. Quotas and LimitRanges are admission, not validation.
//! Invariant: messages are the real server's, so that a client's reading of them is tested too.

use std::collections::BTreeSet;

use serde_json::Value;

use super::kinds::Kind;
use super::normal::pod_spec_pointer;
use super::pods::{CONTAINER_LISTS, RESIZABLE};
use super::selector::Selector;
use super::status::{FieldError, StatusError};
use crate::json::{At as _, list_at, map_at, str_at};
use crate::quantity::Quantity;

/// Refuses what cannot even be decoded, such as a malformed quantity.
pub(crate) fn decode(kind: &Kind, object: &Value) -> Result<(), StatusError> {
    let spec = pod_spec_pointer(kind).and_then(|pointer| object.at(pointer));
    for container in spec.into_iter().flat_map(containers) {
        for which in ["requests", "limits"] {
            let list = map_at(container, &format!("/resources/{which}"));
            for (_, value) in list.into_iter().flatten() {
                if Quantity::from_json(value).is_none() {
                    return Err(undecodable(kind));
                }
            }
        }
    }
    Ok(())
}

fn undecodable(kind: &Kind) -> StatusError {
    StatusError::bad_request(format!(
        "{} in version \"{}\" cannot be handled as a {}: quantities must match the regular \
         expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        kind.kind, kind.version, kind.kind
    ))
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    CONTAINER_LISTS.iter().flat_map(move |list| list_at(spec, &format!("/{list}")))
}

/// Validates a new or changed object; `old` is there for a change.
pub(crate) fn validate(kind: &Kind, old: Option<&Value>, new: &Value) -> Result<(), StatusError> {
    let mut errors = Vec::new();
    name(kind, new, &mut errors);
    if let Some(pointer) = pod_spec_pointer(kind) {
        let field = pointer.trim_start_matches('/').replace('/', ".");
        let spec = new.at(pointer).unwrap_or(&Value::Null);
        pod_spec(spec, &field, &mut errors);
    }
    if kind.group == "apps" {
        workload(old, new, &mut errors);
    }
    if kind.plural == "events" {
        event(kind, old, new, &mut errors);
    }
    if let (true, Some(old)) = (kind.is("", "pods"), old) {
        pod_update(old, new, &mut errors);
    }
    if errors.is_empty() { Ok(()) } else { Err(StatusError::invalid(kind, str_at(new, "/metadata/name"), &errors)) }
}

const NAME_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
     characters, '-' or '.', and must start and end with an alphanumeric character (e.g. \
     'example.com', regex used for validation is \
     '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

fn name(kind: &Kind, object: &Value, errors: &mut Vec<FieldError>) {
    let name = str_at(object, "/metadata/name");
    if name.is_empty() {
        errors.push(FieldError::required("metadata.name", "name or generateName is required"));
        return;
    }
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_lowercase() || c.is_ascii_digit());
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-.".contains(c);
    let well_formed =
        edge(name.chars().next()) && edge(name.chars().next_back()) && name.chars().all(inside) && name.len() <= 253;
    if !well_formed && kind.plural != "events" {
        let value = Value::String(name.to_owned());
        errors.push(FieldError::invalid("metadata.name", &value, NAME_RULE));
    }
}

/// Validates the containers of a pod spec.
pub(crate) fn pod_spec(spec: &Value, field: &str, errors: &mut Vec<FieldError>) {
    if list_at(spec, "/containers").is_empty() {
        errors.push(FieldError::required(format!("{field}.containers"), ""));
    }
    let mut names = BTreeSet::new();
    for list in CONTAINER_LISTS {
        for (index, container) in list_at(spec, &format!("/{list}")).iter().enumerate() {
            let at = format!("{field}.{list}[{index}]");
            let name = str_at(container, "/name");
            if name.is_empty() {
                errors.push(FieldError::required(format!("{at}.name"), ""));
            } else if !names.insert(name) {
                let value = Value::String(name.to_owned());
                errors.push(FieldError::duplicate(format!("{at}.name"), &value));
            }
            if str_at(container, "/image").is_empty() {
                errors.push(FieldError::required(format!("{at}.image"), ""));
            }
            resources(container, &at, errors);
        }
    }
    own_resources(spec, field, errors);
}

/// Validates the resources of the pod itself, which its containers together may not exceed.
fn own_resources(spec: &Value, field: &str, errors: &mut Vec<FieldError>) {
    resources(spec, field, errors);
    for name in RESIZABLE {
        let own = super::pods::resource(spec, "requests", name);
        let together = super::pods::sum_of_containers(spec, "requests", name);
        if let (Some(own), Some(together)) = (own, together)
            && together.nanos() > own.nanos()
        {
            let rule =
                format!("must be greater than or equal to aggregate container requests of {}", together.canonical());
            let field = format!("{field}.resources.requests[{name}]");
            errors.push(FieldError::invalid(field, &Value::String(own.canonical()), &rule));
        }
    }
}

/// Validates requests against limits and zero.
fn resources(container: &Value, at: &str, errors: &mut Vec<FieldError>) {
    for which in ["limits", "requests"] {
        let list = map_at(container, &format!("/resources/{which}"));
        for (name, value) in list.into_iter().flatten() {
            let Some(quantity) = Quantity::from_json(value) else {
                continue;
            };
            let shown = Value::String(quantity.canonical());
            if quantity.nanos() < 0 {
                let field = format!("{at}.resources.{which}[{name}]");
                let rule = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(field, &shown, rule));
            }
            let limit = super::pods::resource(container, "limits", name);
            if let (Some(limit), "requests") = (limit, which)
                && quantity.nanos() > limit.nanos()
            {
                let rule = format!("must be less than or equal to {name} limit of {}", limit.canonical());
                let field = format!("{at}.resources.requests");
                errors.push(FieldError::invalid(field, &shown, &rule));
            }
        }
    }
}

fn workload(old: Option<&Value>, new: &Value, errors: &mut Vec<FieldError>) {
    let selector = new.at("/spec/selector");
    match selector {
        None | Some(Value::Null) => errors.push(FieldError::required("spec.selector", "")),
        Some(selector) => {
            let template = new.at("/spec/template").unwrap_or(&Value::Null);
            if !Selector::from_label_selector(selector).matches(template) {
                let labels = template.at("/metadata/labels").unwrap_or(&Value::Null);
                let rule = "`selector` does not match template `labels`";
                let field = "spec.template.metadata.labels";
                errors.push(FieldError::invalid(field, labels, rule));
            }
        }
    }
    if crate::json::int_at(new, "/spec/replicas", 0) < 0 {
        let value = new.at("/spec/replicas").unwrap_or(&Value::Null);
        let rule = "must be greater than or equal to 0";
        errors.push(FieldError::invalid("spec.replicas", value, rule));
    }
    if let (Some(old), Some(selector)) = (old, selector)
        && old.at("/spec/selector") != Some(selector)
    {
        errors.push(FieldError::invalid("spec.selector", selector, "field is immutable"));
    }
}

/// What may change in a pod's spec outside `resize`.
const POD_UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,\
     `spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),\
     `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

fn pod_update(old: &Value, new: &Value, errors: &mut Vec<FieldError>) {
    let munged = |pod: &Value| {
        let mut spec = pod.get("spec").cloned().unwrap_or_default();
        for list in CONTAINER_LISTS {
            for container in crate::json::list_at_mut(&mut spec, &format!("/{list}")).into_iter().flatten() {
                crate::json::remove(container, &["image"]);
            }
        }
        for field in ["activeDeadlineSeconds", "tolerations", "nodeName"] {
            crate::json::remove(&mut spec, &[field]);
        }
        spec
    };
    let rebound =
        !str_at(old, "/spec/nodeName").is_empty() && str_at(old, "/spec/nodeName") != str_at(new, "/spec/nodeName");
    if rebound || munged(old) != munged(new) {
        let rule = format!("pod updates may not change fields other than {POD_UPDATABLE}");
        errors.push(FieldError::forbidden("spec", &rule));
    }
}

/// Limits of events.k8s.io/v1 (`pkg/apis/core/validation/events.go`).
fn event(kind: &Kind, old: Option<&Value>, new: &Value, errors: &mut Vec<FieldError>) {
    if kind.group.is_empty() {
        return;
    }
    for (field, limit) in [("reason", 128), ("action", 128)] {
        let text = str_at(new, &format!("/{field}"));
        if text.is_empty() {
            errors.push(FieldError::required(field, ""));
        } else if text.len() > limit {
            let rule = format!("can have at most {limit} characters");
            errors.push(FieldError::invalid(field, &Value::String(text.to_owned()), &rule));
        }
    }
    let note = str_at(new, "/note");
    if note.len() > 1024 {
        let rule = "can have at most 1024 characters";
        errors.push(FieldError::invalid("note", &Value::String(note.to_owned()), rule));
    }
    let immutable = ["note", "reason", "action", "regarding", "type", "reportingController"];
    for field in immutable {
        if let Some(old) = old
            && old.get(field) != new.get(field)
        {
            let value = new.get(field).unwrap_or(&Value::Null);
            errors.push(FieldError::invalid(field, value, "field is immutable"));
        }
    }
}
