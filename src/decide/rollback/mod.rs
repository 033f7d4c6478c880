//! Putting back what a change that did harm replaced: once, and as a whole.
//!
//! A rollback waits for no batch, budget, cooldown or direction: what is put back was there before. Afterwards the workload
//! is held until its recommendation has moved away from the size that failed ([`bars`]).
//!
//! Invariant: a rollback gives nothing but the requests of before, and only where the failed size still stands.

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests;

use super::facts::{Facts, Size};
use super::outcome::{Harm, HarmKind, Judgement, judge};
use super::reason::Reason;
use super::resize::{self, PodResize};
use super::rollout::{self, TemplateChange};
use super::{Cause, Decision};
use crate::policy::Direction;
use crate::workload::Resources;
use jiff::{SignedDuration, Timestamp};

/// A change that was taken back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RolledBack {
    /// When.
    pub at: Timestamp,
    /// What the change did.
    pub harm: Harm,
    /// The size that failed.
    pub size: Vec<Size>,
    /// What was put back; a request that there was not before has none.
    pub restored: Vec<Size>,
}

/// What to do to take a change back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rollback {
    /// What the change did.
    pub harm: Harm,
    /// The size that failed.
    pub failed: Vec<Size>,
    /// What is put back.
    pub target: Vec<Size>,
    /// Where.
    pub restore: Restore,
}

/// Where requests are put back.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Restore {
    /// On these pods, all at once; none where all that was done is a first request, which no resize removes.
    Pods(Vec<PodResize>),
    /// In the template.
    Template(TemplateChange),
}

/// A size that failed stays barred for this long, also after another size has done well.
const BARRED: SignedDuration = SignedDuration::from_hours(24);

/// The rollback that is due: a new one, or the rest of one that was not carried out as a whole.
pub(super) fn due(facts: &Facts<'_>) -> Option<Decision> {
    let after = &facts.aftermath;
    if let (Some(Cause::Rollback), Some(past)) = (after.cause, &after.rolled_back) {
        let rest = restore(facts, &past.size, &past.restored).ok().flatten()?;
        let (harm, failed, target) = (past.harm.clone(), past.size.clone(), past.restored.clone());
        return Some(Decision::Rollback(Rollback { harm, failed, target, restore: rest }));
    }
    let Judgement::Failed(harm) = judge(facts) else { return None };
    let failed = facts.target.clone();
    let target = before(facts, &failed);
    let restore = match restore(facts, &failed, &target) {
        Ok(Some(restore)) => restore,
        // Somebody has put other requests into the template.
        Ok(None) if after.by_rollout => return None,
        Ok(None) => Restore::Pods(Vec::new()),
        Err(reason) => return Some(Decision::Hold(reason)),
    };
    Some(Decision::Rollback(Rollback { harm, failed, target, restore }))
}

/// What each resource that was changed requested before.
fn before(facts: &Facts<'_>, failed: &[Size]) -> Vec<Size> {
    let one = |size: &Size| {
        let previous = facts.aftermath.previous.iter().find(|previous| previous.container == size.container)?.requests;
        let requests = Resources {
            cpu: previous.cpu.filter(|_| size.requests.cpu.is_some()),
            memory: previous.memory.filter(|_| size.requests.memory.is_some()),
        };
        (requests != Resources::default()).then(|| Size { container: size.container.clone(), requests })
    };
    failed.iter().filter_map(one).collect()
}

/// The writes that put `target` where `failed` stands; nothing where it stands nowhere.
fn restore(facts: &Facts<'_>, failed: &[Size], target: &[Size]) -> Result<Option<Restore>, Reason> {
    if facts.aftermath.by_rollout {
        return template(facts, failed, target);
    }
    let requests_only = facts.update.requests_only;
    let mut pods = Vec::new();
    for pod in facts.pods.iter().filter(|pod| resize::has(pod, failed, requests_only)) {
        let containers = resize::changes(pod, target, Direction::Both, requests_only);
        if !containers.is_empty() {
            pods.push(resize::of(facts, pod, containers)?);
        }
    }
    Ok((!pods.is_empty()).then_some(Restore::Pods(pods)))
}

