//! Runs the demo's cluster alone for some hours (default 24) and says what it did and how long it took.

use std::time::{Duration, Instant};

use optipod_sim::{ClusterOptions, Scenario, SimApi, SimCluster, SimOptions};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let hours: u64 = std::env::args()
        .nth(1)
        .map_or(Ok(24), |hours| hours.parse())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build()?;
    let wall = Instant::now();
    runtime.block_on(async {
        let api = SimApi::new(SimOptions::default());
        let cluster = SimCluster::new(&api, ClusterOptions::default());
        Scenario::demo(1).install(&cluster)?;
        let running = cluster.clone();
        tokio::spawn(async move { running.run().await });
        tokio::time::sleep(Duration::from_secs(hours * 3600)).await;
        let (from, to) = (api.clock().epoch(), api.clock().now());
        let truth = cluster.truth();
        println!("{:?}", truth.totals(to));
        println!("{} OOM kills", truth.oom_kills(from, to).len());
        for series in truth.series() {
            let share = truth.throttled_share(&series, from, to);
            let q = truth.quantiles(
                &series,
                optipod_sim::Resource::Cpu,
                from,
                to,
                &[0.5, 0.9, 0.99, 1.0],
            );
            println!(
                "{:3.0} % throttled, {} points, cpu {:.3?}: {}/{}/{}",
                share * 100.0,
                truth.count(&series, from, to),
                q.unwrap_or_default(),
                series.namespace,
                series.workload,
                series.container
            );
        }
        Ok::<(), optipod_sim::StatusError>(())
    })?;
    println!(
        "{hours} simulated hours in {:.1} s",
        wall.elapsed().as_secs_f64()
    );
    Ok(())
}
