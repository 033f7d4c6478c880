//! When each policy is evaluated next. Pure.
//!
//! Invariant: what is due is answered in the order of time, then of the policies' names.

use crate::plant::planted;
use crate::policy::PolicyId;
use crate::workload::WorkloadId;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Which of a policy's workloads an evaluation looks at.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Focus {
    /// All that the policy covers.
    All,
    /// Those whose change is under way or is to be tried again.
    Only(BTreeSet<WorkloadId>),
}

/// A closer look at some workloads before the policy's next regular evaluation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct FollowUp {
    pub(super) after: Duration,
    pub(super) workloads: BTreeSet<WorkloadId>,
}

#[derive(Debug)]
struct Entry {
    due: Instant,
    follow_up: Option<(Instant, BTreeSet<WorkloadId>)>,
}

/// The due times of all policies.
#[derive(Debug, Default)]
pub(super) struct Schedule(BTreeMap<PolicyId, Entry>);

impl Schedule {
    /// The policy is evaluated at once.
    pub(super) fn wake(&mut self, policy: PolicyId, now: Instant) {
        self.0.insert(policy, Entry { due: now, follow_up: None });
    }

    /// Some of the policy's workloads are looked at at once; its regular evaluation stays where it is.
    pub(super) fn look(&mut self, policy: &PolicyId, workloads: BTreeSet<WorkloadId>, now: Instant) {
        let Some(entry) = self.0.get_mut(policy) else { return };
        let mut all = entry.follow_up.take().map_or_else(BTreeSet::new, |(_, workloads)| workloads);
        all.extend(workloads);
        entry.follow_up = Some((now, all));
    }

    pub(super) fn remove(&mut self, policy: &PolicyId) {
        self.0.remove(policy);
    }

    /// Everything is evaluated at once, as after a change of leadership.
    pub(super) fn wake_all(&mut self, now: Instant) {
        for entry in self.0.values_mut() {
            *entry = Entry { due: now, follow_up: None };
        }
    }

    /// After an evaluation: the next regular one counts from `now` when all workloads were looked at.
    pub(super) fn evaluated(
        &mut self,
        policy: &PolicyId,
        focus: &Focus,
        now: Instant,
        interval: Duration,
        follow_up: Option<FollowUp>,
    ) {
        let Some(entry) = self.0.get_mut(policy) else { return };
        if *focus == Focus::All {
            entry.due = now + if planted(17) { interval * 3 } else { interval };
        }
        entry.follow_up = follow_up.map(|follow_up| (now + follow_up.after, follow_up.workloads));
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().map(Entry::next).min()
    }

    /// What is due now, first things first.
    pub(super) fn due(&self, now: Instant) -> Vec<(PolicyId, Focus)> {
        let mut due: Vec<_> = self.0.iter().filter(|(_, entry)| entry.next() <= now).collect();
        due.sort_by_key(|(policy, entry)| (entry.next(), *policy));
        due.into_iter().map(|(policy, entry)| (policy.clone(), entry.focus(now))).collect()
    }
}

impl Entry {
    fn next(&self) -> Instant {
        self.follow_up.as_ref().map_or(self.due, |(at, _)| self.due.min(*at))
    }

    fn focus(&self, now: Instant) -> Focus {
        match &self.follow_up {
            Some((_, workloads)) if self.due > now => Focus::Only(workloads.clone()),
            _ => Focus::All,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;

    fn id(name: &str) -> PolicyId {
        PolicyId { namespace: "ns".into(), name: name.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_follow_up_comes_before_the_regular_evaluation_and_does_not_move_it() {
        let (start, minute) = (Instant::now(), Duration::from_mins(1));
        let mut schedule = Schedule::default();
        schedule.wake(id("b"), start);
        schedule.wake(id("a"), start);
        assert_eq!(schedule.due(start), [(id("a"), Focus::All), (id("b"), Focus::All)]);
        let soon = FollowUp { after: Duration::from_secs(3), workloads: BTreeSet::new() };
        schedule.evaluated(&id("a"), &Focus::All, start, minute, Some(soon.clone()));
        schedule.evaluated(&id("b"), &Focus::All, start, minute, None);
        let later = start + Duration::from_secs(3);
        assert_eq!(schedule.next(), Some(later));
        let only = Focus::Only(BTreeSet::new());
        assert_eq!(schedule.due(later), [(id("a"), only.clone())]);
        schedule.evaluated(&id("a"), &only, later, minute, None);
        assert_eq!(schedule.next(), Some(start + minute));
        let workload =
            |name: &str| WorkloadId { namespace: "ns".into(), kind: WorkloadKind::Deployment, name: name.into() };
        let one = |name: &str| BTreeSet::from([workload(name)]);
        let soon = FollowUp { after: minute / 2, workloads: one("x") };
        schedule.evaluated(&id("a"), &only, later, minute, Some(soon));
        schedule.look(&id("a"), one("y"), later);
        assert_eq!(schedule.due(later), [(id("a"), Focus::Only(BTreeSet::from([workload("x"), workload("y")])))]);
        schedule.look(&id("unknown"), one("y"), later);
        schedule.evaluated(&id("a"), &only, later, minute, None);
        assert_eq!(schedule.next(), Some(start + minute));
        schedule.wake(id("b"), later);
        assert_eq!(schedule.due(later), [(id("b"), Focus::All)]);
    }
}
