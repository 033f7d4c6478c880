//! What happened to each workload before: the size it is brought to, what was there before, when it was changed and how.
//!
//! It is kept in memory, and in the policies' statuses, from which it is read back after a restart. Pure.

use super::aftermath;
use super::cluster::Workload;
use super::errors::WriteError;
use super::kills::{self, Killed};
use super::motive::Motive;
use super::plan::Change;
use crate::decide::{Cause, RAISED_STAYS, Raised, Reason, RolledBack, Size, Watch};
use crate::plant::planted;
use crate::policy::types::{ContainerRaised, ContainerRequests, WorkloadStatus};
use crate::workload::{Resources, WorkloadId};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::BTreeMap;
use std::time::Duration;

/// How a workload is changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Method {
    Resize,
    Rollout,
}

impl Method {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Resize => "Resize",
            Self::Rollout => "Rollout",
        }
    }
}

/// A change that did not come about.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Failure {
    pub(super) reason: Reason,
    /// The size that could not be given.
    pub(super) target: Vec<Size>,
    pub(super) attempts: u32,
    /// It is not tried again before.
    pub(super) not_before: Timestamp,
}

/// What happened to one workload.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Memory {
    /// Of which workload, where that is known: statuses of before did not say.
    pub(super) uid: Option<String>,
    /// The size last decided.
    pub(super) target: Vec<Size>,
    /// The requests before the last change.
    pub(super) previous: Vec<Size>,
    /// The last write that was carried out, or may have been.
    pub(super) last_change: Option<Timestamp>,
    /// An earlier process was at work when it ended: it may have written once more after its last status. Counts for the
    /// cooldown only.
    pub(super) may_have_changed: Option<Timestamp>,
    /// When requests were last raised, for as long as that matters.
    pub(super) raised: Vec<Raised>,
    pub(super) method: Option<Method>,
    pub(super) failure: Option<Failure>,
    /// Why the last change was made.
    pub(super) cause: Option<Cause>,
    /// The outcome of the last change is watched.
    pub(super) watch: Option<Watch>,
    /// The last change that did harm.
    pub(super) rolled_back: Option<RolledBack>,
    /// Its containers that were killed for memory within the policy's window.
    pub(super) killed: Vec<Killed>,
    /// The reason that the last event told.
    pub(super) told: Option<&'static str>,
}

/// What happened to all workloads.
#[derive(Debug, Default)]
pub(super) struct History(BTreeMap<WorkloadId, Memory>);

/// The first wait after a change that failed; each further one doubles it.
const FIRST_WAIT: SignedDuration = SignedDuration::from_secs(30);
/// No wait is longer.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(1);
/// Nor is one for room in a quota, a LimitRange or a node, which may be made any time.
const LONGEST_WAIT_FOR_ROOM: SignedDuration = SignedDuration::from_mins(10);

impl History {
    pub(super) fn get(&self, workload: &WorkloadId) -> Option<&Memory> {
        self.0.get(workload)
    }

    pub(super) fn entry(&mut self, workload: &WorkloadId) -> &mut Memory {
        self.0.entry(workload.clone()).or_default()
    }

    /// Forgets one workload.
    pub(super) fn forget(&mut self, workload: &WorkloadId) {
        self.0.remove(workload);
    }

