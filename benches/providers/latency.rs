//! How long one question takes, of one container and of many, over a day: each provider over the same usage.

use crate::harness::Result;
use crate::large::Large;
use crate::prometheus::data;
use crate::prometheus::programs::{self, Kind};
use crate::sources::{Recommender, day_of};
use crate::usage_double::{UsageDouble, all};
use anyhow::ensure;
use optipod::clock::Clock;
use optipod::proto::BatchGetUsageResponse;
use optipod::provider::{GrpcProvider, PrometheusOptions, PrometheusProvider, UsageProvider, UsageQuery};
use optipod::usage::SeriesKey;
use optipod::workload::{WorkloadId, WorkloadKind};
use std::time::{Duration, Instant};

/// The deadline of one evaluation of a policy, and of each question here.
const DEADLINE: Duration = Duration::from_secs(30);

/// Each is asked as often, and the median counts.
const TIMES: usize = 3;

fn query(n: usize) -> UsageQuery {
    let workload = WorkloadId { namespace: "large".into(), kind: WorkloadKind::Deployment, name: format!("web-{n}") };
    UsageQuery { series: SeriesKey { workload, container: "app".into() }, window: crate::DAY }
}

/// The table.
pub async fn print(large: &Large) -> Result {
    let count = large.count;
    println!(
        "| median of {TIMES} (the slowest), over 24 h | 1 container | {count} containers | memory |\n|---|---|---|---|"
    );
    {
        let recommender = Recommender::filled(|store| large.fill(store)).await?;
        row(large, &GrpcProvider::connect_lazy("metrics-server", &recommender.url, DEADLINE)?).await?;
    }
    {
        let server = programs::start_with(Kind::Prometheus, &[], |folder| large.write(folder))?;
        let options = PrometheusOptions::new(server.program.url());
        row(large, &PrometheusProvider::new(options, Clock::starting_at(data::end()))?).await?;
    }
    let usage = day_of(&[0.1, 0.2], &[1e8, 2e8]);
    let answering = move |asked: optipod::proto::BatchGetUsageRequest| {
        let usage = usage.clone();
        let answer = move |series| BatchGetUsageResponse { series: Some(series), usage: Some(usage.clone()) };
        Ok(all(asked.series.into_iter().map(answer)))
    };
    let custom = UsageDouble::start(answering).await?;
    row(large, &GrpcProvider::connect_lazy("custom", &custom.url(), DEADLINE)?).await
}

async fn row(large: &Large, provider: &dyn UsageProvider) -> Result {
    let mut cells = Vec::new();
    let before = peak_memory();
    for count in [1, large.count] {
        let queries: Vec<_> = (0..count).map(query).collect();
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let start = Instant::now();
            let answers = provider.usage(&queries).await?;
            took.push(start.elapsed());
            ensure!(
                answers.iter().flatten().filter(|usage| usage.covered >= crate::DAY.mul_f64(0.95)).count() == count
            );
        }
        took.sort_unstable();
        ensure!(took[TIMES - 1] < DEADLINE, "{} takes longer than the deadline: {took:?}", provider.name());
        let milliseconds = |took: Duration| took.as_secs_f64() * 1000.0;
        cells.push(format!("{:.1} ms ({:.1} ms)", milliseconds(took[TIMES / 2]), milliseconds(took[TIMES - 1])));
    }
    let grown = peak_memory().saturating_sub(before);
    println!("| {} | {} | {grown} MiB |", provider.name(), cells.join(" | "));
    Ok(())
}

/// The most memory that this process has had since the last call, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
