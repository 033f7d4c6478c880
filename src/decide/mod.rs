//! From a recommendation and what was observed of the cluster to a decision. Pure: no I/O, no clock, no kube client.
//!
//! Order of the questions, first answer wins: brakes → mode → dry-run → deletion, paused rollouts → harm that the last
//! change did (a rollback) → the policy's circuit → rollouts under way → somebody else's change → enough and fresh data → a
//! change worth making (coverage, direction, HPA, limits, minimum), which is not the one that was rolled back → cooldown →
//! VPA → method (resize, else rollout) with rights and the rules of each → LimitRanges → quotas → nodes → budget.
//!
//! Invariants: the same [`Facts`] give the same [`Decision`]; every way of not acting has a [`Reason`]; a size once
//! decided ([`Facts::target`]) is carried on to the pods that lack it, whatever keeps a new size from being decided, but
//! only what the policy and the autoscalers still allow of it.

mod brakes;
mod cause;
mod change;
mod circuit;
mod facts;
mod guards;
mod outcome;
mod reason;
mod resize;
mod rollback;
mod rollout;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use brakes::{Brake, Brakes};
pub use cause::{Cause, UnknownCause};
pub use circuit::{Circuit, opens};
pub use facts::{Facts, HpaFacts, PodContainer, PodFacts, Raised, ResizeState, Rights, Rollout, Size, Wanted};
pub use guards::{Counted, Guards, LimitRange, Nodes, Quota, QuotaRow, Ratio, Replicas, Resource, Scope, fit};
pub use outcome::{
    Aftermath, ContainerLife, Ended, Harm, HarmKind, Judgement, KILLED_AFTER, PodLife, Progress, SETTLE, Trouble,
    Watch, judge,
};
pub use reason::{EventOn, Reason};
pub use resize::PodResize;
pub use rollback::{Restore, Rollback, RolledBack};
pub use rollout::TemplateChange;

use crate::plant::planted;
use crate::policy::{Bounds, Mode};
use crate::workload::Resources;
use jiff::SignedDuration;

/// What to do about one workload now.
#[derive(Clone, PartialEq, Debug)]
pub enum Decision {
    /// Nothing, for this reason.
    Hold(Reason),
    /// Write the recommendation to the status and nothing else.
    Publish,
    /// Patch these pods' `resize` subresource; `target` is the size that all pods are brought to.
    Resize {
        /// The size of every container that has one.
        target: Vec<Size>,
        /// This batch.
        pods: Vec<PodResize>,
        /// How many more pods wait for a later batch.
        remaining: usize,
    },
    /// Apply these requests to the workload's template, which replaces its pods.
    Rollout {
        /// The size of every container that has one.
        target: Vec<Size>,
        /// The whole template's resources after the change.
        template: TemplateChange,
    },
    /// Put back what the last change replaced.
    Rollback(Rollback),
}

/// Usage older than this says nothing about now: the collector or metrics-server has stopped.
pub const STALE_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// A request that was raised is not lowered again before this time has passed: usage that swings with the day would
/// otherwise be followed up and down for ever.
pub const RAISED_STAYS: SignedDuration = SignedDuration::from_hours(24);

/// Decides what to do about one workload.
pub fn decide(facts: &Facts<'_>) -> Decision {
    match first_answer(facts) {
        Decision::Hold(reason) => Decision::Hold(rollout::awaits_deletion(facts, reason)),
        decision => decision,
    }
}

fn first_answer(facts: &Facts<'_>) -> Decision {
    if let Some(decision) = before_any_change(facts).or_else(|| rollback::due(facts)) {
        return decision;
    }
    if let Some(reason) = before_a_new_size(facts) {
        return Decision::Hold(reason);
    }
    let reason = match new_target(facts).map(|target| carry_out(facts, target)) {
        Ok(Decision::Hold(reason)) if reason.is_of_guard() => reason,
        Ok(Decision::Resize { .. } | Decision::Rollout { .. }) if facts.budget_spent => {
            Reason::BudgetSpent { per_cycle: facts.update.max_updates_per_cycle }
        }
        Ok(decision) => return decision,
        Err(reason) => reason,
    };
    match unfinished(facts) {
        Some(target) => carry_out(facts, target),
        None => Decision::Hold(reason),
    }
}

/// The answers that need no recommendation.
fn before_any_change(facts: &Facts<'_>) -> Option<Decision> {
    if let Some(reason) = facts.brakes.hold() {
        return Some(Decision::Hold(reason));
    }
    match facts.mode {
        Mode::Disabled => return Some(Decision::Hold(Reason::PolicyDisabled)),
        Mode::Recommend => return Some(Decision::Publish),
        Mode::Auto => {}
    }
    if facts.dry_run && !planted(29) {
        return Some(Decision::Hold(Reason::DryRun));
    }
    if facts.deleting {
        return Some(Decision::Hold(Reason::WorkloadDeleting));
    }
    (facts.rollout == Rollout::Paused).then_some(Decision::Hold(Reason::RolloutPaused))
}

