//! The LimitRanger plugin: defaults for pods, and what a LimitRange forbids.
//!
//! What it may not know: who writes, or in which form the change came.
//! Invariant: only creations and resizes of pods come here; refusals are the plugin's own words.

use serde_json::{Value, json};

use super::kinds::Kind;
use super::pods::{self, CONTAINER_LISTS};
use super::status::StatusError;
use super::store::Store;
use crate::json::{At as _, list_at, list_at_mut, map_at, set, set_default, str_at};
use crate::quantity::Quantity;

/// LimitRange defaults for a pod, on create and on resize.
pub(crate) fn apply(store: &Store, pod: &mut Value) {
    let namespace = str_at(pod, "/metadata/namespace").to_owned();
    let mut notes = Vec::new();
    let ranges = limits(store, &namespace, "Container");
    for (list, word) in CONTAINER_LISTS.into_iter().zip(["container", "init container"]) {
        for container in list_at_mut(pod, &format!("/spec/{list}")).into_iter().flatten() {
            let name = str_at(container, "/name").to_owned();
            for limit in &ranges {
                for (part, which, what) in [("defaultRequest", "requests", "request"), ("default", "limits", "limit")] {
                    let added = add_defaults(container, limit, part, which);
                    if !added.is_empty() {
                        notes.push(format!("{} {what} for {word} {name}", added.join(", ")));
                    }
                }
            }
        }
    }
    if !notes.is_empty() {
        let note = format!("LimitRanger plugin set: {}", notes.join("; "));
        set(pod, &["metadata", "annotations", "kubernetes.io/limit-ranger"], note);
    }
}

fn add_defaults(container: &mut Value, limit: &Value, part: &str, which: &str) -> Vec<String> {
    let mut added = Vec::new();
    for (name, value) in map_at(limit, &format!("/{part}")).into_iter().flatten() {
        let path = ["resources", which, name.as_str()];
        if container.at(&format!("/resources/{which}/{name}")).is_none() {
            set_default(container, &path, value.clone());
            added.push(name.clone());
        }
    }
    added
}

/// The items of one type of all LimitRanges in a namespace.
fn limits(store: &Store, namespace: &str, of: &str) -> Vec<Value> {
    store
        .list_named("limitranges", Some(namespace))
        .flat_map(|(_, range)| list_at(range, "/spec/limits").to_vec())
        .filter(|limit| str_at(limit, "/type") == of)
        .collect()
}

/// Refuses a pod outside a LimitRange.
pub(crate) fn check(store: &Store, kind: &Kind, pod: &Value) -> Result<(), StatusError> {
    let namespace = str_at(pod, "/metadata/namespace");
    let mut errors = Vec::new();
    for limit in limits(store, namespace, "Container") {
        for container in CONTAINER_LISTS.iter().flat_map(|list| list_at(pod, &format!("/spec/{list}"))) {
            Judged { whom: "Container", limit: &limit, has: &|which, name| pods::resource(container, which, name) }
                .check(&mut errors);
        }
    }
    let spec = pod.get("spec").cloned().unwrap_or_else(|| json!({}));
    for limit in limits(store, namespace, "Pod") {
        Judged { whom: "Pod", limit: &limit, has: &|which, name| pods::sum(&spec, which, name) }.check(&mut errors);
    }
    let name = str_at(pod, "/metadata/name");
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(StatusError::forbidden(kind, name, one)),
        many => Err(StatusError::forbidden(kind, name, &format!("[{}]", many.join(", ")))),
    }
}

/// A container or a pod, under one item of a LimitRange.
struct Judged<'a> {
    whom: &'static str,
    limit: &'a Value,
    /// What it has of `requests` or `limits`, by name of the resource.
    has: &'a dyn Fn(&str, &str) -> Option<Quantity>,
}

impl Judged<'_> {
    fn check(&self, errors: &mut Vec<String>) {
        let mut each = |part: &str, judge: &dyn Fn(&str, Quantity) -> Option<String>| {
            for (name, value) in map_at(self.limit, &format!("/{part}")).into_iter().flatten() {
                errors.extend(Quantity::from_json(value).and_then(|wanted| judge(name, wanted)));
            }
        };
        each("min", &|name, wanted| self.below(name, wanted));
        each("max", &|name, wanted| self.above(name, wanted));
        each("maxLimitRequestRatio", &|name, wanted| self.beyond_ratio(name, wanted));
    }

    fn below(&self, name: &str, wanted: Quantity) -> Option<String> {
        let rule = format!("minimum {name} usage per {} is {}", self.whom, wanted.canonical());
        let Some(request) = (self.has)("requests", name) else {
            return Some(format!("{rule}.  No request is specified"));
        };
        let too_low = |(have, word): (Quantity, &str)| {
            (have.nanos() < wanted.nanos()).then(|| format!("{rule}, but {word} is {}", have.canonical()))
        };
        too_low((request, "request")).or_else(|| too_low(((self.has)("limits", name)?, "limit")))
    }

    fn above(&self, name: &str, wanted: Quantity) -> Option<String> {
        let rule = format!("maximum {name} usage per {} is {}", self.whom, wanted.canonical());
        let Some(limit) = (self.has)("limits", name) else {
            return Some(format!("{rule}.  No limit is specified"));
        };
        let too_high = |(have, word): (Quantity, &str)| {
            (have.nanos() > wanted.nanos()).then(|| format!("{rule}, but {word} is {}", have.canonical()))
        };
        too_high((limit, "limit")).or_else(|| too_high(((self.has)("requests", name)?, "request")))
    }

    fn beyond_ratio(&self, name: &str, wanted: Quantity) -> Option<String> {
        let rule = format!("{name} max limit to request ratio per {} is {}", self.whom, wanted.canonical());
        let positive = |which| (self.has)(which, name).filter(|quantity| quantity.nanos() > 0);
        let Some(request) = positive("requests") else {
            return Some(format!("{rule}, but no request is specified or request is 0"));
        };
        let Some(limit) = positive("limits") else {
            return Some(format!("{rule}, but no limit is specified or limit is 0"));
        };
        let ratio = limit.as_f64() / request.as_f64();
        (ratio > wanted.as_f64()).then(|| format!("{rule}, but provided ratio is {ratio:.6}"))
    }
}
