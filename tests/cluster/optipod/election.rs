//! Several controllers, of which one acts.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{Api, DeleteParams};
use serde_json::json;

use super::SOON;
use super::in_place::{ensure_is_resized, starved};
use super::install::{CONTROLLER, NAMESPACE, RECOMMENDER, install};
use super::look::events;
use super::policy::Policy;
use super::process::{Optipod, Role};
use crate::harness::{Cluster, Result, wait_for};

const NAME: &str = "optipod-controller";
/// A lease that was given back is taken by the next look, every 2 s.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(20);
pub const STOPS_WITHIN: Duration = Duration::from_secs(10);

pub async fn one_controller_acts_and_another_takes_over(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    let recommender = Optipod::prepare(&cluster, Role::Recommender, RECOMMENDER).await?.start()?;
    let first = elected(&cluster, &recommender).await?;
    holds_the_lease(&cluster, &first, SOON).await?;
    let second = elected(&cluster, &recommender).await?;
    second.wait_ready().await?;
    acts(&cluster, &recommender, &first).await?;
    does_not_act(&second).await?;

    let (status, took) = first.terminate().await?;
    ensure!(status.code() == Some(0) && took < STOPS_WITHIN, "{status} after {took:?}");
    holds_the_lease(&cluster, &second, HANDED_OVER_WITHIN).await?;
    acts(&cluster, &recommender, &second).await?;

    let third = elected(&cluster, &recommender).await?;
    third.wait_ready().await?;
    does_not_act(&third).await?;
    second.kill();
    // The lease has to run out: 30 s.
    holds_the_lease(&cluster, &third, SOON).await?;
    acts(&cluster, &recommender, &third).await?;

    // An uninstall deletes the account while the controller may still run.
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), NAMESPACE);
    accounts.delete(CONTROLLER, &DeleteParams::default()).await?;
    third.terminate().await?;
    let leases: Api<Lease> = Api::namespaced(cluster.client(), NAMESPACE);
    let is_gone = || async { leases.get_opt(NAME).await?.map_or(Ok(()), |lease| bail!("{:?}", lease.metadata)) };
    wait_for("the lease to go with the account", SOON, is_gone).await
}

async fn elected(cluster: &Cluster, recommender: &Optipod) -> Result<Optipod> {
    elected_by(cluster, recommender, Path::new(env!("CARGO_BIN_EXE_optipod"))).await
}

/// A controller of the version that `binary` is.
pub async fn elected_by(cluster: &Cluster, recommender: &Optipod, binary: &Path) -> Result<Optipod> {
    let controller = Optipod::prepare(cluster, Role::Controller, CONTROLLER).await?;
    controller.by(binary).asking(recommender).flag("--enable-leader-election").start()
}

pub async fn holds_the_lease(cluster: &Cluster, controller: &Optipod, deadline: Duration) -> Result {
    let leases: Api<Lease> = Api::namespaced(cluster.client(), NAMESPACE);
    wait_for(format!("{} to lead", controller.name()), deadline, || async {
        let lease = leases.get(NAME).await?;
        let holder = lease.spec.and_then(|spec| spec.holder_identity).unwrap_or_default();
        ensure!(is(&holder, controller), "the holder is {holder:?}");
        Ok(())
    })
    .await
}

/// An identity is the name and the process id.
fn is(identity: &str, controller: &Optipod) -> bool {
    identity.rsplit_once('-').is_some_and(|(name, _)| name == controller.name())
}

/// A workload and a policy that come now are served, by this one and nobody else.
pub async fn acts(cluster: &Cluster, recommender: &Optipod, leader: &Optipod) -> Result {
    let namespace = cluster.namespace(leader.name()).await?;
    let web = namespace.deployment("web").container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    recommender.wait_usage(&web, "app", 8).await?;
    let policy = Policy::create(&namespace, "all", json!({})).await?;
    let entry = leader.wait_status(&policy, &web, "Applied").await?;
    ensure_is_resized(&web, &entry).await?;
    leader.wait_event(&namespace, "web", "ResizeApplied").await?;
    let told = events(&namespace, "web", "ResizeApplied").await?;
    ensure!(told.len() == 1, "{} controllers tell of a resize", told.len());
    let by = told[0].reporting_instance.as_deref().context("by nobody")?;
    ensure!(is(by, leader), "{by} acted");
    Ok(())
}

pub async fn does_not_act(controller: &Optipod) -> Result {
    let metrics = controller.metrics().await?;
    ensure!(!metrics.contains("optipod_reconciliation_duration_seconds_count"), "{metrics}");
    Ok(())
}
