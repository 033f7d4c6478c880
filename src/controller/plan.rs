//! Step two: from what was observed to what is done, as values. Pure.
//!
//! Invariant: a write is planned only where [`decide`] answers `Resize` or `Rollout` and no gate here holds it.

use super::history::{History, Memory, Method};
use super::motive::{Motive, aftermath, roll_back};
use super::notes;
use super::observe::{Observation, Observed, Outcome};
use super::writer::TemplateWrite;
use crate::decide::{
    Aftermath, Cause, Circuit, Decision, Facts, Judgement, PodResize, Reason, Restore, Size, TemplateChange, Wanted,
    Watch, decide, judge,
};
use crate::policy::PolicyId;
use crate::workload::ContainerResources;
use jiff::Timestamp;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::cluster::Workload;

/// What will be done about one workload.
#[derive(Clone, Debug)]
pub(super) struct Planned {
    pub(super) workload: Arc<Workload>,
    pub(super) verdict: Verdict,
    pub(super) outcomes: Vec<Outcome>,
    /// What each recommended container requests now.
    pub(super) current: Vec<ContainerResources>,
    /// The watch of the last change, as far as it goes on.
    pub(super) watch: Option<Watch>,
}

/// What was decided about one workload.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    /// Nothing is done, for this reason.
    Hold(Reason),
    /// The recommendation is published.
    Publish,
    /// Something is written.
    Change(Change),
}

/// A change of one workload, or the next part of one.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) method: Method,
    /// Why it is made.
    pub(super) motive: Motive,
    /// The size that it is brought to.
    pub(super) target: Vec<Size>,
    /// What its containers request before.
    pub(super) previous: Vec<Size>,
    /// Another size than the last one decided: it counts for the budgets, and its status comes first.
    pub(super) is_new: bool,
    pub(super) writes: Vec<Write>,
    /// Pods that wait for a later batch.
    pub(super) remaining: usize,
}

/// One write to the cluster.
#[derive(Clone, Debug)]
pub(super) enum Write {
    /// Resize a pod.
    Resize { pod: PodResize, with_limits: bool, seen: Vec<ContainerResources> },
    /// Apply a template.
    Template(TemplateWrite),
}

/// How many more changes may begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Budget {
    /// Of the policy, in this cycle.
    pub(super) cycle: usize,
    /// Of all policies, now.
    pub(super) rate: usize,
    /// The setting that `rate` follows from.
    pub(super) per_minute: u32,
}

/// Decides about every workload, in order; each new change takes from the budget.
pub(super) fn plan(
    observation: &Observation,
    history: &History,
    circuit: Option<Circuit>,
    budget: &mut Budget,
    dry_run: bool,
) -> Vec<Planned> {
    let acted_on = observation.workloads.iter().map(|observed| {
        let memory = Memory::of(history.get(&observed.workload.id), &observed.workload);
        plan_one(observation, observed, &memory, circuit, budget, dry_run)
    });
    let overridden = observation.overridden.iter().map(|(workload, by)| overridden(workload, by));
    // The iterators run one after the other, so that the budget is spent in the workloads' order.
    acted_on.chain(overridden).collect()
}

fn overridden(workload: &Arc<Workload>, by: &PolicyId) -> Planned {
    let verdict = Verdict::Hold(Reason::OverriddenBy { policy: by.to_string() });
    Planned { workload: workload.clone(), verdict, outcomes: Vec::new(), current: Vec::new(), watch: None }
}

fn plan_one(
    observation: &Observation,
    observed: &Observed,
    memory: &Memory,
    circuit: Option<Circuit>,
    budget: &mut Budget,
    dry_run: bool,
) -> Planned {
    let mut facts = facts(observation, observed, memory, budget, dry_run);
    facts.aftermath = aftermath(observed, memory, circuit);
    let verdict = match unreadable(observed) {
        Some(reason) => Verdict::Hold(reason),
        None => gate(observation, memory, budget, verdict(&facts, observed, memory, observation.now)),
    };
    if let Verdict::Change(change) = &verdict
        && change.is_new
        && change.motive.cause() == Cause::Recommend
    {
        budget.cycle = budget.cycle.saturating_sub(1);
        budget.rate = budget.rate.saturating_sub(1);
    }
    let current = observed.outcomes.iter().filter_map(|(container, _)| facts.current(container)).collect();
    let watch = match judge(&facts) {
        Judgement::Watched(watch) => Some(watch),
        Judgement::Failed(_) => memory.watch.clone(),
        Judgement::Over => None,
    };
    Planned { workload: observed.workload.clone(), verdict, outcomes: observed.outcomes.clone(), current, watch }
}

