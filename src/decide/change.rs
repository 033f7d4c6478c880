//! Which requests should change, resource by resource, and to what.

use super::facts::{Facts, Size, Wanted};
use super::guards::{Resource, ceiling};
use super::reason::Reason;
use super::{RAISED_STAYS, still_allowed};
use crate::policy::{Bounds, Direction};
use crate::quantity::{Bytes, Millicores};
use crate::workload::Resources;
use jiff::Timestamp;

/// The size to bring the workload to.
///
/// # Errors
/// The weightiest reason why no resource of no container changes.
pub(super) fn target(facts: &Facts<'_>) -> Result<Vec<Size>, Reason> {
    let mut reasons = Vec::new();
    let mut changed = false;
    let mut sizes = Vec::new();
    let decided = still_allowed(facts);
    for wanted in &facts.wanted {
        let before = decided.iter().find(|size| size.container == wanted.container);
        let mut requests = before.map_or(Resources::default(), |size| size.requests);
        match resources(facts, wanted) {
            None => {}
            Some((cpu, memory)) => {
                changed |= cpu.is_ok() | memory.is_ok();
                requests.cpu = cpu.map_err(|reason| reasons.push(reason)).ok().or(requests.cpu);
                requests.memory = memory.map_err(|reason| reasons.push(reason)).ok().or(requests.memory);
            }
        }
        if requests != Resources::default() {
            sizes.push(Size { container: wanted.container.clone(), requests });
        }
    }
    if changed { Ok(sizes) } else { Err(weightiest(reasons)) }
}

/// "Already sized" says least; of the others the first stands.
fn weightiest(reasons: Vec<Reason>) -> Reason {
    let fallback = reasons.first().cloned().unwrap_or(Reason::NothingToSize);
    reasons.into_iter().find(|reason| !matches!(reason, Reason::AlreadySized { .. })).unwrap_or(fallback)
}

type Change<T> = Result<T, Reason>;

/// The new request of both resources; `None` where the container has no recommendation or is not there.
fn resources(facts: &Facts<'_>, wanted: &Wanted<'_>) -> Option<(Change<Millicores>, Change<Bytes>)> {
    let recommendation = wanted.outcome.as_ref().ok()?;
    let current = facts.current(&wanted.container)?;
    let stands = facts.observed(&wanted.container)?.requests;
    let raised = facts.raised.iter().find(|raised| raised.container == wanted.container);
    let most =
        |resource, has_limit| ceiling(&facts.guards.limit_ranges, resource, has_limit).map_or(u64::MAX, |most| most.0);
    let cpu = Candidate {
        container: &wanted.container,
        current: current.requests.cpu.map(|m| m.0),
        stands: stands.cpu.map(|m| m.0),
        limit: current.limits.cpu.map(|m| m.0),
        wanted: recommendation.cpu.request.0,
        bounds: Bounds { min: wanted.plan.cpu.bounds.min.0, max: wanted.plan.cpu.bounds.max.0 },
        ceiling: most(Resource::Cpu, current.limits.cpu.is_some()),
        covered: recommendation.window_covered,
        autoscaler: facts.hpa.cpu.as_ref(),
        raised: raised.and_then(|raised| raised.cpu),
    };
    let memory = Candidate {
        container: &wanted.container,
        current: current.requests.memory.map(|b| b.0),
        stands: stands.memory.map(|b| b.0),
        limit: current.limits.memory.map(|b| b.0),
        wanted: recommendation.memory.request.0,
        bounds: Bounds { min: wanted.plan.memory.bounds.min.0, max: wanted.plan.memory.bounds.max.0 },
        ceiling: most(Resource::Memory, current.limits.memory.is_some()),
        covered: recommendation.window_covered,
        autoscaler: facts.hpa.memory.as_ref(),
        raised: raised.and_then(|raised| raised.memory),
    };
    let whole_mebibytes = |bytes: u64| bytes.next_multiple_of(Bytes::MIB);
    Some((cpu.change(facts, |m| m).map(Millicores), memory.change(facts, whole_mebibytes).map(Bytes)))
}