    /// Forgets workloads that are gone.
    pub(super) fn retain(&mut self, exists: impl Fn(&WorkloadId) -> bool) {
        self.0.retain(|id, _| exists(id));
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    /// Reads back, at `now`, what an earlier process wrote to a status. What this process knows already is newer.
    pub(super) fn restore(&mut self, entry: &WorkloadStatus, now: Timestamp) {
        let Ok(kind) = entry.kind.parse() else { return };
        let id = WorkloadId { namespace: entry.namespace.clone(), kind, name: entry.name.clone() };
        if entry.last_applied.is_none() && entry.target.is_empty() && entry.oom_kills.is_empty() {
            return;
        }
        self.0.entry(id).or_insert_with(|| Memory {
            uid: entry.uid.clone(),
            target: sizes(&entry.target),
            previous: sizes(&entry.previous),
            last_change: entry.last_applied.as_ref().map(|time| time.0).filter(|_| !planted(106)),
            may_have_changed: (entry.status == "Applying" && !planted(106)).then_some(now),
            raised: if planted(113) { Vec::new() } else { raised(&entry.raised) },
            method: match entry.method.as_deref() {
                Some("Resize") => Some(Method::Resize),
                Some("Rollout") => Some(Method::Rollout),
                _ => None,
            },
            failure: None,
            cause: entry.cause.as_deref().and_then(|cause| cause.parse().ok()),
            watch: entry.watch.as_ref().map(aftermath::watch),
            rolled_back: entry.rolled_back.as_ref().map(aftermath::rolled_back).filter(|_| !planted(110)),
            killed: kills::from_status(&entry.oom_kills),
            told: None,
        });
    }
}

impl Memory {
    /// What is remembered of this very workload: not of an earlier one of its name, and not less than its own notes say.
    pub(super) fn of(memory: Option<&Self>, workload: &Workload) -> Self {
        let mut memory = memory.cloned().unwrap_or_default();
        // The two times are of different clocks, so that they count only where there is nothing better.
        let is_another = match &memory.uid {
            Some(uid) => *uid != workload.uid,
            None => memory.last_change.is_some_and(|at| at < workload.created),
        };
        if is_another && !planted(109) {
            memory = Self { killed: memory.killed, ..Self::default() };
        }
        memory.uid = Some(workload.uid.clone());
        memory.killed.retain(|killed| killed.kill.at >= workload.created);
        if workload.applied_at > memory.last_change {
            memory.last_change = workload.applied_at;
            memory.target.clone_from(&workload.applied);
            memory.method = Some(Method::Rollout);
            memory.cause = workload.applied_cause;
            memory.watch = None;
        }
        memory
    }

    /// A new change begins; what was known before is given back, should it be refused.
    pub(super) fn begin(&mut self, change: &Change, now: Timestamp) -> Self {
        let before = self.clone();
        self.target.clone_from(&change.target);
        self.previous.clone_from(&change.previous);
        self.method = Some(change.method);
        self.last_change = Some(now);
        self.cause = Some(change.motive.cause());
        match &change.motive {
            Motive::Recommendation(watch) => {
                self.watch = Some(Watch { since: now, ..watch.clone() });
                self.note_raised(now);
            }
            // What is put back was there before: nothing was raised, and nothing is watched.
            Motive::Harm(harm) => {
                let (size, restored) = (change.previous.clone(), change.target.clone());
                self.rolled_back = Some(RolledBack { at: now, harm: harm.clone(), size, restored });
                self.watch = None;
            }
            Motive::Begun(_) => {}
        }
        before
    }

    /// When requests were last raised. A kill counts as that: what was too little is not lowered for a day either.
    pub(super) fn raised(&self) -> Vec<Raised> {
        let mut raised = self.raised.clone();
        for Killed { container, kill } in &self.killed {
            match raised.iter_mut().find(|raised| raised.container == *container) {
                Some(known) => known.memory = known.memory.max(Some(kill.at)),
                None => raised.push(Raised { container: container.clone(), cpu: None, memory: Some(kill.at) }),
            }
        }
        raised
    }

    /// Notes which requests the new size raises, and forgets what no longer matters.
    fn note_raised(&mut self, now: Timestamp) {
        let mut noted = Vec::new();
        for size in &self.target {
            let container = size.container.as_str();
            let before = self.previous.iter().find(|before| before.container == container);
            let before = before.map(|before| before.requests).unwrap_or_default();
            let known = self.raised.iter().find(|raised| raised.container == container).cloned().unwrap_or_default();
            let lately = |at: Option<Timestamp>| at.filter(|at| now.duration_since(*at) < RAISED_STAYS);
            let cpu = if size.requests.cpu > before.cpu { Some(now) } else { lately(known.cpu) };
            let memory = if size.requests.memory > before.memory { Some(now) } else { lately(known.memory) };
            if cpu.or(memory).is_some() {
                noted.push(Raised { container: container.to_owned(), cpu, memory });
            }
        }
        self.raised = noted;
    }

