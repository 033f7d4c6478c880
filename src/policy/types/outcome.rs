//! What a status keeps of the outcome of changes, so that a restarted controller goes on watching, rolls back once, and
//! keeps a policy stopped that did harm.

use super::super::limits;
use super::status::ContainerRequests;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The watch of a workload's last change.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, JsonSchema)]
#[schemars(extend("required" = ["since"]))]
#[serde(rename_all = "camelCase")]
pub struct WatchStatus {
    /// When the change began.
    pub since: Time,
    /// All pods have been changed and well for a while: from now on only OOM kills count.
    #[serde(default)]
    pub settled: bool,
    /// Tells the pod template of then from another one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(max = 64))]
    pub template: String,
    /// Pods that were not ready when it began.
    #[serde(default, skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "count")]
    pub unready: u32,
    /// Containers with which something was wrong when it began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub containers: Vec<ContainerTrouble>,
}

/// What was wrong with one container before a change, counted over the workload's pods.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
#[schemars(extend("required" = ["container"]))]
#[serde(rename_all = "camelCase", default)]
pub struct ContainerTrouble {
    /// The container's name.
    pub container: String,
    /// Pods in which it was in a crash loop.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "count")]
    pub crashing: u32,
    /// Pods in which it was killed for memory within the hour before.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "count")]
    pub killed: u32,
    /// Its restarts, in the pod where it had most.
    #[serde(skip_serializing_if = "is_zero")]
    #[schemars(schema_with = "count")]
    pub restarts: u32,
}

/// A container that was killed for memory.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, JsonSchema)]
#[schemars(extend("required" = ["container", "at", "memory"]))]
pub struct ContainerOomKill {
    /// The container's name.
    pub container: String,
    /// When.
    pub at: Time,
    /// What it hit: its memory limit, or its request where it had no limit.
    pub memory: String,
}

/// A change that did harm and was taken back.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, JsonSchema)]
#[schemars(extend("required" = ["at", "reason"]))]
#[serde(rename_all = "camelCase")]
pub struct RolledBackStatus {
    /// When.
    pub at: Time,
    /// OOMKilled, CrashLoop, NotReady or RolloutStuck.
    pub reason: String,
    /// The container that suffered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// A pod that suffered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    /// The size that failed: OptiPod holds until its recommendation differs from it by minChangePercent.
    #[serde(default)]
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub size: Vec<ContainerRequests>,
    /// What was put back; a request that there was not before is left out.
    #[serde(default)]
    #[schemars(length(max = limits::STATUS_CONTAINERS), extend("x-kubernetes-list-type" = "atomic"))]
    pub restored: Vec<ContainerRequests>,
}

/// Too many changes of the policy did harm: it changes nothing as long as `generation` is its own.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, JsonSchema)]
#[schemars(extend("required" = ["openedAt", "generation"]))]
#[serde(rename_all = "camelCase")]
pub struct CircuitStatus {
    /// When the circuit opened.
    pub opened_at: Time,
    /// The policy's generation at that time; any edit of the spec closes the circuit.
    pub generation: i64,
    /// Workloads that had been rolled back within an hour.
    #[serde(default)]
    #[schemars(schema_with = "count")]
    pub rollbacks: u32,
    /// Workloads that had been changed within that hour.
    #[serde(default)]
    #[schemars(schema_with = "count")]
    pub changed: u32,
}

#[allow(clippy::trivially_copy_pass_by_ref)] // the shape that serde asks for
fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// `uint32` is no format that the API server knows.
fn count(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
    schemars::json_schema!({ "type": "integer", "format": "int32", "minimum": 0 })
}
