//! Step four: what came of it, in the policy's status, in events and in metrics.
//!
//! Invariant: a status is written only when it differs from the last one written, and never holds what was not observed.

mod conditions;
mod entry;
mod follow_up;
mod list;
mod notices;
mod settle;
mod standing;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod tests;

pub(super) use conditions::Conditions;
pub(super) use entry::Entry;
pub(super) use notices::{circuit_opened, invalid_policy, metrics_missing, not_restored, restored};
pub(super) use standing::Standing;

use super::Controller;
use super::aftermath::{circuit_status, rolled_back_status, watch_status};
use super::apply::{Applied, Outcome};
use super::brake;
use super::errors::WriteError;
use super::history::{Memory, raised_times, requests};
use super::kills;
use super::observe::Observation;
use super::on_delete::Leaving;
use super::plan::{Change, Planned, Verdict};
use super::schedule::{Focus, FollowUp};
use crate::decide::{Circuit, EventOn, Reason};
use crate::plant::planted;
use crate::policy::types::OptimizationPolicyStatus;
use crate::policy::{Mode, Policy, PolicyId};
use crate::workload::WorkloadId;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a policy from its last evaluations.
#[derive(Debug, Default)]
pub(super) struct PolicyState {
    pub(super) uid: String,
    pub(super) conditions: Conditions,
    pub(super) observed_generation: Option<i64>,
    pub(super) entries: BTreeMap<WorkloadId, Entry>,
    /// How many more changes may begin before the next regular evaluation.
    pub(super) budget: usize,
    /// The circuit, as it opened last.
    pub(super) circuit: Option<Circuit>,
    /// The reasons that its events have told of.
    pub(super) standing: Standing,
    /// What was put back, once it is being deleted.
    pub(super) leaving: Option<Leaving>,
    /// The status as it stands in the cluster, as far as we know.
    pub(super) written: Option<OptimizationPolicyStatus>,
}

/// What was remembered of workloads before a change began.
pub(super) type Before = BTreeMap<WorkloadId, Memory>;

impl Controller {
    /// Writes to the status, before anything is changed, what will be: target and previous requests of new changes, and
    /// that one which was held or complete goes on. Where that fails, the changes are not made.
    pub(super) async fn announce(&mut self, policy: &Policy, planned: &mut [Planned]) -> Before {
        let mut before = Before::new();
        let now = super::seconds(self.clock.now());
        for planned in planned.iter() {
            let Verdict::Change(change) = &planned.verdict else { continue };
            let known = if change.is_new {
                Some(self.begin(policy, planned, change, now))
            } else {
                self.resume(policy, planned, change)
            };
            before.extend(known.map(|memory| (planned.workload.id.clone(), memory)));
        }
        if before.is_empty() {
            return before;
        }
        if !planted(107)
            && let Err(error) = self.write_status(&policy.id, policy.generation).await
        {
            self.metrics.policy(&policy.id).count_error(error.code());
            for planned in planned.iter_mut() {
                if let Some(memory) = before.remove(&planned.workload.id) {
                    *self.history.entry(&planned.workload.id) = memory;
                    planned.verdict = Verdict::Hold(unannounced(&error));
                }
            }
        }
        before
    }

    fn begin(&mut self, policy: &Policy, planned: &Planned, change: &Change, now: jiff::Timestamp) -> Memory {
        let workload = &planned.workload;
        let memory = self.history.entry(&workload.id);
        *memory = Memory::of(Some(memory), workload);
        let before = memory.begin(change, now);
        let state = self.policies.entry(policy.id.clone()).or_default();
        let entry = state.entries.entry(workload.id.clone()).or_insert_with(|| Entry::new(&workload.id));
        let status = &mut entry.status;
        "Applying".clone_into(&mut status.status);
        let known = status.clone();
        let containers = entry::publish(status, planned, None, Some(&known), now);
        status.uid = Some(workload.uid.clone());
        status.method = Some(change.method.as_str().to_owned());
        status.target = requests(&change.target);
        status.previous = requests(&change.previous);
        status.raised = raised_times(&memory.raised);
        status.oom_kills = kills::to_status(&memory.killed);
        status.last_applied = Some(Time(now));
        status.cause = memory.cause.map(|cause| cause.to_string());
        status.watch = memory.watch.as_ref().map(watch_status);
        status.rolled_back = memory.rolled_back.as_ref().map(rolled_back_status);
        (status.reason, status.message) = (None, Some(entry::progress(change, planned.workload.rollout)));
        entry::cut(status, containers);
        before
    }

