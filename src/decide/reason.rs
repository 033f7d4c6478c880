//! Why nothing was changed: one enum for status, events, metric labels and `optipod explain`.

use super::brakes::Brake;
use super::outcome::Harm;
use jiff::Timestamp;
use std::fmt;

/// Why OptiPod holds. [`Reason::code`] is stable; the text tells what happened and what to do.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs)] // the texts in Display say what each field is
pub enum Reason {
    BrakeOn(Brake),
    HeldByAnnotation { place: String },
    PolicyDisabled,
    DryRun,
    WorkloadDeleting,
    RolloutPaused,
    CircuitOpen { rollbacks: u32, changed: u32 },
    RolloutInProgress,
    RevertedByOther { manager: String },
    MetricsUnavailable { detail: String },
    InsufficientData { container: String, detail: String },
    StaleData { newest: Timestamp },
    NothingToSize,
    AlreadySized { min_change_percent: u32 },
    WindowNotCovered,
    DirectionForbids,
    RaisedRecently { until: Timestamp },
    HpaOnResource { autoscaler: String },
    VpaOnWorkload { autoscaler: String },
    LimitReached { container: String },
    RolledBack { harm: Harm, kept: bool, until: Option<Timestamp> },
    LimitRangeForbids { detail: String },
    LimitRangeWouldSetLimits { limit_range: String, container: String, detail: String },
    QuotaExceeded { quota: String, detail: String },
    NodeTooSmall { detail: String },
    Cooldown { until: Timestamp },
    BudgetSpent { per_cycle: usize },
    RateLimited { per_minute: u32 },
    WatchMissing { resources: String },
    OverriddenBy { policy: String },
    LimitsNotAllowed,
    ResizeNotAllowed,
    ResizeNotServed,
    ResizeForbidden,
    ResizeRestarts { container: String },
    ResizeInProgress { done: usize, pods: usize },
    ResizeDeferred { pod: String },
    ResizeInfeasible { pod: String, detail: String },
    NoRunningPods,
    PodsAwaitDeletion { outdated: u32 },
    QosWouldChange,
    BestEffortPods,
    UnsupportedPodResources { pod: String },
    RolloutForbidden,
    InvalidResources { detail: String },
    AdmissionDenied { detail: String },
    FieldOwnedByOther { detail: String },
    WriteRefused { detail: String },
    Throttled { detail: String },
    WriteFailed { detail: String },
}

/// Which object an event about a reason regards.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum EventOn {
    /// Each workload that it holds, for something has to be done there.
    Workload,
    /// The policy, once for all workloads: it holds many alike, or passes by itself.
    Policy,
}

