//! One store of events, two APIs: core/v1 and events.k8s.io/v1.
//!
//! Stored as core/v1, as in etcd (`pkg/apis/events/v1/conversion.go`).
//! What it may not know: who reads or writes.
//! Invariant: what is written through one API is read through the other, under the same name.

use serde_json::Value;

use super::kinds::Kind;
use crate::json::set;

/// Field names: in core/v1, in events.k8s.io/v1.
const RENAMED: [(&str, &str); 7] = [
    ("message", "note"),
    ("involvedObject", "regarding"),
    ("reportingComponent", "reportingController"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
];

/// The stored object as this API shows it.
pub(crate) fn shown(kind: &Kind, mut object: Value) -> Value {
    if is_new_api(kind) {
        rename(&mut object, |(core, new)| (core, new));
        retype(kind, &mut object);
    } else if kind.plural == "events" {
        retype(kind, &mut object);
    }
    object
}

/// An object of this API as it is stored.
pub(crate) fn stored(kind: &Kind, mut object: Value) -> Value {
    if is_new_api(kind) {
        rename(&mut object, |(core, new)| (new, core));
    }
    object
}

fn is_new_api(kind: &Kind) -> bool {
    kind.group == "events.k8s.io"
}

fn rename(object: &mut Value, from_to: fn((&'static str, &'static str)) -> (&'static str, &'static str)) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    for (from, to) in RENAMED.map(from_to) {
        if let Some(field) = map.remove(from) {
            map.insert(to.to_owned(), field);
        }
    }
}

fn retype(kind: &Kind, object: &mut Value) {
    set(object, &["apiVersion"], kind.api_version());
    set(object, &["kind"], kind.kind.as_str());
}
