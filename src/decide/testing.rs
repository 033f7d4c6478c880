//! One example of every reason, for the tests of all places where reasons are told.

use super::{Brake, Harm, HarmKind, Reason};
use jiff::Timestamp;

/// Makes the examples, and a `match` that no longer compiles when a reason is missing here.
macro_rules! examples {
    ($($pattern:pat => $example:expr,)*) => {
        /// One of each, in the order of the enum.
        pub(crate) fn every_reason() -> Vec<Reason> {
            let known = |reason: &Reason| match reason {
                $($pattern => (),)*
            };
            let all = vec![$($example,)*];
            all.iter().for_each(known);
            all
        }
    };
}

fn text() -> String {
    "some-detail".to_owned()
}

fn harm() -> Harm {
    Harm { kind: HarmKind::OomKilled, container: Some(text()), pod: Some(text()) }
}

const NOON: Timestamp = Timestamp::UNIX_EPOCH;

examples! {
    Reason::BrakeOn(_) => Reason::BrakeOn(Brake { place: text(), why: None }),
    Reason::HeldByAnnotation { .. } => Reason::HeldByAnnotation { place: text() },
    Reason::PolicyDisabled => Reason::PolicyDisabled,
    Reason::DryRun => Reason::DryRun,
    Reason::WorkloadDeleting => Reason::WorkloadDeleting,
    Reason::RolloutPaused => Reason::RolloutPaused,
    Reason::CircuitOpen { .. } => Reason::CircuitOpen { rollbacks: 3, changed: 9 },
    Reason::RolloutInProgress => Reason::RolloutInProgress,
    Reason::RevertedByOther { .. } => Reason::RevertedByOther { manager: text() },
    Reason::MetricsUnavailable { .. } => Reason::MetricsUnavailable { detail: text() },
    Reason::InsufficientData { .. } => Reason::InsufficientData { container: text(), detail: crate::recommend::Insufficient::NoUsage.to_string() },
    Reason::StaleData { .. } => Reason::StaleData { newest: NOON },
    Reason::NothingToSize => Reason::NothingToSize,
    Reason::AlreadySized { .. } => Reason::AlreadySized { min_change_percent: 10 },
    Reason::WindowNotCovered => Reason::WindowNotCovered,
    Reason::DirectionForbids => Reason::DirectionForbids,
    Reason::RaisedRecently { .. } => Reason::RaisedRecently { until: NOON },
    Reason::HpaOnResource { .. } => Reason::HpaOnResource { autoscaler: text() },
    Reason::VpaOnWorkload { .. } => Reason::VpaOnWorkload { autoscaler: text() },
    Reason::LimitReached { .. } => Reason::LimitReached { container: text() },
    Reason::RolledBack { .. } => Reason::RolledBack { harm: harm(), kept: true, until: None },
    Reason::LimitRangeForbids { .. } => Reason::LimitRangeForbids { detail: text() },
    Reason::LimitRangeWouldSetLimits { .. } => Reason::LimitRangeWouldSetLimits { limit_range: text(), container: text(), detail: text() },
    Reason::QuotaExceeded { .. } => Reason::QuotaExceeded { quota: text(), detail: text() },
    Reason::NodeTooSmall { .. } => Reason::NodeTooSmall { detail: text() },
    Reason::Cooldown { .. } => Reason::Cooldown { until: NOON },
    Reason::BudgetSpent { .. } => Reason::BudgetSpent { per_cycle: 10 },
    Reason::RateLimited { .. } => Reason::RateLimited { per_minute: 20 },
    Reason::WatchMissing { .. } => Reason::WatchMissing { resources: text() },
    Reason::OverriddenBy { .. } => Reason::OverriddenBy { policy: text() },
    Reason::LimitsNotAllowed => Reason::LimitsNotAllowed,
    Reason::ResizeNotAllowed => Reason::ResizeNotAllowed,
    Reason::ResizeNotServed => Reason::ResizeNotServed,
    Reason::ResizeForbidden => Reason::ResizeForbidden,
    Reason::ResizeRestarts { .. } => Reason::ResizeRestarts { container: text() },
    Reason::ResizeInProgress { .. } => Reason::ResizeInProgress { done: 1, pods: 3 },
    Reason::ResizeDeferred { .. } => Reason::ResizeDeferred { pod: text() },
    Reason::ResizeInfeasible { .. } => Reason::ResizeInfeasible { pod: text(), detail: text() },
    Reason::NoRunningPods => Reason::NoRunningPods,
    Reason::PodsAwaitDeletion { .. } => Reason::PodsAwaitDeletion { outdated: 2 },
    Reason::QosWouldChange => Reason::QosWouldChange,
    Reason::BestEffortPods => Reason::BestEffortPods,
    Reason::UnsupportedPodResources { .. } => Reason::UnsupportedPodResources { pod: text() },
    Reason::RolloutForbidden => Reason::RolloutForbidden,
    Reason::InvalidResources { .. } => Reason::InvalidResources { detail: text() },
    Reason::AdmissionDenied { .. } => Reason::AdmissionDenied { detail: text() },
    Reason::FieldOwnedByOther { .. } => Reason::FieldOwnedByOther { detail: text() },
    Reason::WriteRefused { .. } => Reason::WriteRefused { detail: text() },
    Reason::Throttled { .. } => Reason::Throttled { detail: text() },
    Reason::WriteFailed { .. } => Reason::WriteFailed { detail: text() },
}