    /// A write failed: when it may be tried again, not before the server's own `wait` is over. `scatter`, a hash of the
    /// workload, makes the wait shorter by up to a fifth, so that what failed together does not come back together.
    pub(super) fn fail(&mut self, target: &[Size], reason: Reason, wait: Duration, now: Timestamp, scatter: u64) {
        let longest = if reason.waits_for_room() { LONGEST_WAIT_FOR_ROOM } else { LONGEST_WAIT };
        let asked = SignedDuration::try_from(wait).unwrap_or(longest);
        let attempts = self.failure.as_ref().filter(|f| f.target == target).map_or(0, |f| f.attempts) + 1;
        let doubled = FIRST_WAIT.checked_mul(1 << (attempts - 1).min(10)).unwrap_or(longest).min(longest);
        let earlier = doubled / 100 * i32::try_from(scatter % 21).unwrap_or_default();
        let wait = (doubled - earlier).max(asked).min(longest);
        let not_before = now.saturating_add(wait).unwrap_or(Timestamp::MAX);
        self.failure = Some(Failure { reason, target: target.to_vec(), attempts, not_before });
    }
}

/// The reason that a failed write gives its workload.
pub(super) fn reason_of(error: &WriteError, method: Method) -> Reason {
    match (error, method) {
        (WriteError::Forbidden(_), Method::Resize) => Reason::ResizeForbidden,
        (WriteError::Forbidden(_), Method::Rollout) => Reason::RolloutForbidden,
        (WriteError::Quota(message), _) => Reason::QuotaExceeded { quota: quota_in(message), detail: message.clone() },
        (WriteError::LimitRange(message), _) => Reason::LimitRangeForbids { detail: message.clone() },
        (WriteError::NodeCapacity(message), _) => Reason::NodeTooSmall { detail: message.clone() },
        (WriteError::Denied(detail), _) => Reason::AdmissionDenied { detail: detail.clone() },
        (WriteError::OwnedByOther(detail), _) => Reason::FieldOwnedByOther { detail: detail.clone() },
        (WriteError::Throttled { detail, .. }, _) => Reason::Throttled { detail: detail.clone() },
        (WriteError::Refused(detail), _) => Reason::WriteRefused { detail: detail.clone() },
        (other, _) => Reason::WriteFailed { detail: other.to_string() },
    }
}

/// The quota that a refusal names: `exceeded quota: NAME, requested: …`, `failed quota: NAME: must specify …`.
fn quota_in(message: &str) -> String {
    let name = message.split_once("quota: ").map_or("", |(_, rest)| rest);
    name.split([',', ':']).next().unwrap_or_default().to_owned()
}

/// Sizes as a status holds them.
pub(super) fn requests(sizes: &[Size]) -> Vec<ContainerRequests> {
    let text = |size: &Size| ContainerRequests {
        container: size.container.clone(),
        cpu: size.requests.cpu.map(|cpu| cpu.to_string()),
        memory: size.requests.memory.map(|memory| memory.to_string()),
    };
    sizes.iter().map(text).collect()
}

/// What was raised, as a status holds it.
pub(super) fn raised_times(raised: &[Raised]) -> Vec<ContainerRaised> {
    let time = |at: Option<Timestamp>| at.map(|at| Time(super::seconds(at)));
    let text = |one: &Raised| ContainerRaised {
        container: one.container.clone(),
        cpu: time(one.cpu),
        memory: time(one.memory),
    };
    raised.iter().map(text).collect()
}

fn raised(times: &[ContainerRaised]) -> Vec<Raised> {
    let parse = |one: &ContainerRaised| Raised {
        container: one.container.clone(),
        cpu: one.cpu.as_ref().map(|time| time.0),
        memory: one.memory.as_ref().map(|time| time.0),
    };
    times.iter().map(parse).collect()
}

/// Sizes as a status held them.
pub(super) fn sizes(requests: &[ContainerRequests]) -> Vec<Size> {
    let parse = |requests: &ContainerRequests| Size {
        container: requests.container.clone(),
        requests: Resources {
            cpu: requests.cpu.as_ref().and_then(|text| text.parse().ok()),
            memory: requests.memory.as_ref().and_then(|text| text.parse().ok()),
        },
    };
    requests.iter().map(parse).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)] // a test that panics has failed
