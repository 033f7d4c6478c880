//! What server-side apply does with values: list their fields, compare, merge and remove.
//!
//! The algorithms of `sigs.k8s.io/structured-merge-diff/v6/typed` on JSON.
//! What it may not know: managers.
//! Invariant: fields that the API server owns (`managedFields`, `resourceVersion`, …) are in no set.

use crate::json::At as _;
use serde_json::{Map, Value};

use super::fieldset::FieldSet;
use super::schema::{ListRule, Rules, item_element};
use crate::quantity::Quantity;

/// Fields that belong to no manager.
const UNOWNED: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata", "name"],
    &["metadata", "generateName"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "deletionTimestamp"],
    &["metadata", "deletionGracePeriodSeconds"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// The object without what no manager can own.
pub(crate) fn ownable(object: &Value) -> Value {
    let mut object = object.clone();
    for path in UNOWNED {
        crate::json::remove(&mut object, path);
    }
    if object.at("/metadata") == Some(&Value::Object(Map::new())) {
        crate::json::remove(&mut object, &["metadata"]);
    }
    object
}

/// A position in an object, as field names (for the schema) and path elements (for the set).
#[derive(Clone, Default)]
struct At {
    fields: Vec<String>,
    elements: Vec<String>,
}

impl At {
    fn field(&self, name: &str) -> Self {
        let mut at = self.clone();
        at.fields.push(name.to_owned());
        at.elements.push(format!("f:{name}"));
        at
    }

    fn item(&self, element: String) -> Self {
        let mut at = self.clone();
        at.elements.push(element);
        at
    }
}

/// The set of fields that a configuration names.
pub(crate) fn field_set(rules: Rules<'_>, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    collect(rules, &At::default(), value, false, &mut set);
    set
}

/// Adds what lies at and below `at`; `whole` adds maps of data themselves too, as comparing does.
fn collect(rules: Rules<'_>, at: &At, value: &Value, whole: bool, set: &mut FieldSet) {
    match value {
        Value::Object(map) if !map.is_empty() && !rules.map_is_atomic(&at.fields) => {
            if whole && at.fields.last().is_some_and(|field| is_plain_map(field)) {
                set.insert(&at.elements);
            }
            for (name, field) in map {
                collect(rules, &at.field(name), field, whole, set);
            }
        }
        Value::Array(items) => match rules.list(&at.fields) {
            ListRule::Atomic => set.insert(&at.elements),
            rule => {
                for item in items {
                    let Some(element) = item_element(&rule, item) else {
                        continue;
                    };
                    let at = at.item(element);
                    set.insert(&at.elements);
                    if item.is_object() {
                        collect(rules, &at, item, whole, set);
                    }
                }
            }
        },
        _ if at.elements.is_empty() => {}
        _ => set.insert(&at.elements),
    }
}

/// What differs between two states of an object.
#[derive(Debug, Default)]
pub(crate) struct Difference {
    /// Fields that are new or have another value.
    pub(crate) changed: FieldSet,
    /// Fields that are gone.
    pub(crate) removed: FieldSet,
}

/// Compares two states of an object.
pub(crate) fn compare(rules: Rules<'_>, old: &Value, new: &Value) -> Difference {
    let mut out = Difference::default();
    compare_at(rules, &At::default(), Some(old), Some(new), &mut out);
    out
}

fn compare_at(rules: Rules<'_>, at: &At, old: Option<&Value>, new: Option<&Value>, out: &mut Difference) {
    match (old, new) {
        (Some(old), Some(new)) if same(old, new) => {}
        (Some(Value::Object(old)), Some(Value::Object(new))) if !rules.map_is_atomic(&at.fields) => {
            let names: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
            for name in names {
                compare_at(rules, &at.field(name), old.get(name), new.get(name), out);
            }
        }
        (Some(Value::Array(old)), Some(Value::Array(new))) if rules.list(&at.fields) != ListRule::Atomic => {
            compare_lists(rules, at, old, new, out);
        }
        (None, Some(new)) => add_all(rules, at, new, &mut out.changed),
        (Some(old), None) => add_all(rules, at, old, &mut out.removed),
        (Some(_), Some(_)) => out.changed.insert(&at.elements),
        (None, None) => {}
    }
}

fn compare_lists(rules: Rules<'_>, at: &At, old: &[Value], new: &[Value], out: &mut Difference) {
    let rule = rules.list(&at.fields);
    let keyed = |items: &[Value]| -> std::collections::BTreeMap<String, Value> {
        items.iter().filter_map(|item| Some((item_element(&rule, item)?, item.clone()))).collect()
    };
    let (old, new) = (keyed(old), keyed(new));
    let elements: std::collections::BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    for element in elements {
        let at = at.item(element.clone());
        compare_at(rules, &at, old.get(element), new.get(element), out);
    }
}

/// Everything at and below a field that came or went, with a list item itself.
fn add_all(rules: Rules<'_>, at: &At, value: &Value, set: &mut FieldSet) {
    collect(rules, at, value, true, set);
    if at.elements.last().is_some_and(|element| !element.starts_with("f:")) {
        set.insert(&at.elements);
    }
}

/// Maps whose keys are data: the real server tracks the map itself too.
fn is_plain_map(field: &str) -> bool {
    ["labels", "annotations", "requests", "limits", "data"].contains(&field)
}

/// Equal, or two spellings of the same number or quantity.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::String(_), Value::Number(_)) | (Value::Number(_), Value::String(_)) => {
            match (Quantity::from_json(a), Quantity::from_json(b)) {
                (Some(a), Some(b)) => a.nanos() == b.nanos(),
                _ => false,
            }
        }
        _ => a == b,
    }
}

