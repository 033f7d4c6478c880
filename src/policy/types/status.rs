//! What users read: `status` of an OptimizationPolicy.

use super::super::limits;
use super::outcome::{CircuitStatus, ContainerOomKill, RolledBackStatus, WatchStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What OptiPod found and did.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OptimizationPolicyStatus {
    /// The generation of the spec that this status speaks of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Ready, MetricsAvailable, Applying.
    #[schemars(length(max = 16))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
    /// Counts over all workloads of the policy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
    /// Single workloads, those that need attention first; at most 500 and at most 512 KiB.
    #[schemars(length(max = 500), extend("x-kubernetes-list-type" = "atomic"))]
    pub workloads: Vec<WorkloadStatus>,
    /// Set when too many changes of the policy did harm.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub circuit: Option<CircuitStatus>,
}

/// Counts over all workloads of a policy.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Summary {
    /// Workloads that the policy covers.
    pub workloads: i32,
    /// Changed by OptiPod, and still as OptiPod left them.
    pub updated: i32,
    /// Not changed in the last cycle, with a reason.
    pub skipped: i32,
    /// A change is under way.
    pub pending: i32,
    /// Workloads that the list leaves out for its size.
    pub omitted: i32,
}

/// One workload: what we would want, what happened in the last cycle, what was there before.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default, JsonSchema)]
#[schemars(extend("required" = ["kind", "namespace", "name", "status"]))]
#[serde(rename_all = "camelCase", default)]
pub struct WorkloadStatus {
    /// Deployment, StatefulSet or DaemonSet.
    pub kind: String,
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's name.
    pub name: String,
    /// The workload's uid: what is remembered here is not of a later one of the same name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// When the recommendations below last changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_recommendation: Option<Time>,
    /// When OptiPod last changed the workload or its pods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_applied: Option<Time>,
    /// Applied, Applying, Published, Skipped.
    pub status: String,
    /// How it was changed: Resize or Rollout.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Why nothing was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The reason in words, and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What each container should request.
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub recommendations: Vec<ContainerRecommendation>,
    /// The requests before OptiPod's last change, written before that change is made.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub previous: Vec<ContainerRequests>,
    /// The size last decided, which the pods are brought to; it stays through a hold.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub target: Vec<ContainerRequests>,
    /// When requests were last raised, for a day: until then they are not lowered again.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub raised: Vec<ContainerRaised>,
    /// Containers that were killed for memory within the policy's window: their requests stay above what they hit.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub oom_kills: Vec<ContainerOomKill>,
    /// Why it was last changed: Recommend, Rollback or Undo.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The outcome of the last change is being watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watch: Option<WatchStatus>,
    /// The last change that did harm and was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back: Option<RolledBackStatus>,
}

/// What one container should request, and why.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
#[schemars(extend("required" = ["container"]))]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerRecommendation {
    /// The container's name.
    pub container: String,
    /// The CPU request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// The memory request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// What it requests now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub current: Option<Requests>,
    /// How the numbers came about, in one sentence that can be checked by hand.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<String>,
}

/// When the requests of one container were last raised.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
#[schemars(extend("required" = ["container"]))]
#[serde(default)]
pub struct ContainerRaised {
    /// The container's name.
    pub container: String,
    /// When the CPU request was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<Time>,
    /// When the memory request was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<Time>,
}

/// Requests of one container.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
#[schemars(extend("required" = ["container"]))]
#[serde(default)]
pub struct ContainerRequests {
    /// The container's name.
    pub container: String,
    /// The CPU request; left out where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// The memory request; left out where there was none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}

/// A pair of requests.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
#[serde(default)]
pub struct Requests {
    /// CPU.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// Memory.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
}
