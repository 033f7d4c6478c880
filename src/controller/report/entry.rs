//! One workload's entry in a policy's status. Pure.

use crate::controller::aftermath::{rolled_back_status, watch_status};
use crate::controller::apply::{Applied, Outcome};
use crate::controller::history::{Memory, Method, raised_times, reason_of, requests};
use crate::controller::kills;
use crate::controller::plan::{Change, Planned, Verdict};
use crate::decide::{Cause, Reason, Rollout};
use crate::plant::planted;
use crate::policy::STATUS_CONTAINERS;
use crate::policy::types::{ContainerRecommendation, Requests, WorkloadStatus};
use crate::workload::WorkloadId;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// An entry, and whether somebody should look at it.
#[derive(Clone, PartialEq, Debug)]
pub(in crate::controller) struct Entry {
    pub(in crate::controller) status: WorkloadStatus,
    pub(in crate::controller) attention: bool,
}

impl Entry {
    pub(in crate::controller) fn new(id: &WorkloadId) -> Self {
        Self::restored(WorkloadStatus {
            kind: id.kind.to_string(),
            namespace: id.namespace.clone(),
            name: id.name.clone(),
            ..WorkloadStatus::default()
        })
    }

    /// An entry that an earlier process wrote.
    pub(in crate::controller) fn restored(status: WorkloadStatus) -> Self {
        Self { status, attention: false }
    }
}

/// The entry after a cycle, and its reason. `previous` gives what stays as long as the numbers do.
pub(super) fn entry(
    applied: &Applied,
    memory: &Memory,
    previous: Option<&Entry>,
    now: Timestamp,
) -> (Entry, Option<Reason>) {
    let planned = &applied.planned;
    let (word, reason, message) = state(applied, memory);
    let mut entry = Entry::new(&planned.workload.id);
    let before = previous.map(|entry| &entry.status);
    let status = &mut entry.status;
    word.clone_into(&mut status.status);
    status.uid = Some(planned.workload.uid.clone());
    let containers = publish(status, planned, reason.as_ref(), before, now);
    status.last_applied = memory.last_change.filter(|_| !planted(23)).map(|at| Time(crate::controller::seconds(at)));
    status.method = memory.last_change.and(memory.method).map(|method| method.as_str().to_owned());
    status.message = message.or_else(|| reason.as_ref().map(ToString::to_string));
    status.target = requests(&memory.target);
    status.previous = requests(&memory.previous);
    status.raised = raised_times(&memory.raised);
    status.oom_kills = kills::to_status(&memory.killed);
    status.cause = memory.last_change.and(memory.cause).map(|cause| cause.to_string());
    status.watch = memory.watch.as_ref().map(watch_status);
    status.rolled_back = memory.rolled_back.as_ref().map(rolled_back_status);
    cut(status, containers);
    let reason = reason.filter(|_| !planted(24));
    entry.attention = reason.as_ref().is_some_and(Reason::needs_attention);
    status.reason = reason.as_ref().map(|reason| reason.code().to_owned());
    (entry, reason)
}

/// Puts in what is recommended, and since when; answers for how many containers.
pub(super) fn publish(
    status: &mut WorkloadStatus,
    planned: &Planned,
    reason: Option<&Reason>,
    before: Option<&WorkloadStatus>,
    now: Timestamp,
) -> usize {
    let mut recommendations = recommendations(planned, reason, before);
    let containers = recommendations.len();
    recommendations.truncate(STATUS_CONTAINERS);
    status.recommendations = recommendations;
    status.last_recommendation = match before {
        Some(before) if same_numbers(&before.recommendations, &status.recommendations) => {
            before.last_recommendation.clone()
        }
        _ => (!status.recommendations.is_empty()).then_some(Time(now)),
    };
    containers
}

/// Brings the lists to the length that the schema allows, and says so: else the whole status would be refused.
/// `containers` is how many there are, or more than the lists hold.
pub(super) fn cut(status: &mut WorkloadStatus, containers: usize) {
    let containers = containers.max(status.target.len()).max(status.previous.len()).max(status.raised.len());
    if containers <= STATUS_CONTAINERS {
        return;
    }
    status.target.truncate(STATUS_CONTAINERS);
    status.previous.truncate(STATUS_CONTAINERS);
    status.raised.truncate(STATUS_CONTAINERS);
    let note = format!("{STATUS_CONTAINERS} of {containers} containers are listed");
    status.message = Some(status.message.take().map_or(note.clone(), |message| format!("{message} ({note})")));
}

