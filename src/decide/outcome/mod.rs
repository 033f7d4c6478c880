//! Whether the last change of a workload did it harm.
//!
//! A change answers for what began after it and was not so before: a container in a crash loop, one that was killed for
//! memory, pods that do not become ready, a rollout that gets nowhere. What was wrong before is counted over the pods when
//! the change begins ([`Watch`]), so that it is known after a restart of ours and after pods have been replaced.
//!
//! It is watched until all pods have been changed and well for [`SETTLE`] (or `minReadySeconds`, if that is longer); a kill
//! for memory counts for [`KILLED_AFTER`] after its last write. A change that somebody else's change of the template
//! overtook answers for nothing any more.
//!
//! Invariant: without a watch nothing is judged, and no verdict follows from a pod that was not changed.

mod facts;
#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

pub use facts::{Aftermath, ContainerLife, Ended, PodLife, Progress, Trouble, Watch};

use super::{Cause, Facts, PodContainer, PodFacts, Rollout, resize};
use facts::count;
use jiff::{SignedDuration, Timestamp};
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::fmt;

/// Pods that were changed and are well are watched for this long.
pub const SETTLE: SignedDuration = SignedDuration::from_mins(5);
/// A kill for memory counts for this long after the last write of a change, or until the next change.
pub const KILLED_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// How a change turned out.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Judgement {
    /// Well so far.
    Watched(Watch),
    /// It did harm.
    Failed(Harm),
    /// It answers for nothing any more.
    Over,
}

/// What a change did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Harm {
    /// What kind of harm.
    pub kind: HarmKind,
    /// The container that it befell, where it was one.
    pub container: Option<String>,
    /// A pod that it befell.
    pub pod: Option<String>,
}

/// What kind of harm a change did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HarmKind {
    /// A container was killed for memory.
    OomKilled,
    /// A container is in a crash loop.
    CrashLoop,
    /// A pod is not ready for longer than the workload's progress deadline.
    NotReady,
    /// The rollout does not get on within the workload's progress deadline.
    RolloutStuck,
}

impl HarmKind {
    /// Every kind, the weightiest first.
    pub const ALL: [Self; 4] = [Self::OomKilled, Self::CrashLoop, Self::NotReady, Self::RolloutStuck];

    /// The word in a status.
    pub fn code(self) -> &'static str {
        match self {
            Self::OomKilled => "OOMKilled",
            Self::CrashLoop => "CrashLoop",
            Self::NotReady => "NotReady",
            Self::RolloutStuck => "RolloutStuck",
        }
    }
}

impl fmt::Display for Harm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let container = self.container.as_deref().unwrap_or_default();
        let pod = self.pod.as_deref().unwrap_or_default();
        match self.kind {
            HarmKind::OomKilled => write!(f, "container {container} of pod {pod} was killed for memory"),
            HarmKind::CrashLoop => write!(f, "container {container} of pod {pod} got into a crash loop"),
            HarmKind::NotReady => write!(f, "pod {pod} did not become ready within the workload's progress deadline"),
            HarmKind::RolloutStuck => f.write_str("the rollout did not get on within the workload's progress deadline"),
        }
    }
}

/// Judges the last change of a workload.
pub fn judge(facts: &Facts<'_>) -> Judgement {
    let after = &facts.aftermath;
    let (Some(watch), Some(last)) = (&after.watch, facts.last_change) else { return Judgement::Over };
    let overtaken = watch.template != after.progress.template || after.by_rollout && facts.reverted_by.is_some();
    if after.cause != Some(Cause::Recommend) || overtaken {
        return Judgement::Over;
    }
    let changed = facts.pods.iter().filter(|pod| was_changed(facts, watch, pod)).collect();
    Seen { facts, watch, last, changed }.judge()
}

/// A rollout makes new pods, a resize gives those that are there the size.
fn was_changed(facts: &Facts<'_>, watch: &Watch, pod: &PodFacts) -> bool {
    if facts.aftermath.by_rollout {
        // Times have whole seconds: the first new pod may be of the very second.
        pod.life.created >= watch.since
    } else {
        resize::has(pod, &facts.target, facts.update.requests_only)
    }
}

struct Seen<'a> {
    facts: &'a Facts<'a>,
    watch: &'a Watch,
    /// The last write of the change.
    last: Timestamp,
    changed: Vec<&'a PodFacts>,
}

