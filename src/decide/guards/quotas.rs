//! ResourceQuotas: whether what a change takes more is still free.
//!
//! Only quotas whose scopes take in every pod of a workload are in here (see the controller's ingest); one that is scoped
//! by priority class, or otherwise, is left to the API server's own answer.

use super::{Replicas, Resource, sum};
use crate::decide::facts::{Facts, PodFacts};
use crate::decide::reason::Reason;
use crate::workload::{ContainerResources, Resources};
use std::sync::Arc;

/// A quota that counts every pod of its namespace's workloads.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Quota {
    /// The object's name.
    pub name: String,
    /// What it bounds, of what we change.
    pub rows: Vec<QuotaRow>,
}

/// One bounded resource of a quota, in millicores or bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct QuotaRow {
    /// As in `spec.hard`, such as `requests.cpu`.
    pub key: String,
    /// Requests or limits.
    pub counted: Counted,
    /// Of which resource.
    pub resource: Resource,
    /// The most.
    pub hard: u64,
    /// What is taken.
    pub used: u64,
}

/// What a quota sums up.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    /// `requests.…`, and the resource's bare name.
    Requests,
    /// `limits.…`.
    Limits,
}

impl QuotaRow {
    fn amounts(&self) -> fn(&ContainerResources) -> &Resources {
        match self.counted {
            Counted::Requests => |container| &container.requests,
            Counted::Limits => |container| &container.limits,
        }
    }

    fn sum(&self, containers: &[ContainerResources]) -> u64 {
        sum(self.resource, containers, self.amounts())
    }

    /// The container that does not say what the quota counts: such a pod is refused as a whole.
    fn unnamed<'a>(&self, containers: &'a [ContainerResources]) -> Option<&'a ContainerResources> {
        containers.iter().find(|container| self.resource.of((self.amounts())(container)).is_none())
    }

    fn fits(&self, quota: &str, more: u64) -> Result<(), Reason> {
        let free = self.hard.saturating_sub(self.used);
        if more == 0 || more <= free {
            return Ok(());
        }
        let (more, free) = (self.resource.text(more), self.resource.text(free));
        let detail = format!("the change needs {more} more of {}, and {free} of it is free", self.key);
        Err(Reason::QuotaExceeded { quota: quota.to_owned(), detail })
    }
}

fn rows(quotas: &[Arc<Quota>]) -> impl Iterator<Item = (&str, &QuotaRow)> {
    quotas.iter().flat_map(|quota| quota.rows.iter().map(|row| (quota.name.as_str(), row)))
}

fn must_name(quota: &str, row: &QuotaRow, containers: &[ContainerResources]) -> Result<(), Reason> {
    let Some(container) = row.unnamed(containers) else { return Ok(()) };
    let detail = format!("it counts {}, which container {} does not set", row.key, container.name);
    Err(Reason::QuotaExceeded { quota: quota.to_owned(), detail })
}

/// What the pods of a batch take more, each by itself: what one gives back may come too late for the next.
pub(super) fn allow_resize(
    quotas: &[Arc<Quota>],
    changes: &[(&PodFacts, Vec<ContainerResources>)],
) -> Result<(), Reason> {
    for (quota, row) in rows(quotas) {
        let mut more = 0_u64;
        for (pod, after) in changes {
            must_name(quota, row, after)?;
            more = more.saturating_add(row.sum(after).saturating_sub(row.sum(&present(pod))));
        }
        row.fits(quota, more)?;
    }
    Ok(())
}

/// What all pods of the new template take more than the present ones, and what pods beyond them take meanwhile.
///
/// Where a rollout may first take a pod away, a smaller size needs no room of its own.
pub(super) fn allow_rollout(
    quotas: &[Arc<Quota>],
    facts: &Facts<'_>,
    after: &[ContainerResources],
) -> Result<(), Reason> {
    let replicas = facts.guards.replicas;
    for (quota, row) in rows(quotas) {
        must_name(quota, row, after)?;
        let before = facts.pods.iter().map(|pod| row.sum(&present(pod))).collect();
        row.fits(quota, most_at_once(replicas, before, row.sum(after)))?;
    }
    Ok(())
}

/// What a rollout takes more at its height, whichever pods go first: `surge` new pods have taken nobody's place yet, and
/// the others that of those that took least. Pods that are missing take nothing now.
fn most_at_once(replicas: Replicas, mut before: Vec<u64>, new: u64) -> u64 {
    let count = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    let missing = count(replicas.wanted).saturating_sub(before.len());
    before.sort_unstable();
    let replaced = before.len().saturating_sub(count(replicas.surge));
    let increases = || before.iter().map(|old| new.saturating_sub(*old));
    if replicas.may_miss && missing == 0 && increases().all(|more| more == 0) {
        return 0;
    }
    let beside = new.saturating_mul(replicas.surge.saturating_add(u64::try_from(missing).unwrap_or(u64::MAX)));
    increases().take(replaced).fold(beside, u64::saturating_add)
}

fn present(pod: &PodFacts) -> Vec<ContainerResources> {
    pod.containers.iter().map(|container| container.resources.clone()).collect()
}
