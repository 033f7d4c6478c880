//! What a container used over a window, as every provider answers it and every recommendation reads it.
//!
//! Units: CPU in cores, memory in bytes. This module knows neither where the numbers come from nor what becomes of them.

use crate::workload::WorkloadId;
use jiff::Timestamp;
use std::fmt;
use std::time::Duration;

/// One container of one workload, all its replicas pooled.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct SeriesKey {
    /// The workload that owns the pods.
    pub workload: WorkloadId,
    /// The container's name in the pod.
    pub container: String,
}

impl fmt::Display for SeriesKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.workload, self.container)
    }
}

/// The distribution of one resource over a window. Quantiles are monotone and lie within the observed values.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct ResourceUsage {
    /// Half of the samples lie at or below this value.
    pub p50: f64,
    /// 90 % of the samples lie at or below this value.
    pub p90: f64,
    /// 99 % of the samples lie at or below this value.
    pub p99: f64,
    /// The mean of all samples.
    pub mean: f64,
    /// The largest sample, never rounded down.
    pub peak: f64,
    /// How many samples the distribution holds.
    pub samples: u64,
}

/// The usage of one container over a window, and how much of the window was really seen.
#[derive(Clone, PartialEq, Debug)]
pub struct WindowUsage {
    /// CPU in cores.
    pub cpu: ResourceUsage,
    /// Memory (working set) in bytes.
    pub memory: ResourceUsage,
    /// Where the samples begin.
    pub from: Timestamp,
    /// The last sample's time.
    pub to: Timestamp,
    /// How much of the window is covered by samples.
    pub covered: Duration,
    /// What the provider says of its answer, a sentence each, such as that something may be missing.
    pub notes: Vec<String>,
}
