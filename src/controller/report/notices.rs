//! Which events are told. A reason is told once, when it begins: on the workload, or for all of them on the policy.

use super::standing::summary;
use super::{Entry, PolicyState};
use crate::controller::apply::{Applied, Outcome};
use crate::controller::cluster::Workload;
use crate::controller::history::Method;
use crate::controller::motive::Motive;
use crate::controller::plan::{Change, Verdict};
use crate::controller::undo::UndoError;
use crate::controller::{Controller, writer};
use crate::decide::{Cause, Circuit, EventOn, Reason};
use crate::plant::planted;
use crate::policy::{Policy, PolicyId};
use crate::telemetry::events::{Notice, Severity};
use crate::workload::WorkloadId;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::ObjectReference;
use std::collections::BTreeMap;

impl Controller {
    /// Tells what was done, what failed, and what is held and should be looked at.
    pub(super) fn tell(&mut self, policy: &Policy, applied: &Applied, entry: &Entry) {
        let workload = &applied.planned.workload;
        let told = self.history.get(&workload.id).and_then(|memory| memory.told);
        let notice = match (&applied.planned.verdict, &applied.outcome) {
            (Verdict::Change(change), Outcome::Done) if change.is_new => Some(done(policy, workload, change)),
            (Verdict::Change(_), Outcome::Failed { error, .. }) if error.was_withheld() || planted(26) => None,
            (Verdict::Change(change), Outcome::Failed { .. }) => failed(change.method, workload, entry),
            (Verdict::Hold(reason), _) if reason.event_on() == EventOn::Workload && told != Some(reason.code()) => {
                Some(held(workload, reason))
            }
            _ => None,
        };
        let now_told = match &applied.planned.verdict {
            Verdict::Hold(reason) if reason.needs_attention() => Some(reason.code()),
            // What stays behind was told with the rollback.
            Verdict::Hold(_) if told == Some(ROLLED_BACK) => told,
            Verdict::Change(change) if change.motive.cause() == Cause::Rollback => match &applied.outcome {
                Outcome::Done => Some(ROLLED_BACK),
                _ => told,
            },
            _ => None,
        };
        if told != now_told {
            self.history.entry(&workload.id).told = now_told;
        }
        if let Some(notice) = notice {
            self.events.publish(notice);
        }
    }

    /// Tells which reasons workloads of the policy have that none had of late. What passes by itself waits for a later
    /// cycle where much is to be told, as when hundreds of policies are new.
    pub(super) fn tell_of_policy(
        &self,
        policy: &Policy,
        state: &mut PolicyState,
        reasons: &BTreeMap<&'static str, Severity>,
        now: Timestamp,
    ) {
        for (reason, severity) in reasons {
            if !state.standing.lacks(reason) || (*severity == Severity::Normal && !self.events.has_room()) {
                continue;
            }
            let Some(note) = summary(&state.entries, reason) else { continue };
            let notice = on_policy(&policy.id, &policy.uid, reason, "Hold", note);
            self.events.publish(Notice { severity: *severity, ..notice });
            state.standing.told(reason, now);
        }
    }
}

/// How an event on the policy tells of a reason.
pub(super) fn severity(reason: &Reason) -> Severity {
    if reason.needs_attention() || matches!(reason, Reason::BrakeOn(_)) { Severity::Warning } else { Severity::Normal }
}

/// The reason of the hold that follows a rollback, and of the event that tells of both.
const ROLLED_BACK: &str = "RolledBack";

fn done(policy: &Policy, workload: &Workload, change: &Change) -> Notice {
    let method = change.method;
    if let Motive::Harm(harm) = &change.motive {
        let note = format!(
            "{harm} after OptiPod's last change; it puts the requests of before back and holds until its recommendation changes; policy {} lists both in its status",
            policy.id
        );
        let (regarding, severity) = (regarding(workload), Severity::Warning);
        return Notice { regarding, severity, reason: ROLLED_BACK, action: "Rollback", note };
    }
    let (reason, what) = match method {
        Method::Resize => ("ResizeApplied", "is bringing the running pods to the recommended requests, in place"),
        Method::Rollout => ("RolloutApplied", "has applied the recommended requests to the template"),
    };
    Notice {
        regarding: regarding(workload),
        severity: Severity::Normal,
        reason,
        action: method.as_str(),
        note: format!("OptiPod {what}; policy {} lists them in its status", policy.id),
    }
}

