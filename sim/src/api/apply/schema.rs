//! Which lists and maps server-side apply merges, and by which keys.
//!
//! Built-in types by field name, as their `x-kubernetes-list-type` and `-map-type` say; custom
//! resources by their own schema, where a CRD is installed.
//! What it may not know: managers and their sets.
//! Invariant: what is not known to be granular is atomic.

use serde_json::{Map, Value};

use crate::api::kinds::Kind;
use crate::json::{list_at, str_at};

/// How a list is merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListRule {
    /// Replaced as a whole.
    Atomic,
    /// Items are values.
    Set,
    /// Items are found by these fields.
    Keyed(Vec<String>),
}

/// The merge rules of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rules<'a> {
    schema: Option<&'a Value>,
    custom: bool,
}

impl<'a> Rules<'a> {
    pub(crate) fn of(kind: &'a Kind) -> Self {
        Self { schema: (!kind.schema.is_null()).then_some(&kind.schema), custom: kind.custom }
    }

    /// The rule of the list at this path of field names.
    pub(crate) fn list(&self, path: &[String]) -> ListRule {
        let field = path.last().map(String::as_str).unwrap_or_default();
        if path.first().is_some_and(|first| first == "metadata") {
            return match field {
                "ownerReferences" => keyed(&["uid"]),
                "finalizers" => ListRule::Set,
                _ => ListRule::Atomic,
            };
        }
        match self.schema {
            Some(schema) => schema_at(schema, path).map_or(ListRule::Atomic, list_rule_of_schema),
            None if self.custom => policy_list(field),
            None => built_in_list(field),
        }
    }

    /// Whether the map at this path of field names is replaced as a whole.
    pub(crate) fn map_is_atomic(&self, path: &[String]) -> bool {
        let field = path.last().map(String::as_str).unwrap_or_default();
        if let (Some(schema), false) = (self.schema, path.first().is_some_and(|p| p == "metadata")) {
            return schema_at(schema, path).is_some_and(|at| str_at(at, "/x-kubernetes-map-type") == "atomic");
        }
        match field {
            "selector" => !self.custom,
            "namespaceSelector" | "workloadSelector" | "labelSelector" | "nodeSelector" | "configMapKeyRef"
            | "secretKeyRef" | "fieldRef" | "resourceFieldRef" => true,
            _ => false,
        }
    }
}

/// The path element of a list item: `k:{…}` or `v:…`.
pub(crate) fn item_element(rule: &ListRule, item: &Value) -> Option<String> {
    match rule {
        ListRule::Atomic => None,
        ListRule::Set => Some(format!("v:{item}")),
        ListRule::Keyed(keys) => {
            let mut found = Map::new();
            for key in keys {
                let value = match item.get(key) {
                    Some(value) => value.clone(),
                    None if key == "protocol" => Value::from("TCP"),
                    None => continue,
                };
                found.insert(key.clone(), value);
            }
            Some(format!("k:{}", Value::Object(found)))
        }
    }
}

fn keyed(keys: &[&str]) -> ListRule {
    ListRule::Keyed(keys.iter().map(|key| (*key).to_owned()).collect())
}

fn built_in_list(field: &str) -> ListRule {
    match field {
        "containers" | "initContainers" | "ephemeralContainers" | "env" | "volumes" | "imagePullSecrets" => {
            keyed(&["name"])
        }
        "ports" => keyed(&["containerPort", "protocol"]),
        "volumeMounts" => keyed(&["mountPath"]),
        "volumeDevices" => keyed(&["devicePath"]),
        "hostAliases" => keyed(&["ip"]),
        "conditions" => keyed(&["type"]),
        "topologySpreadConstraints" => keyed(&["topologyKey", "whenUnsatisfiable"]),
        _ => ListRule::Atomic,
    }
}

/// The policy's own lists, for a double without its CRD.
fn policy_list(field: &str) -> ListRule {
    match field {
        "allow" | "deny" | "kinds" => ListRule::Set,
        "containers" => keyed(&["name"]),
        "conditions" => keyed(&["type"]),
        _ => ListRule::Atomic,
    }
}

fn schema_at<'a>(schema: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(schema, |here, field| {
        let here = here.get("items").unwrap_or(here);
        here.get("properties").and_then(|properties| properties.get(field)).or_else(|| here.get("additionalProperties"))
    })
}

fn list_rule_of_schema(schema: &Value) -> ListRule {
    match str_at(schema, "/x-kubernetes-list-type") {
        "set" => ListRule::Set,
        "map" => ListRule::Keyed(
            list_at(schema, "/x-kubernetes-list-map-keys")
                .iter()
                .filter_map(|key| key.as_str().map(str::to_owned))
                .collect(),
        ),
        _ => ListRule::Atomic,
    }
}
