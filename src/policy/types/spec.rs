//! What users write: `spec` of an OptimizationPolicy.

use super::super::limits;
use super::{OptimizationPolicyStatus, schema};
use crate::plant::planted;
use crate::workload::WorkloadKind;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt;

/// Says which workloads OptiPod sizes, from which usage, within which bounds, and how it may change them.
#[derive(CustomResource, Serialize, Deserialize, Clone, PartialEq, Debug, JsonSchema)]
#[kube(group = "optipod.io", version = "v1alpha1", kind = "OptimizationPolicy", namespaced)]
#[kube(status = "OptimizationPolicyStatus", derive = "PartialEq", shortname = "op", category = "optipod")]
#[kube(doc = "Says which workloads OptiPod sizes, from which usage, within which bounds, and how it may change them.")]
#[allow(clippy::duplicated_attributes)] // each column has a type
#[kube(selectable = ".spec.mode")]
#[kube(printcolumn(name = "Mode", type_ = "string", json_path = ".spec.mode"))]
#[kube(printcolumn(name = "Ready", type_ = "string", json_path = r#".status.conditions[?(@.type=="Ready")].status"#))]
#[kube(printcolumn(name = "Workloads", type_ = "integer", json_path = ".status.summary.workloads"))]
#[kube(printcolumn(name = "Updated", type_ = "integer", json_path = ".status.summary.updated"))]
#[kube(printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp"))]
#[schemars(extend("x-kubernetes-validations" = schema::auto_needs_a_method()))]
#[serde(rename_all = "camelCase")]
pub struct OptimizationPolicySpec {
    /// Auto applies recommendations, Recommend only publishes them, Disabled does neither.
    pub mode: Mode,
    /// Where two policies select the same workload, the higher weight wins; then the older policy, then the name.
    #[serde(default = "defaults::weight")]
    #[schemars(range(min = limits::WEIGHT.least, max = limits::WEIGHT.most))]
    pub weight: i32,
    /// Which workloads this policy covers.
    pub selector: WorkloadSelector,
    /// From which usage requests are computed.
    #[serde(default)]
    #[schemars(extend("default" = json!({})))]
    pub metrics_config: MetricsConfig,
    /// Requests never leave these bounds.
    pub resource_bounds: ResourceBounds,
    /// Settings of single containers, by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = limits::CONTAINERS))]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["name"]))]
    pub containers: Vec<ContainerOverride>,
    /// How and how often workloads may be changed.
    #[serde(default)]
    #[schemars(extend("default" = json!({})))]
    pub update_strategy: UpdateStrategy,
    /// How often the policy is evaluated, 10s to 24h; the operator's own interval when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::interval")]
    pub reconciliation_interval: Option<String>,
}

/// What a policy does with its recommendations.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
pub enum Mode {
    /// Compute and apply.
    Auto,
    /// Compute and publish in status.
    Recommend,
    /// Do nothing, keep the status that is there.
    Disabled,
}

/// Which workloads a policy covers: those that match every part that is given.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = schema::selector_says_something()))]
#[serde(rename_all = "camelCase")]
pub struct WorkloadSelector {
    /// Labels of the workload's namespace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub namespace_selector: Option<LabelSelector>,
    /// Labels of the workload itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub workload_selector: Option<LabelSelector>,
    /// Namespaces by name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespaces: Option<Namespaces>,
    /// The kinds that the policy covers.
    #[serde(default = "defaults::kinds")]
    #[schemars(length(min = 1, max = 3), extend("x-kubernetes-list-type" = "set"))]
    pub kinds: Vec<TargetKind>,
}

/// Namespaces by name; deny wins over allow.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
pub struct Namespaces {
    /// When given and not empty, only these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaces")]
    pub allow: Vec<String>,
    /// Never these.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(schema_with = "schema::namespaces")]
    pub deny: Vec<String>,
}

/// The kinds that a policy can change.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
pub enum TargetKind {
    /// apps/v1 Deployment
    Deployment,
    /// apps/v1 StatefulSet
    StatefulSet,
    /// apps/v1 DaemonSet
    DaemonSet,
}

