//! How long one question takes, of one container and of many, over a day: each provider over the same usage.

use crate::harness::Result;
use crate::large::Large;
use crate::prometheus::data;
use crate::prometheus::programs::{self, Kind};
use crate::sources::{Recommender, day_of};
use crate::usage_double::{UsageDouble, all};
use anyhow::ensure;
use optipod::clock::Clock;
use optipod::proto::{BatchGetUsageRequest, BatchGetUsageResponse};
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

/// The table. Prometheus comes first, because memory that was used once is not seen to be used again.
pub async fn print(large: &Large) -> Result {
    let server = programs::start_with(Kind::Prometheus, &[], |folder| large.write(folder))?;
    let options = PrometheusOptions::new(server.program.url());
    let of_prometheus = row(large, &PrometheusProvider::new(options, Clock::starting_at(data::end()))?).await?;
    drop(server);

    let recommender = Recommender::filled(|store| large.fill(store)).await?;
    let of_recommender = row(large, &GrpcProvider::connect_lazy("metrics-server", &recommender.url, DEADLINE)?).await?;
    drop(recommender);

    let usage = day_of(&[0.1, 0.2], &[1e8, 2e8]);
    let answering = move |asked: BatchGetUsageRequest| {
        let usage = usage.clone();
        let answer = move |series| BatchGetUsageResponse { series: Some(series), usage: Some(usage.clone()) };
        Ok(all(asked.series.into_iter().map(answer)))
    };
    let custom = UsageDouble::start(answering).await?;
    let of_custom = row(large, &GrpcProvider::connect_lazy("custom", &custom.url(), DEADLINE)?).await?;

    println!("| median of {TIMES} (slowest) | 1 container | {} containers | memory |\n|---|---|---|---|", large.count);
    println!("{of_recommender}\n{of_prometheus}\n{of_custom}");
    Ok(())
}

async fn row(large: &Large, provider: &dyn UsageProvider) -> Result<String> {
    let mut cells = Vec::new();
    peak_memory(); // from here on
    let before = peak_memory();
    for count in [1, large.count] {
        let queries: Vec<_> = (0..count).map(query).collect();
        let mut took = Vec::new();
        for _ in 0..TIMES {
            let start = Instant::now();
            let answers = provider.usage(&queries).await?;
            took.push(start.elapsed());
            let covered = answers.iter().flatten().filter(|usage| usage.covered >= crate::DAY.mul_f64(0.95)).count();
            ensure!(covered == count, "{}: {covered} of {count}", provider.name());
        }
        took.sort_unstable();
        ensure!(took[TIMES - 1] < DEADLINE, "{} takes longer than the deadline: {took:?}", provider.name());
        cells.push(format!("{} ({})", words(took[TIMES / 2]), words(took[TIMES - 1])));
    }
    let grown = peak_memory().saturating_sub(before);
    Ok(format!("| {} | {} | {grown} MiB |", provider.name(), cells.join(" | ")))
}

fn words(took: Duration) -> String {
    let milliseconds = took.as_secs_f64() * 1000.0;
    if milliseconds < 100.0 { format!("{milliseconds:.1} ms") } else { format!("{:.1} s", milliseconds / 1000.0) }
}

/// The most memory that this process has had since the last call, in MiB.
fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