/// An apply that leaves a request out takes back one that there was not before.
fn template(facts: &Facts<'_>, failed: &[Size], target: &[Size]) -> Result<Option<Restore>, Reason> {
    if rollout::differs(&facts.template, failed) {
        return Ok(None);
    }
    let removed = |container: &str| {
        let of = |sizes: &[Size]| sizes.iter().find(|size| size.container == container).map(|size| size.requests);
        let (failed, target) = (of(failed).unwrap_or_default(), of(target).unwrap_or_default());
        (failed.cpu.is_some() && target.cpu.is_none(), failed.memory.is_some() && target.memory.is_none())
    };
    let mut change = match rollout::plan(facts, target) {
        Ok(change) => change,
        // Nothing but first requests to take back.
        Err(Reason::AlreadySized { .. }) => {
            TemplateChange { containers: facts.template.clone(), with_limits: !facts.update.requests_only }
        }
        Err(reason) => return Err(reason),
    };
    for container in &mut change.containers {
        let (cpu, memory) = removed(&container.name);
        container.requests.cpu = container.requests.cpu.filter(|_| !cpu);
        container.requests.memory = container.requests.memory.filter(|_| !memory);
    }
    Ok((change.containers != facts.template).then_some(Restore::Template(change)))
}

/// Why a workload that was rolled back is not changed: `candidate`, if there is one, is what failed, or is worse.
pub(super) fn bars(facts: &Facts<'_>, candidate: Option<&[Size]>) -> Option<Reason> {
    let past = facts.aftermath.rolled_back.as_ref()?;
    let stands = facts.aftermath.cause == Some(Cause::Rollback);
    if !stands && facts.now.duration_since(past.at) > BARRED {
        return None;
    }
    let barred = candidate.map_or(stands, |candidate| !moved_on(past, candidate, facts.update.min_change_percent));
    barred.then(|| past.reason(facts, None))
}

/// A workload that was rolled back says so until its next change, also while only the cooldown holds that.
pub(super) fn cools_down(facts: &Facts<'_>, until: Timestamp) -> Option<Reason> {
    let stands = facts.aftermath.cause == Some(Cause::Rollback);
    facts.aftermath.rolled_back.as_ref().filter(|_| stands).map(|past| past.reason(facts, Some(until)))
}

impl RolledBack {
    fn reason(&self, facts: &Facts<'_>, until: Option<Timestamp>) -> Reason {
        let kept = !facts.aftermath.by_rollout && self.kept();
        Reason::RolledBack { harm: self.harm.clone(), kept, until }
    }

    /// A request that there was not before remains.
    fn kept(&self) -> bool {
        self.altered(None).any(|(_, _, restored)| restored.is_none())
    }

    /// Each request that the failed change altered: which, to what, from what. Of one container, or of all.
    fn altered<'a>(&'a self, container: Option<&'a str>) -> impl Iterator<Item = (Request<'a>, u64, Option<u64>)> {
        let of = self.size.iter().map(|size| size.container.as_str());
        let of = of.filter(move |name| container.is_none_or(|container| container == *name));
        let both = of.flat_map(|container| [Request { container, memory: false }, Request { container, memory: true }]);
        both.filter_map(|request| {
            let (failed, restored) = (request.of(&self.size)?, request.of(&self.restored));
            (Some(failed) != restored).then_some((request, failed, restored))
        })
    }
}

/// One request of one container.
#[derive(Clone, Copy)]
struct Request<'a> {
    container: &'a str,
    memory: bool,
}

impl Request<'_> {
    /// In millicores or bytes.
    fn of(self, sizes: &[Size]) -> Option<u64> {
        let requests = sizes.iter().find(|size| size.container == self.container)?.requests;
        if self.memory { requests.memory.map(|memory| memory.0) } else { requests.cpu.map(|cpu| cpu.0) }
    }
}

/// Whether a size differs from the one that failed where it matters: in the memory of a container that was killed for it,
/// else in a request that was altered, of the container that suffered if it was altered at all.
fn moved_on(past: &RolledBack, candidate: &[Size], percent: u32) -> bool {
    let container = past.harm.container.as_deref();
    if let (HarmKind::OomKilled, Some(container)) = (past.harm.kind, container) {
        let memory = Request { container, memory: true };
        if let Some(failed) = memory.of(&past.size) {
            return memory.of(candidate).is_some_and(|now| above(now, failed, percent));
        }
    }
    let culprit = container.filter(|name| past.altered(Some(name)).next().is_some());
    past.altered(culprit).any(|(request, failed, restored)| {
        request.of(candidate).is_some_and(|now| {
            let lowered = restored.is_some_and(|restored| failed < restored);
            above(now, failed, percent) || !lowered && below(now, failed, percent)
        })
    })
}

fn above(now: u64, failed: u64, percent: u32) -> bool {
    now > failed && u128::from(now - failed) * 100 >= u128::from(failed) * u128::from(percent)
}

fn below(now: u64, failed: u64, percent: u32) -> bool {
    now < failed && u128::from(failed - now) * 100 >= u128::from(failed) * u128::from(percent)
}
