//! OptimizationPolicy: the resource as users write it, what it means, and which workloads it covers. Pure.
//!
//! - [`types`]: the CRD's Rust types, spec and status; [`crd`]: the CRD made of them.
//! - [`select`]: which workloads a policy covers, and which of two policies wins.
//! - [`resolved`]: a policy with every default applied and every text parsed, what the rest of OptiPod reads;
//!   [`resolve`]: the way there, and every check.
//!
//! Invariant: nothing outside this module reads [`OptimizationPolicySpec`] directly; decisions read [`Policy`].

pub mod crd;
pub mod duration;
mod limits;
pub mod resolve;
pub mod resolved;
pub mod select;
#[cfg(test)]
#[allow(clippy::unwrap_used)] // a test that panics has failed
mod testing;
pub mod types;

pub(crate) use limits::STATUS_CONTAINERS;
pub use resolve::FieldError;
pub(crate) use resolve::is_dns_label;
pub use resolved::{Bounds, ContainerPlan, MetricsPlan, Policy, PolicyId, ResourcePlan, UpdatePlan};
pub use select::{NamespaceFacts, OutOfScope, Scope, WorkloadFacts, covers, winner};
pub use types::{
    Direction, MemoryFloor, Mode, OnDelete, OptimizationPolicy, OptimizationPolicySpec, OptimizationPolicyStatus,
    Percentile,
};
