//! Strategic merge patch: a merge patch that knows which lists are keyed.
//!
//! Keys as the `patchMergeKey` tags of the built-in types give them.
//! What it may not know: which object it patches, or who sends it.
//! Invariant: a list without a known key is replaced as a whole, as the real server does.

use serde_json::{Map, Value};

/// Applies the patch to the object.
pub(crate) fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else {
        return;
    };
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        target.clear();
    }
    retain_keys(target, patch);
    for (key, value) in patch {
        if !key.starts_with('$') {
            merge_field(target, key, value);
        }
    }
    delete_from_primitive_lists(target, patch);
}

fn retain_keys(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(Value::Array(kept)) = patch.get("$retainKeys") {
        target.retain(|key, _| kept.iter().any(|k| k.as_str() == Some(key)));
    }
}

fn merge_field(target: &mut Map<String, Value>, key: &str, value: &Value) {
    match value {
        Value::Null => {
            target.remove(key);
        }
        Value::Array(items) => match list_key(key) {
            Some(merge_key) => merge_keyed_list(list(target, key), items, merge_key),
            None if PRIMITIVE_LISTS.contains(&key) => add_missing(list(target, key), items),
            None => drop(target.insert(key.to_owned(), value.clone())),
        },
        Value::Object(map) if is_delete(map) => {
            target.remove(key);
        }
        Value::Object(_) => merge(target.entry(key).or_insert(Value::Null), value),
        scalar => drop(target.insert(key.to_owned(), scalar.clone())),
    }
}

fn list<'a>(target: &'a mut Map<String, Value>, key: &str) -> &'a mut Vec<Value> {
    let slot = target.entry(key).or_insert(Value::Null);
    if !slot.is_array() {
        *slot = Value::Array(Vec::new());
    }
    match slot {
        Value::Array(items) => items,
        _ => unreachable!("made an array in the line above"),
    }
}

fn merge_keyed_list(target: &mut Vec<Value>, patch: &[Value], merge_key: &str) {
    if patch.iter().any(|item| directive(item) == Some("replace")) {
        target.clear();
    }
    for item in patch.iter().filter(|item| directive(item) != Some("replace")) {
        let key = item.get(merge_key);
        let found = target.iter().position(|have| have.get(merge_key) == key);
        match (found, directive(item) == Some("delete")) {
            (Some(at), true) => drop(target.remove(at)),
            (Some(at), false) => {
                if let Some(have) = target.get_mut(at) {
                    merge(have, item);
                }
            }
            (None, true) => {}
            (None, false) => {
                let mut fresh = Value::Object(Map::new());
                merge(&mut fresh, item);
                target.push(fresh);
            }
        }
    }
}

fn directive(item: &Value) -> Option<&str> {
    item.get("$patch").and_then(Value::as_str)
}

fn is_delete(map: &Map<String, Value>) -> bool {
    map.get("$patch").and_then(Value::as_str) == Some("delete")
}

fn add_missing(target: &mut Vec<Value>, items: &[Value]) {
    for item in items {
        if !target.contains(item) {
            target.push(item.clone());
        }
    }
}

fn delete_from_primitive_lists(target: &mut Map<String, Value>, patch: &Map<String, Value>) {
    for (key, value) in patch {
        let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") else {
            continue;
        };
        if let (Some(Value::Array(have)), Value::Array(gone)) = (target.get_mut(field), value) {
            have.retain(|item| !gone.contains(item));
        }
    }
}

const PRIMITIVE_LISTS: &[&str] = &["finalizers", "supplementalGroups"];

/// The merge key of a list field.
fn list_key(field: &str) -> Option<&'static str> {
    Some(match field {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "env"
        | "volumes"
        | "imagePullSecrets"
        | "resourceClaims"
        | "secrets" => "name",
        "ports" => "containerPort",
        "volumeMounts" => "mountPath",
        "volumeDevices" => "devicePath",
        "hostAliases" => "ip",
        "conditions" | "addresses" => "type",
        "ownerReferences" => "uid",
        "taints" => "key",
        "topologySpreadConstraints" => "topologyKey",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn containers_merge_by_name_and_others_stay() {
        let mut pod = json!({"spec": {"containers": [
            {"name": "app", "image": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
            {"name": "log", "image": "l"}]}});
        let patch = json!({"spec": {"containers": [
            {"name": "app", "resources": {"requests": {"cpu": "500m"}}}]}});
        merge(&mut pod, &patch);
        assert_eq!(
            pod,
            json!({"spec": {"containers": [
                {"name": "app", "image": "a", "resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}},
                {"name": "log", "image": "l"}]}})
        );
    }

    #[test]
    fn null_removes_and_directives_delete_and_replace() {
        let mut value = json!({"a": 1, "env": [{"name": "x"}, {"name": "y"}], "args": ["1"],
            "finalizers": ["p", "q"]});
        let patch = json!({"a": null, "env": [{"name": "x", "$patch": "delete"}], "args": ["2"],
            "$deleteFromPrimitiveList/finalizers": ["p"]});
        merge(&mut value, &patch);
        assert_eq!(value, json!({"env": [{"name": "y"}], "args": ["2"], "finalizers": ["q"]}));
    }
}
