//! Custom resources by their own CRD: defaults, pruning and schema validation.
//!
//! CEL rules are not evaluated: contract tests for them belong on a real API server.
//! What it may not know: any particular custom resource.
//! Invariant: without an installed schema everything passes unchanged.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde_json::{Map, Value};

use super::kinds::Kind;
use super::status::{FieldError, StatusError};
use crate::json::{At as _, list_at, map_at, str_at};

/// Reads the served version of a CRD manifest.
pub(crate) fn kind_of(crd: &Value) -> Option<Kind> {
    let version = list_at(crd, "/spec/versions").iter().find(|v| v.get("served") == Some(&Value::Bool(true)))?;
    let text = |pointer: &str| str_at(crd, pointer).to_owned();
    let names = |pointer: &str| -> Vec<String> {
        list_at(crd, pointer).iter().filter_map(|name| name.as_str().map(str::to_owned)).collect()
    };
    let selectable = list_at(version, "/selectableFields")
        .iter()
        .map(|field| str_at(field, "/jsonPath").trim_start_matches('.').to_owned())
        .collect();
    Some(Kind {
        group: text("/spec/group"),
        version: str_at(version, "/name").to_owned(),
        plural: text("/spec/names/plural"),
        singular: text("/spec/names/singular"),
        kind: text("/spec/names/kind"),
        namespaced: str_at(crd, "/spec/scope") == "Namespaced",
        status: version.at("/subresources/status").is_some(),
        generation: true,
        short: names("/spec/names/shortNames"),
        schema: version.at("/schema/openAPIV3Schema").cloned().unwrap_or_default(),
        custom: true,
        selectable,
    })
}

/// Fills in defaults and drops fields that the schema does not know.
pub(crate) fn default_and_prune(kind: &Kind, object: &mut Value) {
    if kind.schema.is_null() {
        return;
    }
    let top = map_at(&kind.schema, "/properties").into_iter().flatten();
    for (name, schema) in top {
        if !["apiVersion", "kind", "metadata"].contains(&name.as_str())
            && let Some(field) = object.get_mut(name)
        {
            fill_and_prune(schema, field);
        }
    }
    let known = |key: &str| {
        ["apiVersion", "kind", "metadata"].contains(&key) || kind.schema.at(&format!("/properties/{key}")).is_some()
    };
    if let Some(map) = object.as_object_mut() {
        map.retain(|key, _| known(key));
    }
}

fn fill_and_prune(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(map) => {
            if let Some(properties) = map_at(schema, "/properties") {
                fill_object(schema, properties, map);
            } else if let Some(items) = schema.get("additionalProperties") {
                map.values_mut().for_each(|item| fill_and_prune(items, item));
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for item in items {
                    fill_and_prune(schema, item);
                }
            }
        }
        _ => {}
    }
}

fn fill_object(schema: &Value, properties: &Map<String, Value>, map: &mut Map<String, Value>) {
    if schema.get("x-kubernetes-preserve-unknown-fields") != Some(&Value::Bool(true)) {
        map.retain(|key, _| properties.contains_key(key));
    }
    for (name, schema) in properties {
        if let Some(default) = schema.get("default") {
            // null on a defaulted field gives the default.
            if map.get(name).is_none_or(Value::is_null) {
                map.insert(name.clone(), default.clone());
            }
        }
        if let Some(field) = map.get_mut(name) {
            fill_and_prune(schema, field);
        }
    }
    map.retain(|_, field| !field.is_null());
}

/// Refuses what the schema refuses. A value that an update does not touch is left alone
/// (ratcheting), down to the first list.
pub(crate) fn validate(kind: &Kind, old: Option<&Value>, object: &Value) -> Result<(), StatusError> {
    if kind.schema.is_null() {
        return Ok(());
    }
    let mut errors = Vec::new();
    let mut schema = kind.schema.clone();
    crate::json::remove(&mut schema, &["properties", "metadata"]);
    check(&schema, old, object, "", &mut errors);
    if errors.is_empty() { Ok(()) } else { Err(StatusError::invalid(kind, str_at(object, "/metadata/name"), &errors)) }
}

fn check(schema: &Value, old: Option<&Value>, value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if old == Some(value) {
        return;
    }
    if !type_fits(schema, value) {
        let wanted = str_at(schema, "/type");
        let found = type_name(value);
        let shown = Value::String(found.to_owned());
        let rule = format!("{at} in body must be of type {wanted}: \"{found}\"");
        errors.push(FieldError::wrong_type(at, &shown, &rule));
        return;
    }
    check_scalar(schema, value, at, errors);
    match value {
        Value::Object(map) => check_object(schema, old, map, at, errors),
        Value::Array(items) => check_array(schema, items, at, errors),
        _ => {}
    }
}