fn failed(method: Method, workload: &Workload, entry: &Entry) -> Option<Notice> {
    let reason = match method {
        Method::Resize => "ResizeFailed",
        Method::Rollout => "RolloutFailed",
    };
    let note = entry.status.message.clone()?;
    Some(Notice { regarding: regarding(workload), severity: Severity::Warning, reason, action: method.as_str(), note })
}

pub(super) fn held(workload: &Workload, reason: &Reason) -> Notice {
    Notice {
        regarding: regarding(workload),
        severity: Severity::Warning,
        reason: reason.code(),
        action: "Hold",
        note: reason.to_string(),
    }
}

/// A deleted policy's change was taken back.
pub(in crate::controller) fn restored(workload: &Workload, policy: &PolicyId) -> Notice {
    Notice {
        regarding: regarding(workload),
        severity: Severity::Normal,
        reason: "Restored",
        action: "Undo",
        note: format!("policy {policy} was deleted; OptiPod has put back the requests from before its changes"),
    }
}

/// A deleted policy's change stays.
pub(in crate::controller) fn not_restored(workload: &Workload, policy: &PolicyId, error: &UndoError) -> Notice {
    let WorkloadId { namespace, kind, name } = &workload.id;
    Notice {
        regarding: regarding(workload),
        severity: Severity::Warning,
        reason: "RestoreFailed",
        action: "Undo",
        note: format!(
            "policy {policy} was deleted, and the requests from before its changes could not be put back: {error}; to try again: optipod restore -n {namespace} {kind}/{name}"
        ),
    }
}

/// The policy cannot be used.
pub(in crate::controller) fn invalid_policy(id: &PolicyId, uid: &str, message: &str) -> Notice {
    on_policy(
        id,
        uid,
        "ValidationFailed",
        "Validate",
        format!("the policy is not valid and is not acted upon: {message}"),
    )
}

/// Too many of the policy's changes did harm.
pub(in crate::controller) fn circuit_opened(id: &PolicyId, uid: &str, circuit: &Circuit) -> Notice {
    let reason = circuit.reason();
    on_policy(id, uid, reason.code(), "Hold", reason.to_string())
}

/// The policy's workloads have no usage.
pub(in crate::controller) fn metrics_missing(id: &PolicyId, uid: &str, reason: &Reason) -> Notice {
    let note = match reason {
        // Their texts hold numbers that change.
        Reason::InsufficientData { .. } => {
            "no workload of the policy has enough usage yet; see the policy's status for what is missing".to_owned()
        }
        Reason::StaleData { .. } => "usage has stopped coming in; check the recommender and metrics-server".to_owned(),
        other => other.to_string(),
    };
    on_policy(id, uid, reason.code(), "Collect", note)
}

/// The policy has become Disabled. Its workloads are not looked at any more, and their entries stay as they are.
pub(super) fn disabled(policy: &Policy) -> Notice {
    let reason = Reason::PolicyDisabled;
    let notice = on_policy(&policy.id, &policy.uid, reason.code(), "Hold", reason.to_string());
    Notice { severity: Severity::Normal, ..notice }
}

fn on_policy(id: &PolicyId, uid: &str, reason: &'static str, action: &'static str, note: String) -> Notice {
    let regarding = ObjectReference {
        api_version: Some("optipod.io/v1alpha1".to_owned()),
        kind: Some("OptimizationPolicy".to_owned()),
        namespace: Some(id.namespace.clone()),
        name: Some(id.name.clone()),
        uid: Some(uid.to_owned()),
        ..ObjectReference::default()
    };
    Notice { regarding, severity: Severity::Warning, reason, action, note }
}

fn regarding(workload: &Workload) -> ObjectReference {
    let resource = writer::resource(workload.id.kind);
    ObjectReference {
        api_version: Some(resource.api_version),
        kind: Some(resource.kind),
        namespace: Some(workload.id.namespace.clone()),
        name: Some(workload.id.name.clone()),
        uid: Some(workload.uid.clone()),
        ..ObjectReference::default()
    }
}