/// What holds every change but a rollback.
fn before_a_new_size(facts: &Facts<'_>) -> Option<Reason> {
    if let Some(circuit) = &facts.aftermath.circuit {
        return Some(circuit.reason());
    }
    if facts.rollout == Rollout::Progressing {
        return Some(Reason::RolloutInProgress);
    }
    // A resize leaves the template alone, so that there is nothing to fight over.
    let manager = facts.reverted_by.as_ref().filter(|_| !facts.may_resize())?;
    Some(Reason::RevertedByOther { manager: manager.clone() })
}

/// A size that differs enough from the present one and that nothing forbids, or why there is none.
fn new_target(facts: &Facts<'_>) -> Result<Vec<Size>, Reason> {
    enough_data(facts)?;
    let target = change::target(facts);
    if let Some(reason) = rollback::bars(facts, target.as_deref().ok()) {
        return Err(reason);
    }
    let target = target?;
    if let Some(last) = facts.last_change {
        let cooldown = SignedDuration::try_from(facts.update.cooldown).unwrap_or(SignedDuration::MAX);
        let until = last.saturating_add(cooldown).unwrap_or(jiff::Timestamp::MAX);
        if facts.now < until {
            return Err(rollback::cools_down(facts, until).unwrap_or(Reason::Cooldown { until }));
        }
    }
    Ok(target)
}

fn enough_data(facts: &Facts<'_>) -> Result<(), Reason> {
    let mut newest = None;
    let mut missing = None;
    for wanted in &facts.wanted {
        match &wanted.outcome {
            Ok(recommendation) => newest = newest.max(Some(recommendation.newest_sample)),
            Err(insufficient) => {
                missing.get_or_insert(Reason::InsufficientData {
                    container: wanted.container.clone(),
                    detail: insufficient.to_string(),
                });
            }
        }
    }
    match (newest, missing) {
        (None, Some(reason)) => Err(reason),
        (None, None) => Err(Reason::NothingToSize),
        (Some(at), _) if facts.now.duration_since(at) > STALE_AFTER && !planted(7) => {
            Err(Reason::StaleData { newest: at })
        }
        (Some(_), _) => Ok(()),
    }
}

/// The size decided earlier, while pods or the template still lack it.
fn unfinished(facts: &Facts<'_>) -> Option<Vec<Size>> {
    let target = still_allowed(facts);
    if target.is_empty() {
        return None;
    }
    let open = if facts.may_resize() {
        resize::unfinished(facts, &target)
    } else {
        rollout::differs(&facts.template, &rollout::allowed(facts, &target))
    };
    open.then_some(target)
}

/// The size decided earlier without what was excluded, bounded or given to an autoscaler since.
fn still_allowed(facts: &Facts<'_>) -> Vec<Size> {
    let allowed = |size: &Size| {
        let plan = facts.settings.get(&size.container).filter(|plan| !plan.exclude)?;
        let limits = facts.current(&size.container).map(|current| current.limits).unwrap_or_default();
        let cpu = size.requests.cpu.filter(|cpu| within(*cpu, plan.cpu.bounds, limits.cpu));
        let memory = size.requests.memory.filter(|memory| within(*memory, plan.memory.bounds, limits.memory));
        let requests = Resources {
            cpu: cpu.filter(|_| facts.hpa.cpu.is_none()),
            memory: memory.filter(|_| facts.hpa.memory.is_none()),
        };
        (requests != Resources::default()).then(|| Size { container: size.container.clone(), requests })
    };
    facts.target.iter().filter_map(allowed).collect()
}

/// A limit is the one thing that may keep a request below the bounds.
fn within<T: Ord + Copy>(request: T, bounds: Bounds<T>, limit: Option<T>) -> bool {
    request <= bounds.max && (request >= bounds.min || limit.is_some_and(|limit| limit < bounds.min))
}

/// By resize where that is allowed and possible, else by rollout where that is allowed, else not, with the first reason.
fn carry_out(facts: &Facts<'_>, target: Vec<Size>) -> Decision {
    if let Some(autoscaler) = facts.guards.vpa.clone() {
        return Decision::Hold(Reason::VpaOnWorkload { autoscaler });
    }
    if !facts.update.requests_only && !facts.rights.limits {
        return Decision::Hold(Reason::LimitsNotAllowed);
    }
    let resize = resize::plan(facts, &target);
    let held = match resize.and_then(|(pods, rest)| guards::resize(facts, &pods).map(|()| (pods, rest))) {
        Ok((pods, remaining)) => return Decision::Resize { target, pods, remaining },
        Err(reason) => reason,
    };
    let waiting = matches!(
        held,
        Reason::ResizeInProgress { .. }
            | Reason::ResizeDeferred { .. }
            | Reason::NoRunningPods
            | Reason::AlreadySized { .. }
    );
    if waiting || !(facts.update.recreate || planted(6)) {
        return Decision::Hold(held);
    }
    let rollout = rollout::plan(facts, &rollout::allowed(facts, &target));
    match rollout.and_then(|template| guards::rollout(facts, &template).map(|()| template)) {
        Ok(template) => Decision::Rollout { target, template },
        Err(reason) => Decision::Hold(reason),
    }
}