/// The word of the status, why nothing was changed, and a message that is not the reason's own.
fn state(applied: &Applied, memory: &Memory) -> (&'static str, Option<Reason>, Option<String>) {
    match (&applied.planned.verdict, &applied.outcome) {
        (Verdict::Publish, _) => ("Published", None, None),
        (Verdict::Hold(reason), _) => (held(reason, memory), Some(reason.clone()), None),
        (Verdict::Change(_), Outcome::Held { reason, .. }) => ("Skipped", Some(reason.clone()), None),
        (Verdict::Change(change), Outcome::Failed { error, .. }) => {
            ("Skipped", Some(reason_of(error, change.method)), None)
        }
        (Verdict::Change(change), _) => ("Applying", None, Some(progress(change, applied.planned.workload.rollout))),
    }
}

/// What a change under way is waiting for.
pub(super) fn progress(change: &Change, rollout: Rollout) -> String {
    match change.method {
        Method::Rollout if matches!(rollout, Rollout::OnDelete { .. }) => {
            let which = if change.motive.cause() == Cause::Rollback { "requests of before" } else { "new requests" };
            format!(
                "the template has the {which}; its updateStrategy is OnDelete, so that pods get them when somebody deletes them, which OptiPod does not do"
            )
        }
        Method::Resize if change.motive.cause() == Cause::Rollback => {
            "the last change did harm; the pods get back what they requested before".to_owned()
        }
        Method::Rollout if change.motive.cause() == Cause::Rollback => {
            "the last change did harm; the template has the requests of before, and its rollout replaces the pods"
                .to_owned()
        }
        Method::Rollout => "the template has the new requests; its rollout replaces the pods".to_owned(),
        Method::Resize if change.remaining == 0 => "the last pods are being resized".to_owned(),
        Method::Resize => format!("pods are being resized; {} more follow in later batches", change.remaining),
    }
}

fn held(reason: &Reason, memory: &Memory) -> &'static str {
    let changed = memory.last_change.is_some() && !memory.target.is_empty();
    match reason {
        Reason::ResizeInProgress { .. } | Reason::ResizeDeferred { .. } => "Applying",
        Reason::RolloutInProgress if changed && memory.method == Some(Method::Rollout) => "Applying",
        Reason::AlreadySized { .. }
        | Reason::Cooldown { .. }
        | Reason::WindowNotCovered
        | Reason::RaisedRecently { .. }
        | Reason::PodsAwaitDeletion { .. }
            if changed =>
        {
            "Applied"
        }
        _ => "Skipped",
    }
}

/// Without usage what was recommended before stays.
fn recommendations(
    planned: &Planned,
    reason: Option<&Reason>,
    before: Option<&WorkloadStatus>,
) -> Vec<ContainerRecommendation> {
    let is_stuck = planted(9) && before.is_some();
    if is_stuck || matches!(reason, Some(Reason::MetricsUnavailable { .. })) {
        return before.map(|before| before.recommendations.clone()).unwrap_or_default();
    }
    let one = |(container, outcome): &crate::controller::observe::Outcome| {
        let got = outcome.as_ref().ok()?;
        let current = planned.current.iter().find(|current| current.name == *container)?;
        let mut new = ContainerRecommendation {
            container: container.clone(),
            cpu: Some(got.cpu.request.to_string()),
            memory: (!planted(10)).then(|| got.memory.request.to_string()),
            current: Some(Requests {
                cpu: current.requests.cpu.map(|cpu| cpu.to_string()),
                memory: current.requests.memory.map(|memory| memory.to_string()),
            }),
            explanation: Some(got.explanation.clone()),
        };
        // The sentence counts samples: it stands as long as its numbers do, or every cycle would write the status.
        let same = before.and_then(|before| before.recommendations.iter().find(|old| same_number(old, &new)));
        if let Some(old) = same {
            new.explanation.clone_from(&old.explanation);
        }
        Some(new)
    };
    planned.outcomes.iter().filter_map(one).collect()
}

fn same_number(a: &ContainerRecommendation, b: &ContainerRecommendation) -> bool {
    (&a.container, &a.cpu, &a.memory) == (&b.container, &b.cpu, &b.memory)
}

fn same_numbers(a: &[ContainerRecommendation], b: &[ContainerRecommendation]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same_number(a, b))
}
