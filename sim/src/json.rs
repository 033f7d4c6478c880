//! Small helpers to read and write untyped Kubernetes objects.
//!
//! What it may not know: what any field means.
//! Invariant: reading never panics and a missing field reads as its zero value; writing makes the
//! objects on the way.

use serde_json::{Map, Value};

/// Reading by plain JSON pointers.
pub(crate) trait At {
    /// As `Value::pointer`, but without its escapes, which cost two allocations for each step.
    fn at(&self, pointer: &str) -> Option<&Value>;
}

impl At for Value {
    fn at(&self, pointer: &str) -> Option<&Value> {
        pointer.split('/').skip(1).try_fold(self, |here, token| match here {
            Value::Object(map) => map.get(token),
            Value::Array(items) => items.get(token.parse::<usize>().ok()?),
            _ => None,
        })
    }
}

/// The string at a JSON pointer, or `""`.
pub(crate) fn str_at<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.at(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The integer at a JSON pointer, or `default`.
pub(crate) fn int_at(value: &Value, pointer: &str, default: i64) -> i64 {
    value.at(pointer).and_then(Value::as_i64).unwrap_or(default)
}

/// The list at a JSON pointer, or an empty one.
pub(crate) fn list_at<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.at(pointer).and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}

/// The list at a JSON pointer for changing, where there is one.
pub(crate) fn list_at_mut<'a>(value: &'a mut Value, pointer: &str) -> Option<&'a mut Vec<Value>> {
    value.pointer_mut(pointer).and_then(Value::as_array_mut)
}

/// The object at a JSON pointer, where there is one.
pub(crate) fn map_at<'a>(value: &'a Value, pointer: &str) -> Option<&'a Map<String, Value>> {
    value.at(pointer).and_then(Value::as_object)
}

/// The object under a path of keys, made on the way where absent.
pub(crate) fn object_mut<'a>(value: &'a mut Value, path: &[&str]) -> &'a mut Map<String, Value> {
    let mut here = as_object_mut(value);
    for key in path {
        here = as_object_mut(here.entry(*key).or_insert_with(|| Value::Object(Map::new())));
    }
    here
}

/// Sets the field at a path of keys, making the objects on the way.
pub(crate) fn set(value: &mut Value, path: &[&str], field: impl Into<Value>) {
    if let Some((last, parents)) = path.split_last() {
        object_mut(value, parents).insert((*last).to_owned(), field.into());
    }
}

/// Sets the field only where it is absent or null.
pub(crate) fn set_default(value: &mut Value, path: &[&str], field: impl Into<Value>) {
    if let Some((last, parents)) = path.split_last() {
        let map = object_mut(value, parents);
        if map.get(*last).is_none_or(Value::is_null) {
            map.insert((*last).to_owned(), field.into());
        }
    }
}

/// Removes the field at a path of keys, if it is there.
pub(crate) fn remove(value: &mut Value, path: &[&str]) -> Option<Value> {
    let (last, parents) = path.split_last()?;
    let mut here = value;
    for key in parents {
        here = here.get_mut(*key)?;
    }
    here.as_object_mut()?.remove(*last)
}

/// Copies one top-level field from `from`, or removes it where `from` has none.
pub(crate) fn carry(from: &Value, to: &mut Value, path: &[&str]) {
    let mut source = Some(from);
    for key in path {
        source = source.and_then(|value| value.get(*key));
    }
    match source {
        Some(field) => set(to, path, field.clone()),
        None => drop(remove(to, path)),
    }
}

/// Drops `null` fields everywhere, as the real server's typed decoding does.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, field| !field.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(items) => items.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}

fn as_object_mut(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object in the line above"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn set_makes_the_objects_on_the_way() {
        let mut value = json!({});
        set(&mut value, &["a", "b"], 3);
        set_default(&mut value, &["a", "b"], 4);
        assert_eq!(value, json!({"a": {"b": 3}}));
        assert_eq!(remove(&mut value, &["a", "b"]), Some(json!(3)));
        assert_eq!(remove(&mut value, &["x", "b"]), None);
    }
}
