//! The usage providers side by side, as Markdown for docs/providers.md.
//!
//! `cargo bench -p optipod --bench providers`; needs Prometheus (`apt-get install prometheus`). Not Criterion's kind of
//! figure: each is one long run. `OPTIPOD_BENCH_CONTAINERS` and `OPTIPOD_BENCH_SCRAPE` (seconds) change its size.

#![allow(
    dead_code,
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "shared with tests/providers; a bench that panics has failed"
)]

#[path = "../../tests/system/harness.rs"]
mod cluster;
#[path = "../../tests/providers/harness.rs"]
mod harness;
mod large;
#[path = "../../tests/providers/prometheus/mod.rs"]
mod prometheus;

use harness::Result;
use large::Large;
use optipod::clock::Clock;
use optipod::provider::{PrometheusOptions, PrometheusProvider, UsageProvider, UsageQuery};
use optipod::usage::SeriesKey;
use optipod::workload::{WorkloadId, WorkloadKind};
use prometheus::programs::{self, Kind};
use std::time::{Duration, Instant};

const DAY: Duration = Duration::from_hours(24);

fn query(n: usize) -> UsageQuery {
    let workload = WorkloadId { namespace: "large".into(), kind: WorkloadKind::Deployment, name: format!("web-{n}") };
    UsageQuery { series: SeriesKey { workload, container: "app".into() }, window: DAY }
}

fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |text| text.parse().expect("a number"))
}

/// The most memory that this process had, in MiB; then it begins to count anew.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

async fn latency(name: &str, provider: &dyn UsageProvider, counts: &[usize]) -> Result {
    for count in counts {
        let queries: Vec<_> = (0..*count).map(query).collect();
        peak();
        for _ in 0..3 {
            let start = Instant::now();
            let answers = provider.usage(&queries).await?;
            let took = start.elapsed();
            let known = answers.iter().flatten().filter(|usage| usage.covered >= DAY.mul_f64(0.95)).count();
            println!("{name}: {count} series: {} ms, {known} known, peak {} MiB", took.as_millis(), peak());
        }
    }
    Ok(())
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result {
    let count = number("OPTIPOD_BENCH_CONTAINERS", 5000);
    let scrape = i64::try_from(number("OPTIPOD_BENCH_SCRAPE", 30))?;
    let start = Instant::now();
    let server = programs::start_with(Kind::Prometheus, &[], |folder| Large { count, scrape }.write(folder))?;
    println!("written in {} s", start.elapsed().as_secs());
    let options = PrometheusOptions::new(server.program.url());
    let provider = PrometheusProvider::new(options, Clock::starting_at(prometheus::data::end()))?;
    latency("prometheus", &provider, &[1, count]).await
}
