//! Which reasons an event on the policy has told of. Pure.
//!
//! Invariant: a reason is told again only when for an hour no workload of the policy has had it, so that what comes and goes
//! each cycle is told once. What an earlier process's status lists was told by that one.

use super::Entry;
use crate::workload::WorkloadId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};

/// So long a reason must have been away. The brake is set by people, who want to see it each time.
fn away(code: &str) -> SignedDuration {
    if code == "BrakeOn" { SignedDuration::ZERO } else { SignedDuration::from_hours(1) }
}

/// The reasons that were told, and when a workload was last seen to have each.
#[derive(Debug, Default)]
pub(in crate::controller) struct Standing(BTreeMap<String, Timestamp>);

impl Standing {
    /// This one is told now.
    pub(in crate::controller) fn told(&mut self, code: &str, now: Timestamp) {
        self.0.insert(code.to_owned(), now);
    }

    /// Whether it is to be told.
    pub(super) fn lacks(&self, code: &str) -> bool {
        !self.0.contains_key(code)
    }

    /// Looks at what stood until `now`, and forgets what has been away for long.
    pub(super) fn look(&mut self, entries: &BTreeMap<WorkloadId, Entry>, now: Timestamp) {
        let codes: BTreeSet<&str> = entries.values().filter_map(|entry| entry.status.reason.as_deref()).collect();
        self.0.retain(|code, seen| {
            if codes.contains(code.as_str()) {
                *seen = now;
                return true;
            }
            now.duration_since(*seen) < away(code)
        });
    }
}

/// How many workloads have a reason, the first of them, and what is said of that one. `None` where none has it.
pub(super) fn summary(entries: &BTreeMap<WorkloadId, Entry>, code: &str) -> Option<String> {
    let mut having = entries.iter().filter(|(_, entry)| entry.status.reason.as_deref() == Some(code));
    let (WorkloadId { namespace, kind, name }, first) = having.next()?;
    let message = first.status.message.as_deref().unwrap_or_default();
    Some(match having.count() {
        0 => format!("1 workload, {kind} {namespace}/{name}: {message}"),
        others => format!("{} workloads, the first {kind} {namespace}/{name}: {message}", others + 1),
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod tests {
    use super::*;
    use crate::workload::WorkloadKind;

    fn entries(reasons: &[(&str, &str)]) -> BTreeMap<WorkloadId, Entry> {
        let one = |(name, reason): &(&str, &str)| {
            let id = WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: (*name).to_owned() };
            let mut entry = Entry::new(&id);
            entry.status.reason = Some((*reason).to_owned());
            entry.status.message = Some(format!("what is said of {name}"));
            (id, entry)
        };
        reasons.iter().map(one).collect()
    }

    #[test]
    fn what_comes_and_goes_is_told_once_and_again_after_an_hour_without_it() {
        let at = |minute| Timestamp::UNIX_EPOCH + SignedDuration::from_mins(minute);
        let mut standing = Standing::default();
        let mut told = Vec::new();
        let mut before = entries(&[]);
        // Each odd cycle of the first three hours, and once more at 280 minutes.
        for cycle in 0..60 {
            let minute = 5 * cycle;
            let there = if minute < 180 { cycle % 2 == 1 } else { minute == 280 };
            standing.look(&before, at(minute));
            before = if there { entries(&[("web", "Cooldown")]) } else { entries(&[]) };
            if there && standing.lacks("Cooldown") {
                standing.told("Cooldown", at(minute));
                told.push(minute);
            }
        }
        assert_eq!(told, [5, 280]);
    }

    #[test]
    fn what_stays_is_not_told_again_however_seldom_it_is_looked_at() {
        let mut standing = Standing::default();
        standing.told("DryRun", Timestamp::UNIX_EPOCH);
        let there = entries(&[("web", "DryRun")]);
        for day in 1..9 {
            standing.look(&there, Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * day));
            assert!(!standing.lacks("DryRun"));
        }
    }

    #[test]
    fn a_brake_is_told_each_time_that_it_is_set() {
        let mut standing = Standing::default();
        standing.told("BrakeOn", Timestamp::UNIX_EPOCH);
        standing.look(&entries(&[("web", "BrakeOn")]), Timestamp::UNIX_EPOCH);
        assert!(!standing.lacks("BrakeOn"));
        standing.look(&entries(&[("web", "AlreadySized")]), Timestamp::UNIX_EPOCH);
        assert!(standing.lacks("BrakeOn"));
    }

    #[test]
    fn the_first_workload_speaks_for_the_others() {
        let entries = entries(&[("api", "Cooldown"), ("cart", "DryRun"), ("web", "Cooldown")]);
        let of = |code| summary(&entries, code);
        assert_eq!(of("Cooldown").unwrap(), "2 workloads, the first Deployment shop/api: what is said of api");
        assert_eq!(of("DryRun").unwrap(), "1 workload, Deployment shop/cart: what is said of cart");
        assert_eq!(of("BrakeOn"), None);
    }
}
