//! OptiPod itself on the real control plane: the real binary, as a child
//! process, with the rights of `deploy/rbac.yaml` and no others.
//!
//! | file | what it is for |
//! |---|---|
//! | `process` | one OptiPod process: start, probe, ask, kill |
//! | `answers` | what it answers over gRPC |
//! | `secrets` | what it may never log |
//! | `install` | CRD, roles and accounts of a cluster |
//! | `chart` | the chart's own accounts, rights, settings and rules, for tests of those |
//! | `upgrade` | from every release in `tests/fixtures/releases/`, and back |
//! | `skew` | two versions beside one another |
//! | `history` | usage of the past, put into a store before a process opens it |
//! | `policy` | a test's policies and what their status says |
//! | `look` | pods, workloads and events, as a test compares them |
//!
//! A controller acts on every policy of its cluster. So the ordinary tests share
//! one `optipod run --apply` ([`shared`]), each with policies and workloads in a
//! namespace of its own; a test that needs a controller of its own has a control
//! plane of its own too. Recommenders only read: a cluster may have any number.

mod answers;
mod history;
mod install;
mod look;
mod policy;
mod process;
mod secrets;

pub mod backup;
pub mod brakes;
pub mod chart;
pub mod containers;
pub mod door;
pub mod election;
pub mod explain;
pub mod guards;
pub mod hands_off;
pub mod in_place;
pub mod learning;
pub mod on_delete;
pub mod oom;
pub mod outage;
pub mod outcome;
pub mod providers;
pub mod proxied;
pub mod reach;
pub mod refused;
pub mod restart;
pub mod rights;
pub mod rollout;
pub mod schema;
pub mod scrape;
pub mod sizing;
pub mod skew;
pub mod undo;
pub mod upgrade;

use std::future::Future;
use std::path::Path;
use std::time::Duration;

use anyhow::anyhow;
use tokio::sync::OnceCell;

use crate::harness::{Cluster, Result};
use install::{BOTH, install};
use process::{Optipod, Role};

/// For one thing to come about: some scrapes, a cycle of 10 s, a few batches.
/// Generous, because the machine may be busy; a test that waits in vain is rare.
const SOON: Duration = Duration::from_mins(1);

/// What several tests use and the first of them makes.
type Once<T> = OnceCell<std::result::Result<T, String>>;

/// Makes it, once: where that failed, it has failed for every test.
async fn once<T>(cell: &'static Once<T>, make: impl Future<Output = Result<T>>) -> Result<&'static T> {
    // On the heap, because most tests await this.
    let make = Box::pin(make);
    let outcome = cell.get_or_init(|| async { make.await.map_err(|error| format!("{error:#}")) }).await;
    outcome.as_ref().map_err(|error| anyhow!("{error}"))
}

/// The cluster's one controller, with the recommender beside it.
async fn shared(cluster: &Cluster) -> Result<&'static Optipod> {
    static SHARED: Once<Optipod> = Once::const_new();
    Box::pin(once(&SHARED, start_shared(cluster))).await
}

async fn start_shared(cluster: &Cluster) -> Result<Optipod> {
    install(cluster).await?;
    guards::install_vpa(cluster).await?;
    let optipod = Optipod::prepare(cluster, Role::Run, BOTH).await?;
    in_place::seed_history(&optipod.data())?;
    let optipod = optipod.start()?;
    optipod.wait_ready().await?;
    Ok(optipod)
}

/// A file of the repository.
fn repository(path: &str) -> Result<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    Ok(std::fs::read_to_string(path)?)
}