    /// A change goes on of which the status says that nothing is under way. Were we ended after its next write, our
    /// successor would count the cooldown from an earlier one.
    fn resume(&mut self, policy: &Policy, planned: &Planned, change: &Change) -> Option<Memory> {
        let id = &planned.workload.id;
        let entry = self.policies.get_mut(&policy.id)?.entries.get_mut(id)?;
        if change.writes.is_empty() || entry.status.status == "Applying" {
            return None;
        }
        "Applying".clone_into(&mut entry.status.status);
        let message = entry::progress(change, planned.workload.rollout);
        (entry.status.reason, entry.status.message) = (None, Some(message));
        self.history.get(id).cloned()
    }

    /// Takes in what was applied, and tells it.
    pub(super) async fn report(
        &mut self,
        observation: &Observation,
        focus: &Focus,
        applied: Vec<Applied>,
        before: &Before,
    ) -> Option<FollowUp> {
        let policy = &observation.policy;
        let now = super::seconds(observation.now);
        let mut state = self.policies.remove(&policy.id).unwrap_or_default();
        let known = news(&state.entries);
        state.standing.look(&state.entries, now);
        let mut entries = if *focus == Focus::All { BTreeMap::new() } else { std::mem::take(&mut state.entries) };
        // What counts for the cooldown is when the writes were over, however long they took.
        let written = super::seconds(self.clock.now());
        let mut of_policy = BTreeMap::new();
        for applied in &applied {
            self.settle(applied, before, written);
            self.heed(applied);
            let id = &applied.planned.workload.id;
            let memory = Memory::of(self.history.get(id), &applied.planned.workload);
            let previous = state.entries.get(id).or_else(|| entries.get(id)).cloned();
            let (entry, reason) = entry::entry(applied, &memory, previous.as_ref(), now);
            self.tell(policy, applied, &entry);
            if let Some(reason) = reason.filter(|reason| reason.event_on() == EventOn::Policy) {
                of_policy.insert(reason.code(), notices::severity(&reason));
            }
            entries.insert(id.clone(), entry);
        }
        state.entries = entries;
        if *focus == Focus::All {
            self.condition_metrics(&mut state, observation, &applied, now);
        }
        let brake = self.shared.with(|cluster| brake::on_everything(cluster));
        let opened = self.watch_circuit(policy, &mut state, now);
        self.tell_of_policy(policy, &mut state, &of_policy, now);
        state.conditions.applying(policy, brake.as_ref(), self.options.dry_run, now);
        let circuit = state.open_circuit(policy).filter(|_| brake.is_none() && !self.options.dry_run);
        if let Some(circuit) = circuit.filter(|_| policy.mode == Mode::Auto) {
            state.conditions.circuit_open(policy, &circuit, now);
        }
        state.conditions.valid(policy, now);
        self.count(policy, &state, &applied);
        let worth_writing = opened || *focus == Focus::All || news(&state.entries) != known || any_failed(&applied);
        let follow_up = self.follow_up(&state.entries, now);
        self.policies.insert(policy.id.clone(), state);
        if worth_writing
            && !planted(18)
            && let Err(error) = self.write_status(&policy.id, policy.generation).await
        {
            self.status_failed(&policy.id, &error);
        }
        follow_up
    }

    /// Ready is false with everything that is wrong; the rest of the status stays.
    pub(super) async fn report_invalid(&mut self, id: &PolicyId, generation: i64, message: &str) {
        let now = super::seconds(self.clock.now());
        self.policies.entry(id.clone()).or_default().conditions.invalid(generation, message, now);
        self.write_conditions(id, generation).await;
    }

    /// Ready is true; the rest of the status stays as it is.
    pub(super) async fn report_disabled(&mut self, policy: &Policy) {
        let now = super::seconds(self.clock.now());
        let conditions = &mut self.policies.entry(policy.id.clone()).or_default().conditions;
        conditions.valid(policy, now);
        if conditions.applying(policy, None, self.options.dry_run, now) {
            self.events.publish(notices::disabled(policy));
        }
        self.write_conditions(&policy.id, policy.generation).await;
    }