impl From<TargetKind> for WorkloadKind {
    fn from(kind: TargetKind) -> Self {
        match kind {
            TargetKind::Deployment => Self::Deployment,
            TargetKind::StatefulSet => Self::StatefulSet,
            TargetKind::DaemonSet => Self::DaemonSet,
        }
    }
}

/// From which usage requests are computed.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = schema::span_within_window()))]
#[serde(rename_all = "camelCase")]
pub struct MetricsConfig {
    /// Where usage comes from; the operator's default when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::dns_label")]
    pub provider: Option<String>,
    /// How far back usage counts, 5m to 90d.
    #[serde(default = "defaults::window")]
    #[schemars(schema_with = "schema::window")]
    pub rolling_window: String,
    /// The percentile of usage that a request covers.
    #[serde(default = "defaults::percentile")]
    pub percentile: Percentile,
    /// The percentile is multiplied by this, 1 to 5.
    #[serde(default = "defaults::safety_factor")]
    #[schemars(range(min = limits::SAFETY_FACTOR.least, max = limits::SAFETY_FACTOR.most))]
    pub safety_factor: f64,
    /// Settings of CPU alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<PerResource>,
    /// Settings of memory alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<PerResource>,
    /// Peak: a memory request never falls below the window's observed peak.
    #[serde(default)]
    pub memory_floor: MemoryFloor,
    /// A recommendation needs at least this many samples.
    #[serde(default = "defaults::min_samples")]
    #[schemars(range(min = limits::MIN_SAMPLES.least, max = limits::MIN_SAMPLES.most))]
    pub min_samples: i32,
    /// A recommendation needs usage over at least this time; when left out, the greater of 30m and a tenth of the window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::span")]
    pub min_span: Option<String>,
}

/// Overrides for one resource.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PerResource {
    /// Instead of metricsConfig.percentile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percentile")] // else the description would be the enum's
    pub percentile: Option<Percentile>,
    /// Instead of metricsConfig.safetyFactor.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::SAFETY_FACTOR.least, max = limits::SAFETY_FACTOR.most))]
    pub safety_factor: Option<f64>,
}

/// The percentiles that a request can follow.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, JsonSchema)]
pub enum Percentile {
    /// The median.
    P50,
    /// The 90th percentile.
    P90,
    /// The 99th percentile.
    P99,
}

/// What keeps a memory request up.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default, JsonSchema)]
pub enum MemoryFloor {
    /// The window's observed peak and a small margin.
    #[default]
    Peak,
    /// Nothing.
    None,
}

/// Bounds of both resources.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, JsonSchema)]
pub struct ResourceBounds {
    /// CPU, at least 1m.
    pub cpu: CpuBounds,
    /// Memory, at least 1Mi.
    pub memory: MemoryBounds,
}

/// The least and the greatest CPU request.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = schema::min_up_to_max()))]
pub struct CpuBounds {
    /// The least request.
    #[schemars(schema_with = "schema::cpu_quantity")]
    pub min: QuantityText,
    /// The greatest request.
    #[schemars(schema_with = "schema::cpu_quantity")]
    pub max: QuantityText,
}

/// The least and the greatest memory request.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = schema::min_up_to_max()))]
pub struct MemoryBounds {
    /// The least request.
    #[schemars(schema_with = "schema::memory_quantity")]
    pub min: QuantityText,
    /// The greatest request.
    #[schemars(schema_with = "schema::memory_quantity")]
    pub max: QuantityText,
}

/// A quantity as the user wrote it: a text, or a plain integer.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(untagged)]
pub enum QuantityText {
    /// As in `min: 2`.
    Integer(i64),
    /// As in `min: 100m`.
    Text(String),
}

impl fmt::Display for QuantityText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}

