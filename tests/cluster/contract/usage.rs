//! What metrics-server says.

use std::cell::Cell;

use anyhow::{Context, ensure};
use kube::ResourceExt;

use super::{SOON, refusal, web};
use crate::harness::{Cluster, ComponentName, Container, Namespace, Result, Server, wait_for};

pub async fn metrics_list_the_usage_that_pods_are_annotated_with(server: &Server) -> Result {
    let namespace = server.namespace("usage").await?;
    let two = namespace.deployment("two").replicas(2);
    let two = two
        .container(Container::new("app").usage("250m", "90Mi"))
        .container(Container::new("sidecar").usage("20m", "16Mi"));

    let two = two.create().await?;

    let pods = two.wait_ready(SOON).await?;
    for pod in pods {
        wait_for_usage(&namespace, &pod.name_any(), "app", 250, 90).await?;
        wait_for_usage(&namespace, &pod.name_any(), "sidecar", 20, 16).await?;
    }
    Ok(())
}

pub async fn changed_usage_is_listed(server: &Server) -> Result {
    let namespace = server.namespace("usage-change").await?;
    let web = web(&namespace, 1).await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();
    wait_for_usage(&namespace, &pod, "app", 70, 64).await?;

    namespace.annotate_pod(&pod, "usage/cpu.app", Some("450m")).await?;
    namespace.annotate_pod(&pod, "usage/memory.app", Some("100Mi")).await?;

    wait_for_usage(&namespace, &pod, "app", 450, 100).await
}

pub async fn usage_swings_when_annotated_with_a_wave(cluster: &'static Cluster) -> Result {
    let namespace = cluster.namespace("wave").await?;
    let app = Container::new("app").usage("700m", "64Mi");
    let web = namespace.deployment("web").container(app);
    let web = web.pod_annotation("usage/wave", "6").create().await?;
    let pod = web.wait_ready(SOON).await?[0].name_any();

    let lowest = Cell::new(u64::MAX);
    let highest = Cell::new(0);
    wait_for("a swing of 200m", SOON, || async {
        let usage = namespace.usage().await?;
        let seen = usage.get(&pod).and_then(|all| all.get("app"));
        let seen = seen.context("not listed")?.millicores()?;
        lowest.set(lowest.get().min(seen));
        highest.set(highest.get().max(seen));
        let swing = highest.get() - lowest.get();
        ensure!(swing >= 200, "between {lowest:?} and {highest:?}");
        Ok(())
    })
    .await?;
    assert!((300..=1_100).contains(&lowest.get()), "{lowest:?}");
    assert!((300..=1_100).contains(&highest.get()), "{highest:?}");
    Ok(())
}

pub async fn an_outage_of_metrics_server_is_seen_and_ends(_: &'static Cluster) -> Result {
    let cluster = Cluster::start_private().await?;
    let namespace = cluster.namespace("outage").await?;
    let answers = || async { namespace.usage().await.map(|_| ()) };
    wait_for("metrics to be served", SOON, answers).await?;

    cluster.kill_component(ComponentName::MetricsServer);

    let refused = namespace.usage().await.err().context("still served")?;
    let (code, _) = refusal::<()>(Err(refused.downcast()?))?;
    assert_eq!(code, 503);

    cluster.start_component(ComponentName::MetricsServer)?;
    wait_for("metrics to be served again", SOON, answers).await
}

/// Waits until metrics-server lists this usage, in millicores (within 5 %: it
/// divides a counter by the time between two scrapes) and MiB.
async fn wait_for_usage(namespace: &Namespace, pod: &str, container: &str, millicores: u64, mebibytes: u64) -> Result {
    let what = format!("{container} of {pod} to use {millicores}m and {mebibytes}Mi");
    wait_for(what, SOON, || async {
        let usage = namespace.usage().await?;
        let usage = usage.get(pod).and_then(|all| all.get(container));
        let usage = usage.context("not listed")?;
        let seen = usage.millicores()?;
        ensure!(seen.abs_diff(millicores) * 20 <= millicores, "{usage:?}");
        ensure!(usage.bytes()? == mebibytes << 20, "{usage:?}");
        Ok(())
    })
    .await
}
