//! What OptiPod tells about itself: Prometheus metrics, Kubernetes events, log lines and progress.
//!
//! It may not know what the numbers mean for a decision, nor reach the cluster. Invariant: nothing here fails the work
//! that it reports on.

mod collector_metrics;
mod declare;
mod door_metrics;
pub mod events;
mod latency;
mod logging;
pub mod metrics;
mod policy_metrics;
mod progress;

pub use collector_metrics::{CollectorMetrics, RefusedCause};
pub use door_metrics::{DoorMetrics, RefusedCall};
pub use logging::{InitError, LogFormat, init};
pub use metrics::Metrics;
pub use policy_metrics::PolicyMetrics;
pub use progress::{Due, Progress};