impl Reason {
    /// The name in status, events, metric labels and documentation.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BrakeOn(_) => "BrakeOn",
            Self::HeldByAnnotation { .. } => "HeldByAnnotation",
            Self::PolicyDisabled => "PolicyDisabled",
            Self::DryRun => "DryRun",
            Self::WorkloadDeleting => "WorkloadDeleting",
            Self::RolloutPaused => "RolloutPaused",
            Self::CircuitOpen { .. } => "CircuitOpen",
            Self::RolloutInProgress => "RolloutInProgress",
            Self::RevertedByOther { .. } => "RevertedByOther",
            Self::MetricsUnavailable { .. } => "MetricsUnavailable",
            Self::InsufficientData { .. } => "InsufficientData",
            Self::StaleData { .. } => "StaleData",
            Self::NothingToSize => "NothingToSize",
            Self::AlreadySized { .. } => "AlreadySized",
            Self::WindowNotCovered => "WindowNotCovered",
            Self::DirectionForbids => "DirectionForbids",
            Self::RaisedRecently { .. } => "RaisedRecently",
            Self::HpaOnResource { .. } => "HpaOnResource",
            Self::VpaOnWorkload { .. } => "VpaOnWorkload",
            Self::LimitReached { .. } => "LimitReached",
            Self::RolledBack { .. } => "RolledBack",
            Self::LimitRangeForbids { .. } => "LimitRangeForbids",
            Self::LimitRangeWouldSetLimits { .. } => "LimitRangeWouldSetLimits",
            Self::QuotaExceeded { .. } => "QuotaExceeded",
            Self::NodeTooSmall { .. } => "NodeTooSmall",
            Self::Cooldown { .. } => "Cooldown",
            Self::BudgetSpent { .. } => "BudgetSpent",
            Self::RateLimited { .. } => "RateLimited",
            Self::WatchMissing { .. } => "WatchMissing",
            Self::OverriddenBy { .. } => "OverriddenBy",
            Self::LimitsNotAllowed => "LimitsNotAllowed",
            Self::ResizeNotAllowed => "ResizeNotAllowed",
            Self::ResizeNotServed => "ResizeNotServed",
            Self::ResizeForbidden => "ResizeForbidden",
            Self::ResizeRestarts { .. } => "ResizeRestarts",
            Self::ResizeInProgress { .. } => "ResizeInProgress",
            Self::ResizeDeferred { .. } => "ResizeDeferred",
            Self::ResizeInfeasible { .. } => "ResizeInfeasible",
            Self::NoRunningPods => "NoRunningPods",
            Self::PodsAwaitDeletion { .. } => "PodsAwaitDeletion",
            Self::QosWouldChange => "QosWouldChange",
            Self::BestEffortPods => "BestEffortPods",
            Self::UnsupportedPodResources { .. } => "UnsupportedPodResources",
            Self::RolloutForbidden => "RolloutForbidden",
            Self::InvalidResources { .. } => "InvalidResources",
            Self::AdmissionDenied { .. } => "AdmissionDenied",
            Self::FieldOwnedByOther { .. } => "FieldOwnedByOther",
            Self::WriteRefused { .. } => "WriteRefused",
            Self::Throttled { .. } => "Throttled",
            Self::WriteFailed { .. } => "WriteFailed",
        }
    }

    /// What the cluster bounds pods by forbids it. A size decided earlier may still be possible.
    pub(super) fn is_of_guard(&self) -> bool {
        self.waits_for_room() || matches!(self, Self::VpaOnWorkload { .. } | Self::LimitRangeWouldSetLimits { .. })
    }

    /// It ends when somebody makes room or allows more, which may be any time.
    pub fn waits_for_room(&self) -> bool {
        matches!(self, Self::LimitRangeForbids { .. } | Self::QuotaExceeded { .. } | Self::NodeTooSmall { .. })
    }

    /// Where its event stands: every reason has one.
    pub fn event_on(&self) -> EventOn {
        let of_all =
            matches!(self, Self::MetricsUnavailable { .. } | Self::StaleData { .. } | Self::CircuitOpen { .. });
        if self.needs_attention() && !of_all { EventOn::Workload } else { EventOn::Policy }
    }

    /// Somebody should look: the change is wanted and will not come about by waiting.
    pub fn needs_attention(&self) -> bool {
        matches!(
            self,
            Self::CircuitOpen { .. }
                | Self::RolledBack { .. }
                | Self::RevertedByOther { .. }
                | Self::MetricsUnavailable { .. }
                | Self::StaleData { .. }
                | Self::HpaOnResource { .. }
                | Self::WatchMissing { .. }
                | Self::VpaOnWorkload { .. }
                | Self::LimitReached { .. }
                | Self::LimitRangeForbids { .. }
                | Self::LimitRangeWouldSetLimits { .. }
                | Self::QuotaExceeded { .. }
                | Self::NodeTooSmall { .. }
                | Self::LimitsNotAllowed
                | Self::ResizeNotAllowed
                | Self::ResizeNotServed
                | Self::ResizeForbidden
                | Self::ResizeRestarts { .. }
                | Self::ResizeInfeasible { .. }
                | Self::PodsAwaitDeletion { .. }
                | Self::QosWouldChange
                | Self::BestEffortPods
                | Self::UnsupportedPodResources { .. }
                | Self::RolloutForbidden
                | Self::InvalidResources { .. }
                | Self::AdmissionDenied { .. }
                | Self::FieldOwnedByOther { .. }
                | Self::WriteRefused { .. }
                | Self::WriteFailed { .. }
        )
    }
}