    /// Ready is false while a deleted policy waits for what is put back.
    pub(super) async fn report_leaving(&mut self, id: &PolicyId, generation: i64, message: &str) {
        let now = super::seconds(self.clock.now());
        self.policies.entry(id.clone()).or_default().conditions.leaving(generation, message, now);
        self.write_conditions(id, generation).await;
    }

    async fn write_conditions(&mut self, id: &PolicyId, generation: i64) {
        let Some(state) = self.policies.get_mut(id) else { return };
        let conditions = state.conditions.list();
        let written = state.written.clone().unwrap_or_default();
        if written.conditions == conditions && written.observed_generation == Some(generation) {
            return;
        }
        let body = json!({"observedGeneration": generation, "conditions": conditions});
        let uid = state.uid.clone();
        match self.executor.writer.status(id, &uid, &body).await {
            Ok(()) => {
                let state = self.policies.entry(id.clone()).or_default();
                state.written =
                    Some(OptimizationPolicyStatus { conditions, observed_generation: Some(generation), ..written });
            }
            Err(error) => self.status_failed(id, &error),
        }
    }

    async fn write_status(&mut self, id: &PolicyId, generation: i64) -> Result<(), WriteError> {
        let Some(state) = self.policies.get(id) else { return Ok(()) };
        let (workloads, summary) = list::list(&state.entries);
        let status = OptimizationPolicyStatus {
            observed_generation: Some(generation),
            conditions: state.conditions.list(),
            summary: Some(summary),
            workloads,
            circuit: state.circuit.as_ref().map(circuit_status),
        };
        if state.written.as_ref() == Some(&status) {
            return Ok(());
        }
        let body = serde_json::to_value(&status).unwrap_or(Value::Null);
        let uid = state.uid.clone();
        self.executor.writer.status(id, &uid, &body).await?;
        self.policies.entry(id.clone()).or_default().written = Some(status);
        Ok(())
    }

    fn status_failed(&self, id: &PolicyId, error: &WriteError) {
        if *error != WriteError::Gone && !error.was_withheld() {
            tracing::warn!(policy = %id, %error, "the policy's status could not be written; it follows in the next cycle");
            self.metrics.policy(id).count_error(error.code());
        }
    }

    /// Figures of the cycle.
    fn count(&self, policy: &Policy, state: &PolicyState, applied: &[Applied]) {
        let metrics = self.metrics.policy(&policy.id);
        let with = |status: &'static str| state.entries.values().filter(move |entry| entry.status.status == status);
        metrics.set_monitored(if planted(25) { applied.len() + 1 } else { state.entries.len() });
        metrics.set_updated(with("Applied").count());
        // Also what waits for its change to go on is left as it is; what was changed is not counted twice.
        let mut skipped: BTreeMap<&str, usize> = BTreeMap::new();
        for entry in state.entries.values().filter(|entry| entry.status.status != "Applied") {
            if let Some(reason) = entry.status.reason.as_deref() {
                *skipped.entry(reason).or_default() += 1;
            }
        }
        metrics.set_skipped(skipped);
        let made = applied.iter().flat_map(|a| &a.planned.outcomes).filter(|(_, outcome)| outcome.is_ok()).count();
        metrics.count_recommendations(made);
        for applied in applied {
            match (&applied.planned.verdict, &applied.outcome) {
                (Verdict::Change(change), Outcome::Done) => metrics.count_application(change.method.as_str()),
                (_, Outcome::Failed { error, .. }) if !error.was_withheld() => metrics.count_error(error.code()),
                _ => {}
            }
        }
    }
}

/// What does not wait for the next cycle to be told.
type News = (WorkloadId, String, Option<String>, Option<jiff::Timestamp>);

fn news(entries: &BTreeMap<WorkloadId, Entry>) -> BTreeSet<News> {
    let key = |(id, entry): (&WorkloadId, &Entry)| {
        let status = &entry.status;
        let killed = status.oom_kills.iter().map(|kill| kill.at.0).max();
        (id.clone(), status.status.clone(), status.reason.clone(), killed)
    };
    entries.iter().map(key).collect()
}

fn any_failed(applied: &[Applied]) -> bool {
    applied.iter().any(|applied| matches!(applied.outcome, Outcome::Failed { .. }))
}

fn unannounced(error: &WriteError) -> Reason {
    Reason::WriteFailed { detail: format!("the policy's status, which comes first, could not be written: {error}") }
}