/// Settings of one container.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default, JsonSchema)]
#[schemars(extend("x-kubernetes-validations" = schema::excluded_takes_no_settings()))]
#[serde(rename_all = "camelCase")]
pub struct ContainerOverride {
    /// The container's name.
    #[schemars(schema_with = "schema::dns_label")]
    pub name: String,
    /// Leave this container alone.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exclude: bool,
    /// Instead of metricsConfig's percentile, for both resources.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Percentile")] // else the description would be the enum's
    pub percentile: Option<Percentile>,
    /// Instead of metricsConfig's safety factor, for both resources.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = limits::SAFETY_FACTOR.least, max = limits::SAFETY_FACTOR.most))]
    pub safety_factor: Option<f64>,
    /// Instead of the policy's bounds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resource_bounds: Option<PartialBounds>,
}

/// Bounds of one or both resources.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default, JsonSchema)]
pub struct PartialBounds {
    /// CPU, at least 1m.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<CpuBounds>,
    /// Memory, at least 1Mi.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryBounds>,
}

/// How and how often workloads may be changed.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct UpdateStrategy {
    /// Resize running pods through `pods/resize`.
    pub allow_in_place_resize: bool,
    /// Change the template, which replaces the pods.
    pub allow_recreate: bool,
    /// Leave limits as they are. When false, limits move in proportion to requests.
    pub update_requests_only: bool,
    /// A change smaller than this, in percent of the present request, is not made.
    #[schemars(range(min = limits::MIN_CHANGE_PERCENT.least, max = limits::MIN_CHANGE_PERCENT.most))]
    pub min_change_percent: i32,
    /// One step lowers a request by at most this many percent.
    #[schemars(range(min = limits::MAX_DECREASE_PERCENT.least, max = limits::MAX_DECREASE_PERCENT.most))]
    pub max_decrease_percent: i32,
    /// The least time between two changes of one workload, 1m to 7d.
    #[schemars(schema_with = "schema::cooldown")]
    pub cooldown: String,
    /// At most this many workloads are changed in one cycle.
    #[schemars(range(min = limits::MAX_UPDATES_PER_CYCLE.least, max = limits::MAX_UPDATES_PER_CYCLE.most))]
    pub max_updates_per_cycle: i32,
    /// Which way requests may move.
    pub direction: Direction,
    /// What becomes of the changes when the policy is deleted.
    pub on_delete: OnDelete,
}

/// Which way requests may move.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default, JsonSchema)]
pub enum Direction {
    /// Up and down.
    #[default]
    Both,
    /// Only up.
    IncreaseOnly,
    /// Only down.
    DecreaseOnly,
}

/// What becomes of a policy's changes when it is deleted.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default, JsonSchema)]
pub enum OnDelete {
    /// Requests stay as they are.
    #[default]
    Keep,
    /// The requests from before OptiPod are put back first, for which a finalizer keeps the policy.
    Restore,
}

impl Default for MetricsConfig {
    fn default() -> Self {
        Self {
            provider: None,
            rolling_window: defaults::window(),
            percentile: defaults::percentile(),
            safety_factor: defaults::safety_factor(),
            cpu: None,
            memory: None,
            memory_floor: MemoryFloor::Peak,
            min_samples: defaults::min_samples(),
            min_span: None,
        }
    }
}

impl Default for UpdateStrategy {
    fn default() -> Self {
        Self {
            allow_in_place_resize: true,
            allow_recreate: planted(22),
            update_requests_only: true,
            min_change_percent: 10,
            max_decrease_percent: 50,
            cooldown: "30m".to_owned(),
            max_updates_per_cycle: 10,
            direction: Direction::Both,
            on_delete: OnDelete::Keep,
        }
    }
}

mod defaults {
    use super::{Percentile, TargetKind};

    pub(super) fn weight() -> i32 {
        100
    }
    pub(super) fn kinds() -> Vec<TargetKind> {
        vec![TargetKind::Deployment, TargetKind::StatefulSet, TargetKind::DaemonSet]
    }
    pub(super) fn window() -> String {
        "24h".to_owned()
    }
    pub(super) fn percentile() -> Percentile {
        Percentile::P90
    }
    pub(super) fn safety_factor() -> f64 {
        1.2
    }
    pub(super) fn min_samples() -> i32 {
        100
    }
}
