//! The conditions of a policy. Pure.
//!
//! Invariant: `lastTransitionTime` moves only when the status does.

use super::PolicyState;
use crate::controller::Controller;
use crate::controller::apply::Applied;
use crate::controller::observe::Observation;
use crate::decide::{Circuit, Reason};
use crate::policy::{Mode, Policy};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};

/// Ready, MetricsAvailable, Applying, in this order; others that a status holds are kept.
#[derive(Clone, PartialEq, Debug, Default)]
pub(in crate::controller) struct Conditions(Vec<Condition>);

/// The API server's limit for a condition's message is 32768; a person reads less.
const MESSAGE: usize = 2000;

impl Conditions {
    pub(in crate::controller) fn restored(conditions: Vec<Condition>) -> Self {
        Self(conditions)
    }

    pub(in crate::controller) fn list(&self) -> Vec<Condition> {
        self.0.clone()
    }

    /// Sets a condition; answers whether its status or reason changed.
    fn set(&mut self, type_: &str, status: &str, reason: &str, message: &str, generation: i64, now: Timestamp) -> bool {
        let message: String = message.chars().take(MESSAGE).collect();
        let new = |since: Time| Condition {
            type_: type_.to_owned(),
            status: status.to_owned(),
            reason: reason.to_owned(),
            message,
            last_transition_time: since,
            observed_generation: Some(generation),
        };
        if let Some(old) = self.0.iter_mut().find(|condition| condition.type_ == type_) {
            let since = if old.status == status { old.last_transition_time.clone() } else { Time(now) };
            let changed = old.status != status || old.reason != reason;
            *old = new(since);
            return changed;
        }
        self.0.push(new(Time(now)));
        true
    }

    pub(super) fn valid(&mut self, policy: &Policy, now: Timestamp) {
        let message = match policy.mode {
            Mode::Disabled => "the policy is valid; its mode is Disabled: nothing is recommended or changed",
            Mode::Auto | Mode::Recommend => "the policy is valid and is being evaluated",
        };
        self.set("Ready", "True", "PolicyValid", message, policy.generation, now);
    }

    pub(super) fn invalid(&mut self, generation: i64, message: &str, now: Timestamp) {
        self.set("Ready", "False", "ValidationFailed", message, generation, now);
    }

    pub(super) fn leaving(&mut self, generation: i64, message: &str, now: Timestamp) {
        self.set("Ready", "False", "Deleting", message, generation, now);
        self.set("Applying", "False", "Deleting", "nothing is recommended or changed any more", generation, now);
    }

    /// `brake` is why nothing at all may be written, if that is so. Answers whether it was otherwise before.
    pub(super) fn applying(&mut self, policy: &Policy, brake: Option<&Reason>, dry_run: bool, now: Timestamp) -> bool {
        if let (Mode::Auto, Some(brake)) = (policy.mode, brake) {
            return self.set("Applying", "False", brake.code(), &brake.to_string(), policy.generation, now);
        }
        let (status, reason, message) = match policy.mode {
            Mode::Auto if dry_run => ("False", "DryRun", "dry-run: recommendations are published, nothing is changed"),
            Mode::Auto => ("True", "AutoMode", "recommendations are applied"),
            Mode::Recommend => ("False", "RecommendMode", "recommendations are published, nothing is changed"),
            Mode::Disabled => ("False", "DisabledMode", "nothing is recommended or changed"),
        };
        self.set("Applying", status, reason, message, policy.generation, now)
    }

    pub(super) fn circuit_open(&mut self, policy: &Policy, circuit: &Circuit, now: Timestamp) {
        let reason = circuit.reason();
        self.set("Applying", "False", reason.code(), &reason.to_string(), policy.generation, now);
    }

    fn metrics(&mut self, policy: &Policy, found: Result<(), &Reason>, now: Timestamp) -> bool {
        let (status, reason, message) = match found {
            Ok(()) => ("True", "UsageFound", "usage is available".to_owned()),
            Err(reason) => ("False", reason.code(), reason.to_string()),
        };
        self.set("MetricsAvailable", status, reason, &message, policy.generation, now)
    }
}

impl Controller {
    /// MetricsAvailable is false when the provider fails, and when no container at all has fresh usage.
    pub(super) fn condition_metrics(
        &self,
        state: &mut PolicyState,
        observation: &Observation,
        applied: &[Applied],
        now: Timestamp,
    ) {
        let missing = missing(observation, applied);
        let changed = state.conditions.metrics(&observation.policy, missing.as_ref().map_or(Ok(()), Err), now);
        let policy = &observation.policy;
        if let Some(reason) = missing.filter(|_| changed) {
            tracing::warn!(policy = %policy.id, %reason, "no usage");
            self.events.publish(super::metrics_missing(&policy.id, &policy.uid, &reason));
            state.standing.told(reason.code(), now);
        }
        if observation.unavailable.is_some() {
            self.metrics.policy(&policy.id).count_error("MetricsUnavailable");
        }
    }
}

fn missing(observation: &Observation, applied: &[Applied]) -> Option<Reason> {
    if let Some(reason) = &observation.unavailable {
        return Some(reason.clone());
    }
    let mut outcomes = applied.iter().flat_map(|applied| &applied.planned.outcomes).peekable();
    let first = outcomes.peek().map(|(container, outcome)| (container.clone(), outcome.clone()))?;
    let newest = outcomes.filter_map(|(_, outcome)| outcome.as_ref().ok()).map(|got| got.newest_sample).max();
    match (newest, first) {
        (Some(newest), _) if observation.now.duration_since(newest) > crate::decide::STALE_AFTER => {
            Some(Reason::StaleData { newest })
        }
        (None, (container, Err(why))) => Some(Reason::InsufficientData { container, detail: why.to_string() }),
        _ => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;

    #[test]
    fn a_condition_keeps_its_transition_time_while_its_status_stays() {
        let mut conditions = Conditions::default();
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(conditions.set("Ready", "False", "ValidationFailed", "a", 1, at(1)));
        assert!(!conditions.set("Ready", "False", "ValidationFailed", "b", 2, at(2)));
        assert_eq!((conditions.0[0].last_transition_time.0, conditions.0[0].message.as_str()), (at(1), "b"));
        assert!(conditions.set("Ready", "True", "PolicyValid", "c", 3, at(3)));
        assert_eq!((conditions.0.len(), conditions.0[0].last_transition_time.0), (1, at(3)));
    }
}
