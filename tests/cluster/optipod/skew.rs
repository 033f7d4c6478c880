//! Two versions beside one another, as during an upgrade of the Deployment or the StatefulSet: this one, and the program
//! that `OPTIPOD_OLD_BINARY` names. `just soak skew` builds an earlier one and runs these.

use std::path::PathBuf;

use anyhow::{Context, ensure};
use serde_json::json;

use super::SOON;
use super::election::{STOPS_WITHIN, acts, does_not_act, elected_by, holds_the_lease};
use super::in_place::starved;
use super::install::{CONTROLLER, RECOMMENDER, install};
use super::look::versions;
use super::policy::Policy;
use super::process::{Optipod, Prepared, Role};
use crate::harness::{Cluster, ComponentName, Result, Workload};

/// The program of the other version.
fn old() -> Result<PathBuf> {
    let path = std::env::var_os("OPTIPOD_OLD_BINARY").context("OPTIPOD_OLD_BINARY is not set")?;
    Ok(std::path::absolute(path)?)
}

/// This one.
fn new() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_optipod"))
}

/// A cluster that has been upgraded so far: CRD and roles are of this version.
async fn upgraded() -> Result<Cluster> {
    let cluster = Cluster::start_private().await?;
    install(&cluster).await?;
    Ok(cluster)
}

async fn recommender(cluster: &Cluster, by: PathBuf) -> Result<Prepared> {
    Ok(Optipod::prepare(cluster, Role::Recommender, RECOMMENDER).await?.by(&by))
}

/// The main job: a workload is resized, for the reason and to the size that the policy gives.
async fn main_job(recommender_by: PathBuf, controller_by: PathBuf) -> Result {
    let cluster = upgraded().await?;
    let recommender = recommender(&cluster, recommender_by).await?.start()?;
    let controller = Optipod::prepare(&cluster, Role::Controller, CONTROLLER).await?;
    let controller = controller.by(&controller_by).asking(&recommender).start()?;
    acts(&cluster, &recommender, &controller).await?;
    let (status, took) = controller.terminate().await?;
    ensure!(status.code() == Some(0) && took < STOPS_WITHIN, "{status} after {took:?}");
    Ok(())
}

pub async fn an_older_controller_asks_a_newer_recommender(_: &'static Cluster) -> Result {
    main_job(new(), old()?).await
}

pub async fn a_newer_controller_asks_an_older_recommender(_: &'static Cluster) -> Result {
    main_job(old()?, new()).await
}

/// The upgrade of the Deployment, and its downgrade: what one has changed, the other leaves as it is.
pub async fn controllers_of_two_versions_take_over_from_one_another(_: &'static Cluster) -> Result {
    let cluster = upgraded().await?;
    let recommender = recommender(&cluster, new()).await?.start()?;
    let mut leader = elected_by(&cluster, &recommender, &old()?).await?;
    holds_the_lease(&cluster, &leader, SOON).await?;
    for by in [new(), old()?] {
        let namespace = cluster.namespace("handed-over").await?;
        let web = namespace.deployment("web").container(starved()).create().await?;
        web.wait_ready(SOON).await?;
        recommender.wait_usage(&web, "app", 8).await?;
        let policy = Policy::create(&namespace, "all", json!({})).await?;
        let before = leader.wait_status(&policy, &web, "Applied").await?;
        let versions_before = versions(&web).await?;
        let next = elected_by(&cluster, &recommender, &by).await?;
        next.wait_ready().await?;
        does_not_act(&next).await?;

        let (status, took) = leader.terminate().await?;

        ensure!(status.code() == Some(0) && took < STOPS_WITHIN, "{status} after {took:?}");
        holds_the_lease(&cluster, &next, SOON).await?;
        next.wait_cycles(&policy, 1).await?;
        let after = policy.entry(&web).await?;
        assert_eq!((&after.previous, &after.target), (&before.previous, &before.target));
        assert_eq!((after.last_applied, &*after.status), (before.last_applied, "Applied"));
        assert_eq!(versions(&web).await?, versions_before, "nothing is written to pods and template");
        acts(&cluster, &recommender, &next).await?;
        leader = next;
    }
    Ok(())
}

/// The upgrade of the StatefulSet, and its downgrade within a format: one folder, one process after another.
pub async fn a_recommender_is_rolled_forward_and_back_and_loses_no_sample(_: &'static Cluster) -> Result {
    let cluster = upgraded().await?;
    let namespace = cluster.namespace("rolled").await?;
    let web = namespace.deployment("web").replicas(3).container(starved()).create().await?;
    web.wait_ready(SOON).await?;
    cluster.kill_component(ComponentName::MetricsServer);
    let settings = recommender(&cluster, old()?).await?;
    let (mut known, mut told) = (0, Vec::new());
    for by in [old()?, new(), old()?, new()] {
        let before = known;
        let recommender = settings.clone().by(&by).start()?;
        recommender.wait_whole().await?;
        let found = if known == 0 { 0 } else { samples(&recommender, &web, 1).await? };
        ensure!(found >= known, "{found} samples of {known} are left to {}", by.display());
        cluster.start_component(ComponentName::MetricsServer)?;
        samples(&recommender, &web, known + 9).await?;
        // From here on no sample comes that could stand for a lost one.
        cluster.kill_component(ComponentName::MetricsServer);
        known = samples(&recommender, &web, 1).await?;
        recommender.wait_whole().await?;
        let (status, took) = recommender.terminate().await?;
        ensure!(status.code() == Some(0) && took < STOPS_WITHIN, "{status} after {took:?}");
        told.push(format!("{found} of {before} found, then {known}"));
    }
    // For `just soak skew`.
    eprintln!("skew: samples: {}", told.join("; "));
    Ok(())
}

/// What the recommender says it has, once that is `least`.
async fn samples(recommender: &Optipod, web: &Workload, least: u64) -> Result<u64> {
    let usage = recommender.wait_usage(web, "app", least).await?;
    Ok(usage.cpu.map_or(0, |cpu| cpu.samples))
}
