//! The admission plugins that judge pods: ResourceQuota and PodResize (`limit_ranges` is LimitRanger).
//!
//! What it may not know: who writes, or in which form the change came.
//! Invariant: refusals are 403 `Forbidden` with the plugins' own wording; nothing is stored here.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::kinds::Kind;
use super::pods::{self, RESIZABLE};
use super::status::StatusError;
use super::store::Store;
use crate::json::{At as _, list_at, map_at, set, str_at};
use crate::quantity::Quantity;

/// What a pod counts for in quotas, by resource name. What a resize gives back counts until the kubelet has taken it.
fn quota_usage(pod: &Value) -> BTreeMap<String, Quantity> {
    let spec = &pods::spec_in_force(pod);
    let mut usage =
        BTreeMap::from([("pods".to_owned(), Quantity::whole(1)), ("count/pods".to_owned(), Quantity::whole(1))]);
    for name in RESIZABLE {
        let request = pods::total(spec, "requests", name);
        usage.insert(name.to_owned(), request);
        usage.insert(format!("requests.{name}"), request);
        usage.insert(format!("limits.{name}"), pods::total(spec, "limits", name));
    }
    usage
}

/// What all living pods of the namespace count for.
fn namespace_usage(store: &Store, namespace: &str) -> BTreeMap<String, Quantity> {
    let mut total: BTreeMap<String, Quantity> = BTreeMap::new();
    let living = store.list_named("pods", Some(namespace)).filter(|(_, pod)| !pods::is_terminal(pod));
    for (_, pod) in living {
        for (name, quantity) in quota_usage(pod) {
            let sum = total.get(&name).map_or(quantity, |have| have.plus(quantity));
            total.insert(name, sum);
        }
    }
    total
}

/// Refuses what would exceed a quota; `old` is there for a resize.
pub(crate) fn check_quotas(store: &Store, kind: &Kind, old: Option<&Value>, pod: &Value) -> Result<(), StatusError> {
    let namespace = str_at(pod, "/metadata/namespace");
    let refuse = |why: &str| StatusError::forbidden(kind, str_at(pod, "/metadata/name"), why);
    for (key, quota) in store.list_named("resourcequotas", Some(namespace)) {
        let hard = map_at(quota, "/spec/hard").cloned().unwrap_or_default();
        if let Some(missing) = unset_resources(&hard, pod) {
            return Err(refuse(&format!("failed quota: {}: must specify {missing}", key.name)));
        }
        let used = namespace_usage(store, namespace);
        let before = old.map(quota_usage).unwrap_or_default();
        if let Some(exceeded) = exceeded(&hard, &used, &before, &quota_usage(pod)) {
            return Err(refuse(&format!("exceeded quota: {}, {exceeded}", key.name)));
        }
    }
    Ok(())
}

/// `requests.cpu for: app; …`: the containers that a quota forces to name a resource.
fn unset_resources(hard: &serde_json::Map<String, Value>, pod: &Value) -> Option<String> {
    let mut missing: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for name in hard.keys() {
        let (which, resource) = match name.split_once('.') {
            Some((which, resource)) if ["requests", "limits"].contains(&which) => (which, resource),
            _ if RESIZABLE.contains(&name.as_str()) => ("requests", name.as_str()),
            _ => continue,
        };
        for container in list_at(pod, "/spec/containers") {
            if pods::resource(container, which, resource).is_none() {
                let names = missing.entry(name.clone()).or_default();
                names.push(str_at(container, "/name").to_owned());
            }
        }
    }
    let parts: Vec<String> =
        missing.into_iter().map(|(resource, names)| format!("{resource} for: {}", names.join(","))).collect();
    (!parts.is_empty()).then(|| parts.join("; "))
}

fn exceeded(
    hard: &serde_json::Map<String, Value>,
    used: &BTreeMap<String, Quantity>,
    before: &BTreeMap<String, Quantity>,
    after: &BTreeMap<String, Quantity>,
) -> Option<String> {
    let zero = Quantity::whole(0);
    let (mut requested, mut using, mut limited) = (Vec::new(), Vec::new(), Vec::new());
    for (name, limit) in hard {
        let (Some(limit), Some(after)) = (Quantity::from_json(limit), after.get(name)) else {
            continue;
        };
        let used = used.get(name).copied().unwrap_or(zero);
        let more = after.minus(before.get(name).copied().unwrap_or(zero));
        if more.nanos() > 0 && used.plus(more).nanos() > limit.nanos() {
            requested.push(format!("{name}={}", more.canonical()));
            using.push(format!("{name}={}", used.canonical()));
            limited.push(format!("{name}={}", limit.canonical()));
        }
    }
    (!requested.is_empty()).then(|| {
        format!("requested: {}, used: {}, limited: {}", requested.join(","), using.join(","), limited.join(","))
    })
}

/// The status that the quota controller would write, where it differs from what is stored.
pub(crate) fn quota_status(store: &Store, quota: &Value) -> Option<Value> {
    let hard = quota.at("/spec/hard").cloned().unwrap_or_else(|| json!({}));
    let usage = namespace_usage(store, str_at(quota, "/metadata/namespace"));
    let used: serde_json::Map<String, Value> = hard
        .as_object()
        .into_iter()
        .flat_map(|map| map.keys())
        .map(|name| {
            let used = usage.get(name).copied().unwrap_or(Quantity::whole(0));
            (name.clone(), Value::String(used.canonical()))
        })
        .collect();
    let status = json!({"hard": hard, "used": used});
    (quota.get("status") != Some(&status)).then_some(status)
}

/// Refuses a resize beyond what the pod's node could ever give.
pub(crate) fn check_node(store: &Store, kind: &Kind, pod: &Value) -> Result<(), StatusError> {
    let node_name = str_at(pod, "/spec/nodeName");
    if node_name.is_empty() {
        return Ok(());
    }
    let name = str_at(pod, "/metadata/name");
    let mut nodes = store.list_named("nodes", None);
    let Some((_, node)) = nodes.find(|(key, _)| key.name == node_name) else {
        let why = format!("node \"{node_name}\" not found");
        return Err(StatusError::forbidden(kind, name, &why));
    };
    match beyond_allocatable(pod, node) {
        None => Ok(()),
        Some(why) => {
            let mut error = StatusError::forbidden(kind, name, &why);
            set(&mut error.details, &["causes"], json!([{"reason": "NodeCapacity"}]));
            Err(error)
        }
    }
}

fn beyond_allocatable(pod: &Value, node: &Value) -> Option<String> {
    let spec = pod.get("spec").unwrap_or(&Value::Null);
    let zero = Quantity::whole(0);
    let allocatable =
        |name: &str| node.at(&format!("/status/allocatable/{name}")).and_then(Quantity::from_json).unwrap_or(zero);
    let mut parts = Vec::new();
    let (cpu, cpu_max) = (pods::total(spec, "requests", "cpu"), allocatable("cpu"));
    if cpu.nanos() > cpu_max.nanos() {
        let (a, b) = (cpu.millis(), cpu_max.millis());
        parts.push(format!("cpu, requested: {a}, allocatable: {b}"));
    }
    let (memory, memory_max) = (pods::total(spec, "requests", "memory"), allocatable("memory"));
    if memory.nanos() > memory_max.nanos() {
        let (a, b) = (memory.units(), memory_max.units());
        parts.push(format!("memory, requested: {a}, allocatable: {b}"));
    }
    (!parts.is_empty()).then(|| format!("node didn't have enough allocatable resources: {}", parts.join("; ")))
}