fn unreadable(observed: &Observed) -> Option<Reason> {
    let detail = observed.workload.template.as_ref().err().or(observed.unreadable.as_ref())?;
    Some(Reason::InvalidResources { detail: detail.clone() })
}

fn facts<'a>(
    observation: &'a Observation,
    observed: &'a Observed,
    memory: &Memory,
    budget: &Budget,
    dry_run: bool,
) -> Facts<'a> {
    let policy = &observation.policy;
    let workload = &observed.workload;
    let wanted = observed.outcomes.iter().map(|(container, outcome)| Wanted {
        container: container.clone(),
        plan: policy.container(container),
        outcome: outcome.clone(),
    });
    Facts {
        now: observation.now,
        brakes: observed.brakes.clone(),
        mode: policy.mode,
        dry_run,
        update: &policy.update,
        deleting: workload.deleting,
        rollout: workload.rollout,
        reverted_by: workload.reverted_by.clone(),
        template: workload.template.clone().unwrap_or_default(),
        pods: observed.pods.clone(),
        wanted: wanted.collect(),
        settings: memory
            .target
            .iter()
            .map(|size| (size.container.clone(), policy.container(&size.container)))
            .collect(),
        target: memory.target.clone(),
        raised: memory.raised(),
        last_change: memory.last_change.max(memory.may_have_changed),
        hpa: observed.hpa.clone(),
        guards: observed.guards.clone(),
        resize_served: observation.resize_served,
        rights: observed.rights,
        budget_spent: budget.cycle == 0,
        aftermath: Aftermath::default(),
    }
}

/// The decision with its writes.
fn verdict(facts: &Facts<'_>, observed: &Observed, memory: &Memory, now: Timestamp) -> Verdict {
    let (method, target, restore, remaining) = match decide(facts) {
        Decision::Hold(reason) => return Verdict::Hold(reason),
        Decision::Publish => return published(observed),
        Decision::Rollback(rollback) => return Verdict::Change(roll_back(facts, observed, memory, rollback, now)),
        Decision::Resize { target, pods, remaining } => (Method::Resize, target, Restore::Pods(pods), remaining),
        Decision::Rollout { target, template } => (Method::Rollout, target, Restore::Template(template), 0),
    };
    // Another method is another change too: a size that was given by resize is not yet the template's.
    let is_new = target != facts.target || memory.method.is_some_and(|before| before != method);
    let previous = previous(facts, method, &target);
    let motive = match memory.cause {
        Some(cause) if !is_new => Motive::Begun(cause),
        _ => Motive::Recommendation(Watch::begin(facts)),
    };
    let writes = writes(facts, observed, &target, restore, motive.cause(), now);
    Verdict::Change(Change { method, motive, target, previous, is_new, writes, remaining })
}

pub(super) fn writes(
    facts: &Facts<'_>,
    observed: &Observed,
    target: &[Size],
    what: Restore,
    cause: Cause,
    now: Timestamp,
) -> Vec<Write> {
    match what {
        Restore::Pods(pods) => resizes(facts, observed, pods),
        Restore::Template(template) => vec![apply(facts, observed, target, template, cause, now)],
    }
}

/// The requests that the change replaces: the pods' by resize, the template's by rollout.
fn previous(facts: &Facts<'_>, method: Method, target: &[Size]) -> Vec<Size> {
    let before = |size: &Size| {
        let found = match method {
            Method::Resize => facts.standing(&size.container),
            Method::Rollout => facts.template.iter().find(|c| c.name == size.container).cloned(),
        };
        found.map(|container| Size { container: container.name, requests: container.requests })
    };
    target.iter().filter_map(before).collect()
}

