//! What a decision reads: everything observed of one workload, fetched before.

use super::brakes::Brakes;
use super::guards::Guards;
use super::outcome::{Aftermath, ContainerLife, PodLife};
use crate::policy::{ContainerPlan, Mode, UpdatePlan};
use crate::quantity::{Bytes, Millicores};
use crate::recommend::{Insufficient, Recommendation};
use crate::workload::{ContainerResources, Resources};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// One workload, as observed in one cycle.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools)] // each is a fact of its own
pub struct Facts<'a> {
    /// The present moment.
    pub now: Timestamp,
    /// The brakes that are on.
    pub brakes: Brakes,
    /// The policy's mode.
    pub mode: Mode,
    /// Nothing may be written but status.
    pub dry_run: bool,
    /// How the policy allows changes.
    pub update: &'a UpdatePlan,
    /// The workload is being deleted.
    pub deleting: bool,
    /// Whether a rollout is under way.
    pub rollout: Rollout,
    /// The field manager that took back requests which we had applied to the template.
    pub reverted_by: Option<String>,
    /// The template's containers.
    pub template: Vec<ContainerResources>,
    /// The running pods, ordered by name.
    pub pods: Vec<PodFacts>,
    /// What each container should request; excluded containers are not in here.
    pub wanted: Vec<Wanted<'a>>,
    /// The size last decided, empty if none was.
    pub target: Vec<Size>,
    /// What the policy says now of the containers in `target`: it may have changed since.
    pub settings: BTreeMap<String, &'a ContainerPlan>,
    /// When requests were last raised; those of a day ago and more may be missing.
    pub raised: Vec<Raised>,
    /// The last write that the API server carried out, or may have.
    pub last_change: Option<Timestamp>,
    /// Autoscalers that read this workload's requests.
    pub hpa: HpaFacts,
    /// What the cluster bounds the workload's pods by.
    pub guards: Guards,
    /// The API server serves `pods/resize`.
    pub resize_served: bool,
    /// What we may do in the workload's namespace.
    pub rights: Rights,
    /// The policy has changed as many workloads in this cycle as it may.
    pub budget_spent: bool,
    /// What followed the last change.
    pub aftermath: Aftermath,
}

/// The state of a workload's rollout.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rollout {
    /// All pods are of the present revision and ready.
    Stable,
    /// `spec.paused`.
    Paused,
    /// Pods of the present revision are still missing.
    Progressing,
    /// `updateStrategy: OnDelete`: a pod gets a change of the template when somebody deletes it.
    OnDelete {
        /// Pods that are not of the present revision.
        outdated: u32,
    },
}

/// What one container should request.
#[derive(Clone, PartialEq, Debug)]
pub struct Wanted<'a> {
    /// The container's name.
    pub container: String,
    /// Its settings.
    pub plan: &'a ContainerPlan,
    /// The recommendation, or why there is none.
    pub outcome: Result<Recommendation, Insufficient>,
}

/// The requests decided for one container; a resource that stays as it is has none.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Size {
    /// The container's name.
    pub container: String,
    /// Its requests.
    pub requests: Resources,
}

/// When the requests of one container were last raised.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Raised {
    /// The container's name.
    pub container: String,
    /// The CPU request.
    pub cpu: Option<Timestamp>,
    /// The memory request.
    pub memory: Option<Timestamp>,
}

/// One running pod.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct PodFacts {
    /// The pod's name.
    pub name: String,
    /// The pod's uid; a patch names it, so that it never meets a successor of the same name.
    pub uid: String,
    /// The version that the patch builds upon.
    pub resource_version: String,
    /// The node that it runs on.
    pub node: Option<String>,
    /// The pod's Ready condition.
    pub ready: bool,
    /// How far the kubelet is with the last resize.
    pub resize: ResizeState,
    /// `spec.resources` is set: sums over containers are bounded by it, which we do not handle.
    pub pod_level_resources: bool,
    /// Containers that can be resized, with what they request in `spec`.
    pub containers: Vec<PodContainer>,
    /// Init containers count for the QoS class and cannot be resized.
    pub init_containers: Vec<ContainerResources>,
    /// When it began.
    pub life: PodLife,
    /// What the pod requests beside its containers: native sidecars and the runtime's overhead.
    pub beside: Resources,
}

/// One container of a running pod.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PodContainer {
    /// Its resources in the pod's spec.
    pub resources: ContainerResources,
    /// `resizePolicy` restarts it when CPU changes.
    pub cpu_restarts: bool,
    /// `resizePolicy` restarts it when memory changes.
    pub memory_restarts: bool,
    /// How it has fared.
    pub life: ContainerLife,
}

