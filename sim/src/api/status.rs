//! `metav1.Status` answers, worded as the real server words them (`apimachinery/pkg/api/errors`).
//!
//! What it may not know: when each applies.
//! Invariant: every refusal has code, reason, message and details in the real shape.

use serde_json::{Value, json};

use super::kinds::Kind;

/// A refusal: what the real server would answer.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{code} {reason}: {message}")]
pub struct StatusError {
    /// HTTP status code.
    pub code: u16,
    /// `metav1.StatusReason`, such as `NotFound`.
    pub reason: String,
    /// What a person reads.
    pub message: String,
    /// `metav1.StatusDetails`, or null.
    pub details: Value,
}

/// One field that validation refuses.
#[derive(Clone, Debug)]
pub(crate) struct FieldError {
    pub(crate) reason: &'static str,
    pub(crate) field: String,
    pub(crate) message: String,
}

impl FieldError {
    pub(crate) fn invalid(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueInvalid",
            field: field.into(),
            message: format!("Invalid value: {}: {detail}", shown(value)),
        }
    }

    pub(crate) fn required(field: impl Into<String>, detail: &str) -> Self {
        let message = if detail.is_empty() { "Required value".to_owned() } else { format!("Required value: {detail}") };
        Self { reason: "FieldValueRequired", field: field.into(), message }
    }

    pub(crate) fn forbidden(field: impl Into<String>, detail: &str) -> Self {
        Self { reason: "FieldValueForbidden", field: field.into(), message: format!("Forbidden: {detail}") }
    }

    pub(crate) fn unsupported(field: impl Into<String>, value: &Value, allowed: &[Value]) -> Self {
        let allowed: Vec<String> = allowed.iter().map(ToString::to_string).collect();
        Self {
            reason: "FieldValueNotSupported",
            field: field.into(),
            message: format!("Unsupported value: {}: supported values: {}", shown(value), allowed.join(", ")),
        }
    }

    pub(crate) fn duplicate(field: impl Into<String>, value: &Value) -> Self {
        Self {
            reason: "FieldValueDuplicate",
            field: field.into(),
            message: format!("Duplicate value: {}", shown(value)),
        }
    }

    pub(crate) fn wrong_type(field: impl Into<String>, value: &Value, detail: &str) -> Self {
        Self {
            reason: "FieldValueTypeInvalid",
            field: field.into(),
            message: format!("Invalid value: {}: {detail}", shown(value)),
        }
    }
}

/// How Go shows a value in an error: JSON for scalars, the bare type for what has fields.
fn shown(value: &Value) -> String {
    match value {
        Value::Object(_) => "\"object\"".to_owned(),
        Value::Array(_) => "\"array\"".to_owned(),
        other => other.to_string(),
    }
}

impl StatusError {
    /// An answer with the given code and reason and no details.
    pub fn new(code: u16, reason: &str, message: impl Into<String>) -> Self {
        Self { code, reason: reason.to_owned(), message: message.into(), details: Value::Null }
    }

    /// The body of the answer.
    pub fn to_json(&self) -> Value {
        let mut body = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": self.message, "code": self.code,
        });
        if !self.reason.is_empty() {
            crate::json::set(&mut body, &["reason"], self.reason.as_str());
        }
        if !self.details.is_null() {
            crate::json::set(&mut body, &["details"], self.details.clone());
        }
        body
    }

    /// The seconds that `Retry-After` would name, where the answer has any.
    pub(crate) fn retry_after(&self) -> Option<u64> {
        self.details.get("retryAfterSeconds").and_then(Value::as_u64)
    }

    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::named(404, "NotFound", kind, name, "not found")
    }

    pub(crate) fn already_exists(kind: &Kind, name: &str) -> Self {
        Self::named(409, "AlreadyExists", kind, name, "already exists")
    }

    fn named(code: u16, reason: &str, kind: &Kind, name: &str, what: &str) -> Self {
        let message = format!("{} \"{name}\" {what}", kind.group_resource());
        Self { details: details(kind, name), ..Self::new(code, reason, message) }
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.group_resource();
        let message = format!("Operation cannot be fulfilled on {resource} \"{name}\": {why}");
        Self { details: details(kind, name), ..Self::new(409, "Conflict", message) }
    }

    pub(crate) fn stale(kind: &Kind, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        Self::conflict(kind, name, why)
    }

    pub(crate) fn forbidden(kind: &Kind, name: &str, why: &str) -> Self {
        let resource = kind.group_resource();
        let message = if name.is_empty() {
            format!("{resource} is forbidden: {why}")
        } else {
            format!("{resource} \"{name}\" is forbidden: {why}")
        };
        Self { details: details(kind, name), ..Self::new(403, "Forbidden", message) }
    }

    pub(crate) fn invalid(kind: &Kind, name: &str, errors: &[FieldError]) -> Self {
        let one = |error: &FieldError| {
            if error.field.is_empty() { error.message.clone() } else { format!("{}: {}", error.field, error.message) }
        };
        let listed = match errors {
            [error] => one(error),
            many => format!("[{}]", many.iter().map(one).collect::<Vec<_>>().join(", ")),
        };
        let causes: Vec<Value> =
            errors.iter().map(|e| json!({"reason": e.reason, "message": e.message, "field": e.field})).collect();
        let message = format!("{} \"{name}\" is invalid: {listed}", kind.group_kind());
        Self {
            details: json!({"name": name, "group": kind.group, "kind": kind.kind, "causes": causes}),
            ..Self::new(422, "Invalid", message)
        }
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(crate) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(crate) fn no_such_path() -> Self {
        Self { details: json!({}), ..Self::new(404, "NotFound", "the server could not find the requested resource") }
    }

    pub(crate) fn method_not_allowed() -> Self {
        Self {
            details: json!({}),
            ..Self::new(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        }
    }

    pub(crate) fn unsupported_media(accepted: &str) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: \
             {accepted}"
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(crate) fn throttled(retry_after: u64) -> Self {
        Self {
            details: json!({"retryAfterSeconds": retry_after}),
            ..Self::new(
                429,
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            )
        }
    }

    pub(crate) fn too_large_version(wanted: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        Self {
            details: json!({
                "causes": [{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}],
                "retryAfterSeconds": 1
            }),
            ..Self::new(504, "Timeout", message)
        }
    }
}

/// Details that name the object; `kind` holds the plural, as the real server does it.
fn details(kind: &Kind, name: &str) -> Value {
    let mut details = json!({"kind": kind.plural});
    if !name.is_empty() {
        crate::json::set(&mut details, &["name"], name);
    }
    if !kind.group.is_empty() {
        crate::json::set(&mut details, &["group"], kind.group.as_str());
    }
    details
}