mod tests {
    use super::*;
    use crate::controller::ingest;
    use crate::quantity::{Bytes, Millicores};
    use crate::recommend::OomKill;
    use crate::workload::WorkloadKind;
    use serde_json::json;

    fn size(cpu: u64) -> Vec<Size> {
        vec![Size { container: "web".into(), requests: Resources { cpu: Some(Millicores(cpu)), memory: None } }]
    }

    fn change(target: Vec<Size>, previous: Vec<Size>) -> Change {
        let motive = Motive::Recommendation(Watch::default());
        Change { method: Method::Resize, motive, target, previous, is_new: true, writes: Vec::new(), remaining: 0 }
    }

    #[test]
    fn an_earlier_workload_is_told_by_its_uid_and_only_without_one_by_the_time() {
        let workload = |uid: &str| {
            let metadata =
                json!({"namespace": "shop", "name": "web", "uid": uid, "creationTimestamp": "1970-01-01T00:01:00Z"});
            let object = json!({"metadata": metadata, "spec": {"selector": {}, "template": {}}});
            ingest::deployment(serde_json::from_value(object).unwrap())
        };
        let is_known = |remembered: Option<&str>, second: i64, uid: &str| {
            let last_change = Some(Timestamp::from_second(second).unwrap());
            let memory =
                Memory { uid: remembered.map(str::to_owned), target: size(1), last_change, ..Memory::default() };
            !Memory::of(Some(&memory), &workload(uid)).target.is_empty()
        };
        assert!(is_known(Some("a"), 30, "a"), "our clock is behind the API server's");
        assert!(!is_known(Some("a"), 90, "b"), "it is ahead, and another workload has the name");
        assert!(!is_known(None, 30, "a") && is_known(None, 90, "a"), "a status of before");
    }

    #[test]
    fn sizes_survive_the_status() {
        assert_eq!(sizes(&requests(&size(250))), size(250));
    }

    #[test]
    fn what_was_raised_is_remembered_for_a_day_and_survives_the_status() {
        let at = |hours: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        let mut memory = Memory::default();
        memory.begin(&change(size(300), size(200)), at(0));
        let raised_at = |hour| vec![Raised { container: "web".into(), cpu: Some(at(hour)), memory: None }];
        assert_eq!(memory.raised, raised_at(0));
        assert_eq!(raised(&raised_times(&memory.raised)), memory.raised);
        memory.begin(&change(size(250), size(300)), at(23));
        assert_eq!(memory.raised, raised_at(0));
        memory.begin(&change(size(200), size(250)), at(24));
        assert_eq!(memory.raised, []);
    }