impl fmt::Display for Reason {
    #[rustfmt::skip] // a table reads better with one line a reason
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BrakeOn(Brake { place, why: Some(why) }) => write!(f, "the brake is on: ConfigMap {place} says \"{why}\"; delete it to let OptiPod go on"),
            Self::BrakeOn(Brake { place, why: None }) => write!(f, "the brake is on: ConfigMap {place} exists; delete it to let OptiPod go on"),
            Self::HeldByAnnotation { place } => write!(f, "annotation optipod.io/hold on {place}; remove it to let OptiPod act"),
            Self::PolicyDisabled => write!(f, "the policy's mode is Disabled; set mode Auto to let OptiPod act, or Recommend to see what it would do"),
            Self::DryRun => write!(f, "dry-run: recommendations are published, nothing is changed; start the controller with --dry-run=false, or `optipod run` with --apply, to apply them"),
            Self::WorkloadDeleting => write!(f, "the workload is being deleted; there is nothing to do"),
            Self::RolloutPaused => write!(f, "the workload's rollout is paused; resume it to let OptiPod act"),
            Self::CircuitOpen { rollbacks, changed } => write!(f, "{rollbacks} of {changed} workloads that were changed within an hour under this policy had to be rolled back, and none is changed any more; look at their `rolledBack` in the policy's status, then edit the policy's spec, which closes the circuit"),
            Self::RolloutInProgress => write!(f, "a rollout of the workload is in progress; OptiPod waits until it is complete"),
            Self::RevertedByOther { manager } => write!(f, "{manager} has set requests that OptiPod had applied back; OptiPod does not fight it: change the requests there, let {manager} leave them out, or allow in-place resize, which leaves the template alone"),
            Self::MetricsUnavailable { detail } => write!(f, "{detail}; OptiPod goes on by itself when there is usage again"),
            Self::InsufficientData { container, detail } => write!(f, "container {container}: {detail}"),
            Self::StaleData { newest } => write!(f, "the newest usage is from {newest}; check the recommender and metrics-server"),
            Self::NothingToSize => write!(f, "the policy excludes every container of this workload; remove `exclude` from one to have it sized"),
            Self::AlreadySized { min_change_percent } => write!(f, "requests are within {min_change_percent} % of the recommendation; set a lower minChangePercent to have smaller changes made"),
            Self::WindowNotCovered => write!(f, "requests are only lowered when usage covers the whole rolling window; it does not yet, and OptiPod goes on by itself when it does"),
            Self::DirectionForbids => write!(f, "updateStrategy.direction forbids this change; set it to Both to allow it"),
            Self::RaisedRecently { until } => write!(f, "this request was raised, or its container killed for memory, within the last day, and is not lowered before {until}, so that OptiPod does not follow every swing"),
            Self::HpaOnResource { autoscaler } => write!(f, "HorizontalPodAutoscaler {autoscaler} scales on the utilization of this resource, which depends on the request; give it an AverageValue target, or another resource, to let OptiPod act"),
            Self::VpaOnWorkload { autoscaler } => write!(f, "VerticalPodAutoscaler {autoscaler} sets this workload's requests; set its updateMode to Off, or delete it, to let OptiPod act"),
            Self::LimitReached { container } => write!(f, "container {container}: the recommendation is above the container's limit, and updateRequestsOnly keeps limits; raise the limit or set updateRequestsOnly: false"),
            Self::RolledBack { harm, kept, until } => {
                let left = if *kept { ", but for first requests, which cannot be removed in place" } else { "" };
                let put_back = format_args!("{harm} after the last change; the requests of before were put back{left}");
                match until {
                    None => write!(f, "{put_back}, and OptiPod waits until its recommendation differs from the size that failed by minChangePercent"),
                    Some(until) => write!(f, "{put_back}; the recommendation has changed since, and the next change is possible from {until} (updateStrategy.cooldown)"),
                }
            }
            Self::LimitRangeForbids { detail } => write!(f, "{detail}; change the LimitRange, or the policy's resourceBounds"),
            Self::LimitRangeWouldSetLimits { limit_range, container, detail } => write!(f, "LimitRange {limit_range} would give container {container}, which has none, {detail} with any resize of its pod; set it in the workload's template, or set allowRecreate: true"),
            Self::QuotaExceeded { quota, detail } => write!(f, "ResourceQuota {quota}: {detail}; raise the quota or free some of it, and OptiPod goes on by itself"),
            Self::NodeTooSmall { detail } => write!(f, "{detail}; lower the policy's resourceBounds, or give the cluster larger nodes"),
            Self::Cooldown { until } => write!(f, "changed recently; the next change is possible from {until} (updateStrategy.cooldown)"),
            Self::BudgetSpent { per_cycle } => write!(f, "the policy has changed {per_cycle} workloads in this cycle (maxUpdatesPerCycle); this one follows in a later cycle"),
            Self::RateLimited { per_minute } => write!(f, "{per_minute} workloads have been changed in the last minute, over all policies (--max-updates-per-minute); this one follows"),
            Self::WatchMissing { resources } => write!(f, "OptiPod cannot see {resources} yet and changes nothing until it does; grant it list and watch on them"),
            Self::OverriddenBy { policy } => write!(f, "policy {policy} also covers this workload and takes precedence (weight, then age, then name); give this policy a higher weight to let it act here"),
            Self::LimitsNotAllowed => write!(f, "the policy's updateRequestsOnly: false changes limits too, which this installation does not allow; set it to true, or allowLimitChanges: true in the chart (--allow-limit-changes)"),
            Self::ResizeNotAllowed => write!(f, "updateStrategy.allowInPlaceResize is false; set it to true to have the pods resized"),
            Self::ResizeNotServed => write!(f, "this API server does not serve pods/resize; set allowRecreate: true to change the template instead, which replaces the pods"),
            Self::ResizeForbidden => write!(f, "OptiPod may not patch pods/resize in this namespace; grant it, or set allowRecreate: true"),
            Self::ResizeRestarts { container } => write!(f, "container {container}: its resizePolicy restarts the container on this change; set allowRecreate: true to permit restarts"),
            Self::ResizeInProgress { done, pods } => write!(f, "{done} of {pods} pods have the new size; the next batch follows when the last is actuated and ready"),
            Self::ResizeDeferred { pod } => write!(f, "pod {pod}: the kubelet defers the resize until its node has room; free some of it, or wait"),
            Self::ResizeInfeasible { pod, detail } => write!(f, "pod {pod}: the kubelet cannot resize it on its node ({detail}); OptiPod tries again when the recommendation changes"),
            Self::NoRunningPods => write!(f, "no pod is running that could be resized; OptiPod goes on by itself when one does"),
            Self::PodsAwaitDeletion { outdated } => write!(f, "the template has the new requests; the workload's updateStrategy is OnDelete, so that {outdated} of its pods get them when somebody deletes them, which OptiPod does not do"),
            Self::QosWouldChange => write!(f, "the change would alter the pods' QoS class, which is not possible in place; for Guaranteed pods set updateRequestsOnly: false so that limits move along"),
            Self::BestEffortPods => write!(f, "the pods have no requests at all (BestEffort) and cannot be given any in place; set allowRecreate: true"),
            Self::UnsupportedPodResources { pod } => write!(f, "pod {pod} sets pod-level resources, which OptiPod does not change yet; remove them from the template to let it act"),
            Self::RolloutForbidden => write!(f, "OptiPod may not patch this workload; grant patch on its kind in this namespace"),
            Self::InvalidResources { detail } => write!(f, "the workload's resources cannot be read: {detail}; correct them in its template"),
            Self::AdmissionDenied { detail } => write!(f, "a policy or webhook of this cluster denies the change: {detail}; let it pass OptiPod's service account, and OptiPod tries again"),
            Self::FieldOwnedByOther { detail } => write!(f, "another field manager owns what OptiPod would change, and OptiPod does not fight it: {detail}; let that manager leave the requests out, and OptiPod tries again"),
            Self::WriteRefused { detail } => write!(f, "the API server refused the change: {detail}; correct what it names, and OptiPod tries again"),
            Self::Throttled { detail } => write!(f, "the API server asks for patience: {detail}; OptiPod tries again"),
            Self::WriteFailed { detail } => write!(f, "the change could not be made: {detail}; OptiPod tries again"),
        }
    }
}
