//! What an error of the API server means for a write. Pure.
//!
//! Codes alone do not tell: 403 is a missing right, a quota, a LimitRange or a full node; 409 is a stale version or another
//! manager's field; 500 can be for ever. The texts are those of a real API server (1.37).

use crate::decide::Reason;
use crate::plant::planted;
use kube::Error;
use kube::core::Status;
use std::time::Duration;

/// Why a write was not made, or may not have been.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// RBAC: asking again does not help.
    #[error("{0}")]
    Forbidden(String),
    /// A ResourceQuota is full, or counts what the pod does not set.
    #[error("{0}")]
    Quota(String),
    /// A LimitRange forbids it.
    #[error("{0}")]
    LimitRange(String),
    /// The pod's node could never give that.
    #[error("{0}")]
    NodeCapacity(String),
    /// An admission policy or webhook denies it.
    #[error("{0}")]
    Denied(String),
    /// Another field manager owns a field; reading again does not help.
    #[error("{0}")]
    OwnedByOther(String),
    /// Refused for what it is, by validation or for good.
    #[error("{0}")]
    Refused(String),
    /// The object is not there any more, or another object has its name.
    #[error("the object is gone")]
    Gone,
    /// The object has changed since it was read.
    #[error("the object has changed meanwhile")]
    Stale,
    /// The server asks for patience; nothing was written.
    #[error("{detail}")]
    Throttled {
        /// The server's words.
        detail: String,
        /// How long the server asks us to wait.
        wait: Duration,
    },
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
            Self::Quota(_) => "QuotaExceeded",
            Self::LimitRange(_) => "LimitRangeForbids",
            Self::NodeCapacity(_) => "NodeTooSmall",
            Self::Denied(_) => "AdmissionDenied",
            Self::OwnedByOther(_) => "FieldOwnedByOther",
            Self::Refused(_) => "Refused",
            Self::Gone => "Gone",
            Self::Stale => "Conflict",
            Self::Throttled { .. } => "Throttled",
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
        matches!(self, Self::Unknown(_)) && !planted(108)
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
        400 | 403 | 422 if denied(&message) => WriteError::Denied(message),
        403 if lacks_right(&message) => WriteError::Forbidden(message),
        403 if over_quota(&message) => WriteError::Quota(message),
        403 if outside_limit_range(&message) => WriteError::LimitRange(message),
        403 if message.contains("node didn't have enough") => WriteError::NodeCapacity(message),
        404 => WriteError::Gone,
        409 | 422 if names_another_uid(&message) => WriteError::Gone,
        409 if owned_by_other => WriteError::OwnedByOther(message),
        409 => WriteError::Stale,
        // A DisruptionBudget answers 429 too, but nothing here evicts.
        429 => WriteError::Throttled { detail: message, wait: asked_to_wait(status) },
        500 if permanent(&message) => WriteError::Refused(message),
        500.. => WriteError::Unknown(format!("the API server failed: {message}")),
        _ => WriteError::Refused(message),
    }
}

/// RBAC says `cannot patch resource "pods/resize"`; quota, limits and capacity do not.
fn lacks_right(message: &str) -> bool {
    message.contains(" cannot ") && message.contains(" resource \"")
}

/// A webhook says so with the code of its choice, a ValidatingAdmissionPolicy with 422.
fn denied(message: &str) -> bool {
    let webhook = message.contains("admission webhook \"") && message.contains("\" denied the request");
    webhook || (message.contains("ValidatingAdmissionPolicy '") && message.contains(" denied request"))
}

/// Full, or a container does not set what it counts, or the quota is so new that nobody knows what is taken.
fn over_quota(message: &str) -> bool {
    ["exceeded quota: ", "failed quota: ", "status unknown for quota: "].iter().any(|text| message.contains(text))
}

fn outside_limit_range(message: &str) -> bool {
    let of_whom = [" per Container is ", " per Pod is "].iter().any(|text| message.contains(text));
    let what = ["minimum ", "maximum ", " max limit to request ratio"].iter().any(|text| message.contains(text));
    of_whom && what
}

