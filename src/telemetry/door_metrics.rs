//! The metric of gRPC calls that are not let in.

use super::declare::Declare;
use prometheus::{IntCounterVec, Registry};

/// Why a call, or a connection, is not let in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RefusedCall {
    /// Nobody that is known, by token or certificate.
    Unauthenticated,
    /// A caller without the right.
    Forbidden,
    /// The API server could not say who it is or what it may.
    Unchecked,
    /// More calls a second than one caller may make.
    Rate,
    /// More calls under way than one caller may have.
    AtOnce,
    /// The table of callers is full.
    Callers,
    /// More connections, or more a second, than one address may make.
    Connections,
    /// There is no such method.
    UnknownMethod,
    /// The request cannot be read.
    Unreadable,
}

impl RefusedCall {
    /// Every reason.
    pub const ALL: [Self; 9] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::Unchecked,
        Self::Rate,
        Self::AtOnce,
        Self::Callers,
        Self::Connections,
        Self::UnknownMethod,
        Self::Unreadable,
    ];

    /// The value of the `reason` label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::Forbidden => "forbidden",
            Self::Unchecked => "unchecked",
            Self::Rate => "rate",
            Self::AtOnce => "at_once",
            Self::Callers => "callers",
            Self::Connections => "connections",
            Self::UnknownMethod => "unknown_method",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Counts what the door of the gRPC server refuses.
#[derive(Clone)]
pub struct DoorMetrics {
    refused: IntCounterVec,
}

impl DoorMetrics {
    pub(super) fn new(registry: &Registry) -> Result<Self, prometheus::Error> {
        let help = "gRPC calls and connections that were not let in, by reason";
        let refused = Declare(registry).counters("optipod_grpc_refused_total", help, &["reason"])?;
        for reason in RefusedCall::ALL {
            refused.with_label_values(&[reason.as_str()]);
        }
        Ok(Self { refused })
    }

    /// One was refused.
    pub fn refuse(&self, reason: RefusedCall) {
        self.refused.with_label_values(&[reason.as_str()]).inc();
    }
}