fn type_fits(schema: &Value, value: &Value) -> bool {
    if schema.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true)) {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match str_at(schema, "/type") {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        _ => true,
    }
}

fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn check_scalar(schema: &Value, value: &Value, at: &str, errors: &mut Vec<FieldError>) {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.contains(value)
    {
        errors.push(FieldError::unsupported(at, value, allowed));
    }
    let bound = |name: &str| schema.get(name).and_then(Value::as_f64);
    if let Some(number) = value.as_f64() {
        if let Some(least) = bound("minimum").filter(|least| number < *least) {
            let rule = format!("{at} in body should be greater than or equal to {least}");
            errors.push(FieldError::invalid(at, value, &rule));
        }
        if let Some(most) = bound("maximum").filter(|most| number > *most) {
            let rule = format!("{at} in body should be less than or equal to {most}");
            errors.push(FieldError::invalid(at, value, &rule));
        }
    }
    if let Some(text) = value.as_str() {
        let pattern = str_at(schema, "/pattern");
        if !pattern.is_empty() && !matches(pattern, text) {
            let rule = format!("{at} in body should match '{pattern}'");
            errors.push(FieldError::invalid(at, value, &rule));
        }
        let length = text.chars().count() as f64;
        if bound("minLength").is_some_and(|least| length < least) {
            let rule = format!("{at} in body should be at least {} chars long", bound("minLength").unwrap_or(0.0));
            errors.push(FieldError::invalid(at, value, &rule));
        }
        if bound("maxLength").is_some_and(|most| length > most) {
            let rule = format!("may not be more than {} bytes", bound("maxLength").unwrap_or(0.0));
            errors.push(FieldError::invalid(at, value, &rule));
        }
    }
}

/// Whether a text matches a pattern. Compiling takes most of a validation's time, so that it is done once.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: Mutex<BTreeMap<String, Option<Regex>>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    let regex = compiled.entry(pattern.to_owned()).or_insert_with(|| Regex::new(pattern).ok());
    regex.as_ref().is_some_and(|regex| regex.is_match(text))
}

fn check_object(schema: &Value, old: Option<&Value>, map: &Map<String, Value>, at: &str, errors: &mut Vec<FieldError>) {
    let below = |name: &str| {
        if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
    };
    for name in list_at(schema, "/required").iter().filter_map(Value::as_str) {
        if !map.contains_key(name) {
            errors.push(FieldError::required(below(name), ""));
        }
    }
    for (name, value) in map {
        let known = schema.get("properties").and_then(|properties| properties.get(name));
        let field = known.or_else(|| schema.get("additionalProperties"));
        if let Some(field) = field.filter(|field| field.is_object()) {
            let before = old.and_then(|old| old.get(name));
            check(field, before, value, &below(name), errors);
        }
    }
    if let Some(most) = schema.get("maxProperties").and_then(Value::as_u64)
        && map.len() as u64 > most
    {
        let value = Value::from(map.len());
        let rule = format!("must have at most {most} items");
        errors.push(FieldError::invalid(at, &value, &rule));
    }
}

fn check_array(schema: &Value, items: &[Value], at: &str, errors: &mut Vec<FieldError>) {
    if let Some(most) = schema.get("maxItems").and_then(Value::as_u64)
        && items.len() as u64 > most
    {
        let value = Value::from(items.len());
        let rule = format!("must have at most {most} items");
        errors.push(FieldError::invalid(at, &value, &rule));
    }
    if let Some(least) = schema.get("minItems").and_then(Value::as_u64)
        && (items.len() as u64) < least
    {
        let value = Value::from(items.len());
        let rule = format!("{at} in body should have at least {least} items");
        errors.push(FieldError::invalid(at, &value, &rule));
    }
    if let Some(item_schema) = schema.get("items") {
        for (index, item) in items.iter().enumerate() {
            check(item_schema, None, item, &format!("{at}[{index}]"), errors);
        }
    }
    duplicates(schema, items, at, errors);
}

fn duplicates(schema: &Value, items: &[Value], at: &str, errors: &mut Vec<FieldError>) {
    let keys: Vec<&str> = list_at(schema, "/x-kubernetes-list-map-keys").iter().filter_map(Value::as_str).collect();
    let identity = |item: &Value| match str_at(schema, "/x-kubernetes-list-type") {
        "set" => Some(item.clone()),
        "map" => Some(keys.iter().map(|k| item.get(*k).cloned().unwrap_or_default()).collect()),
        _ => None,
    };
    let mut seen = Vec::new();
    for (index, item) in items.iter().enumerate() {
        if let Some(id) = identity(item) {
            if seen.contains(&id) {
                errors.push(FieldError::duplicate(format!("{at}[{index}]"), item));
            }
            seen.push(id);
        }
    }
}