impl Seen<'_> {
    fn judge(&self) -> Judgement {
        let harm = self.killed().or_else(|| {
            let early = !self.watch.settled;
            early.then(|| self.crashing().or_else(|| self.unready()).or_else(|| self.stuck())).flatten()
        });
        if let Some(harm) = harm {
            return Judgement::Failed(harm);
        }
        if self.since(self.last) > self.longest() {
            return Judgement::Over;
        }
        Judgement::Watched(Watch { settled: self.watch.settled || self.is_well(), ..self.watch.clone() })
    }

    fn since(&self, at: Timestamp) -> SignedDuration {
        self.facts.now.duration_since(at)
    }

    fn killed(&self) -> Option<Harm> {
        let until = self.last.saturating_add(KILLED_AFTER).unwrap_or(Timestamp::MAX);
        let killed = |_: &PodFacts, c: &PodContainer| {
            c.life.was_killed_within(self.watch.since, until) && !self.needs_still_more(c)
        };
        // A container that had been killed before and was given less is killed by that.
        let before = |container: &str| {
            let lowered = self.memory_moved(container) == Some(Ordering::Less);
            if lowered { 0 } else { self.watch.before(container).killed }
        };
        self.befell(HarmKind::OomKilled, killed, before)
    }

    /// It was killed for memory although the change gave it more: what it had before would help it even less.
    fn needs_still_more(&self, container: &PodContainer) -> bool {
        let killed = container.life.ended.is_some_and(|ended| ended.killed);
        killed && self.memory_moved(&container.resources.name) == Some(Ordering::Greater)
    }

    /// Which way the change moved the container's memory request; none where there was none before.
    fn memory_moved(&self, container: &str) -> Option<Ordering> {
        let of = |sizes: &[super::Size]| sizes.iter().find(|size| size.container == container)?.requests.memory;
        Some(of(&self.facts.target)?.cmp(&of(&self.facts.aftermath.previous)?))
    }

    fn crashing(&self) -> Option<Harm> {
        let crashing = |pod: &PodFacts, c: &PodContainer| {
            let is_new = pod.life.created >= self.watch.since;
            let before = if is_new { 0 } else { self.watch.before(&c.resources.name).restarts };
            c.life.crashes_since(self.watch.since, before, !is_new && self.restarts(c)) && !self.needs_still_more(c)
        };
        self.befell(HarmKind::CrashLoop, crashing, |container| self.watch.before(container).crashing)
    }

    /// `resizePolicy` restarts the container with what the change altered of it.
    fn restarts(&self, container: &PodContainer) -> bool {
        let of = |sizes: &[super::Size]| {
            let mut found = sizes.iter().filter(|size| size.container == container.resources.name);
            found.next().map(|size| size.requests).unwrap_or_default()
        };
        let (now, before) = (of(&self.facts.target), of(&self.facts.aftermath.previous));
        container.cpu_restarts && now.cpu.is_some_and(|cpu| Some(cpu) != before.cpu)
            || container.memory_restarts && now.memory.is_some_and(|memory| Some(memory) != before.memory)
    }

    /// The first container that is bad in more pods than before, and the first of those pods.
    fn befell(
        &self,
        kind: HarmKind,
        bad: impl Fn(&PodFacts, &PodContainer) -> bool,
        before: impl Fn(&str) -> u32,
    ) -> Option<Harm> {
        let all = || self.changed.iter().flat_map(|pod| pod.containers.iter().map(move |c| (*pod, c)));
        let names: BTreeSet<&str> = all().map(|(_, c)| c.resources.name.as_str()).collect();
        names.into_iter().find_map(|name| {
            let mut found = all().filter(|(pod, c)| c.resources.name == name && bad(pod, c));
            let (first, _) = found.next()?;
            let more = 1 + count(found) > before(name);
            more.then(|| Harm { kind, container: Some(name.to_owned()), pod: Some(first.name.clone()) })
        })
    }

    fn unready(&self) -> Option<Harm> {
        let deadline = self.facts.aftermath.progress.deadline;
        let late = |pod: &&&PodFacts| {
            let began = pod.life.since > self.watch.since || pod.life.created >= self.watch.since;
            !pod.ready && began && self.since(pod.life.since) > deadline
        };
        let mut late = self.changed.iter().filter(late);
        let pod = late.next()?.name.clone();
        let more = 1 + count(late) > self.watch.unready;
        more.then_some(Harm { kind: HarmKind::NotReady, container: None, pod: Some(pod) })
    }

    /// Pods that were not ready before may be why a rollout does not get on.
    fn stuck(&self) -> Option<Harm> {
        let progress = &self.facts.aftermath.progress;
        let late = progress.exceeded || self.since(self.last_progress()) > progress.deadline;
        let ours = self.facts.aftermath.by_rollout && self.watch.unready == 0;
        let stuck = ours && late && self.facts.rollout == Rollout::Progressing;
        stuck.then_some(Harm { kind: HarmKind::RolloutStuck, container: None, pod: None })
    }

    /// The last write, pod that came, or pod that became ready.
    fn last_progress(&self) -> Timestamp {
        let pods = self.facts.pods.iter().map(|pod| if pod.ready { pod.life.since } else { pod.life.created });
        pods.fold(self.last, Ord::max)
    }

    /// Every pod was changed, no more of them lack readiness than before, and that for a while.
    fn is_well(&self) -> bool {
        let stable = matches!(self.facts.rollout, Rollout::Stable | Rollout::OnDelete { .. });
        let all = self.changed.len() == self.facts.pods.len() && stable;
        let unready = count(self.changed.iter().filter(|pod| !pod.ready));
        all && unready <= self.watch.unready && self.since(self.last_progress()) >= self.settle()
    }

    fn settle(&self) -> SignedDuration {
        SETTLE.max(self.facts.aftermath.progress.min_ready)
    }

    /// No change is watched longer than this after its last write.
    fn longest(&self) -> SignedDuration {
        KILLED_AFTER.max(self.facts.aftermath.progress.deadline.saturating_add(self.settle()))
    }
}