/// Where no container has a recommendation there is nothing to publish.
fn published(observed: &Observed) -> Verdict {
    let mut missing = None;
    for (container, outcome) in &observed.outcomes {
        match outcome {
            Ok(_) => return Verdict::Publish,
            Err(why) => {
                missing
                    .get_or_insert(Reason::InsufficientData { container: container.clone(), detail: why.to_string() });
            }
        }
    }
    Verdict::Hold(missing.unwrap_or(Reason::NothingToSize))
}

fn resizes(facts: &Facts<'_>, observed: &Observed, pods: Vec<PodResize>) -> Vec<Write> {
    let seen = |uid: &str| {
        let pod = observed.pods.iter().find(|pod| pod.uid == uid);
        pod.into_iter().flat_map(|pod| &pod.containers).map(|container| container.resources.clone()).collect()
    };
    let write = |pod: PodResize| Write::Resize { with_limits: !facts.update.requests_only, seen: seen(&pod.uid), pod };
    pods.into_iter().map(write).collect()
}

fn apply(
    facts: &Facts<'_>,
    observed: &Observed,
    target: &[Size],
    change: TemplateChange,
    cause: Cause,
    now: Timestamp,
) -> Write {
    let workload = &observed.workload;
    let original = workload.original.clone().filter(|_| workload.reverted_by.is_none());
    let annotations = BTreeMap::from([
        (notes::ORIGINAL_REQUESTS, original.unwrap_or_else(|| notes::requests_json(&facts.template))),
        (notes::PREVIOUS_REQUESTS, notes::requests_json(&facts.template)),
        (notes::REQUESTS, notes::requests_json(&sized(&change.containers, target))),
        (notes::CAUSE, cause.to_string()),
        (notes::CHANGED_AT, super::seconds(now).to_string()),
    ]);
    let with_limits = if change.with_limits {
        change.containers.iter().map(|container| container.name.clone()).collect()
    } else {
        workload.limits_are_ours.clone()
    };
    Write::Template(TemplateWrite {
        uid: workload.uid.clone(),
        resource_version: workload.resource_version.clone(),
        containers: change.containers,
        with_limits,
        annotations,
    })
}

/// Only what was decided: everything else in the apply stays what it was, and is others' to change.
fn sized(containers: &[ContainerResources], target: &[Size]) -> Vec<ContainerResources> {
    let one = |container: &ContainerResources| {
        let size = target.iter().find(|size| size.container == container.name)?.requests;
        let mut noted = container.clone();
        noted.requests.cpu = noted.requests.cpu.filter(|_| size.cpu.is_some());
        noted.requests.memory = noted.requests.memory.filter(|_| size.memory.is_some());
        Some(noted)
    };
    containers.iter().filter_map(one).collect()
}

/// What holds a decision that is right in itself.
fn gate(observation: &Observation, memory: &Memory, budget: &Budget, verdict: Verdict) -> Verdict {
    let nothing_known = matches!(&verdict, Verdict::Hold(Reason::NothingToSize));
    if let (Some(reason), true) = (&observation.unavailable, nothing_known) {
        return Verdict::Hold(reason.clone());
    }
    let Verdict::Change(change) = verdict else { return verdict };
    if let Some(reason) = &observation.blocked {
        return Verdict::Hold(reason.clone());
    }
    let failure = memory.failure.as_ref().filter(|f| f.target == change.target && observation.now < f.not_before);
    if let Some(failure) = failure {
        return Verdict::Hold(failure.reason.clone());
    }
    if !change.is_new || change.motive.cause() != Cause::Recommend {
        return Verdict::Change(change);
    }
    if budget.cycle == 0 {
        return Verdict::Hold(Reason::BudgetSpent { per_cycle: observation.policy.update.max_updates_per_cycle });
    }
    if budget.rate == 0 {
        return Verdict::Hold(Reason::RateLimited { per_minute: budget.per_minute });
    }
    Verdict::Change(change)
}