/// `Retry-After`, as the body repeats it.
fn asked_to_wait(status: &Status) -> Duration {
    let seconds = status.details.as_ref().map_or(0, |details| details.retry_after_seconds);
    Duration::from_secs(seconds.into())
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
    use serde_json::json;

    fn sort(code: u16, message: &str) -> &'static str {
        of_status(&Status { code, message: message.to_owned(), ..Status::default() }).code()
    }

    /// What API servers answered, and what each means.
    #[rustfmt::skip] // a table reads better with one line a row
    const ANSWERS: [(u16, &str, &str); 24] = [
        (403, r#"pods "web-1" is forbidden: User "x" cannot patch resource "pods/resize" in API group "" in the namespace "shop""#, "Forbidden"),
        (403, r#"pods "web-1" is forbidden: exceeded quota: q, requested: requests.cpu=100m, used: requests.cpu=1, limited: requests.cpu=1"#, "QuotaExceeded"),
        (403, r#"pods "web-1" is forbidden: failed quota: q: must specify limits.cpu for: app"#, "QuotaExceeded"),
        (403, r#"pods "web-1" is forbidden: status unknown for quota: q, resources: requests.cpu"#, "QuotaExceeded"),
        (403, r#"pods "web-1" is forbidden: minimum cpu usage per Container is 50m, but request is 40m"#, "LimitRangeForbids"),
        (403, r#"pods "web-1" is forbidden: maximum cpu usage per Container is 1, but request is 2"#, "LimitRangeForbids"),
        (403, r#"pods "web-1" is forbidden: [maximum cpu usage per Pod is 1, but request is 2, minimum memory usage per Container is 64Mi.  No request is specified]"#, "LimitRangeForbids"),
        (403, r#"pods "web-1" is forbidden: cpu max limit to request ratio per Container is 2, but provided ratio is 5.000000"#, "LimitRangeForbids"),
        (403, r#"pods "web-1" is forbidden: node didn't have enough allocatable resources: cpu, requested: 65000, capacity: 64000"#, "NodeTooSmall"),
        (403, r#"deployments.apps "web" is forbidden: unable to create new content in namespace shop because it is being terminated"#, "Refused"),
        (422, r#"deployments.apps "web" is forbidden: ValidatingAdmissionPolicy 'optipod' with binding 'optipod' denied request: only requests may change"#, "AdmissionDenied"),
        (400, r#"admission webhook "gate.example.com" denied the request: ask the platform team"#, "AdmissionDenied"),
        (403, r#"admission webhook "gate.example.com" denied the request: you cannot change resource "deployments""#, "AdmissionDenied"),
        (422, r#"Pod "web-1" is invalid: spec.containers[0].resources.requests: Invalid value: "2": must be less than or equal to cpu limit of 1"#, "Refused"),
        (409, "Operation cannot be fulfilled on pods \"web-1\": the object has been modified; please apply your changes to the latest version and try again", "Conflict"),
        (409, "Operation cannot be fulfilled: uid mismatch: the provided object specified uid a, and no existing object was found", "Gone"),
        (404, r#"pods "web-1" not found"#, "Gone"),
        (429, "too many requests, please try again later", "Throttled"),
        (500, "etcdserver: leader changed", "Unavailable"),
        (500, r#"Internal error occurred: failed calling webhook "gate.example.com": context deadline exceeded"#, "Unavailable"),
        (500, "etcdserver: request is too large", "Refused"),
        (500, "failed to create typed patch object: .status.new: field not declared in schema", "Refused"),
        (503, "", "Unavailable"),
        (504, "Timeout: request did not complete within the allotted timeout", "Unavailable"),
    ];

    #[test]
    fn each_answer_of_the_api_server_has_its_meaning() {
        for (code, message, meaning) in ANSWERS {
            assert_eq!(sort(code, message), meaning, "{code} {message}");
        }
    }

    #[test]
    fn a_field_of_another_manager_is_not_a_stale_version() {
        let cause = json!({"reason": "FieldManagerConflict", "message": "conflict with \"helm\"", "field": ".spec"});
        let details = serde_json::from_value(json!({ "causes": [cause] })).unwrap();
        let status = Status { code: 409, details: Some(details), ..Status::default() };
        assert_eq!(of_status(&status).code(), "FieldOwnedByOther");
    }

    #[test]
    fn the_time_that_the_server_asks_for_is_kept() {
        let details = serde_json::from_value(json!({"retryAfterSeconds": 7})).unwrap();
        let status = Status { code: 429, details: Some(details), ..Status::default() };
        let WriteError::Throttled { wait, .. } = of_status(&status) else { panic!("not throttled") };
        assert_eq!(wait, Duration::from_secs(7));
    }
}
