//! A policy with every default applied and every text parsed; made by [`Policy::resolve`].

use super::types::{Direction, MemoryFloor, Mode, OnDelete, Percentile, WorkloadSelector};
use crate::quantity::{Bytes, Millicores};
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;

/// Which policy.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PolicyId {
    /// The policy's namespace.
    pub namespace: String,
    /// The policy's name.
    pub name: String,
}

impl fmt::Display for PolicyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// A valid policy, ready to be acted upon.
#[derive(Clone, PartialEq, Debug)]
pub struct Policy {
    /// Which policy.
    pub id: PolicyId,
    /// The object's uid.
    pub uid: String,
    /// The spec's generation.
    pub generation: i64,
    /// When it was created; the older of two policies of one weight wins.
    pub created: Timestamp,
    /// What it does with its recommendations.
    pub mode: Mode,
    /// 1 to 1000.
    pub weight: i32,
    /// Which workloads it covers.
    pub selector: WorkloadSelector,
    /// From which usage requests are computed.
    pub metrics: MetricsPlan,
    /// Settings of containers without an override.
    pub defaults: ContainerPlan,
    /// Settings of single containers, by name.
    pub overrides: Vec<(String, ContainerPlan)>,
    /// How and how often workloads may be changed.
    pub update: UpdatePlan,
    /// How often it is evaluated, where the policy says so.
    pub interval: Option<Duration>,
}

/// From which usage requests are computed.
#[derive(Clone, PartialEq, Debug)]
pub struct MetricsPlan {
    /// The provider's name, if the policy names one.
    pub provider: Option<String>,
    /// The rolling window.
    pub window: Duration,
    /// Whether memory stays above the observed peak.
    pub memory_floor: MemoryFloor,
    /// The least number of samples.
    pub min_samples: u64,
    /// The least span of time that samples cover.
    pub min_span: Duration,
}

/// How one container is sized.
#[derive(Clone, PartialEq, Debug)]
pub struct ContainerPlan {
    /// The container is left alone.
    pub exclude: bool,
    /// CPU.
    pub cpu: ResourcePlan<Millicores>,
    /// Memory.
    pub memory: ResourcePlan<Bytes>,
}

/// How one resource of one container is sized.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct ResourcePlan<T> {
    /// The percentile of usage that the request covers.
    pub percentile: Percentile,
    /// At least 1.
    pub safety_factor: f64,
    /// Where the request may lie.
    pub bounds: Bounds<T>,
}

/// The least and the greatest value, both allowed; `min <= max`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Bounds<T> {
    /// The least value.
    pub min: T,
    /// The greatest value.
    pub max: T,
}

/// How and how often workloads may be changed.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(clippy::struct_excessive_bools)] // three independent switches of the CRD
pub struct UpdatePlan {
    /// Resizing running pods is allowed.
    pub in_place: bool,
    /// Replacing pods is allowed.
    pub recreate: bool,
    /// Limits stay as they are.
    pub requests_only: bool,
    /// In percent of the present request.
    pub min_change_percent: u32,
    /// In percent of the present request.
    pub max_decrease_percent: u32,
    /// The least time between two changes of one workload.
    pub cooldown: Duration,
    /// Workloads changed in one cycle.
    pub max_updates_per_cycle: usize,
    /// Which way requests may move.
    pub direction: Direction,
    /// What becomes of the changes when the policy is deleted.
    pub on_delete: OnDelete,
}

impl Policy {
    /// How a container is sized under this policy.
    pub fn container(&self, name: &str) -> &ContainerPlan {
        self.overrides.iter().find(|(n, _)| n == name).map_or(&self.defaults, |(_, plan)| plan)
    }
}