/// Lays the applied configuration over the live object.
pub(crate) fn merge(rules: Rules<'_>, live: &Value, config: &Value) -> Value {
    merge_at(rules, &mut Vec::new(), live, config)
}

fn merge_at(rules: Rules<'_>, path: &mut Vec<String>, live: &Value, config: &Value) -> Value {
    match (live, config) {
        (Value::Object(live), Value::Object(config)) if !rules.map_is_atomic(path) => {
            let mut out = live.clone();
            for (name, field) in config {
                path.push(name.clone());
                let merged = match live.get(name) {
                    Some(have) => merge_at(rules, path, have, field),
                    None => field.clone(),
                };
                path.pop();
                out.insert(name.clone(), merged);
            }
            Value::Object(out)
        }
        (Value::Array(live), Value::Array(config)) => match rules.list(path) {
            ListRule::Atomic => Value::Array(config.clone()),
            rule => merge_lists(rules, path, &rule, live, config),
        },
        _ => config.clone(),
    }
}

fn merge_lists(rules: Rules<'_>, path: &mut Vec<String>, rule: &ListRule, live: &[Value], config: &[Value]) -> Value {
    let mut out = live.to_vec();
    for item in config {
        let element = item_element(rule, item);
        let found = out.iter_mut().find(|have| item_element(rule, have) == element);
        match found {
            Some(have) => *have = merge_at(rules, path, have, item),
            None => out.push(item.clone()),
        }
    }
    Value::Array(out)
}

/// Removes the members of `gone` from the value; what becomes empty by it goes too.
pub(crate) fn remove(rules: Rules<'_>, value: &Value, gone: &FieldSet) -> Value {
    remove_at(rules, &mut Vec::new(), value, gone).unwrap_or(Value::Object(Map::new()))
}

fn remove_at(rules: Rules<'_>, path: &mut Vec<String>, value: &Value, gone: &FieldSet) -> Option<Value> {
    match value {
        Value::Object(map) => {
            let mut out = Map::new();
            for (name, field) in map {
                path.push(name.clone());
                let kept = match gone.child(&format!("f:{name}")) {
                    Some(node) if node.member => None,
                    Some(node) => remove_at(rules, path, field, node),
                    None => Some(field.clone()),
                };
                path.pop();
                if let Some(kept) = kept {
                    out.insert(name.clone(), kept);
                }
            }
            (!out.is_empty()).then_some(Value::Object(out))
        }
        Value::Array(items) => {
            let rule = rules.list(path);
            let mut out = Vec::new();
            for item in items {
                let node = item_element(&rule, item).and_then(|e| gone.child(&e).cloned());
                match node {
                    Some(node) if node.member => {}
                    Some(node) => out.extend(remove_at(rules, path, item, &node)),
                    None => out.push(item.clone()),
                }
            }
            (!out.is_empty()).then_some(Value::Array(out))
        }
        scalar => Some(scalar.clone()),
    }
}
