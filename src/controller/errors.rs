//! What an error of the API server means for a write. Pure.
//!
//! Codes alone do not tell: 403 is a missing right, a quota, a LimitRange or a full node; 409 is a stale version or another
//! manager's field; 500 can be for ever. The texts are those of a real API server (1.37).

use crate::decide::Reason;
use kube::Error;
use kube::core::Status;

/// Why a write was not made, or may not have been.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// RBAC: asking again does not help.
    #[error("{0}")]
    Forbidden(String),
    /// Validation, admission, quota, LimitRange, capacity, another field manager: refused for what it is.
    #[error("{0}")]
    Refused(String),
    /// The object is not there any more, or another object has its name.
    #[error("the object is gone")]
    Gone,
    /// The object has changed since it was read.
    #[error("the object has changed meanwhile")]
    Stale,
    /// The server asks for patience; nothing was written.
    #[error("{0}")]
    Throttled(String),
    /// The server or the network failed, or no answer came: whether it was written is not known.
    #[error("{0}")]
    Unknown(String),
    /// We are not the leader, or will not be for long enough. Nothing was sent.
    #[error("another replica is the leader")]
    NotLeader,
    /// A brake was set after the decision. Nothing was sent.
    #[error("{0}")]
    Held(Reason),
    /// The policy was edited or deleted after the decision. Nothing was sent.
    #[error("the policy has changed meanwhile")]
    PolicyChanged,
    /// We are shutting down. Nothing was sent.
    #[error("the controller is shutting down")]
    Stopping,
}

impl WriteError {
    /// The type in `optipod_reconciliation_errors_total`.
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Forbidden(_) => "Forbidden",
            Self::Refused(_) => "Refused",
            Self::Gone => "Gone",
            Self::Stale => "Conflict",
            Self::Throttled(_) => "Throttled",
            Self::Unknown(_) => "Unavailable",
            Self::NotLeader => "NotLeader",
            Self::Held(_) => "Held",
            Self::PolicyChanged => "PolicyChanged",
            Self::Stopping => "Stopping",
        }
    }

    /// It was we who did not send it: nobody's fault, and nothing for a person to look at.
    pub(super) fn was_withheld(&self) -> bool {
        matches!(self, Self::NotLeader | Self::Held(_) | Self::PolicyChanged | Self::Stopping)
    }

    /// The write may have been carried out although we got no answer.
    pub(super) fn may_have_happened(&self) -> bool {
        matches!(self, Self::Unknown(_))
    }
}

/// Sorts an error of kube's client.
pub(super) fn classify(error: Error) -> WriteError {
    match error {
        Error::Api(status) => of_status(&status),
        Error::SerdeError(error) => WriteError::Unknown(format!("the API server's answer cannot be read: {error}")),
        Error::BuildRequest(error) => WriteError::Refused(format!("the request cannot be built: {error}")),
        other => WriteError::Unknown(format!("the API server cannot be reached: {other}")),
    }
}

fn of_status(status: &Status) -> WriteError {
    let message = status.message.clone();
    let causes = status.details.iter().flat_map(|details| &details.causes);
    let owned_by_other = causes.into_iter().any(|cause| cause.reason == "FieldManagerConflict");
    match status.code {
        403 if lacks_right(&message) => WriteError::Forbidden(message),
        404 => WriteError::Gone,
        409 | 422 if names_another_uid(&message) => WriteError::Gone,
        409 if owned_by_other => WriteError::Refused(message),
        409 => WriteError::Stale,
        // A DisruptionBudget answers 429 too, but nothing here evicts.
        429 => WriteError::Throttled(message),
        500 if permanent(&message) => WriteError::Refused(message),
        500.. => WriteError::Unknown(format!("the API server failed: {message}")),
        _ => WriteError::Refused(message),
    }
}

/// RBAC says `cannot patch resource "pods/resize"`; quota, limits and capacity do not.
fn lacks_right(message: &str) -> bool {
    message.contains(" cannot ") && message.contains(" resource \"")
}

fn names_another_uid(message: &str) -> bool {
    message.contains("uid mismatch") || message.contains("UID in precondition") || message.contains("metadata.uid")
}

/// Answers of code 500 that no repetition changes.
fn permanent(message: &str) -> bool {
    message.contains("request is too large") || message.contains("field not declared in schema")
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use kube::core::response::{StatusCause, StatusDetails};

    fn sort(code: u16, message: &str) -> &'static str {
        of_status(&Status { code, message: message.to_owned(), ..Status::default() }).code()
    }

    #[test]
    fn a_missing_right_is_told_apart_from_quota_limits_and_capacity() {
        let rbac = r#"pods "web-1" is forbidden: User "x" cannot patch resource "pods/resize" in API group "" in the namespace "shop""#;
        assert_eq!(sort(403, rbac), "Forbidden");
        for refused in [
            r#"pods "web-1" is forbidden: exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=1, limited: requests.cpu=1"#,
            r#"pods "web-1" is forbidden: maximum cpu usage per Container is 1, but request is 2"#,
            r#"pods "web-1" is forbidden: node didn't have enough allocatable resources: cpu, requested: 2000, capacity: 1000"#,
        ] {
            assert_eq!(sort(403, refused), "Refused", "{refused}");
        }
    }

    #[test]
    fn a_conflict_is_stale_or_anothers_field_or_anothers_object() {
        assert_eq!(
            sort(409, "the object has been modified; please apply your changes to the latest version"),
            "Conflict"
        );
        assert_eq!(
            sort(
                409,
                "Operation cannot be fulfilled: uid mismatch: the provided object specified uid a, and no existing object was found"
            ),
            "Gone"
        );
        let cause = StatusCause { reason: "FieldManagerConflict".into(), message: String::new(), field: String::new() };
        let details: StatusDetails = serde_json::from_value(serde_json::json!({ "causes": [cause] })).unwrap();
        let status = Status { code: 409, details: Some(details), ..Status::default() };
        assert_eq!(of_status(&status).code(), "Refused");
    }

    #[test]
    fn a_failure_of_the_server_is_tried_again_unless_it_is_for_ever() {
        assert_eq!(sort(500, "etcdserver: leader changed"), "Unavailable");
        assert_eq!(sort(503, ""), "Unavailable");
        assert_eq!(sort(500, "etcdserver: request is too large"), "Refused");
        assert_eq!(sort(429, "too many requests"), "Throttled");
        assert_eq!(sort(422, "admission webhook denied the request"), "Refused");
        assert_eq!(sort(404, ""), "Gone");
    }
}
