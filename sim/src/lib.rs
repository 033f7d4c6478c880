//! A double of the Kubernetes API server, and simulated workloads, on one paused timeline.
//!
//! - [`SimApi`] (module `api`): the API server double, a `tower::Service` for `kube::Client`.
//!
//! What it may not know: OptiPod. Tests and the demo put OptiPod's client on it, as they would on a
//! real cluster.
//! Invariant: on a current-thread runtime with paused time, the same seed gives the same bytes.

mod api;
mod clock;
mod json;
mod quantity;
mod rng;

pub use api::access::Deny;
pub use api::faults::{Fault, FaultId, FaultRule};
pub use api::journal::Entry;
pub use api::kinds::Kind;
pub use api::metrics::{ContainerUsage, PodPoint};
pub use api::service::{SimBody, SimService};
pub use api::status::StatusError;
pub use api::{DEFAULT_USER, FaultControl, SimApi, SimOptions};
pub use clock::SimClock;
