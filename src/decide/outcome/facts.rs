//! What the judgement of a change reads.

use crate::decide::{Cause, Circuit, Facts, RolledBack, Size};
use jiff::{SignedDuration, Timestamp};

/// What is known of the last change of a workload, and of how the workload fares since.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Aftermath {
    /// Why the last change was made.
    pub cause: Option<Cause>,
    /// It changed the template; else the pods.
    pub by_rollout: bool,
    /// What was requested before it.
    pub previous: Vec<Size>,
    /// Its outcome is watched.
    pub watch: Option<Watch>,
    /// The last change that was taken back.
    pub rolled_back: Option<RolledBack>,
    /// The policy's circuit is open.
    pub circuit: Option<Circuit>,
    /// How the workload's rollouts are judged.
    pub progress: Progress,
}

/// The watch of one change: when it began, and what was wrong with the workload already then.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Watch {
    /// The change began. Only what happened later can be its fault.
    pub since: Timestamp,
    /// All pods have been changed and well for a while: from now on it answers for OOM kills alone.
    pub settled: bool,
    /// [`Progress::template`] at that time.
    pub template: String,
    /// Pods that were not ready.
    pub unready: u32,
    /// Containers with which something was wrong.
    pub containers: Vec<Trouble>,
}

/// What was wrong with one container when a change began, counted over the workload's pods.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Trouble {
    /// The container's name.
    pub container: String,
    /// Pods in which it was in a crash loop.
    pub crashing: u32,
    /// Pods in which it had been killed for memory within the hour before.
    pub killed: u32,
    /// Its restarts, in the pod where it had most.
    pub restarts: u32,
}

/// What a workload's spec and status say of its rollouts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Progress {
    /// A rollout, or a pod that was changed, may take this long.
    pub deadline: SignedDuration,
    /// The Deployment's own controller says that its rollout takes longer than `progressDeadlineSeconds`.
    pub exceeded: bool,
    /// `minReadySeconds`
    pub min_ready: SignedDuration,
    /// Differs where the template differs in anything but containers' resources: such a change is somebody else's.
    pub template: String,
}

impl Default for Progress {
    /// Ten minutes, as `progressDeadlineSeconds` is by default; StatefulSets and DaemonSets have none of their own.
    fn default() -> Self {
        Self {
            deadline: SignedDuration::from_mins(10),
            exceeded: false,
            min_ready: SignedDuration::ZERO,
            template: String::new(),
        }
    }
}

/// When a pod began and became what it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct PodLife {
    /// It was created.
    pub created: Timestamp,
    /// It is ready, or is not, since; where its status does not say, since it was created.
    pub since: Timestamp,
}

/// How a container of a pod has fared.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct ContainerLife {
    /// `restartCount`
    pub restarts: u32,
    /// It waits for its next start: `CrashLoopBackOff`.
    pub backing_off: bool,
    /// Its last end.
    pub ended: Option<Ended>,
}

/// The end of a container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// When.
    pub at: Timestamp,
    /// The kernel killed it for memory: `OOMKilled`.
    pub killed: bool,
}

/// A container that restarted this often is in a crash loop, also while it runs in between.
const RESTARTS: u32 = 2;
/// A kubelet waits for up to 5 minutes between restarts, and forgets a crash after 10 minutes of running.
const BETWEEN_CRASHES: SignedDuration = SignedDuration::from_mins(10);
/// A kill this long before a change counts as one of before.
const KILLED_BEFORE: SignedDuration = SignedDuration::from_hours(1);

impl ContainerLife {
    /// It ended after `since`, and is in a crash loop or was restarted again and again beyond the `before` times that it
    /// had been. One restart is none: `resizePolicy` asks for it, and every program may fail once.
    pub(super) fn crashes_since(&self, since: Timestamp, before: u32) -> bool {
        let ended = self.ended.is_some_and(|ended| ended.at > since);
        ended && (self.backing_off || self.restarts >= before.saturating_add(RESTARTS))
    }

    pub(super) fn was_killed_within(&self, since: Timestamp, until: Timestamp) -> bool {
        self.ended.is_some_and(|ended| ended.killed && since < ended.at && ended.at <= until)
    }

    fn is_crashing(&self, now: Timestamp) -> bool {
        let lately = self.ended.is_some_and(|ended| now.duration_since(ended.at) <= BETWEEN_CRASHES);
        self.backing_off || self.restarts >= RESTARTS && lately
    }
}

impl Watch {
    /// A watch of the change that begins now.
    pub fn begin(facts: &Facts<'_>) -> Self {
        let mut watch = Self {
            since: facts.now,
            settled: false,
            template: facts.aftermath.progress.template.clone(),
            unready: count(facts.pods.iter().filter(|pod| !pod.ready)),
            containers: Vec::new(),
        };
        let hour_ago = facts.now.saturating_sub(KILLED_BEFORE).unwrap_or(Timestamp::MIN);
        for container in facts.pods.iter().flat_map(|pod| &pod.containers) {
            let (name, life) = (&container.resources.name, &container.life);
            let (crashing, killed) = (life.is_crashing(facts.now), life.was_killed_within(hour_ago, facts.now));
            if !crashing && !killed && life.restarts == 0 {
                continue;
            }
            let known = watch.containers.iter().position(|known| known.container == *name);
            let at = known.unwrap_or_else(|| {
                watch.containers.push(Trouble { container: name.clone(), ..Trouble::default() });
                watch.containers.len() - 1
            });
            if let Some(known) = watch.containers.get_mut(at) {
                known.crashing += u32::from(crashing);
                known.killed += u32::from(killed);
                known.restarts = known.restarts.max(life.restarts);
            }
        }
        watch
    }

    pub(super) fn before(&self, container: &str) -> Trouble {
        self.containers.iter().find(|known| known.container == container).cloned().unwrap_or_default()
    }
}

pub(super) fn count<T>(things: impl Iterator<Item = T>) -> u32 {
    u32::try_from(things.count()).unwrap_or(u32::MAX)
}
