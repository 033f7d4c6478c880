//! Sets of fields, as `managedFields[].fieldsV1` holds them.
//!
//! A set is a tree of path elements: `f:name` for a field, `k:{…}` for an item of a keyed list,
//! `v:…` for an item of a set. `.` says that the path itself belongs to the set.
//! What it may not know: any schema or value.
//! Invariant: no empty branches, so that equal sets compare equal.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

/// A set of paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    /// Whether the path of this node belongs to the set.
    pub(crate) member: bool,
    /// What lies below, by path element.
    pub(crate) children: BTreeMap<String, FieldSet>,
}

impl FieldSet {
    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.children.is_empty()
    }

    /// Adds one path.
    pub(crate) fn insert(&mut self, path: &[String]) {
        self.node_mut(path).member = true;
    }

    /// The node at a path, made on the way.
    pub(crate) fn node_mut(&mut self, path: &[String]) -> &mut Self {
        path.iter().fold(self, |node, element| node.children.entry(element.clone()).or_default())
    }

    pub(crate) fn child(&self, element: &str) -> Option<&Self> {
        self.children.get(element)
    }

    pub(crate) fn union(&self, other: &Self) -> Self {
        let mut out = self.clone();
        out.member |= other.member;
        for (element, theirs) in &other.children {
            let merged = match out.children.get(element) {
                Some(ours) => ours.union(theirs),
                None => theirs.clone(),
            };
            out.children.insert(element.clone(), merged);
        }
        out
    }

    pub(crate) fn intersection(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && b, |_| Self::default())
    }

    pub(crate) fn difference(&self, other: &Self) -> Self {
        self.combine(other, |a, b| a && !b, Self::clone)
    }

    fn combine(&self, other: &Self, member: fn(bool, bool) -> bool, alone: fn(&Self) -> Self) -> Self {
        let children = self
            .children
            .iter()
            .map(|(element, ours)| {
                let kept = match other.children.get(element) {
                    Some(theirs) => ours.combine(theirs, member, alone),
                    None => alone(ours),
                };
                (element.clone(), kept)
            })
            .filter(|(_, kept)| !kept.is_empty())
            .collect();
        Self { member: member(self.member, other.member), children }
    }

    /// The set plus every struct field that has members below it.
    pub(crate) fn with_named_parents(&self) -> Self {
        let children = self
            .children
            .iter()
            .map(|(element, child)| {
                let mut child = child.with_named_parents();
                child.member |= element.starts_with("f:") && !child.children.is_empty();
                (element.clone(), child)
            })
            .collect();
        Self { member: self.member, children }
    }

    /// Every member's path, as the real server writes it in conflicts.
    pub(crate) fn paths(&self) -> Vec<String> {
        let mut out = Vec::new();
        self.collect_paths("", &mut out);
        out
    }

    fn collect_paths(&self, prefix: &str, out: &mut Vec<String>) {
        if self.member {
            out.push(prefix.to_owned());
        }
        for (element, child) in &self.children {
            child.collect_paths(&format!("{prefix}{}", display(element)), out);
        }
    }

    /// The `fieldsV1` form.
    pub(crate) fn to_json(&self) -> Value {
        let mut map = Map::new();
        if self.member && !self.children.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, child) in &self.children {
            map.insert(element.clone(), child.to_json());
        }
        Value::Object(map)
    }

    /// Reads the `fieldsV1` form.
    pub(crate) fn from_json(value: &Value) -> Self {
        let mut root = Self::node_from_json(value);
        root.member = value.get(".").is_some();
        root
    }

    fn node_from_json(value: &Value) -> Self {
        let map = value.as_object();
        let children: BTreeMap<String, Self> = map
            .into_iter()
            .flatten()
            .filter(|(element, _)| *element != ".")
            .map(|(element, child)| (element.clone(), Self::node_from_json(child)))
            .collect();
        Self { member: value.get(".").is_some() || children.is_empty(), children }
    }
}

/// `f:cpu` as `.cpu`, `k:{"name":"app"}` as `[name="app"]`, `v:"x"` as `[="x"]`.
fn display(element: &str) -> String {
    if let Some(field) = element.strip_prefix("f:") {
        return format!(".{field}");
    }
    if let Some(keys) = element.strip_prefix("k:") {
        let keys: Map<String, Value> = serde_json::from_str(keys).unwrap_or_default();
        let shown: Vec<String> = keys.iter().map(|(k, v)| format!("{k}={v}")).collect();
        return format!("[{}]", shown.join(","));
    }
    element.strip_prefix("v:").map_or_else(|| element.to_owned(), |value| format!("[={value}]"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn sample() -> Value {
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {".": {},
            "f:resources": {"f:requests": {"f:cpu": {}, "f:memory": {}}}}}}})
    }

    #[test]
    fn fields_v1_round_trips() {
        assert_eq!(FieldSet::from_json(&sample()).to_json(), sample());
    }

    #[test]
    fn paths_read_as_in_the_real_servers_conflicts() {
        assert_eq!(
            FieldSet::from_json(&sample()).paths(),
            [
                ".spec.containers[name=\"app\"]",
                ".spec.containers[name=\"app\"].resources.requests.cpu",
                ".spec.containers[name=\"app\"].resources.requests.memory",
            ]
        );
    }

    #[test]
    fn set_algebra_works_on_members() {
        let a = FieldSet::from_json(&json!({"f:x": {"f:a": {}, "f:b": {}}}));
        let b = FieldSet::from_json(&json!({"f:x": {"f:b": {}, "f:c": {}}}));
        assert_eq!(a.intersection(&b).paths(), [".x.b"]);
        assert_eq!(a.difference(&b).paths(), [".x.a"]);
        assert_eq!(a.union(&b).paths(), [".x.a", ".x.b", ".x.c"]);
        assert!(a.difference(&a).is_empty());
    }
}
