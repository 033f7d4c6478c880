//! What an API server does with an object by a structural schema, but for CEL: prune nulls, default, validate.
//!
//! Written from the Kubernetes documentation, with the wording of its answers, so that one table of refused policies
//! serves here and on a real API server.

use regex::Regex;
use serde_json::{Value, json};

/// A field's path and what is wrong with it.
pub(super) type Problem = (String, String);

/// Drops nulls where the schema has no `nullable`, then fills defaults, in that order.
pub(super) fn default(schema: &Value, value: &mut Value) {
    if let (Some(fields), Some(object)) = (schema["properties"].as_object(), value.as_object_mut()) {
        object.retain(|_, value| !value.is_null());
        for (name, field) in fields {
            if let Some(default) = field.get("default") {
                object.entry(name).or_insert_with(|| default.clone());
            }
            if let Some(inner) = object.get_mut(name) {
                self::default(field, inner);
            }
        }
    }
    for item in value.as_array_mut().into_iter().flatten() {
        self::default(&schema["items"], item);
    }
}

/// Everything that the schema has against a value.
pub(super) fn validate(schema: &Value, path: &str, value: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut found = |message: String| problems.push((path.to_owned(), message));
    if let Some(message) = wrong_type(schema, value) {
        found(message);
        return problems;
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        found(format!("Unsupported value: {value}: supported values: {}", allowed.join(", ")));
    }
    scalars(schema, value).into_iter().for_each(&mut found);
    sizes(schema, value).into_iter().for_each(&mut found);
    problems.extend(duplicates(schema, path, value));
    problems.extend(inside(schema, path, value));
    problems
}

fn wrong_type(schema: &Value, value: &Value) -> Option<String> {
    let int_or_string = schema["x-kubernetes-int-or-string"] == true;
    let expected = if int_or_string { "integer,string" } else { schema["type"].as_str()? };
    let right = match expected {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        _ => value.is_i64() || value.is_string(),
    };
    (!right).then(|| format!("must be of type {expected}"))
}

fn scalars(schema: &Value, value: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    if let Some(number) = value.as_f64() {
        let (least, most) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
        problems.extend(least.filter(|l| number < *l).map(|l| format!("should be greater than or equal to {l}")));
        problems.extend(most.filter(|m| number > *m).map(|m| format!("should be less than or equal to {m}")));
    }
    if let (Some(text), Some(pattern)) = (value.as_str(), schema["pattern"].as_str())
        && !Regex::new(pattern).unwrap().is_match(text)
    {
        problems.push(format!("should match '{pattern}'"));
    }
    problems
}

fn sizes(schema: &Value, value: &Value) -> Vec<String> {
    let (size, least, most, unit) = match value {
        Value::String(text) => (text.chars().count(), "minLength", "maxLength", "chars long"),
        Value::Array(items) => (items.len(), "minItems", "maxItems", "items"),
        Value::Object(fields) => (fields.len(), "minProperties", "maxProperties", "properties"),
        _ => return Vec::new(),
    };
    let limit = |name: &str| schema[name].as_u64().map(|limit| usize::try_from(limit).unwrap());
    let few = limit(least).filter(|l| size < *l).map(|l| format!("should have at least {l} {unit}"));
    let many = limit(most).filter(|m| size > *m).map(|m| format!("Too many: {size}: must have at most {m} {unit}"));
    few.into_iter().chain(many).collect()
}

fn duplicates(schema: &Value, path: &str, value: &Value) -> Vec<Problem> {
    let key = |item: &Value| match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => Some(item.clone()),
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"].as_array().unwrap();
            Some(keys.iter().map(|key| item[key.as_str().unwrap()].clone()).collect())
        }
        _ => None,
    };
    let keys: Vec<Option<Value>> = value.as_array().into_iter().flatten().map(key).collect();
    let twice = |(index, key): (usize, &Option<Value>)| {
        let known = key.is_some() && keys.iter().take(index).any(|earlier| earlier == key);
        known.then(|| (format!("{path}[{index}]"), "Duplicate value".to_owned()))
    };
    keys.iter().enumerate().filter_map(twice).collect()
}

fn inside(schema: &Value, path: &str, value: &Value) -> Vec<Problem> {
    let mut problems = Vec::new();
    let none = json!({});
    let fields = schema["properties"].as_object().or(none.as_object()).unwrap();
    for (name, value) in value.as_object().into_iter().flatten() {
        let path = format!("{path}.{name}").trim_start_matches('.').to_owned();
        match fields.get(name).or_else(|| schema.get("additionalProperties")) {
            Some(field) => problems.extend(validate(field, &path, value)),
            None => problems.push((path, "unknown field".to_owned())),
        }
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            problems.push((format!("{path}.{name}").trim_start_matches('.').to_owned(), "Required value".to_owned()));
        }
    }
    for (index, item) in value.as_array().into_iter().flatten().enumerate() {
        problems.extend(validate(&schema["items"], &format!("{path}[{index}]"), item));
    }
    problems
}
