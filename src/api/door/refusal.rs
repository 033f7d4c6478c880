//! Why a call is not let in: in a word for the metric, in a sentence for the caller.

use crate::telemetry::RefusedCall;
use tonic::Status;

/// A call that is not let in.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) reason: RefusedCall,
    pub(super) status: Status,
}

impl Refusal {
    pub(super) fn new(reason: RefusedCall, status: Status) -> Self {
        Self { reason, status }
    }

    /// Not known, or not believed.
    pub(super) fn unauthenticated(message: impl Into<String>) -> Self {
        Self::new(RefusedCall::Unauthenticated, Status::unauthenticated(message))
    }
}