/// How far the kubelet is with a pod's last resize.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum ResizeState {
    /// `status.containerStatuses[].resources` says what `spec` says.
    #[default]
    Actuated,
    /// The kubelet works on it.
    InProgress,
    /// It waits for room on the node.
    Deferred,
    /// It can never be carried out on this node; with the kubelet's message.
    Infeasible(String),
}

/// Autoscalers with a Utilization target, by the resource that they scale on.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct HpaFacts {
    /// The autoscaler that scales on CPU utilization.
    pub cpu: Option<String>,
    /// The autoscaler that scales on memory utilization.
    pub memory: Option<String>,
}

/// What RBAC and the installation allow us in one namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rights {
    /// `patch` on `pods/resize`.
    pub resize: bool,
    /// `patch` on the workload's kind.
    pub rollout: bool,
    /// Whoever installed us allows limits to be changed.
    pub limits: bool,
}

impl PodFacts {
    /// What a container requests.
    pub(super) fn requests(&self, container: &str) -> Option<Resources> {
        let mut all = self.containers.iter().map(|container| &container.resources);
        Some(all.find(|resources| resources.name == container)?.requests)
    }
}

impl Facts<'_> {
    /// Whether memory may be lowered to an earlier size: not below the observed peak, unless bounds ask for it, and not
    /// while no usage is known.
    pub(super) fn may_lower_memory(&self, container: &str, to: Bytes) -> bool {
        let wanted = self.wanted.iter().find(|wanted| wanted.container == container);
        let found = wanted.and_then(|wanted| wanted.outcome.as_ref().ok());
        found.is_some_and(|found| found.peak.is_none_or(|peak| to >= peak.min(found.memory.request)))
    }

    /// The policy, the API server and RBAC all allow resizing pods.
    pub fn may_resize(&self) -> bool {
        self.update.in_place && self.resize_served && self.rights.resize
    }

    /// What a container requests now: the size decided last, else the least of the running pods where pods can be
    /// resized, else the template.
    pub fn current(&self, container: &str) -> Option<ContainerResources> {
        let mut found = self.observed(container)?;
        if let Some(size) = self.target.iter().find(|size| size.container == container) {
            // A limit that was lowered since keeps the size from being given in full.
            let limits = if self.update.requests_only { found.limits } else { Resources::default() };
            found.requests.cpu = at_most(size.requests.cpu, limits.cpu).or(found.requests.cpu);
            found.requests.memory = at_most(size.requests.memory, limits.memory).or(found.requests.memory);
        }
        Some(found)
    }

    /// What a container requested before a change that is decided now: the size decided last where some pod has it, else
    /// what stands. An announced size need not have been given: we may have been ended before its first write.
    pub fn standing(&self, container: &str) -> Option<ContainerResources> {
        let (decided, mut found) = (self.current(container)?, self.observed(container)?);
        let of_pods = || self.pods.iter().flat_map(|pod| &pod.containers).map(|c| &c.resources);
        let mut given = of_pods().filter(|c| c.name == container).map(|c| c.requests);
        if given.clone().any(|requests| requests.cpu == decided.requests.cpu) {
            found.requests.cpu = decided.requests.cpu;
        }
        if given.any(|requests| requests.memory == decided.requests.memory) {
            found.requests.memory = decided.requests.memory;
        }
        Some(found)
    }

    /// The least that the running pods request where pods can be resized, else what the template says.
    pub(super) fn observed(&self, container: &str) -> Option<ContainerResources> {
        let of_template = self.template.iter().find(|c| c.name == container).cloned();
        if !self.may_resize() {
            return of_template;
        }
        let of_pods = self.pods.iter().flat_map(|pod| &pod.containers).map(|c| &c.resources);
        of_pods.filter(|c| c.name == container).cloned().reduce(least).or(of_template)
    }
}

/// A request that does not exceed its limit.
pub(super) fn at_most<T: Ord>(request: Option<T>, limit: Option<T>) -> Option<T> {
    match (request, limit) {
        (Some(request), Some(limit)) => Some(request.min(limit)),
        (request, _) => request,
    }
}

#[allow(clippy::needless_pass_by_value)] // the shape that `reduce` takes
fn least(a: ContainerResources, b: ContainerResources) -> ContainerResources {
    fn limit<T: Ord>(a: Option<T>, b: Option<T>) -> Option<T> {
        match (a, b) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }
    let requests = Resources {
        cpu: a.requests.cpu.min(b.requests.cpu) as Option<Millicores>,
        memory: a.requests.memory.min(b.requests.memory) as Option<Bytes>,
    };
    let limits = Resources { cpu: limit(a.limits.cpu, b.limits.cpu), memory: limit(a.limits.memory, b.limits.memory) };
    ContainerResources { name: a.name, requests, limits }
}