/// One resource of one container, in millicores or bytes.
struct Candidate<'a> {
    container: &'a str,
    current: Option<u64>,
    /// What is given now at least; more than `current` where the size decided last was given to nobody yet.
    stands: Option<u64>,
    limit: Option<u64>,
    wanted: u64,
    bounds: Bounds<u64>,
    /// What the namespace's LimitRanges allow at most.
    ceiling: u64,
    covered: bool,
    autoscaler: Option<&'a String>,
    raised: Option<Timestamp>,
}

impl Candidate<'_> {
    fn change(&self, facts: &Facts<'_>, round: impl Fn(u64) -> u64) -> Change<u64> {
        let current = self.current.unwrap_or(0);
        let capped = self.under_limit(facts);
        let next = if capped < current { self.one_step_down(facts, current, capped, round) } else { capped };
        self.worth_it(facts, current, next, capped)?;
        if next < current && !self.covered {
            return Err(Reason::WindowNotCovered);
        }
        let against = if next < current { Direction::IncreaseOnly } else { Direction::DecreaseOnly };
        if facts.update.direction == against {
            return Err(Reason::DirectionForbids);
        }
        if next < current {
            self.not_raised_recently(facts, current)?;
        }
        match self.autoscaler {
            Some(autoscaler) => Err(Reason::HpaOnResource { autoscaler: autoscaler.clone() }),
            None => Ok(next),
        }
    }

    /// What was raised stays for a day, unless it lies above the policy's bounds.
    fn not_raised_recently(&self, facts: &Facts<'_>, current: u64) -> Result<(), Reason> {
        let Some(raised) = self.raised else { return Ok(()) };
        let until = raised.saturating_add(RAISED_STAYS).unwrap_or(Timestamp::MAX);
        if facts.now < until && current <= self.bounds.max { Err(Reason::RaisedRecently { until }) } else { Ok(()) }
    }

    /// Limits stay where `updateRequestsOnly` is true, so that a request cannot go above its limit.
    fn under_limit(&self, facts: &Facts<'_>) -> u64 {
        match self.limit {
            Some(limit) if facts.update.requests_only => self.wanted.min(limit),
            _ => self.wanted,
        }
    }

    /// At most `maxDecreasePercent` lower than now; the greatest value of policy and LimitRanges wins over that.
    fn one_step_down(&self, facts: &Facts<'_>, current: u64, wanted: u64, round: impl Fn(u64) -> u64) -> u64 {
        let kept = u64::from(100 - facts.update.max_decrease_percent.min(100));
        // From a size that no pod has, a second step would be one of twice the depth for the pods.
        let from = self.stands.unwrap_or(current).max(current);
        let floor = round(u64::try_from(u128::from(from) * u128::from(kept) / 100).unwrap_or(u64::MAX));
        wanted.max(floor.min(current)).min(self.bounds.max).min(self.ceiling)
    }

    /// A change of less than `minChangePercent` is not worth its risk, unless the present request is out of bounds.
    /// What counts is the way to the end: one step of it is `maxDecreasePercent` at most, which may be less.
    fn worth_it(&self, facts: &Facts<'_>, current: u64, next: u64, end: u64) -> Result<(), Reason> {
        let least = u128::from(current) * u128::from(facts.update.min_change_percent);
        let change = u128::from(current.abs_diff(end)) * 100;
        let out_of_bounds = current < self.bounds.min || current > self.bounds.max;
        if current != next && (change >= least || out_of_bounds) {
            return Ok(());
        }
        if self.wanted > next && facts.update.requests_only && self.limit.is_some_and(|limit| self.wanted > limit) {
            return Err(Reason::LimitReached { container: self.container.to_owned() });
        }
        Err(Reason::AlreadySized { min_change_percent: facts.update.min_change_percent })
    }
}
