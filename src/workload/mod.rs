//! Workloads as OptiPod sees them: kind, identity, containers and their resources. Pure.

mod resources;

pub use resources::{ContainerResources, QosClass, Resources, qos_class};

use std::fmt;
use std::str::FromStr;

/// The kinds that own usage series. Only the first three can be changed by a policy.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum WorkloadKind {
    /// apps/v1 Deployment
    Deployment,
    /// apps/v1 StatefulSet
    StatefulSet,
    /// apps/v1 DaemonSet
    DaemonSet,
    /// batch/v1 CronJob: observed, never changed
    CronJob,
    /// batch/v1 Job without a CronJob: observed, never changed
    Job,
    /// apps/v1 ReplicaSet without a Deployment: observed, never changed
    ReplicaSet,
    /// A pod that nothing we know owns: observed, never changed
    Pod,
}

impl WorkloadKind {
    /// Every kind, in order.
    pub const ALL: [Self; 7] =
        [Self::Deployment, Self::StatefulSet, Self::DaemonSet, Self::CronJob, Self::Job, Self::ReplicaSet, Self::Pod];

    /// The kind's name in the Kubernetes API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deployment => "Deployment",
            Self::StatefulSet => "StatefulSet",
            Self::DaemonSet => "DaemonSet",
            Self::CronJob => "CronJob",
            Self::Job => "Job",
            Self::ReplicaSet => "ReplicaSet",
            Self::Pod => "Pod",
        }
    }
}

impl fmt::Display for WorkloadKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A kind that we do not know.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("unknown workload kind \"{0}\"; give Deployment, StatefulSet, DaemonSet, CronJob, Job, ReplicaSet or Pod")]
pub struct UnknownKind(pub String);

impl FromStr for WorkloadKind {
    type Err = UnknownKind;

    /// Takes the API's name, and what people type: lower case and kubectl's short names.
    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        let short = match text.to_ascii_lowercase().as_str() {
            "deploy" | "deployments" => Some(Self::Deployment),
            "sts" | "statefulsets" => Some(Self::StatefulSet),
            "ds" | "daemonsets" => Some(Self::DaemonSet),
            "rs" => Some(Self::ReplicaSet),
            "cj" => Some(Self::CronJob),
            "po" => Some(Self::Pod),
            _ => None,
        };
        let named = || Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(text));
        short.or_else(named).ok_or_else(|| UnknownKind(text.to_owned()))
    }
}

/// Which workload, cluster-wide.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct WorkloadId {
    /// The workload's namespace.
    pub namespace: String,
    /// The workload's kind.
    pub kind: WorkloadKind,
    /// The workload's name.
    pub name: String,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.kind, self.name)
    }
}
