//! A double of the Kubernetes API server, and simulated workloads, on one paused timeline.
//!
//! - [`SimApi`] (module `api`): the API server double, a `tower::Service` for `kube::Client`.
//! - [`SimCluster`] (module `cluster`): controllers, scheduler, kubelets and metrics around it.
//! - [`Behaviour`], [`Scenario`] (module `load`): what the containers use, and the demo's cluster.
//! - [`Truth`] (module `truth`): the ledger of what really happened, the oracle of the tests.
//!
//! ```
//! use std::time::Duration;
//! use optipod_sim::{ClusterOptions, Scenario, SimApi, SimCluster, SimOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let runtime = tokio::runtime::Builder::new_current_thread()
//!     .enable_all()
//!     .start_paused(true)
//!     .build()?;
//! runtime.block_on(async {
//!     let api = SimApi::new(SimOptions::default());
//!     let cluster = SimCluster::new(&api, ClusterOptions::default());
//!     Scenario::demo(1).install(&cluster)?;
//!     let running = cluster.clone();
//!     tokio::spawn(async move { running.run().await });
//!     tokio::time::sleep(Duration::from_secs(120)).await;
//!     let client: kube::Client = api.client(); // for OptiPod
//!     # drop(client);
//!     assert!(cluster.truth().totals(api.clock().now()).is_some_and(|t| t.pods > 100));
//!     Ok::<(), optipod_sim::StatusError>(())
//! })?;
//! # Ok(())
//! # }
//! ```
//!
//! What it may not know: OptiPod. Tests and the demo put OptiPod's client on it, as they would on a
//! real cluster.
//! Invariant: on a current-thread runtime with paused time, the same seed gives the same bytes.

#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::float_cmp))]

mod api;
mod clock;
mod cluster;
mod json;
mod load;
mod quantity;
mod rng;
mod truth;

pub use api::access::Deny;
pub use api::answer::SimBody;
pub use api::control::FaultControl;
pub use api::faults::{Fault, FaultId, FaultRule};
pub use api::journal::Entry;
pub use api::kinds::Kind;
pub use api::metrics::{ContainerUsage, PodPoint};
pub use api::service::SimService;
pub use api::status::StatusError;
pub use api::{DEFAULT_USER, SimApi, SimOptions};
pub use clock::SimClock;
pub use cluster::{ClusterOptions, Need, SimCluster};
pub use load::scenario::{ContainerSpec, Scenario, WorkloadKind, WorkloadSpec};
pub use load::{Behaviour, Cpu, MIB, Memory};
pub use truth::{ClusterTotals, OomKill, Resource, Series, Truth};
