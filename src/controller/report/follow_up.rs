//! When to look again at workloads whose change is under way, was put off, or is watched.

use super::Entry;
use crate::controller::Controller;
use crate::controller::schedule::FollowUp;
use crate::policy::types::WorkloadStatus;
use crate::workload::WorkloadId;
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

impl Controller {
    /// Which workloads want a look before the next regular evaluation.
    pub(super) fn follow_up(&self, entries: &BTreeMap<WorkloadId, Entry>, now: Timestamp) -> Option<FollowUp> {
        let (mut after, mut workloads) = (Duration::MAX, BTreeSet::new());
        for (id, entry) in entries {
            let memory = self.history.get(id);
            let wait = match (entry.status.status.as_str(), entry.status.reason.as_deref()) {
                ("Applying", _) => progress_wait(&entry.status, now),
                (_, Some("RateLimited")) => Some(RATE_WAIT),
                (_, Some("WriteFailed" | "Throttled")) => {
                    memory.and_then(|memory| memory.failure.as_ref()).map_or(Some(PROGRESS_WAIT), |failure| {
                        Duration::try_from(failure.not_before.duration_since(now)).ok()
                    })
                }
                _ => None,
            };
            let watched = memory.and_then(|memory| memory.watch.as_ref()).filter(|watch| !watch.settled);
            let watched = watched.map(|watch| watch_wait(now.duration_since(watch.since)));
            if let Some(wait) = wait.into_iter().chain(watched).min() {
                after = after.min(wait.max(PROGRESS_WAIT));
                workloads.insert(id.clone());
            }
        }
        (!workloads.is_empty()).then_some(FollowUp { after, workloads })
    }
}

/// A change under way is looked at this often.
const PROGRESS_WAIT: Duration = Duration::from_secs(3);
/// One that takes longer than 10 minutes, only this often.
const SLOW_PROGRESS_WAIT: Duration = Duration::from_secs(30);
/// Of a change that is watched, the pods are looked at this often at first.
const WATCH_WAIT: Duration = Duration::from_secs(10);
/// A change that the global rate holds back is looked at again after this.
const RATE_WAIT: Duration = Duration::from_secs(10);

fn watch_wait(since: SignedDuration) -> Duration {
    if since.as_mins() < 30 { WATCH_WAIT } else { SLOW_PROGRESS_WAIT }
}

#[allow(clippy::unnecessary_wraps)] // one arm of a match whose others have no wait
fn progress_wait(status: &WorkloadStatus, now: Timestamp) -> Option<Duration> {
    let since = status.last_applied.as_ref().map(|at| now.duration_since(at.0)).unwrap_or_default();
    Some(if since.as_mins() < 10 { PROGRESS_WAIT } else { SLOW_PROGRESS_WAIT })
}
