//! Label and field selectors.
//!
//! What it may not know: where an object is stored.
//! Invariant: a selector that the real server refuses is refused, never read as "everything".

use serde_json::Value;

use super::kinds::Kind;
use super::status::StatusError;
use crate::json::{At as _, list_at, map_at, str_at};

/// A parsed selection.
#[derive(Clone, Debug, Default)]
pub(crate) struct Selector {
    labels: Vec<Requirement>,
    fields: Vec<(String, bool, String)>,
}

#[derive(Clone, Debug)]
enum Requirement {
    In(String, Vec<String>),
    NotIn(String, Vec<String>),
    Exists(String),
    Absent(String),
}

impl Selector {
    /// Parses the `labelSelector` and `fieldSelector` parameters.
    pub(crate) fn parse(kind: &Kind, labels: &str, fields: &str) -> Result<Self, StatusError> {
        Ok(Self { labels: parse_labels(labels)?, fields: parse_fields(kind, fields)? })
    }

    /// A `metav1.LabelSelector`, as workloads hold it.
    pub(crate) fn from_label_selector(selector: &Value) -> Self {
        let equal = map_at(selector, "/matchLabels").into_iter().flatten();
        let mut labels: Vec<Requirement> =
            equal.filter_map(|(key, v)| Some(Requirement::In(key.clone(), vec![v.as_str()?.to_owned()]))).collect();
        for expression in list_at(selector, "/matchExpressions") {
            let key = str_at(expression, "/key").to_owned();
            let values = list_at(expression, "/values").iter().filter_map(|v| v.as_str().map(str::to_owned)).collect();
            labels.push(match str_at(expression, "/operator") {
                "In" => Requirement::In(key, values),
                "NotIn" => Requirement::NotIn(key, values),
                "Exists" => Requirement::Exists(key),
                _ => Requirement::Absent(key),
            });
        }
        Self { labels, fields: Vec::new() }
    }

    /// Whether nothing is selected away.
    pub(crate) fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether the object is selected.
    pub(crate) fn matches(&self, object: &Value) -> bool {
        self.matches_labels(object) && self.fields.iter().all(|field| field_matches(object, field))
    }

    fn matches_labels(&self, object: &Value) -> bool {
        let labels = map_at(object, "/metadata/labels");
        let value = |key: &str| labels?.get(key)?.as_str();
        self.labels.iter().all(|requirement| match requirement {
            Requirement::In(key, values) => value(key).is_some_and(|v| values.iter().any(|wanted| wanted == v)),
            Requirement::NotIn(key, values) => value(key).is_none_or(|v| values.iter().all(|wanted| wanted != v)),
            Requirement::Exists(key) => value(key).is_some(),
            Requirement::Absent(key) => value(key).is_none(),
        })
    }
}

fn field_matches(object: &Value, (path, equal, wanted): &(String, bool, String)) -> bool {
    let pointer = format!("/{}", path.replace('.', "/"));
    let found = match object.at(&pointer) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => String::new(),
        Some(other) => other.to_string(),
    };
    (found == *wanted) == *equal
}

/// Splits at commas outside parentheses.
fn clauses(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(move |c: char| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth == 0
    })
    .map(str::trim)
    .filter(|clause| !clause.is_empty())
    .collect()
}

fn parse_labels(text: &str) -> Result<Vec<Requirement>, StatusError> {
    clauses(text).into_iter().map(parse_label).collect()
}

fn parse_label(clause: &str) -> Result<Requirement, StatusError> {
    let one = |key: &str, value: &str| (key.trim().to_owned(), vec![value.trim().to_owned()]);
    if let Some((key, value)) = clause.split_once("!=") {
        let (key, values) = one(key, value);
        return Ok(Requirement::NotIn(key, values));
    }
    if let Some((key, value)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
        let (key, values) = one(key, value);
        return Ok(Requirement::In(key, values));
    }
    if let Some((head, rest)) = clause.split_once('(') {
        let values = rest.trim_end_matches(')').split(',').map(|v| v.trim().to_owned());
        let mut words = head.split_whitespace();
        return match (words.next(), words.next()) {
            (Some(key), Some("in")) => Ok(Requirement::In(key.to_owned(), values.collect())),
            (Some(key), Some("notin")) => Ok(Requirement::NotIn(key.to_owned(), values.collect())),
            _ => Err(unparsable(clause)),
        };
    }
    if clause.contains(char::is_whitespace) {
        return Err(unparsable(clause));
    }
    Ok(match clause.strip_prefix('!') {
        Some(key) => Requirement::Absent(key.to_owned()),
        None => Requirement::Exists(clause.to_owned()),
    })
}

fn unparsable(clause: &str) -> StatusError {
    StatusError::bad_request(format!("unable to parse requirement: {clause}"))
}

fn parse_fields(kind: &Kind, text: &str) -> Result<Vec<(String, bool, String)>, StatusError> {
    let mut fields = Vec::new();
    for clause in clauses(text) {
        let (path, equal, value) = if let Some((path, value)) = clause.split_once("!=") {
            (path, false, value)
        } else if let Some((path, value)) = clause.split_once("==").or_else(|| clause.split_once('=')) {
            (path, true, value)
        } else {
            return Err(StatusError::bad_request(format!("invalid selector: '{text}'; can't understand '{clause}'")));
        };
        let known = ["metadata.name", "metadata.namespace"].contains(&path)
            || kind.selectable.iter().any(|field| field == path);
        if !known {
            return Err(StatusError::bad_request(format!("field label not supported: {path}")));
        }
        // Events are stored in their core form, whichever API asks.
        let path = path.replace("regarding.", "involvedObject.");
        fields.push((path, equal, value.to_owned()));
    }
    Ok(fields)
}

#[cfg(test)]
mod tests {
    use super::super::kinds::Registry;
    use super::*;
    use serde_json::json;

    fn selects(labels: &str, object: &Value) -> bool {
        let pods = Registry::new().find("", "v1", "pods").unwrap();
        Selector::parse(&pods, labels, "").unwrap().matches(object)
    }

    #[test]
    fn label_selectors_follow_the_documented_grammar() {
        let object = json!({"metadata": {"labels": {"app": "web", "tier": "front"}}});
        for (selector, wanted) in [
            ("app=web", true),
            ("app==web,tier!=back", true),
            ("app in (api, web)", true),
            ("app notin (api,web)", false),
            ("tier", true),
            ("!tier", false),
            ("missing!=x", true),
            ("app=api", false),
        ] {
            assert_eq!(selects(selector, &object), wanted, "{selector}");
        }
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let policies = Registry::new().find("optipod.io", "v1alpha1", "optimizationpolicies").unwrap();
        let mode = Selector::parse(&policies, "", "spec.mode!=Disabled").unwrap();
        assert!(mode.matches(&json!({"spec": {"mode": "Auto"}})));
        let refused = Selector::parse(&policies, "", "spec.weight=1").unwrap_err();
        assert_eq!((refused.code, refused.message.as_str()), (400, "field label not supported: spec.weight"));
    }
}