    #[test]
    fn kills_are_read_back_also_where_nothing_was_ever_changed() {
        let kill = OomKill { at: Timestamp::UNIX_EPOCH, memory: Bytes(256 << 20) };
        let killed = vec![Killed { container: "web".into(), kill }];
        let mut entry = WorkloadStatus {
            kind: "Deployment".into(),
            namespace: "shop".into(),
            name: "web".into(),
            oom_kills: kills::to_status(&killed),
            ..WorkloadStatus::default()
        };
        let mut history = History::default();
        history.restore(&entry, Timestamp::UNIX_EPOCH);
        let id = WorkloadId { namespace: "shop".into(), kind: WorkloadKind::Deployment, name: "web".into() };
        assert_eq!(history.get(&id).map(|memory| &memory.killed), Some(&killed));
        entry.oom_kills.clear();
        entry.name = "api".into();
        history.restore(&entry, Timestamp::UNIX_EPOCH);
        assert_eq!(history.get(&WorkloadId { name: "api".into(), ..id }), None);
    }

    #[test]
    fn a_kill_counts_as_a_raise_of_memory_if_it_came_later() {
        let at = |second: i64| Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second);
        let kill = |container: &str, second: i64| Killed {
            container: container.into(),
            kill: OomKill { at: at(second), memory: Bytes(1) },
        };
        let raised = |container: &str, cpu: Option<i64>, memory: Option<i64>| Raised {
            container: container.into(),
            cpu: cpu.map(at),
            memory: memory.map(at),
        };
        let memory = Memory {
            raised: vec![raised("web", Some(1), Some(5))],
            killed: vec![kill("web", 3), kill("web", 9), kill("side", 7)],
            ..Memory::default()
        };
        assert_eq!(memory.raised(), [raised("web", Some(1), Some(9)), raised("side", None, Some(7))]);
    }

    #[test]
    fn repeated_failures_of_one_change_wait_longer_and_another_change_starts_anew() {
        let mut memory = Memory::default();
        let waits: Vec<_> = (0..9)
            .map(|_| {
                memory.fail(&size(1), Reason::ResizeForbidden, Duration::ZERO, Timestamp::UNIX_EPOCH, 0);
                memory.failure.as_ref().map(|f| f.not_before.as_second()).unwrap()
            })
            .collect();
        assert_eq!(waits, [30, 60, 120, 240, 480, 960, 1920, 3600, 3600]);
        memory.fail(&size(2), Reason::ResizeForbidden, Duration::ZERO, Timestamp::UNIX_EPOCH, 0);
        assert_eq!(memory.failure.unwrap().attempts, 1);
    }

    #[test]
    fn what_failed_together_comes_back_at_different_times_within_a_fifth_of_the_wait() {
        let wait = |scatter: u64, asked: u64| {
            let mut memory = Memory::default();
            let asked = Duration::from_secs(asked);
            memory.fail(&size(1), Reason::ResizeForbidden, asked, Timestamp::UNIX_EPOCH, scatter);
            memory.failure.unwrap().not_before.as_millisecond()
        };
        let waits: Vec<_> = [0, 1, 10, 20, 21].map(|scatter| wait(scatter, 0)).into();
        assert_eq!(waits, [30_000, 29_700, 27_000, 24_000, 30_000]);
        assert_eq!(wait(20, 30), 30_000, "never before the time that the server asks for");
    }

    #[test]
    fn room_is_looked_for_more_often_and_a_server_is_given_the_time_that_it_asks_for() {
        let wait = |reason: &Reason, asked: u64, attempts: u32| {
            let mut memory = Memory::default();
            for _ in 0..attempts {
                memory.fail(&size(1), reason.clone(), Duration::from_secs(asked), Timestamp::UNIX_EPOCH, 0);
            }
            memory.failure.unwrap().not_before.as_second()
        };
        let full = reason_of(&WriteError::Quota("exceeded quota: q, requested: cpu=1".into()), Method::Resize);
        assert!(matches!(&full, Reason::QuotaExceeded { quota, .. } if quota == "q"), "{full:?}");
        assert_eq!((wait(&full, 0, 1), wait(&full, 0, 9)), (30, 600));
        let throttled = Reason::Throttled { detail: String::new() };
        assert_eq!((wait(&throttled, 90, 1), wait(&throttled, 90, 3), wait(&throttled, 10_000, 1)), (90, 120, 3600));
    }
}
