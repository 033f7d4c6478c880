//! A real Kubernetes control plane for tests: etcd, kube-apiserver,
//! kube-controller-manager, kube-scheduler, kwok in place of kubelets, and
//! metrics-server, as child processes on loopback.
//!
//! | file | what it is for |
//! |---|---|
//! | `binary` | finds the multi-call binary that `just control-plane` builds |
//! | `state`, `identity` | the cluster's folder, ports, certificates, tokens |
//! | `component`, `flags` | one child process; what each is started with |
//! | `cluster` | starts all of them and hands out clients |
//! | `namespace`, `workload`, `pods`, `access` | what a test does in its namespace |
//! | `audit` | what ServiceAccounts asked the API server for |
//! | `server` | what a contract test runs against: this control plane, or the double of `sim/` |
//! | `proxy` | stands between a client and the API server, counts and hides |
//! | `wait` | the one way to wait: poll until a condition holds or a deadline passes |
//! | `suite` | runs a list of tests against the one shared cluster |
//!
//! **Invariant**: nothing here knows OptiPod, so that the contract of the
//! control plane can be tested by itself; and no child outlives the test binary.

#![allow(dead_code, unused_imports, reason = "it offers what a test may need, which is more than each day's tests use")]

mod access;
mod audit;
mod binary;
mod cluster;
mod component;
mod flags;
mod identity;
mod namespace;
mod nodes;
mod objects;
mod pods;
mod proxy;
mod server;
mod state;
mod suite;
mod wait;
mod workload;

pub use access::ServiceAccount;
pub use cluster::Cluster;
pub use component::{Name as ComponentName, log_tail, output};
pub use namespace::{Namespace, Usage};
pub use pods::{actual_requests, container_status, is_ready, requests, restart_count};
pub use proxy::Proxy;
pub use server::{Account, Server};
pub use state::free_ports;
pub use suite::{Test, run};
pub(crate) use suite::{contracts, tests};
pub use wait::wait_for;
pub use workload::{Container, Kind, Workload};

/// What a test returns: `Err` fails it, with the whole chain of causes.
pub type Result<T = ()> = anyhow::Result<T>;
