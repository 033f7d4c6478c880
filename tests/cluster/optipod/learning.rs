//! The recommender learns from the real metrics-server.

use anyhow::{Context, ensure};
use kube::ResourceExt;
use optipod::proto::{Distribution, Usage};

use super::{SOON, shared};
use crate::harness::{Cluster, Container, Result};

const MEBIBYTE: f64 = 1_048_576.0;

pub async fn steady_usage_is_every_percentile(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("learning").await?;
    let web = namespace.deployment("web").replicas(2);
    let web = web.container(Container::new("app").usage("250m", "90Mi"));
    let web = web.container(Container::new("sidecar").usage("20m", "16Mi")).create().await?;
    web.wait_ready(SOON).await?;

    let app = optipod.wait_usage(&web, "app", 12).await?;
    let sidecar = optipod.wait_usage(&web, "sidecar", 12).await?;

    is_steady(&app, 0.25, 90.0)?;
    is_steady(&sidecar, 0.02, 16.0)?;
    assert_eq!(optipod.series(namespace.name()).await?, ["Deployment/web/app", "Deployment/web/sidecar"]);
    Ok(())
}

pub async fn changed_usage_shows_in_the_peak_and_not_in_the_median(cluster: &'static Cluster) -> Result {
    let optipod = shared(cluster).await?;
    let namespace = cluster.namespace("learning-change").await?;
    let web = namespace.deployment("web").container(Container::new("app").usage("100m", "64Mi")).create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();
    optipod.wait_usage(&web, "app", 12).await?;

    namespace.annotate_pod(&pod, "usage/cpu.app", Some("800m")).await?;
    namespace.annotate_pod(&pod, "usage/memory.app", Some("200Mi")).await?;

    let seen = optipod.wait_for("the peak", || async {
        let usage = optipod.usage(&web, "app").await?;
        let (cpu, memory) = both(&usage)?;
        // One interval of metrics-server lies across the change.
        ensure!(cpu.peak > 0.7 && memory.peak >= 200.0 * MEBIBYTE, "{usage:?}");
        Ok(usage)
    });
    let usage = seen.await?;
    let (cpu, memory) = both(&usage)?;
    ensure!(cpu.p50 < 0.2 && memory.p50 <= 64.0 * MEBIBYTE, "the median moved: {usage:?}");
    ensure!(cpu.p99 > cpu.p50 && memory.p99 > memory.p50, "P99 did not move: {usage:?}");
    Ok(())
}

/// All percentiles of steady usage are that usage. For memory that is exact. A point
/// of CPU is a counter divided by the time between two scrapes, which a busy machine
/// puts off: the median is within 5 %, single points need not be.
fn is_steady(usage: &Usage, cores: f64, mebibytes: f64) -> Result {
    let (cpu, memory) = both(usage)?;
    ensure!((cpu.p50 / cores - 1.0).abs() < 0.05, "{usage:?}");
    for value in [cpu.p90, cpu.p99, cpu.peak] {
        ensure!((cpu.p50..2.0 * cores).contains(&value), "{value} cores: {usage:?}");
    }
    for value in [memory.p50, memory.p90, memory.p99] {
        ensure!((value / MEBIBYTE - mebibytes).abs() < 0.01, "{value} bytes: {usage:?}");
    }
    // A peak is rounded up, by less than 0.002 %.
    ensure!((memory.peak / MEBIBYTE / mebibytes - 1.0).abs() < 0.000_02, "{usage:?}");
    ensure!(memory.peak >= memory.p99, "{usage:?}");
    Ok(())
}

fn both(usage: &Usage) -> Result<(Distribution, Distribution)> {
    Ok((usage.cpu.context("no CPU")?, usage.memory.context("no memory")?))
}
