//! Runs the demo's cluster for some hours (default 24) with a client that watches pods and lists
//! metrics every 15 s, and says what happened and how long it took.

use std::time::{Duration, Instant};

use futures::StreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::runtime::watcher;
use optipod_sim::{ClusterOptions, Resource, Scenario, SimApi, SimCluster, SimOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hours: u64 = std::env::args().nth(1).map_or(Ok(24), |hours| hours.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build()?;
    let wall = Instant::now();
    runtime.block_on(day(hours))?;
    println!("{hours} simulated hours in {:.1} s", wall.elapsed().as_secs_f64());
    Ok(())
}

async fn day(hours: u64) -> Result<(), Box<dyn std::error::Error>> {
    let api = SimApi::new(SimOptions { journal_reads: false, ..SimOptions::default() });
    let cluster = SimCluster::new(&api, ClusterOptions::default());
    Scenario::demo(1).install(&cluster)?;
    let running = cluster.clone();
    tokio::spawn(async move { running.run().await });
    let pods = Api::<Pod>::all(api.client());
    tokio::spawn(async move {
        let mut events = Box::pin(watcher(pods, watcher::Config::default()));
        while events.next().await.is_some() {}
    });
    let client = api.client();
    let mut items = 0;
    for _ in 0..hours * 240 {
        tokio::time::sleep(Duration::from_secs(15)).await;
        let request = http::Request::get("/apis/metrics.k8s.io/v1beta1/pods").body(Vec::new())?;
        let list: serde_json::Value = client.request(request).await?;
        items += list["items"].as_array().map_or(0, Vec::len);
    }
    report(&cluster);
    println!("{items} pod metrics read");
    Ok(())
}

fn report(cluster: &SimCluster) {
    let clock = cluster.api().clock();
    let (from, to) = (clock.epoch(), clock.now());
    let truth = cluster.truth();
    for series in truth.series() {
        let throttled = 100.0 * truth.throttled_share(&series, from, to);
        let cpu = truth.quantiles(&series, Resource::Cpu, from, to, &[0.5, 0.9, 0.99, 1.0]);
        println!(
            "{}/{}/{}: {} points, {throttled:.0} % throttled, cores {:.3?}",
            series.namespace,
            series.workload,
            series.container,
            truth.count(&series, from, to),
            cpu.unwrap_or_default(),
        );
    }
    println!("{:?}", truth.totals(to));
    println!("{} OOM kills", truth.oom_kills(from, to).len());
}
